"""Whether everybody agreed again after healing."""

from pathlib import Path

from resilience.check.convergence import convergence
from resilience.check.finding import Finding
from tests.histories import END, RECOVERY, Recorded, S, recorded, scenario


def judged(run: Recorded, folder: Path) -> Finding:
    about = scenario(slos=())
    (finding,) = convergence(about, run.history(folder, about))
    return finding


def test_it_counts_from_the_healing(tmp_path: Path) -> None:
    finding = judged(recorded(), tmp_path)
    assert finding.verdict == "pass"
    assert finding.measures == {"convergence.after_s": (END + 3 * S - RECOVERY) / S}


def test_a_stack_that_never_agrees_fails_with_its_reason(tmp_path: Path) -> None:
    run = recorded()
    run.change("converged", ok=False, reason="convergence: redis-cluster-3 and redis-cluster-0 disagree about slots")
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert "redis-cluster-3 and redis-cluster-0 disagree" in finding.reason
    assert finding.measures == {}


def test_without_a_look_nothing_is_said(tmp_path: Path) -> None:
    run = recorded()
    run.drop("converged")
    assert judged(run, tmp_path).verdict == "inconclusive"
