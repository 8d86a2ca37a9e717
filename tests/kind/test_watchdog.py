"""A harness that is killed while a node of a real cluster stands still: the node goes on in time all the same."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience import cluster_cli
from resilience.backend.kind import Kind
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.fault.injector import ttl_s
from resilience.spec.read import read_scenario
from tests.kind.conftest import unusable
from tests.waiting import until

pytestmark = pytest.mark.kind
SCENARIO = read_scenario(PROJECT_ROOT, "node-freeze")


@pytest.fixture
def cluster() -> Iterator[Kind]:
    """The cluster as a run finds or makes it; what a killed harness leaves in it is taken away."""
    if why := unusable():
        pytest.skip(why)
    found = Kind(cluster_cli.cache_folder())
    yield found
    found.put_nodes_right()
    left = ("pod/runner", "configmap/run", "configmap/machine")
    found.kubectl("delete", *left, "-n", "monitoring", "--ignore-not-found")
    found.kubectl("delete", "lease/run", "-n", "resilience", "--ignore-not-found")


def test_a_frozen_node_goes_on_although_the_harness_was_killed(cluster: Kind, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "resilience", "run", "node-freeze", "--stack", "kind", "--control", "none"]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(
            [*command, "--set", "timeline.warmup_s=5", "--reports", str(tmp_path)], cwd=PROJECT_ROOT, stdout=said,
            stderr=said, start_new_session=True,
        ) as harness,
    ):  # fmt: skip
        until(lambda: broken(cluster), 400, every_s=0.5)
        frozen_at = time.monotonic()
        harness.send_signal(signal.SIGKILL)
    assert broken(cluster)
    with pytest.raises(StackError, match=r"broken: .* \(paused, connected\); 'resilience heal"):
        cluster_cli.require_whole(cluster)
    until(lambda: not broken(cluster), ttl_s(SCENARIO.timeline.fault_s) + 10, every_s=0.5)
    lived_s = time.monotonic() - frozen_at
    assert lived_s > SCENARIO.timeline.fault_s, "something else than its time to live has ended it"


def broken(cluster: Kind) -> list[str]:
    """The cluster's broken nodes; none while it is being made."""
    try:
        return cluster.broken_nodes()
    except StackError:
        return []
