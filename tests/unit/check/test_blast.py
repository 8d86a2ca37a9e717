"""Who may suffer, and who may not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.blast import blast_radius
from resilience.check.compose import judge
from resilience.check.finding import Finding
from resilience.spec.blast import BlastRadius
from tests.histories import APPLIED, Recorded, S, recorded, scenario


def judged(run: Recorded, folder: Path, radius: BlastRadius | None) -> dict[str, Finding]:
    about = replace(scenario(slos=()), blast_radius=radius)
    found = blast_radius(about, run.history(folder, about))
    return {finding.where.group: finding for finding in found if finding.check == "blast-radius"}


def people(run: Recorded, folder: Path) -> dict[str, Finding]:
    """As the fault is in shard 1 alone, and others may wait for 2.5 s."""
    radius = BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5)
    about = replace(scenario(slos=()), blast_radius=radius)
    found = blast_radius(about, run.history(folder, about))
    return {finding.where.group: finding for finding in found if finding.check == "blast-radius.people"}


def fail_shard(run: Recorded, group: int, length_us: int) -> None:
    for op in run.of("direct.write", group):
        if APPLIED <= op.due < APPLIED + length_us:
            op.end("fail", 1_500, "clusterdown")


def test_those_that_may_suffer_are_not_judged(tmp_path: Path) -> None:
    found = judged(recorded(), tmp_path, BlastRadius(may_suffer=("shard 1",)))
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 2": "pass", "shard 3": "pass"}


def test_any_other_that_suffers_is_a_finding(tmp_path: Path) -> None:
    found = judged(recorded(), tmp_path, BlastRadius(may_suffer=("shard 2",)))
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 1": "fail", "shard 3": "pass"}


@pytest.mark.parametrize(("length_us", "verdict"), [(2 * S, "pass"), (3 * S, "fail")])
def test_the_others_may_suffer_for_a_moment(tmp_path: Path, length_us: int, verdict: str) -> None:
    run = recorded()
    fail_shard(run, 2, length_us)
    found = judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5))
    assert found["shard 2"].verdict == verdict
    assert ("without an acknowledged write" in found["shard 2"].reason) == (verdict == "fail")


def test_a_shard_that_answers_late_was_away(tmp_path: Path) -> None:
    """Every write succeeds in the end, and yet for 1.5 s nobody got an answer."""
    run = recorded()
    for op in run.of("direct.write", 2):
        if APPLIED <= op.due < APPLIED + 1_500_000:
            op.end("ok", APPLIED + 1_500_000 - op.due)
    found = judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",), others_outage_s_max=1.0))
    assert found["shard 2"].verdict == "fail"


def test_a_shard_that_nobody_wrote_to_is_not_judged(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if op.kind != "direct.write" or op.group != 3]
    assert judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",)))["shard 3"].verdict == "inconclusive"


def starve(run: Recorded, kind: str, group: int, length_us: int) -> None:
    """No op of a kind on a shard is answered, though the shard itself is well."""
    for op in run.ops:
        if op.kind.startswith(kind) and op.group == group and APPLIED <= op.due < APPLIED + length_us:
            op.end("unknown", 2 * S, "timeout")


def test_people_on_other_shards_go_on(tmp_path: Path) -> None:
    found = people(recorded(), tmp_path)
    assert {group: finding.verdict for group, finding in found.items()} == {"shard 2": "pass", "shard 3": "pass"}


@pytest.mark.parametrize(
    ("kind", "length_us", "verdict", "says"),
    [
        ("session.", 9 * S, "fail", "sessions: "),
        ("collaboration.edit", 9 * S, "fail", "rooms: "),
        ("session.", 2 * S, "pass", ""),
    ],
    ids=["sessions", "rooms", "for a moment"],
)
def test_people_who_suffer_though_the_shard_is_well(
    tmp_path: Path, kind: str, length_us: int, verdict: str, says: str
) -> None:
    run = recorded()
    starve(run, kind, 2, length_us)
    assert judged(run, tmp_path / "one", BlastRadius(may_suffer=("shard 1",)))["shard 2"].verdict == "pass"
    finding = people(run, tmp_path / "two")["shard 2"]
    assert finding.verdict == verdict
    assert finding.reason.startswith(says)


def test_of_a_machine_that_was_taken_nobody_can_say_who_suffered(tmp_path: Path) -> None:
    """A generator that fell behind is served late for its own reasons: rooms that waited are no fault's victims."""
    radius = BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5)
    about, run = replace(scenario(slos=(), checks=("blast-radius",)), blast_radius=radius), recorded()
    starve(run, "collaboration.edit", 2, 9 * S)
    assert judge(about, run.history(tmp_path / "punctual", about)).verdict == "fail"
    for op in run.of("collaboration.edit", phase="steady")[::10]:
        op.called, op.returned = op.due + 110_000, op.due + 114_000
    judgement = judge(about, run.history(tmp_path / "behind", about))
    assert {finding.verdict for finding in judgement.findings if finding.check.startswith("blast")} == {"inconclusive"}
    assert "110.0 ms behind" in judgement.headline


def test_people_whom_nobody_served_are_not_judged(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if not op.kind.startswith("session.") or op.group != 3]
    assert people(run, tmp_path)["shard 3"].verdict == "inconclusive"


def test_without_a_bound_it_says_so(tmp_path: Path) -> None:
    (finding,) = judged(recorded(), tmp_path, None).values()
    assert (finding.verdict, finding.measured) == ("pass", "not judged")
