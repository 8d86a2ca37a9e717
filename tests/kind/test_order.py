"""What a real cluster is asked to do: drains, deletions, replacements; proved, healed, taken back by their time."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import cluster_cli
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.control_plane import cordons
from resilience.backend.machine.deny import denials
from resilience.backend.machine.scale import scales
from resilience.errors import FaultError
from resilience.spec.fault import Delete, Deny, Drain, RollingRestart, Scale
from resilience.spec.read import read_scenario
from tests.kind.conftest import Field
from tests.waiting import until

pytestmark = pytest.mark.kind
STACK = read_scenario(PROJECT_ROOT, "baseline").stack


@pytest.fixture(autouse=True)
def well(field: Field) -> Iterator[None]:
    """No test leaves a cordon or a pod that waits to the next."""
    yield
    field.cluster.put_nodes_right()
    until(lambda: all(state.handle.get("ready") for state in services(field)), 90, every_s=1.0)


def services(field: Field) -> list[Any]:
    kinds = ("redis", "session", "collaboration", "edge")
    return [state for state in field.platform.states() if state.component in kinds]


@pytest.fixture
def node(field: Field) -> str:
    """The one with the most members of services: a node that was drained before has none until somebody moves there."""
    nodes = Counter(str(state.node) for state in services(field) if state.component != "redis" and state.node)
    return nodes.most_common(1)[0][0]


def failed(proof: Any) -> list[Any]:
    return [item for item in proof.evidence if not item.ok]


def test_a_drain_is_proved_by_whom_it_evicted_and_healed_until_all_is_back(field: Field, node: str) -> None:
    injection = field.plan_on_node(Drain(), node)
    stood = {state.name: state for state in services(field) if state.name in injection.members}
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    now = {state.name: state for state in services(field)}
    moved = [name for name, state in stood.items() if state.component != "redis"]
    assert moved, "a node of the platform carries members of several tiers"
    assert [name for name in moved if now[name].node in {node, ""} or not now[name].handle["ready"]] == []
    evicted = [name for name, state in stood.items() if now[name].handle.get("pod_uid") != state.handle["pod_uid"]]
    assert [name for name in evicted if stood[name].component == "redis"], "one Redis member may be away"
    assert list(cordons(field.cluster.open()).values()) == [injection.id]
    healed = field.injector.heal(injection.id, "request")
    assert (failed(healed.proof), healed.by) == ([], "request")
    assert [item for item in healed.proof.evidence if "to another member" in item.what]
    assert cordons(field.cluster.open()) == {}


def test_a_drain_that_nobody_carried_out_is_not_proved(field: Field, node: str) -> None:
    injection = field.plan_on_node(Drain(), node, steps=())
    field.injector.inject(injection)
    assert [item.observed for item in failed(field.injector.probe(injection.id))].count("still there") >= 3
    assert field.injector.heal(injection.id, "request").proof.holds


def test_a_cordon_is_taken_back_when_its_time_is_over(field: Field, node: str) -> None:
    injection = field.plan_on_node(Drain(), node, ttl_s=20.0)
    field.injector.inject(injection)
    began = time.monotonic()
    until(lambda: cordons(field.cluster.open()) == {}, 30, every_s=0.5)
    assert time.monotonic() - began > 15, "something else than its time to live has ended it"


def test_heal_takes_a_cordon_back_that_nobody_remembers(
    field: Field, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    injection = field.plan_on_node(Drain(), node)
    field.injector.inject(injection)
    assert [f"cordoned by {injection.id}" in told for told in field.cluster.broken_nodes()] == [True]
    assert cluster_cli.heal(STACK) == 0
    said = capsys.readouterr().out
    assert ": takes members again" in said
    assert f"{injection.id}: healed" in said
    assert field.cluster.broken_nodes() == []


def test_a_node_that_a_person_has_cordoned_is_refused(field: Field) -> None:
    host = field.platform.state("redis-cluster-0").handle["host"]
    node = field.platform.state("redis-cluster-0").node
    field.cluster.kubectl("cordon", host)
    try:
        with pytest.raises(FaultError, match=f"node {host}: it is cordoned already, by somebody else"):
            field.injector.inject(field.plan_on_node(Drain(), node))
    finally:
        field.cluster.kubectl("uncordon", host)


def test_a_rolling_restart_replaces_each_in_turn(field: Field) -> None:
    injection = field.plan_on_all(RollingRestart(), "session")
    assert len(injection.members) == 2
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    healed = field.injector.heal(injection.id, "request")
    assert (failed(healed.proof), healed.by) == ([], "request")


def test_a_rolling_restart_that_nobody_asked_for_is_not_proved(field: Field) -> None:
    injection = field.plan_on_all(RollingRestart(), "session", steps=())
    field.injector.inject(injection)
    assert [item.observed for item in failed(field.injector.probe(injection.id))].count("still there") == 2
    assert field.injector.heal(injection.id, "request").proof.holds


@pytest.mark.parametrize("grace_s", [0, 10])
def test_a_deletion_is_proved_by_an_observer_and_healed_by_the_successor(field: Field, grace_s: int) -> None:
    injection = field.plan(Delete(grace_s=grace_s), "session-1")
    before = field.platform.state("session-1").handle["pod_uid"]
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    healed = field.injector.heal(injection.id, "request")
    assert (failed(healed.proof), healed.by) == ([], "request")
    now = field.platform.state("session-1").handle
    assert (now["pod_uid"] != before, now["ready"]) == (True, True)


def test_a_deletion_that_nobody_carried_out_is_not_proved(field: Field) -> None:
    injection = field.plan(Delete(), "session-1", steps=())
    field.injector.inject(injection)
    assert [item.observed for item in failed(field.injector.probe(injection.id))] == ["still there", "accepted"]
    assert field.injector.heal(injection.id, "request").proof.holds


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_scale_is_proved_by_who_is_gone_and_healed_until_all_are_back(field: Field, replicas: int) -> None:
    injection = field.plan_on_all(Scale(replicas=replicas), "session")
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    assert scales(field.cluster.open()) == {"harmonyflow/session": injection.id}
    healed = field.injector.heal(injection.id, "request")
    assert (failed(healed.proof), healed.by) == ([], "request")
    assert scales(field.cluster.open()) == {}


def test_a_scale_that_nobody_carried_out_is_not_proved(field: Field) -> None:
    injection = field.plan_on_all(Scale(replicas=1), "session", steps=())
    field.injector.inject(injection)
    assert [item.observed for item in failed(field.injector.probe(injection.id))] == ["2", "still there"]
    assert field.injector.heal(injection.id, "request").proof.holds


def test_a_scale_is_taken_back_when_its_time_is_over(field: Field) -> None:
    injection = field.plan_on_all(Scale(replicas=1), "session", ttl_s=20.0)
    field.injector.inject(injection)
    began = time.monotonic()
    until(lambda: scales(field.cluster.open()) == {}, 30, every_s=0.5)
    assert time.monotonic() - began > 15, "something else than its time to live has ended it"


def test_heal_takes_a_scale_back_that_nobody_remembers(field: Field, capsys: pytest.CaptureFixture[str]) -> None:
    injection = field.plan_on_all(Scale(), "session")
    field.injector.inject(injection)
    assert field.cluster.broken_nodes() == [f"StatefulSet harmonyflow/session (scaled by {injection.id})"]
    assert cluster_cli.heal(STACK) == 0
    assert "StatefulSet harmonyflow/session: keeps 2 pods again" in capsys.readouterr().out
    assert field.cluster.broken_nodes() == []


def test_a_denial_is_proved_between_exactly_these_and_healed_by_its_end(field: Field) -> None:
    injection = field.plan_on_all(Deny(to="redis"), "session")
    field.injector.inject(injection)
    proof = field.injector.probe(injection.id)
    assert failed(proof) == []
    assert sum(item.expected == "none" for item in proof.evidence) == 2 * 6
    assert denials(field.cluster.open()) == {f"harmonyflow/{injection.id}": injection.id}
    healed = field.injector.heal(injection.id, "request")
    assert (failed(healed.proof), healed.by) == ([], "request")
    assert denials(field.cluster.open()) == {}


def test_a_denial_that_nobody_wrote_is_not_proved(field: Field) -> None:
    injection = field.plan_on_all(Deny(to="redis"), "session", steps=())
    field.injector.inject(injection)
    assert {item.observed for item in failed(field.injector.probe(injection.id))} == {"gone", "accepted"}
    assert field.injector.heal(injection.id, "request").proof.holds


def test_a_denial_is_taken_back_when_its_time_is_over(field: Field) -> None:
    injection = field.plan_on_all(Deny(to="redis"), "session", ttl_s=20.0)
    field.injector.inject(injection)
    began = time.monotonic()
    until(lambda: denials(field.cluster.open()) == {}, 30, every_s=0.5)
    assert time.monotonic() - began > 15, "something else than its time to live has ended it"


def test_heal_takes_a_denial_back_that_nobody_remembers(field: Field, capsys: pytest.CaptureFixture[str]) -> None:
    injection = field.plan_on_all(Deny(to="redis"), "session")
    field.injector.inject(injection)
    assert cluster_cli.heal(STACK) == 0
    assert f"NetworkPolicy harmonyflow/{injection.id}: deleted" in capsys.readouterr().out
    assert field.cluster.broken_nodes() == []
