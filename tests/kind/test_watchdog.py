"""A run that is killed while something is broken in a real cluster: what it broke ends in time all the same.

Both are killed with ``kill -9``: the harness outside, and the runner in its pod. Nobody is left then but the watchdog
of the machine under the nodes, and the agents. Each case is a run up to its fault, several minutes.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience import cluster_cli
from resilience.backend.kind import Kind
from resilience.backend.kubernetes.injector import LEAD_S
from resilience.backend.kubernetes.workload import NAMESPACE
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.fault.injector import ttl_s
from resilience.spec.read import read_scenario
from tests.kind.conftest import kill_runner

pytestmark = pytest.mark.kind

BEGUN_WITHIN_S = 600.0  # a cluster, if there is none, its stack, and the phases before the fault
EVERY_S = 1.0
SPARE_S = 10.0  # after its time to live
Look = Callable[[Kind], list[str]]  # what is broken

# from a node's process namespace: the tables in the network of each pod on it
TABLES = (
    "for p in /proc/[0-9]*; do grep -q pause $p/comm 2>/dev/null"
    ' && nsenter --target "${p##*/}" --net nft list tables; done; true'
)


@pytest.fixture
def cluster(made_by_runs: Kind) -> Iterator[Kind]:
    """What a killed run leaves in it is taken away; a test that failed leaves no broken node."""
    cluster = made_by_runs
    yield cluster
    cluster.put_nodes_right()
    left = ("pod/runner", "configmap/run", "configmap/machine")
    cluster.kubectl("delete", *left, "-n", NAMESPACE, "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "lease/run", "-n", "resilience", "--ignore-not-found")


def broken_nodes(cluster: Kind) -> list[str]:
    return cluster.broken_nodes()


def cut_pods(cluster: Kind) -> list[str]:
    """The tables of partitions in the networks of pods."""
    where = ("-n", "resilience", "-l", "app.kubernetes.io/component=agent", "-o", "name")
    agents = cluster.kubectl("get", "pods", *where).split()
    said = [cluster.run("resilience", agent, ("sh", "-c", TABLES), "", 30.0) for agent in agents]
    return [line for text in said for line in text.splitlines() if " hf_" in line]


@dataclass
class Life:
    """What was seen of a fault, on the clock of this process."""

    not_before: float  # began the last look that saw nothing of it
    seen_at: float  # ended the first look that saw it
    last_seen_at: float = 0.0
    over_at: float = 0.0  # ended the first look that saw nothing of it any more


@pytest.mark.parametrize(
    ("scenario", "look", "words"),
    [
        ("node-freeze", broken_nodes, "(paused, connected)"),
        ("node-power-off", broken_nodes, "(exited, connected)"),
        ("redis-partition-primary", cut_pods, "hf_redis_partition_primary"),
    ],
)
def test_it_ends_in_time_although_harness_and_runner_were_killed(
    cluster: Kind, tmp_path: Path, scenario: str, look: Look, words: str
) -> None:
    command = [sys.executable, "-m", "resilience", "run", scenario, "--stack", "kind", "--control", "none"]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [*command, "--set", "timeline.warmup_s=5", "--reports", str(tmp_path)], cwd=PROJECT_ROOT, stdout=said,
            stderr=said, start_new_session=True,
        ) as harness,
    ):  # fmt: skip
        try:
            life = begun(lambda: [one for one in look(cluster) if words in one], harness, tmp_path / "said")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(harness.pid, signal.SIGKILL)  # its calls of the machine, too; a watchdog has its own session
    kill_runner(cluster)
    (seen,) = look(cluster)
    assert words in seen
    if look is broken_nodes:
        with pytest.raises(StackError, match="'resilience heal --stack kind' puts them right"):
            cluster_cli.require_whole(cluster)
    planned_s = read_scenario(PROJECT_ROOT, scenario).timeline.fault_s
    limit_s = ttl_s(planned_s + LEAD_S) + SPARE_S
    wait_over(cluster, look, life, limit_s)
    took_s = life.over_at - life.not_before
    print(f"{scenario}: it was over at most {took_s:.1f} s after it had begun, of {limit_s:g} s")  # noqa: T201  # -rP
    assert took_s < limit_s
    assert life.last_seen_at - life.seen_at > planned_s, "something else than its time to live has ended it"


def begun(look: Callable[[], list[str]], harness: "subprocess.Popen[bytes]", said: Path) -> Life:
    """Waits for the fault. Until then there need not be a cluster that can be looked at."""
    not_before = time.monotonic()
    deadline = not_before + BEGUN_WITHIN_S
    while time.monotonic() < deadline:
        assert harness.poll() is None, said.read_text()
        looked_at = time.monotonic()
        try:
            seen = look()
        except StackError:
            seen = []
        if seen:
            return Life(not_before=not_before, seen_at=time.monotonic(), last_seen_at=looked_at)
        not_before = looked_at
        time.sleep(EVERY_S)
    raise AssertionError(f"nothing was broken within {BEGUN_WITHIN_S:g} s: {said.read_text()}")


def wait_over(cluster: Kind, look: Look, life: Life, within_s: float) -> None:
    """Looks until it is over, or should have been for long; a look that fails fails the test."""
    while not life.over_at and time.monotonic() < life.not_before + within_s + SPARE_S:
        looked_at = time.monotonic()
        if look(cluster):
            life.last_seen_at = looked_at
            time.sleep(EVERY_S)
        else:
            life.over_at = time.monotonic()
    assert life.over_at, f"still broken after {time.monotonic() - life.not_before:.1f} s: {look(cluster)}"
