"""Runs on a machine that lets them down: each says so in one clear line, with the right verdict and exit code."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scenario.conftest import SHORT, Ended, Resilience, wait_for, with_set
from tests.scenario.observed import assumption, broken, has_begun, verdicts
from tests.scenario.processes import paused, the

pytestmark = pytest.mark.scenario

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
STEP_MS = 400
RUN_TIMEOUT_S = 180


def on_a_small_disk(place: Path, options: str, script: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script where ``place`` ($1) is a file system of its own; $2 is the interpreter, $run a short run on it.

    The run is ended after `RUN_TIMEOUT_S`, and so is what waits for it.
    """
    mounted = f"""
    mount -t tmpfs -o {options} small "$1"
    run="timeout {RUN_TIMEOUT_S} $2 -m resilience run baseline {" ".join(SHORT)} --reports $1/reports"
    {script}
    """
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", str(place), sys.executable],
        capture_output=True, text=True, timeout=RUN_TIMEOUT_S + 60, check=False,
    )  # fmt: skip


def still_there(place: Path) -> list[str]:
    """The processes that see the file system that was mounted there: those that the script started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f" {place} " in (entry / "mounts").read_text():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@AS_ROOT
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("ro,size=600m", "is on a file system that is read-only"),
        ("size=100m", "a report needs 0.5 GB in"),
    ],
    ids=["read-only", "full"],
)
def test_a_place_that_takes_no_report_is_one_line_and_starts_nothing(tmp_path: Path, options: str, says: str) -> None:
    ended = on_a_small_disk(tmp_path, options, "exec $run")
    assert ended.returncode == 4, ended.stderr
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert line.startswith("resilience: ")
    assert says in line
    assert "--reports" in line
    assert list(tmp_path.iterdir()) == []
    assert still_there(tmp_path) == []


def test_reports_in_a_file_is_one_line(resilience: Resilience) -> None:
    resilience.reports.write_text("not a folder")
    ended = resilience.run("baseline")
    assert ended.code == 4
    (line,) = ended.output.splitlines()
    assert f"{resilience.reports} is no folder" in line


@AS_ROOT
@pytest.mark.slow
def test_a_disk_that_fills_during_the_run(tmp_path: Path) -> None:
    """Somebody else takes all the space while the steady phase is measured."""
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    ended = on_a_small_disk(
        small,
        "size=520m",
        f"""
        $run & pid=$!
        while kill -0 $pid 2>/dev/null && ! grep -qs steady "$1"/reports/*/*/load/phases.jsonl; do sleep 0.1; done
        sleep 5
        dd if=/dev/zero of="$1/taken" bs=1M 2>/dev/null
        wait $pid
        code=$?
        cp -r "$1/reports" {kept}
        exit $code
        """,
    )
    (directory,) = [path.parent for path in kept.glob("*/*/spec.json")]
    run = Ended(ended.returncode, ended.stdout + ended.stderr, directory)
    assert run.code == 4, run.output[-3000:]
    assert run.verdict["verdict"] == "inconclusive"
    assert "history.jsonl: cannot be written: No space left on device" in run.verdict["headline"]
    assert "Traceback" not in run.output
    assert "not-interrupted" in broken(run)
    assert run.verdict["measures"]["durability.acked_ops"] > 1_000, "what was recorded until then is read and audited"
    assert (directory / "report.html").stat().st_size > 0
    assert not (directory / ".reserve").exists()
    assert still_there(small) == []


@pytest.mark.slow
def test_a_generator_behind_its_schedule(resilience: Resilience) -> None:
    def pause_it(process: "subprocess.Popen[str]") -> None:
        wait_for("the load is judged", lambda: has_begun(resilience, "steady"), 90)
        time.sleep(5)
        with paused(the("Locust", process.pid)):
            time.sleep(1.5)

    ended = resilience.run("baseline", *SHORT, meanwhile=pause_it)
    assert ended.code == 3, ended.output[-3000:]
    reason = assumption(ended, "schedule-lag")["reason"]
    assert reason.startswith("locust in steady: ")
    assert " ms behind its schedule (and used " in reason
    assert broken(ended) <= {"schedule-lag", "coverage"}
    assert verdicts(ended, "latency") == verdicts(ended, "availability") == {"inconclusive"}
    assert verdicts(ended, "durability.") == {"pass"}


@pytest.mark.slow
def test_generators_that_take_the_machine(resilience: Resilience) -> None:
    """More direct writes than their client can send with a core, and no minimum that would end the run before.

    People's load is the usual one, so that the platform answers: else the run would not get as far as to be measured.
    """
    least = [f"load.{stream}_rate_ops_per_s_min=1" for stream in ("direct", "session", "edit")]
    load = ["load.direct_rate_ops_per_s=1500", *least]
    ended = resilience.run("baseline", *SHORT, *with_set(*load))
    assert ended.code == 3, ended.output[-3000:]
    reason = assumption(ended, "generator-cpu")["reason"]
    assert reason.startswith("the load generators used ")
    assert f" of {os.cpu_count()} cores in phase steady, and left too little for the platform" in reason
    assert verdicts(ended, "latency") == verdicts(ended, "availability") == {"inconclusive"}


STEPPED = """
import time
from pathlib import Path

real_ns = time.time_ns

def stepped_ns():
    return real_ns() + int(Path({offset_ms!r}).read_text() or 0) * 1_000_000

time.time_ns = stepped_ns
time.time = lambda: stepped_ns() / 1e9
"""  # the sitecustomize of an interpreter


@pytest.mark.slow
def test_a_wall_clock_that_is_stepped(resilience: Resilience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock of the run's own processes is stepped, as Python tells it; the machine's is left alone."""
    offset = tmp_path / "offset-ms"
    offset.write_text("0")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(STEPPED.format(offset_ms=str(offset)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def step_it(_: "subprocess.Popen[str]") -> None:
        wait_for("the load is judged", lambda: has_begun(resilience, "steady"), 90)
        time.sleep(5)
        offset.write_text(str(int(offset.read_text()) + STEP_MS))

    ended = resilience.run("baseline", *SHORT, meanwhile=step_it)
    assert ended.code == 3, ended.output[-3000:]
    told = re.fullmatch(
        r"the wall clock stepped by (\d+) ms in phase steady", assumption(ended, "clock-step")["reason"]
    )
    assert told
    assert int(told[1]) == pytest.approx(STEP_MS, abs=20)
    assert broken(ended) == {"clock-step"}
    assert ended.verdict["headline"].startswith("inconclusive: the wall clock stepped by ")
    assert verdicts(ended, "slo.") == {"inconclusive"}
    assert verdicts(ended, "durability.") == verdicts(ended, "latency") == {"pass"}, "these have a clock of their own"
