"""Who may suffer, and who may not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.blast import blast_radius
from resilience.check.finding import Finding
from resilience.spec.blast import BlastRadius
from tests.histories import APPLIED, Recorded, S, recorded, scenario


def judged(run: Recorded, folder: Path, radius: BlastRadius | None) -> dict[str, Finding]:
    about = replace(scenario(slos=()), blast_radius=radius)
    return {finding.where.group: finding for finding in blast_radius(about, run.history(folder, about))}


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


def test_a_shard_that_nobody_wrote_to_is_not_judged(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if op.kind != "direct.write" or op.group != 3]
    assert judged(run, tmp_path, BlastRadius(may_suffer=("shard 1",)))["shard 3"].verdict == "inconclusive"


def test_without_a_bound_it_says_so(tmp_path: Path) -> None:
    (finding,) = judged(recorded(), tmp_path, None).values()
    assert (finding.verdict, finding.measured) == ("pass", "not judged")
