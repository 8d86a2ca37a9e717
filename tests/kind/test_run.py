"""Whole runs in a real kind cluster: each ends with a verdict, and its record comes out, whatever breaks on the way.

Each brings up a stack of its own and takes several minutes.
"""

import getpass
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kind import Kind
from resilience.backend.kubernetes.cluster import platform_of
from resilience.backend.kubernetes.workload import NAMESPACE, RECORDS, RUNNER
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.tool import output
from resilience.errors import StackError
from resilience.spec.read import read_scenario
from tests.kind.conftest import QUICK, kill_runner

pytestmark = pytest.mark.kind

RUN = (sys.executable, "-m", "resilience", "run")
SHORT = ("--set", "timeline.warmup_s=8", "--set", "timeline.steady_s=25")
WITHIN_S = 900.0  # with a cluster that is made first
SCENARIOS = (
    "baseline", "redis-kill-replica", "redis-pause-primary", "redis-partition-primary", "redis-fast-restart",
    "redis-fast-restart-no-persistence", "redis-failover", "node-power-off", "node-freeze", "node-drain",
    "rolling-restart-session", "session-delete", "session-scale-down",
    "session-denied-redis", "postgresql-baseline", "postgresql-kill-replica", "postgresql-failover",
    "session-events-kill", "content-kill", "personalization-kill", "collaboration-events-kill-leader",
)  # fmt: skip
CONTROL_PLANE, OBSERVER = "harmonyflow-control-plane", "harmonyflow-worker4"
VOLUMES = "/var/local-path-provisioner"  # where kind's provisioner keeps them, in each node
FAULT = ("fault-proved", "fault-healed", "experiment-completed")


def argv(scenario: str, reports: Path, *more: str) -> list[str]:
    """A run without a control: inconclusive at best, which says nothing about what it has seen itself."""
    return [*RUN, scenario, "--stack", "kind", "--control", "none", "--reports", str(reports), *more]


