"""The control of a run: taken when it is missing, used when it is there; a run without a good one is inconclusive."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.conftest import FAILOVER, SHORT_KILL, Ended, First, Resilience, wait_for

pytestmark = pytest.mark.scenario


def test_a_missing_control_is_taken_first(first_run: First, control: Path) -> None:
    command, ended = first_run.command, first_run.ended
    assert ended.code == 0, ended.output[-3000:]
    assert ended.directory
    assert [directory.parent.name for directory in command.directories()] == ["baseline", FAILOVER]
    assert " ".join(ended.output.split("baseline: ")[0].split()) == (
        "control: there is none of the last 24 hours: baseline is run on this stack and load first, about 68 s, not "
        "part of the run's own time"
    )
    copied = json.loads((ended.directory / "control.json").read_text())
    assert (copied["run"], copied["verdict"]) == (f"baseline/{control.name}", "pass")
    assert ended.verdict["control"].startswith(f"baseline/{control.name}: pass, ")
    assert (command.reports / "latest").resolve() == ended.directory.resolve()


def test_a_run_is_judged_again_from_its_files_alone(first_run: First, tmp_path: Path) -> None:
    """Without its control it would not be a pass; the control itself need not be there any more."""
    ended = first_run.ended
    assert ended.directory
    alone = tmp_path / "alone"
    alone.mkdir()
    subprocess.run(["cp", "-a", f"{ended.directory}/.", str(alone)], check=True)
    judge = [sys.executable, "-m", "resilience", "judge", str(alone)]
    before = (alone / "verdict.json").read_bytes()
    assert subprocess.run(judge, capture_output=True, check=False).returncode == 0
    assert (alone / "verdict.json").read_bytes() == before
    (alone / "control.json").unlink()
    assert subprocess.run(judge, capture_output=True, check=False).returncode == 3


def test_a_run_whose_control_fails_is_inconclusive(failed_control: tuple[Ended, Path]) -> None:
    ended, _ = failed_control
    assert ended.code == 3, ended.output[-3000:]
    assert "did not pass (fail: Requests that read" in " ".join(ended.output.split())
    assert ended.verdict["headline"].startswith("inconclusive: the control baseline/")
    broken = [finding["check"] for finding in ended.findings("assumption.") if finding["verdict"] != "pass"]
    assert broken == ["assumption.control"]
    assert {finding["verdict"] for finding in ended.findings("slo.")} == {"inconclusive"}


def test_an_interrupted_control_ends_the_command_and_breaks_nothing(resilience: Resilience) -> None:
    process = resilience.start(SHORT_KILL, "--control", "auto")
    wait_for("the control runs", lambda: any(d.parent.name == "baseline" for d in resilience.directories()), 60)
    process.send_signal(signal.SIGINT)
    ended = resilience.wait(process)
    assert ended.code == 130, ended.output[-3000:]
    assert [directory.parent.name for directory in resilience.directories()] == ["baseline"]
    assert not (resilience.reports / "latest").exists()
    assert "short-kill was not run" in ended.output
