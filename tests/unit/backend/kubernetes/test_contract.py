"""What the harness asks for is what an agent understands: each part of each fault, as the agent reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.job import Job
from resilience.agent.pod import Pods
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.split import WITNESS, split
from resilience.backend.local.place import PROJECT_ROOT
from resilience.fault.base import Aim
from resilience.fault.registry import fault_from_spec
from resilience.spec.fault import FastRestart, FaultSpec, Kill, Noop, Partition, Pause
from resilience.spec.read import read_stack
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
