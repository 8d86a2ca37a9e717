"""Which agent does and sees what of an injection."""

from collections.abc import Mapping
from typing import Any

import pytest

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.split import LOOKERS_STAY_S, MACHINE, WITNESS, split
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.spec.stack import OBSERVER

HOSTS = {"node-1": "hf-worker", "node-2": "hf-worker2", OBSERVER: "hf-worker4"}


def state(name: str, component: str, node: str) -> MemberState:
    return MemberState(
        name=name, component=component, node=node, address=f"10.244.{node[-1]}.{name[-1]}", running=True, identity="x",
        restarts=0, handle={"host": HOSTS[node], "pod_uid": f"uid-{name}"},
    )  # fmt: skip


STATES = {
    one.name: one
    for one in (
        state("redis-0", "redis", "node-1"),
        state("redis-1", "redis", "node-2"),
        state("redis-2", "redis", "node-2"),
        state("session-1", "session", "node-1"),
        state("prometheus-0", "prometheus", OBSERVER),
    )
}
R0, R1, R2, SESSION, PROMETHEUS = STATES.values()
M0, M1 = (state(f"rabbitmq-{number}", "rabbitmq", f"node-{number + 1}") for number in (0, 1))
STATES |= {"rabbitmq-0": M0, "rabbitmq-1": M1}


def parts(steps: list[Any], *watches: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return split({"id": "test-1", "ttl_s": 9.0, "steps": steps, "watch": list(watches)}, STATES)


def drop(member: MemberState, direction: str = "both") -> dict[str, Any]:
    return {"primitive": "drop", "member": watch.place(member), "others": [], "direction": direction}


def test_steps_are_taken_on_the_members_node_after_all_others_look():
    pause = {"primitive": "pause", "members": [watch.place(R0)]}
    found = parts([pause], watch.stopped(R0), watch.mute(PROMETHEUS, R0), watch.reachable(R1, R0))
    assert list(found) == [WITNESS, "hf-worker2", "hf-worker"]
    assert [len(part["steps"]) for part in found.values()] == [0, 0, 1]
    assert all((part["id"], part["ttl_s"]) == ("test-1", 9.0) for part in found.values())
    assert found["hf-worker"]["watch"] == [watch.stopped(R0)]


def test_a_pod_of_another_node_is_an_address():
    (seen,) = parts([], watch.reachable(R1, R0))["hf-worker2"]["watch"]
    assert seen["via"]["pod_uid"] == "uid-redis-1"
    assert seen["to"] == {"name": "redis-0", "address": "10.244.1.0", "init_pid": 0, "init_start": 0}


def test_the_witness_looks_from_its_own_network():
    (seen,) = parts([], watch.mute(PROMETHEUS, R0))[WITNESS]["watch"]
    assert (seen["via"]["name"], seen["via"]["here"]) == (WITNESS, True)
    assert "pod_uid" not in seen["via"]


def test_what_policies_forbid_shows_nothing_and_is_left_out():
    assert parts([], watch.unreachable(SESSION, R0))
    assert parts([], watch.unreachable(R0, SESSION), watch.reachable(SESSION, PROMETHEUS)) == {}


def test_who_is_no_member_looks_at_rabbitmq_by_its_clients_port():
    """Which a member in a minority closes: that it is reached there is nobody's to say."""
    (by_peer,) = parts([], watch.unreachable(M1, M0))["hf-worker2"]["watch"]
    (by_witness,) = parts([], watch.refused(PROMETHEUS, M0), watch.reachable(PROMETHEUS, M0))[WITNESS]["watch"]
    assert [(seen["probe"], seen["port"]) for seen in (by_peer, by_witness)] == [
        ("unreachable", 25672),
        ("refused", 5672),
    ]
    (instead,) = parts([drop(M0)], watch.datagram(M1, M0, arrives=False))["hf-worker2"]["watch"]
    assert (instead["probe"], instead["port"]) == ("unreachable", 25672)


def test_connections_take_the_place_of_datagrams_once():
    watches = (watch.unreachable(R1, R0), watch.datagram(R1, R0, arrives=False), watch.datagram(R0, R1, arrives=False))
    found = parts([drop(R0)], *watches)
    assert [item["probe"] for part in found.values() for item in part["watch"]] == ["unreachable", "unreachable"]
    assert [(item["via"]["name"], item["to"]["name"]) for part in found.values() for item in part["watch"]] == [
        ("redis-1", "redis-0"),
        ("redis-0", "redis-1"),
    ]


COMING, GOING = watch.unreachable(R1, R0), watch.datagram(R0, R1, arrives=False)


@pytest.mark.parametrize(
    ("direction", "others", "counted"),
    [
        ("in", [COMING], ["in"]),
        ("out", [COMING], ["out"]),
        ("both", [COMING, GOING], ["in", "out"]),
        ("both", [COMING], ["in"]),  # nothing is sent the other way that could be dropped
        ("both", [GOING], ["out"]),
    ],
)
def test_counters_tell_the_direction(direction: str, others: list[dict[str, Any]], counted: list[str]):
    seen = parts([drop(R0, direction)], *others, watch.counter(R0))["hf-worker"]["watch"]
    assert [item["directions"] for item in seen if item["probe"] == "counter"] == [counted]


def test_a_counter_without_rules_stays_a_probe_that_will_fail():
    (seen,) = parts([], watch.counter(R0))["hf-worker"]["watch"]
    assert seen == watch.counter(R0)


@pytest.mark.parametrize(
    ("injection", "words"),
    [
        ({"steps": [drop(R0), drop(R1)], "watch": []}, "several nodes at once"),
        ({"steps": [], "watch": [], "prelude": {"for_s": 1}}, "a prelude is not possible"),
    ],
)
def test_what_no_single_agent_can_do(injection: dict[str, Any], words: str):
    with pytest.raises(FaultError, match=words):
        split({"id": "test-1", "ttl_s": 1.0, **injection}, STATES)


NODE_1 = [{"name": "node-1", "host": "hf-worker"}]


def test_a_node_is_broken_by_the_machine_and_seen_from_everywhere_but_itself():
    step = {"primitive": "power-off", "nodes": NODE_1}
    found = parts([step], watch.dead(R0), watch.silent(PROMETHEUS, R0), watch.silent(R1, R0), watch.counter())
    assert list(found) == [WITNESS, "hf-worker2", MACHINE]
    assert found[MACHINE]["steps"] == [step]
    assert found[MACHINE]["watch"] == [{"probe": "node", "nodes": NODE_1, "after": "power-off"}]
    assert [len(found[agent]["watch"]) for agent in (WITNESS, "hf-worker2")] == [1, 1]


def test_those_that_look_outlive_the_node_s_return():
    found = parts([{"primitive": "freeze", "nodes": NODE_1}], watch.mute(PROMETHEUS, R0))
    assert {agent: part["ttl_s"] for agent, part in found.items()} == {WITNESS: 9.0 + LOOKERS_STAY_S, MACHINE: 9.0}


def test_without_its_steps_a_node_s_fault_is_looked_for_all_the_same():
    found = parts([], watch.dead(R0), watch.silent(PROMETHEUS, R0), watch.counter())
    assert {agent: len(part["watch"]) for agent, part in found.items()} == {"hf-worker": 1, WITNESS: 1}
