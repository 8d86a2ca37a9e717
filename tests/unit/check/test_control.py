"""A run whose control did not pass: nothing that it shows counts, but what it lost is lost all the same."""

from pathlib import Path

import msgspec
import pytest

from resilience.check import needs
from resilience.check.compose import judge
from resilience.check.finding import Finding, Judgement
from resilience.history.control import Control
from resilience.history.read import read_history
from resilience.report.order import control_text
from resilience.spec.blast import BlastRadius
from resilience.spec.fault import Partition
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import APPLIED, FAULT, Recorded, S, baseline, recorded, scenario, sound_control

SICK = msgspec.structs.replace(sound_control(), verdict="fail", headline="fail: Session requests answered: 80 %")


WIDE = msgspec.structs.replace(
    scenario(), blast_radius=BlastRadius(may_suffer=("shard 1",), others_outage_s_max=1.0)
)  # so that every check has something to judge


def judged(run: Recorded, directory: Path, about: Scenario = WIDE) -> Judgement:
    return judge(about, run.history(directory, about))


def of_the_platform(finding: Finding) -> bool:
    """Whether it says how the platform does; the reconciliation says whether it counts what it does, fault or none."""
    return not finding.check.startswith(("assumption.", "reconciliation"))


def cut_off() -> Recorded:
    """A primary that is cut off acknowledges for 5 s, and all of that is lost."""
    run = recorded()
    for op in run.of("direct.write", 1):
        if APPLIED < op.due < APPLIED + 5 * S:
            op.end("ok", 1_500)
            run.lose(op)
    return run


@pytest.mark.parametrize("control", [None, SICK], ids=["missing", "failed"])
def test_no_finding_of_such_a_run_is_a_pass(tmp_path: Path, control: Control | None) -> None:
    run = recorded()
    run.control = control
    judgement = judged(run, tmp_path)
    assert judgement.verdict == "inconclusive"
    checks = [finding for finding in judgement.findings if of_the_platform(finding)]
    assert checks
    assert {finding.verdict for finding in checks} == {"inconclusive"}
    assert "control" in judgement.headline


def test_one_of_another_schema_is_none(tmp_path: Path) -> None:
    run = recorded()
    run.history(tmp_path, WIDE)
    path = tmp_path / "control.json"
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
    judgement = judge(WIDE, read_history(tmp_path))
    reasons = {finding.check: finding.reason for finding in judgement.findings}
    assert judgement.verdict == "inconclusive"
    assert "control.json:1: Invalid enum value 2" in reasons["assumption.history-whole"]
    assert "there is no control" in reasons["assumption.control"]


def test_what_it_lost_is_lost(tmp_path: Path) -> None:
    run = cut_off()
    run.control = SICK
    judgement = judged(run, tmp_path, scenario(fault=Partition(cut_from="peers")))
    assert judgement.verdict == "fail"
    failed = {finding.check for finding in judgement.findings if finding.verdict == "fail"}
    assert failed == {"durability.direct", "slo.durability"}


def test_a_known_weakness_does_not_make_a_sick_platform_pass(tmp_path: Path) -> None:
    names = ("durability.direct", "slo.durability")
    bound = {"value": (0.0, 1_000.0)}
    weak = tuple(KnownWeakness(finding=name, within=bound, seen="always", why="async") for name in names)
    run = cut_off()
    run.control = SICK
    about = msgspec.structs.replace(scenario(fault=Partition(cut_from="peers")), known_weaknesses=weak)
    assert judged(run, tmp_path, about).verdict == "inconclusive"


def test_an_objective_that_is_missed_is_no_fail_where_it_was_missed_before(tmp_path: Path) -> None:
    run = recorded()
    for op in [op for op in run.of("session.read", phase="steady") if op.due < FAULT][:10]:
        op.end("fail", 1_000)
    sound = judged(run, tmp_path / "sound")
    assert sound.verdict == "fail"
    run.control = SICK
    assert judged(run, tmp_path / "sick").verdict == "inconclusive"


def test_a_run_without_a_fault_needs_none(tmp_path: Path) -> None:
    judgement = judged(recorded(fault=False), tmp_path, baseline())
    assert judgement.verdict == "pass"
    assert control_text(judgement) == ""


def test_which_one_it_was_is_in_a_line_and_in_the_evidence(tmp_path: Path) -> None:
    judgement = judged(recorded(), tmp_path)
    assert judgement.verdict == "pass"
    assert control_text(judgement) == "baseline/20251009T075020Z-1: pass, 63 min before this run"
    finding = next(finding for finding in judgement.findings if finding.check == "assumption.control")
    assert finding.evidence == (
        {"what": "control", "run": "baseline/20251009T075020Z-1", "verdict": "pass", "age_s": 3780.0},
    )


def test_whatever_rests_on_the_fault_rests_on_the_control(tmp_path: Path) -> None:
    """So that no finding of a run with a fault can be a pass without one."""
    for finding in judged(recorded(), tmp_path).findings:
        if of_the_platform(finding):
            assert set(needs.CONTROL) <= set(finding.rests_on), finding.check
