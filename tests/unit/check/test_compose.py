"""How findings become a judgement."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.check.compose import Check, checks_of, judge
from resilience.check.finding import Finding, Verdict, worst
from resilience.check.headline import headline
from resilience.check.measure import combined
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.scenario import Scenario
from tests.histories import END, Recorded, S, baseline, recorded, scenario

VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "inconclusive")
verdicts = st.sampled_from(VERDICTS)


def history(directory: Path) -> History:
    return Recorded().history(directory, scenario(slos=()))


def check(verdict: Verdict, *rests_on: str, **more: object) -> Check:
    finding = Finding(check="one", verdict=verdict, title="one", rests_on=rests_on, **more)  # type: ignore[arg-type]
    return lambda *_: (finding,)


def breaks_off(_scenario: Scenario, _history: History) -> tuple[Finding, ...]:
    raise KeyError("shard 4")


@given(verdicts, verdicts, verdicts)
def test_worst_is_associative_and_commutative(one: Verdict, other: Verdict, third: Verdict) -> None:
    assert worst([worst([one, other]), third]) == worst([one, worst([other, third])])
    assert worst([one, other]) == worst([other, one])
    assert worst([one, one]) == one
    assert worst([one, "pass"]) == one
    assert worst([one, "fail"]) == "fail"


@given(st.lists(verdicts))
def test_worst_of_many(many: list[Verdict]) -> None:
    expected = next((v for v in ("fail", "inconclusive", "pass") if v in many), "inconclusive")
    assert worst(many) == expected


def test_a_check_that_raises_is_inconclusive(tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("bad", "good"))
    judgement = judge(about, history(tmp_path), checks={"bad": breaks_off, "good": check("pass")}, assumptions={})
    assert [finding.verdict for finding in judgement.findings] == ["inconclusive", "pass"]
    assert judgement.verdict == "inconclusive"
    assert judgement.headline == "inconclusive: bad could not be judged: the check broke off with KeyError: 'shard 4'"


def test_an_assumption_that_raises_does_not_hold(tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("one",))
    checks = {"one": check("pass", "assumption.bad")}
    judgement = judge(about, history(tmp_path), checks=checks, assumptions={"assumption.bad": breaks_off})
    assert [finding.verdict for finding in judgement.findings] == ["inconclusive", "inconclusive"]
    assert "bad: the check broke off with KeyError" in judgement.findings[1].reason


def test_an_assumption_that_nobody_examined_does_not_hold(tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("one",))
    judgement = judge(about, history(tmp_path), checks={"one": check("pass", "assumption.x")}, assumptions={})
    assert judgement.verdict == "inconclusive"
    assert "x: it was not examined" in judgement.headline


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_finding_falls_with_what_it_rests_on(verdict: Verdict, tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("one",))
    checks = {"one": check(verdict, "assumption.a", "assumption.b", reason="so it was")}
    assumptions = {"assumption.a": check("inconclusive", reason="no load"), "assumption.b": check("pass")}
    judgement = judge(about, history(tmp_path), checks=checks, assumptions=assumptions)
    finding = judgement.findings[-1]
    assert finding.verdict == "inconclusive"
    assert finding.reason.startswith("rests on what does not hold: a: no load")
    assert ("otherwise fail: so it was" in finding.reason) == (verdict == "fail")


def test_an_assumption_that_nothing_rests_on_is_left_out(tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("one",))
    assumptions = {"assumption.a": check("inconclusive", reason="no load")}
    judgement = judge(about, history(tmp_path), checks={"one": check("pass")}, assumptions=assumptions)
    assert judgement.verdict == "pass"
    assert [finding.check for finding in judgement.findings] == ["one"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run.events.append(Event("interrupted", END, {"signal": "SIGINT"})), "ended by SIGINT"),
        (lambda run: run.drop("ended"), "cut short: the record breaks off"),
        (lambda run: run.events.append(Event("error", END, {"where": "watch", "message": "gone"})), "watch: gone"),
    ],
    ids=["interrupted", "cut short", "an error of the harness"],
)
def test_a_run_that_was_broken_off_is_no_pass_whatever_checks_its_scenario_names(
    tmp_path: Path, change: Callable[[Recorded], object], says: str
) -> None:
    run, about = recorded(), scenario(slos=(), checks=("session.expiry",))
    assert judge(about, run.history(tmp_path / "whole", about)).verdict == "pass"
    change(run)
    judgement = judge(about, run.history(tmp_path / "broken", about))
    assert judgement.verdict == "inconclusive"
    assert judgement.headline.startswith(f"inconclusive: {says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run.change("effect-probed", in_effect=False), "was not in effect"),
        (lambda run: run.change("healed", healed=False), "was not proved healed"),
        (lambda run: run.change("experiment", failed=["inject"]), "these of its activities failed: inject"),
    ],
    ids=["without effect", "not healed", "not carried out"],
)
def test_a_run_whose_fault_nobody_saw_is_no_pass_whatever_checks_its_scenario_names(
    tmp_path: Path, change: Callable[[Recorded], object], says: str
) -> None:
    run, about = recorded(), scenario(slos=(), checks=("members",))
    change(run)
    judgement = judge(about, run.history(tmp_path / "broken", about))
    assert judgement.verdict == "inconclusive"
    assert says in judgement.headline
    about = baseline(slos=(), checks=("members",))
    assert judge(about, recorded(fault=False).history(tmp_path / "none", about)).verdict == "pass"


def test_a_check_that_does_not_exist(tmp_path: Path) -> None:
    judgement = judge(scenario(slos=(), checks=("durabilty",)), history(tmp_path), assumptions={})
    assert judgement.verdict == "inconclusive"
    assert "there is no check 'durabilty'" in judgement.headline


def test_a_check_that_says_nothing(tmp_path: Path) -> None:
    judgement = judge(scenario(slos=(), checks=("mute",)), history(tmp_path), checks={"mute": lambda *_: ()},
                      assumptions={})  # fmt: skip
    assert (judgement.verdict, judgement.headline) == (
        "inconclusive",
        "inconclusive: mute could not be judged: there was nothing to judge",
    )


def test_no_check_at_all_is_no_pass(tmp_path: Path) -> None:
    judgement = judge(scenario(slos=()), history(tmp_path), checks={}, assumptions={})
    assert (judgement.verdict, judgement.headline) == ("inconclusive", "inconclusive: nothing was judged")


def test_objectives_are_judged_whatever_checks_are_named(tmp_path: Path) -> None:
    about = scenario(checks=("recovery",))
    judgement = judge(about, recorded().history(tmp_path, about))
    named = {finding.check for finding in judgement.findings}
    assert "slo.session-availability-fault" in named
    assert "availability" not in named
    durability = next(finding for finding in judgement.findings if finding.check == "slo.durability")
    assert durability.verdict == "inconclusive"
    assert "no check of this scenario measured" in durability.reason


def test_the_worst_comes_first_in_the_headline(tmp_path: Path) -> None:
    about = scenario(slos=(), checks=("latency", "durability.x"))
    checks = {
        "latency": lambda *_: (Finding(check="latency", verdict="fail", title="slow"),),
        "durability.x": lambda *_: (
            Finding(check="durability.x", verdict="fail", title="2 lost", value=2),
            Finding(check="durability.x", verdict="fail", title="9 lost", value=9, measured="9", allowed="0"),
        ),
    }
    judgement = judge(about, history(tmp_path), checks=checks, assumptions={})
    assert judgement.headline == "fail: 9 lost: 9, allowed: 0 (and 2 more)"


def test_measures_are_put_together() -> None:
    findings = [
        Finding(check="x", verdict="pass", title="", measures={"a_ops": 1, "durability.lost_newest_s": 2, "b_s": 3}),
        Finding(check="x", verdict="pass", title="", measures={"a_ops": 4, "durability.lost_newest_s": -1, "b_s": 1}),
    ]
    assert combined(findings) == {"a_ops": 5, "durability.lost_newest_s": -1, "b_s": 3}


def test_a_run_is_judged_the_same_twice(tmp_path: Path) -> None:
    saved = recorded().history(tmp_path, scenario())
    assert judge(scenario(), saved) == judge(scenario(), saved)
    assert {finding.check for finding in judge(scenario(), saved).findings} > set(checks_of(scenario())) - {"slo"}


def test_a_platform_that_never_comes_back_is_a_fail_though_it_cannot_be_audited(tmp_path: Path) -> None:
    run, about = recorded(outage_us=100 * S), scenario()
    run.audited = []
    run.events.append(Event("audit-incomplete", END + 60 * S, {"reason": "shard 1 has no primary that answers"}))
    run.change("converged", ok=False, reason="shard 1 has no primary")
    judgement = judge(about, run.history(tmp_path, about))
    found = {(finding.check, finding.verdict) for finding in judgement.findings}
    assert judgement.verdict == "fail"
    assert {("recovery", "fail"), ("convergence", "fail"), ("durability.direct", "inconclusive")} <= found
    audited = next(finding for finding in judgement.findings if finding.check == "assumption.audit-complete")
    assert audited.reason.startswith("shard 1 has no primary that answers; ")


def test_what_transactions_must_not_read_is_told_before_what_was_slow() -> None:
    slow, wrong = (Finding(check=name, verdict="fail", title=name) for name in ("latency", "isolation.postgresql"))
    assert headline("fail", (slow, wrong)) == "fail: isolation.postgresql (and 1 more)"


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("durability.direct", "pass: no acknowledged write lost; 3 findings"),
        ("session.expiry", "pass: 1 finding"),
    ],
)
def test_that_nothing_was_lost_is_said_where_somebody_has_looked(tmp_path: Path, check: str, says: str) -> None:
    about = scenario(slos=(), checks=(check,))
    line = judge(about, recorded().history(tmp_path, about)).headline
    assert line == f"{says} of checks and objectives, all within bounds"
