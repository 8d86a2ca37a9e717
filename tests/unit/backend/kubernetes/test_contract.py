"""What the harness asks for is what an agent understands: each part of each fault, as the agent reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.job import Job
from resilience.agent.pod import Pods
from resilience.backend.kind import NAME
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.split import MACHINE, WITNESS, split
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.__main__ import node_of
from resilience.backend.machine.desk import broken_nodes
from resilience.backend.machine.docker import Docker
from resilience.fault.base import Aim
from resilience.fault.registry import fault_from_spec
from resilience.spec.fault import (
    Delete,
    Deny,
    Drain,
    FastRestart,
    FaultSpec,
    Freeze,
    Isolate,
    Kill,
    NodeFault,
    Noop,
    Partition,
    Pause,
    PowerOff,
    Reboot,
    RollingRestart,
    Scale,
)
from resilience.spec.read import read_stack
from tests.fakes import FakeCluster, FakeDocker
from tests.unit.backend.kubernetes.test_injector import cluster

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
POSSIBLE: list[FaultSpec] = [
    Noop(),
    Kill(restart=True),
    Kill(restart=True, signal="TERM"),
    Pause(),
    FastRestart(delay_s=1),
    *(Partition(cut_from=cut, direction=way) for cut in ("peers", "clients", "all") for way in ("both", "in", "out")),
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pods that agents look for, which are found wherever they look."""
    names: list[str] = []

    def placed(_pods: Pods, pod: dict[str, Any]) -> dict[str, Any]:
        names.append(pod["name"])
        return {**pod, "init_pid": 1, "init_start": -1, "server_pid": None, "server_start": None}

    monkeypatch.setattr(Pods, "_place", placed)
    return names


@pytest.mark.parametrize(
    ("fault", "member"),
    [(fault, member) for fault in POSSIBLE for member in ("redis-cluster-0", "session-0", "edge-1")]
    + [(FastRestart(delay_s=1, data="gone"), "redis-cluster-0")],
    ids=repr,
)
def test_every_part_of_a_fault_is_understood(fault: FaultSpec, member: str, found: list[str], tmp_path: Path):
    platform = KubernetesPlatform(cluster().api(), STACK, str)
    aim, kind = Aim(members=(member,)), fault_from_spec(fault)
    steps, watch = kind.inject(aim, platform), kind.effect(aim, platform)
    injection = json.loads(json.dumps({"id": "test-1", "ttl_s": 9.0, "steps": steps, "watch": watch}))
    states = {state.name: state for state in platform.states()}
    parts = split(injection, states)
    assert parts
    for agent, part in parts.items():
        found.clear()
        located = Pods(allowed=frozenset(), logs=tmp_path).request(json.loads(json.dumps(part)))
        Job({"injection": located, "dir": str(tmp_path), "ledger": "", "base_ns": 0})
        assert {states[name].handle["host"] for name in found} == (set() if agent == WITNESS else {agent})
    assert sum(bool(part["steps"]) for part in parts.values()) == (0 if fault == Noop() else 1)


@pytest.mark.parametrize("fault", [PowerOff(), Freeze(), Isolate(), Reboot()], ids=repr)
def test_every_part_of_a_node_s_fault_is_understood(fault: NodeFault, found: list[str], tmp_path: Path):
    platform = KubernetesPlatform(cluster().api(), STACK, str)
    states = {state.name: state for state in platform.states()}
    aim = Aim(members=tuple(name for name, state in states.items() if state.node == "node-1"), nodes=("node-1",))
    kind = fault_from_spec(fault)
    steps, watch = kind.inject(aim, platform), kind.effect(aim, platform)
    parts = split(json.loads(json.dumps({"id": "test-1", "ttl_s": 9.0, "steps": steps, "watch": watch})), states)
    docker = FakeDocker(NAME, {"hf-worker": "worker", "hf-worker2": "worker"})
    machine = node_of(tmp_path, NAME, frozenset({"hf-worker"}), Docker(docker.run), FakeCluster({}).plane)
    request = {"dir": str(tmp_path), "ledger": "", "base_ns": 0, "injection": machine.pods.request(parts.pop(MACHINE))}
    machine.job_of(request).apply(0)
    assert bool(broken_nodes(Docker(docker.run), NAME)) is not isinstance(fault, Reboot)
    machine.job_of(request).undo("request", 0)
    assert broken_nodes(Docker(docker.run), NAME) == {}
    assert (parts == {}) is isinstance(fault, Reboot)
    for part in parts.values():
        located = Pods(allowed=frozenset(), logs=tmp_path).request(json.loads(json.dumps(part)))
        Job({"injection": located, "dir": str(tmp_path), "ledger": "", "base_ns": 0})
        assert "hf-worker" not in {item["via"].get("host") for item in located["watch"]}


@pytest.mark.parametrize(
    ("fault", "members", "nodes"),
    [
        (Drain(), ("redis-cluster-0", "session-1"), ("node-1",)),
        (Delete(grace_s=5), ("session-1",), ()),
        (Scale(replicas=1), ("session-0", "session-1"), ()),
        (Deny(to="redis"), ("session-0", "session-1"), ()),
        (RollingRestart(), ("session-0", "session-1"), ()),
    ],
    ids=["drain", "delete", "scale", "deny", "rolling restart"],
)
def test_every_part_of_an_order_is_understood(
    fault: FaultSpec, members: tuple[str, ...], nodes: tuple[str, ...], tmp_path: Path
):
    platform = KubernetesPlatform(cluster().api(), STACK, str)
    aim, kind = Aim(members=members, nodes=nodes), fault_from_spec(fault)
    steps, watch = kind.inject(aim, platform), kind.effect(aim, platform)
    states = {state.name: state for state in platform.states()}
    parts = split(json.loads(json.dumps({"id": "test-1", "ttl_s": 9.0, "steps": steps, "watch": watch})), states)
    assert list(parts) == [MACHINE]
    hosts = ("hf-worker", "hf-worker2", "hf-worker3")
    docker = FakeDocker(NAME, dict.fromkeys(hosts, "worker"))
    orders = FakeCluster(dict.fromkeys(members, "hf-worker"))
    machine = node_of(tmp_path, NAME, frozenset(hosts), Docker(docker.run), orders.plane)
    told = machine.pods.request(parts[MACHINE])
    machine.job_of({"dir": str(tmp_path), "ledger": "", "base_ns": 0, "injection": told})
