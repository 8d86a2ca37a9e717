"""A run that is killed while something is broken in a real cluster: what it broke ends in time all the same.

Both are killed with ``kill -9``: the harness outside, and the runner in its pod. Nobody is left then but the watchdog
of the machine under the nodes, and the agents. A runner whose harness alone is killed is left to itself. Each case is a
run up to its fault, several minutes.

That something is broken, and is so no more, is seen from outside; how long it lasted is told by whoever ended it, on
the clock that all under one kernel share, since a look takes up to a minute on a machine that is busy.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resilience import cluster_cli
from resilience.backend.kind import Kind
from resilience.backend.kubernetes.heartbeat import EVERY_S, SILENT_S
from resilience.backend.kubernetes.injector import pace
from resilience.backend.kubernetes.lease import ClusterLock, require_unused
from resilience.backend.kubernetes.staging import ended_code
from resilience.backend.kubernetes.workload import NAMESPACE, RUNNER
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.fault.injector import lasts_s, ttl_s
from resilience.spec.read import read_scenario
from tests.kind.conftest import kill_runner
from tests.kind.looks import LOOK_S, Record, broken_nodes, cut_pods, ended
from tests.waiting import wait_seen

pytestmark = pytest.mark.kind

BEGUN_WITHIN_S = 900.0  # a cluster, if there is none, its stack, and the phases before the fault
WARMUP_S = 60.0  # so long its load may take to arrive: right after a cluster was made everything is slow
FAULT_S = 90.0  # long enough for a look that takes a minute
SPARE_S = 10.0  # after its time to live
HEALED_S = 180.0  # so long a run may take from its interruption to its end: healing, convergence, the audit
Look = Callable[[Kind], list[str]]  # what is broken


@pytest.fixture
def cluster(made_by_runs: Kind) -> Iterator[Kind]:
    """What a killed run leaves in it is taken away; a test that failed leaves no broken node."""
    cluster = made_by_runs
    yield cluster
    cluster.put_nodes_right()
    left = ("pod/runner", "configmap/run", "configmap/machine")
    cluster.kubectl("delete", *left, "-n", NAMESPACE, "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "lease/run", "-n", "resilience", "--ignore-not-found")


@pytest.mark.parametrize(
    ("scenario", "look", "words"),
    [
        ("node-freeze", broken_nodes, "(paused, connected)"),
        ("node-power-off", broken_nodes, "(exited, connected)"),
        ("session-scale-down", broken_nodes, "(scaled by session-scale-down-"),
        ("session-denied-redis", broken_nodes, "(denies for session-denied-redis-"),
        ("redis-partition-primary", cut_pods, "hf_redis_partition_primary"),
    ],
)
def test_it_ends_in_time_although_harness_and_runner_were_killed(
    cluster: Kind, tmp_path: Path, scenario: str, look: Look, words: str
) -> None:
    began_s = time.monotonic()
    with running(scenario, tmp_path) as (harness, said):
        wait_seen(f"{scenario} comes to its fault", lambda: told_of_its_fault(harness, said), BEGUN_WITHIN_S)
        wait_seen(f"{scenario}: '{words}' while its fault lasts", lambda: seen(cluster, look, words), FAULT_S)
    wait_seen("the runner is killed", lambda: killed(cluster), 3 * LOOK_S)
    last_seen_s = time.monotonic()  # before the look
    assert len(wait_seen("it is broken still, with nobody left", lambda: seen(cluster, look, words), LOOK_S)) == 1
    if look is broken_nodes:
        with pytest.raises(StackError, match="'resilience heal --stack kind' puts them right"):
            cluster_cli.require_whole(cluster)
    limit_s = time_to_live_s(scenario) + SPARE_S
    wait_seen("nothing is broken any more", lambda: look(cluster) == [], limit_s + LOOK_S)
    (record,) = wait_seen("somebody has ended it", lambda: ended_since(cluster, scenario, began_s), 2 * LOOK_S)
    took_s = record.ended_s - record.applied_s
    undone_s = record.ended_s - record.undoing_s
    print(f"{scenario}: ended after {took_s:.1f} s, {undone_s:.1f} s of that to undo it, of {limit_s:g} s")  # noqa: T201  # -rP
    assert record.by == "ttl", "something else than its time to live has ended it"
    assert FAULT_S < took_s < limit_s
    assert record.ended_s > last_seen_s, "it was seen after it is said to have ended"


def test_a_run_whose_harness_was_killed_ends_itself_and_its_lock_is_stale(cluster: Kind, tmp_path: Path) -> None:
    """The runner is left alone in its pod, in the middle of its fault: it heals, stops its load, and ends."""
    with running("redis-partition-primary", tmp_path) as (harness, said):
        wait_seen("it comes to its fault", lambda: told_of_its_fault(harness, said), BEGUN_WITHIN_S)
    killed_s = time.monotonic()
    name = "redis-partition-primary"
    with pytest.raises(StackError, match=f"in use by .*{name}.*; if it was killed, that is stale in"):
        require_unused(cluster.open())
    code = wait_seen("the runner has ended", lambda: code_of_runner(cluster), SILENT_S + EVERY_S + HEALED_S + LOOK_S)
    print(f"the runner ended {time.monotonic() - killed_s:.1f} s after its harness")  # noqa: T201  -rP
    assert code == [143], "it ended as one that is interrupted"
    assert "the harness outside has been silent for" in cluster.kubectl("logs", "-n", NAMESPACE, RUNNER, "-c", RUNNER)
    assert cut_pods(cluster) == []
    with pytest.raises(StackError, match=f"the cluster's lock is stale: .*{name}.*--break-lock takes it"):
        ClusterLock(cluster.open(), "a test").take(break_stale=False)


def code_of_runner(cluster: Kind) -> list[int]:
    code = ended_code(cluster.open().get(f"/api/v1/namespaces/{NAMESPACE}/pods/{RUNNER}"))
    return [] if code is None else [code]


@contextlib.contextmanager
def running(scenario: str, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A run in the cluster, and where what it says is written; killed in the end, with its calls of the machine: a
    watchdog has a session of its own.
    """
    command = [sys.executable, "-m", "resilience", "run", scenario, "--stack", "kind", "--control", "none"]
    lengths = ["--set", f"timeline.warmup_s={WARMUP_S:g}", "--set", f"timeline.fault_s={FAULT_S:g}"]
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen(
            [*command, *lengths, "--reports", str(folder)], cwd=PROJECT_ROOT, stdout=said, stderr=said,
            start_new_session=True,
        ) as harness,
    ):  # fmt: skip
        try:
            yield harness, folder / "said"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(harness.pid, signal.SIGKILL)


def told_of_its_fault(harness: "subprocess.Popen[bytes]", said: Path) -> bool:
    """Whether the run says that it is in that phase; fails with all that it said if it has ended before."""
    text = said.read_text()
    assert harness.poll() is None, text
    return "→ fault" in text


def seen(cluster: Kind, look: Look, words: str) -> list[str]:
    return [one for one in look(cluster) if words in one]


def killed(cluster: Kind) -> bool:
    kill_runner(cluster)
    return True


def time_to_live_s(scenario: str) -> float:
    experiment = read_scenario(PROJECT_ROOT, scenario).experiment
    assert experiment
    return ttl_s(lasts_s(FAULT_S, pace(experiment.fault, experiment.target)))


def ended_since(cluster: Kind, scenario: str, since_s: float) -> list[Record]:
    """The scenario's injection of this test, if it has ended."""
    return [one for one in ended(cluster) if one.injection.startswith(scenario) and one.applied_s > since_s]
