"""Whole nodes of a real cluster: broken by the machine under them, seen by their peers, healed until all is back."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import cluster_cli
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import FaultError
from resilience.spec.fault import Freeze, Isolate, NodeFault, PowerOff, Reboot
from resilience.spec.read import read_scenario
from tests.kind.conftest import Field
from tests.waiting import until

pytestmark = pytest.mark.kind
NODE = "node-1"
FAULTS: list[NodeFault] = [Freeze(), Isolate(), PowerOff(), Reboot()]
PROVED_WITHIN_S = 5.0
STACK = read_scenario(PROJECT_ROOT, "baseline").stack


@pytest.fixture(autouse=True)
def well(field: Field) -> Iterator[None]:
    """No test leaves a broken node to the next."""
    yield
    assert field.cluster.put_nodes_right() == []


def failed(proof: Any) -> list[Any]:
    return [item for item in proof.evidence if not item.ok]


def amiss(field: Field) -> list[str]:
    """What the members of the Redis Cluster say is not as it should be."""
    said = [
        field.cluster.kubectl(
            "exec", "-n", "redis", f"redis-cluster-{number}", "-c", "redis", "--", "redis-cli", "cluster", "nodes"
        )
        for number in range(6)
    ]
    lines = [line for text in said for line in text.splitlines()]
    return [line for line in lines if "fail" in line or "disconnected" in line] + ["missing"] * (len(lines) != 36)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_it_is_proved_within_seconds_and_healed_until_all_is_back(field: Field, fault: NodeFault) -> None:
    injection = field.plan_on_node(fault, NODE)
    assert len(injection.members) >= 3, "a node of the platform carries members of several tiers"
    injected = field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    assert (time.monotonic_ns() - injected.applied_ns) / 1e9 < PROVED_WITHIN_S
    assert field.cluster.broken_nodes() != [] or isinstance(fault, Reboot)
    healed = field.injector.heal(injection.id, "request")
    assert failed(healed.proof) == []
    assert healed.by == "request"
    states = {state.name: state for state in field.platform.states()}
    assert [name for name in injection.members if not states[name].handle["ready"]] == []
    until(lambda: not amiss(field), 30, every_s=1.0)


def test_what_is_done_to_nothing_is_not_proved(field: Field) -> None:
    injection = field.plan_on_node(Freeze(), NODE, steps=())
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id))
    assert field.injector.heal(injection.id, "request").proof.holds


@pytest.mark.parametrize("node", ["observer", "outside"])
def test_no_other_node_is_asked_for(field: Field, node: str) -> None:
    with pytest.raises(FaultError, match="no fault may touch it"):
        field.platform.node_steps("freeze", [node], [])


@pytest.mark.parametrize("role", ["control-plane", "observer"])
def test_the_machine_itself_refuses_other_nodes(field: Field, role: str) -> None:
    label = "node-role.kubernetes.io/control-plane" if role == "control-plane" else "harmonyflow.dev/node=observer"
    host = field.cluster.kubectl("get", "nodes", "-l", label, "-o", "jsonpath={.items[0].metadata.name}").strip()
    step = {"primitive": "power-off", "nodes": [{"name": role, "host": host}]}
    injection = field.plan_on_node(PowerOff(), NODE, steps=(step,), watch=())
    with pytest.raises(FaultError, match=f"node {host}: no fault may touch it"):
        field.injector.inject(injection)
    assert field.cluster.broken_nodes() == []


def test_heal_puts_right_what_nobody_remembers(field: Field, capsys: pytest.CaptureFixture[str]) -> None:
    injection = field.plan_on_node(Freeze(), NODE)
    field.injector.inject(injection)
    assert cluster_cli.heal(STACK) == 0
    said = capsys.readouterr().out
    assert ": let go on" in said
    assert f"{injection.id}: healed" in said
    assert field.cluster.broken_nodes() == []
    assert cluster_cli.heal(STACK) == 0
    assert "nothing to heal" in capsys.readouterr().out
