"""A known weakness is shown and does not fail the run; it covers nothing else, and is missed when it is gone."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import Check, judge
from resilience.check.finding import Finding, Judgement, Verdict, Where
from resilience.check.weakness import with_weaknesses
from resilience.history.read import History
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Wait
from resilience.spec.weakness import KnownWeakness
from tests.histories import Recorded, scenario

ROOT = Path(__file__).parents[3]
LOSS = KnownWeakness(
    finding="durability.direct",
    group="shard 1",
    within={"durability.lost_ops": (1, 100), "value": (1, 100)},
    seen="always",
    why="the minority goes on",
)


def lost(number: float, verdict: Verdict = "fail", *, group: str = "shard 1", name: str = "durability.direct") -> Check:
    finding = Finding(
        check=name, verdict=verdict, title=f"{number:g} writes lost", value=number, where=Where(group=group),
        measures={"durability.lost_ops": number},
    )  # fmt: skip
    return lambda *_: (finding,)


def judged(folder: Path, check: Check, *weaknesses: KnownWeakness, **stack: object) -> Judgement:
    about = scenario(slos=(), checks=("one",))
    about = replace(about, known_weaknesses=weaknesses, stack=replace(about.stack, **stack))
    history = Recorded().history(folder, about)
    return judge(about, history, checks={"one": check}, assumptions={})


def test_within_its_bound_it_does_not_fail_the_run(tmp_path: Path) -> None:
    judgement = judged(tmp_path, lost(40), LOSS)
    assert judgement.verdict == "pass"
    assert judgement.headline == "pass: known weakness, seen again: shard 1: 40 writes lost"
    assert [(finding.verdict, finding.known) for finding in judgement.findings] == [("fail", LOSS.why)]


def test_undeclared_it_fails_the_run(tmp_path: Path) -> None:
    assert judged(tmp_path, lost(40)).verdict == "fail"


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lost(101), "beyond the known weakness: durability.lost_ops is 101, known are 1 to 100"),
        (lost(40, group="shard 2"), ""),
        (lost(40, name="durability.session"), ""),
    ],
    ids=["beyond", "elsewhere", "another finding"],
)
def test_it_covers_nothing_else(tmp_path: Path, check: Check, reason: str) -> None:
    judgement = judged(tmp_path, check, LOSS)
    assert judgement.verdict == "fail"
    assert reason in judgement.findings[0].reason
    assert not judgement.findings[0].known


@pytest.mark.parametrize(
    ("within", "verdict"),
    [({"durability.lost_ops": (1, 100)}, "fail"), ({"durability.defect_ops": (1, 2)}, "pass")],
    ids=["a loss is known", "a defect is known"],
)
def test_a_defect_is_not_within_the_bound_of_a_loss(
    tmp_path: Path, within: dict[str, tuple[float, float]], verdict: Verdict
) -> None:
    def lost_and_twice(about: Scenario, history: History) -> tuple[Finding, ...]:
        (finding,) = with_loss(about, history)
        return (replace(finding, measures=finding.measures | {"durability.defect_ops": 1.0}),)

    with_loss = lost(40)
    judgement = judged(tmp_path, lost_and_twice, replace(LOSS, within=within))
    assert judgement.verdict == verdict
    beyond = "beyond the known weakness: durability.defect_ops is 1, known are 0 to 0"
    assert (beyond in judgement.findings[0].reason) == (verdict == "fail")


def test_a_number_that_was_not_measured_is_not_within_the_bound(tmp_path: Path) -> None:
    weakness = replace(LOSS, within={"durability.lost_oldest_s": (0, 1)})
    judgement = judged(tmp_path, lost(40), weakness)
    assert judgement.verdict == "fail"
    assert "durability.lost_oldest_s was not measured" in judgement.findings[0].reason


def test_it_never_covers_what_is_inconclusive(tmp_path: Path) -> None:
    judgement = judged(tmp_path, lost(40, "inconclusive"), LOSS)
    assert judgement.verdict == "inconclusive"
    assert len(judgement.findings) == 1, "whether it is gone cannot be said"


@pytest.mark.parametrize(("seen", "verdict"), [("always", "fail"), ("sometimes", "pass")])
def test_gone_is_a_surprise(tmp_path: Path, seen: str, verdict: Verdict) -> None:
    judgement = judged(tmp_path, lost(0, "pass"), replace(LOSS, seen=seen))
    assert judgement.verdict == verdict
    (notice,) = [finding for finding in judgement.findings if finding.check == "known-weakness"]
    assert notice.verdict == verdict
    assert "was not seen" in notice.title


def test_one_that_no_finding_speaks_of_is_inconclusive(tmp_path: Path) -> None:
    judgement = judged(tmp_path, lost(0, "pass"), replace(LOSS, finding="durability.drect"))
    assert judgement.verdict == "inconclusive"
    assert "there is no such finding" in judgement.headline


@pytest.mark.parametrize("durability", ["any", "wait"])
def test_one_of_another_mode_does_not_apply(tmp_path: Path, durability: str) -> None:
    judgement = judged(tmp_path, lost(0, "pass"), replace(LOSS, durability="async"), durability=Wait())
    assert (judgement.verdict, len(judgement.findings)) == ("pass", 1)
    judgement = judged(tmp_path, lost(40), replace(LOSS, durability=durability), durability=Wait())
    assert judgement.verdict == "pass"


# as they were measured: of the direct writes of the shard that was hit
CUT_OFF = {"lost_ops": 735, "kept_in_window_ops": 3, "lost_oldest_s": 0.006559, "lost_newest_s": -7.331763}
EMPTIED = {"lost_ops": 3010, "kept_before_fault_ops": 0, "lost_oldest_s": 30.311369, "lost_newest_s": 0.223742}


@pytest.mark.parametrize(
    ("name", "measured", "covered"),
    [
        ("redis-partition-primary", CUT_OFF, True),
        ("redis-partition-primary", CUT_OFF | {"lost_ops": 1}, False),
        ("redis-partition-primary", CUT_OFF | {"kept_in_window_ops": 100}, False),
        ("redis-partition-primary", CUT_OFF | {"lost_newest_s": -9.0}, False),
        ("redis-partition-primary", CUT_OFF | {"lost_oldest_s": 0.9}, False),
        ("redis-fast-restart-no-persistence", EMPTIED, True),
        ("redis-fast-restart-no-persistence", EMPTIED | {"kept_before_fault_ops": 1}, False),
        ("redis-fast-restart-no-persistence", EMPTIED | {"lost_newest_s": -0.5}, False),
    ],
)
def test_the_weaknesses_that_are_shipped_cover_what_was_measured_and_no_more(
    name: str, measured: dict[str, float], covered: bool
) -> None:
    about = read_scenario(ROOT, name)
    loss = Finding(
        check="durability.direct", verdict="fail", title="lost", where=Where(group="shard 1"),
        measures={f"durability.{measure}": value for measure, value in measured.items()},
    )  # fmt: skip
    found = with_weaknesses(about, (loss,))
    assert (found[0].known != "") == covered
