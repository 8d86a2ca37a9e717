"""Tests in a real kind cluster (``make test-kind``): one that is up is used, otherwise one is made and ended.

Where there is no usable Docker, kind, kubectl or node image they are skipped, with the reason.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience import cluster_cli
from resilience.backend.kind import NODE_IMAGE, Kind, require_tools
from resilience.backend.kubernetes.cluster import AGENTS, namespaces_up, platform_of
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.workload import NAMESPACE, RUNNER
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.preflight import There, require_room, stack_objects
from resilience.backend.tool import output
from resilience.errors import HostError
from resilience.fault.base import Aim
from resilience.fault.injector import Injector, heal_all
from resilience.fault.ledger import Ledger
from resilience.fault.registry import fault_from_spec
from resilience.history.clock import RunClock
from resilience.spec.fault import Deny, Drain, FaultSpec, Injection, NodeFault, RollingRestart, Scale, Target
from resilience.spec.read import read_scenario

QUICK = PROJECT_ROOT / "tests" / "kind-config-quick.yaml"
# from the observers' node: whatever plays the run, with everything that it has started
KILL_RUNNER = (
    'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null | grep -q "[r]esilience.play"'
    " && kill -KILL ${p##*/} && echo killed; done; true"
)


@dataclass
class Field:
    """The platform in the cluster and what injects into it."""

    cluster: Kind
    platform: KubernetesPlatform
    injector: Injector

    def plan(self, fault: FaultSpec, member: str, **changes: Any) -> Injection:
        """The injection of a fault into one member, by its name."""
        return self._planned(fault, Aim(members=(member,)), **changes)

    def plan_on_node(self, fault: NodeFault | Drain, node: str, **changes: Any) -> Injection:
        """The injection of a fault into a node, with all that stands on it."""
        members = tuple(state.name for state in self.platform.states() if state.node == node)
        return self._planned(fault, Aim(members=members, nodes=(node,)), **changes)

    def plan_on_all(self, fault: RollingRestart | Scale | Deny, component: str, **changes: Any) -> Injection:
        """The injection of a fault into all members of a component."""
        members = tuple(state.name for state in self.platform.states() if state.component == component)
        return self._planned(fault, Aim(members=members), **changes)

    def _planned(self, fault: FaultSpec, aim: Aim, **changes: Any) -> Injection:
        kind = fault_from_spec(fault)
        component: Any = self.platform.state(aim.members[0]).component
        planned = Injection(
            id=f"test-{time.monotonic_ns()}", fault=fault, target=Target(component=component), members=aim.members,
            nodes=aim.nodes, ttl_s=60.0, steps=kind.inject(aim, self.platform), watch=kind.effect(aim, self.platform),
        )  # fmt: skip
        return msgspec.structs.replace(planned, **changes)

    def on_node(self, member: str, script: str) -> str:
        """What a shell script prints that runs beside a member's agent, in the node's process namespace."""
        host = self.platform.state(member).handle["host"]
        where = ["get", "pods", "-n", "resilience", "-l", "app.kubernetes.io/component=agent"]
        found = self.cluster.kubectl(*where, "--field-selector", f"spec.nodeName={host}", "-o", "name")
        return self.cluster.run("resilience", found.strip(), ("sh", "-c", script), "", 30.0)


def unusable() -> str:
    """Why no cluster can be made here; "" if one can."""
    try:
        require_tools()
        found = Kind(cluster_cli.cache_folder())
        require_room(stack_objects(), There(cluster=found, stack=True) if found.exists() else There())
    except HostError as error:
        return str(error)
    if os.environ.get(NODE_IMAGE) or output(["docker", "images", "-q", "kindest/node"], timeout_s=30).strip():
        return ""
    return f"no node image is here: name one in {NODE_IMAGE}, or 'docker pull kindest/node:v1.34.0'"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kind]:
    """A cluster with the shipped stack; one that is made here detects quickly."""
    if why := unusable():
        pytest.skip(why)
    found = Kind(cluster_cli.cache_folder())
    is_up = found.exists() and bool(namespaces_up(found.open()))
    if not is_up:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster_cli, "config_file", lambda: QUICK)
            assert cluster_cli.up(read_scenario(PROJECT_ROOT, "baseline")) == 0
    yield found
    if not is_up:
        take_down(found)


def take_down(found: Kind) -> None:
    """Its lock may be that of a run which a test has killed."""
    found.kubectl("delete", "lease/run", "-n", AGENTS, "--ignore-not-found")
    cluster_cli.down()


def kill_runner(cluster: Kind) -> None:
    """``kill -9`` of whatever plays the run in its pod."""
    host = cluster.kubectl("get", "pod", "-n", NAMESPACE, RUNNER, "-o", "jsonpath={.spec.nodeName}").strip()
    assert "killed" in output(["docker", "exec", host, "sh", "-c", KILL_RUNNER], timeout_s=30)


@pytest.fixture(scope="session")
def made_by_runs() -> Iterator[Kind]:
    """The cluster as a run finds or makes it, with whatever stack; one that runs have made is deleted."""
    if why := unusable():
        pytest.skip(why)
    found = Kind(cluster_cli.cache_folder())
    was_there = found.exists()
    yield found
    if not was_there and found.exists():
        take_down(found)


@pytest.fixture
def field(cluster: Kind, tmp_path: Path) -> Iterator[Field]:
    """Every test begins with members that run, and leaves no injection."""
    platform = platform_of(cluster, cluster.open(), read_scenario(PROJECT_ROOT, "baseline").stack)
    injector = Injector(
        platform=platform,
        roles=lambda: (),
        ledger=Ledger(tmp_path / "ledger.jsonl"),
        clock=RunClock.starting_now(),
    )
    yield Field(cluster, platform, injector)
    heal_all(injector, lambda _injection, _undone: None)  # of a test that failed
    assert platform.open_injections() == {}