@pytest.fixture
def running(made_by_runs: Kind, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A short baseline that is under way in the cluster; ended with the test."""
    with subprocess.Popen(
        argv("baseline", tmp_path, *SHORT), cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(WITHIN_S)


def verdict_of(reports: Path, scenario: str = "baseline") -> Mapping[str, Any]:
    (path,) = reports.glob(f"{scenario}/*/verdict.json")
    verdict: dict[str, Any] = json.loads(path.read_text())
    return verdict


def finding(verdict: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in verdict["findings"] if one["check"] == f"assumption.{name}")
    return found


def wait_phase(process: "subprocess.Popen[str]", phase: str) -> None:
    """Returns once the run says that it is in a phase."""
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if f"→ {phase}" in line:
            return
    raise AssertionError("".join(said))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_ends_with_a_verdict_and_leaves_nothing_broken(made_by_runs: Kind, tmp_path: Path, scenario: str) -> None:
    """Whether an objective was met is the machine's matter; that what it did was seen and ended is the harness's."""
    done = subprocess.run(
        argv(scenario, tmp_path), cwd=PROJECT_ROOT, check=False, timeout=WITHIN_S, capture_output=True, text=True
    )
    assert done.returncode in {0, 1, 3}, done.stdout + done.stderr
    verdict = verdict_of(tmp_path, scenario)
    print(f"{scenario}: {verdict['headline']}")  # noqa: T201  # -rP
    for name in ("history-whole", "not-interrupted", *FAULT):
        assert finding(verdict, name)["verdict"] == "pass", finding(verdict, name)
    assert made_by_runs.broken_nodes() == []
    stack = read_scenario(PROJECT_ROOT, scenario).stack
    assert platform_of(made_by_runs, made_by_runs.open(), stack).open_injections() == {}


def test_a_record_comes_out_whole_although_its_line_breaks(
    running: "subprocess.Popen[str]", made_by_runs: Kind, tmp_path: Path
) -> None:
    wait_phase(running, "audit")
    ended_at = time.monotonic() + WITHIN_S
    broken = 0
    while running.poll() is None and time.monotonic() < ended_at:
        broken += end_calls(made_by_runs)
        time.sleep(0.5)
    assert broken, "no call was under way when it was looked for"
    assert finding(verdict_of(tmp_path), "history-whole")["verdict"] == "pass"


def test_an_api_server_that_is_restarted_in_the_middle_costs_no_record(
    running: "subprocess.Popen[str]", made_by_runs: Kind, tmp_path: Path
) -> None:
    wait_phase(running, "steady")
    before = api_server(made_by_runs)
    output(["docker", "exec", CONTROL_PLANE, "kill", "-KILL", before], timeout_s=30)
    running.communicate(timeout=WITHIN_S)
    assert running.returncode in {0, 1, 3}  # of the record, not of how the machine did
    verdict = verdict_of(tmp_path)
    for name in ("history-whole", "not-interrupted"):
        assert finding(verdict, name)["verdict"] == "pass", finding(verdict, name)
    assert api_server(made_by_runs) != before


def api_server(cluster: Kind) -> str:
    """The process of the API server, in its node."""
    assert cluster.exists()
    return output(["docker", "exec", CONTROL_PLANE, "pgrep", "-x", "kube-apiserver"], timeout_s=30).strip()


@pytest.fixture
def small_disk(made_by_runs: Kind) -> Iterator[None]:
    """The observers' node has room for a few MB of what pods keep."""
    if not made_by_runs.exists():
        made_by_runs.create(QUICK)
    output(["docker", "exec", OBSERVER, "mount", "-t", "tmpfs", "-o", "size=3m", "small", VOLUMES], timeout_s=30)
    yield
    output(["docker", "exec", OBSERVER, "umount", "--lazy", VOLUMES], timeout_s=30)


def test_a_full_disk_of_the_observers_is_told_and_never_green(small_disk: None, tmp_path: Path) -> None:
    done = subprocess.run(
        argv("baseline", tmp_path, *SHORT), cwd=PROJECT_ROOT, check=False, timeout=WITHIN_S, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode in {3, 4}
    assert "free some space on the observers' node" in " ".join((done.stdout + done.stderr).split()), done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def end_calls(cluster: Kind) -> int:
    """Kills whatever is being called in the container that hands the record out, but not its first process."""
    script = (
        "import os, signal\n"
        "found = [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())]\n"
        "[os.kill(pid, signal.SIGKILL) for pid in found]\n"
        "print(len(found))"
    )
    try:
        return int(cluster.kubectl("exec", "-n", NAMESPACE, RUNNER, "-c", RECORDS, "--", "python3", "-c", script))
    except StackError:  # the pod is ending just now, or not there yet
        return 0


def test_ctrl_c_ends_the_run_inside_too(running: "subprocess.Popen[str]", tmp_path: Path) -> None:
    wait_phase(running, "steady")
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=WITHIN_S)[0]
    assert running.returncode == 130, said
    assert "ended by SIGINT" in finding(verdict_of(tmp_path), "not-interrupted")["reason"]


def test_what_a_killed_runner_had_recorded_is_judged(
    running: "subprocess.Popen[str]", made_by_runs: Kind, tmp_path: Path
) -> None:
    wait_phase(running, "steady")
    kill_runner(made_by_runs)
    said = running.communicate(timeout=WITHIN_S)[0]
    assert running.returncode == 3, said
    assert "cut short" in finding(verdict_of(tmp_path), "not-interrupted")["reason"]
    assert not made_by_runs.kubectl("get", "jobs", "-n", NAMESPACE, "-o", "name").split()


def test_two_runs_never_share_a_cluster(running: "subprocess.Popen[str]", tmp_path: Path) -> None:
    wait_phase(running, "warmup")
    second = subprocess.run(
        argv("baseline", tmp_path / "second", "--share", *SHORT), cwd=PROJECT_ROOT, capture_output=True, text=True,
        check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert second.returncode == 4
    assert f"in use by {getpass.getuser()} on" in second.stderr
