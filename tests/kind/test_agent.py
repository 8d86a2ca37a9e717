"""Agents in a real cluster: faults in Redis pods that are proved and healed, or not proved as nothing was done.

Each test has a member to itself: a container that was restarted once is started late the next time.
"""

import time
from typing import Any

import pytest

from resilience.errors import FaultError
from resilience.fault.base import Aim
from resilience.fault.registry import fault_from_spec
from resilience.spec.fault import FastRestart, FaultSpec, Kill, Noop, Partition, Pause
from tests.kind.conftest import Field
from tests.waiting import until

pytestmark = pytest.mark.kind

KEEPER = (  # the pid of the agent's main process in this very pod
    'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null | grep -q "resilience.agent.node [k]eep"'
    " && cmp -s $p/cgroup /proc/self/cgroup && basename $p; done; true"
)
WORKING: list[tuple[str, FaultSpec, str]] = [
    ("kill", Kill(restart=True), "redis-cluster-0"),
    ("kill, held back", Kill(restart=False), "session-1"),
    ("pause", Pause(), "redis-cluster-1"),
    ("partition from peers", Partition(cut_from="peers"), "redis-cluster-1"),
    ("partition from clients", Partition(cut_from="clients"), "redis-cluster-1"),
    ("partition, nothing comes in", Partition(cut_from="peers", direction="in"), "redis-cluster-2"),
    ("partition, nothing goes out", Partition(cut_from="all", direction="out"), "redis-cluster-2"),
    ("fast restart", FastRestart(), "redis-cluster-3"),
    ("fast restart without data", FastRestart(data="gone"), "redis-cluster-4"),
]
IDS = [name for name, _fault, _member in WORKING]


def failed(proof: Any) -> list[Any]:
    return [item for item in proof.evidence if not item.ok]


@pytest.mark.parametrize(("name", "fault", "member"), WORKING, ids=IDS)
def test_without_its_steps_it_is_not_proved(field: Field, name: str, fault: FaultSpec, member: str) -> None:
    injection = field.plan(fault, member, steps=())
    field.injector.inject(injection)
    assert not field.injector.probe(injection.id).holds, name
    assert field.injector.heal(injection.id, "request").proof.holds


@pytest.mark.parametrize(("name", "fault", "member"), WORKING, ids=IDS)
def test_it_is_proved_and_healed(field: Field, name: str, fault: FaultSpec, member: str) -> None:
    before = field.platform.state(member)
    injection = field.plan(fault, member)
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == [], name
    assert field.platform.open_injections()
    healed = field.injector.heal(injection.id, "request")
    assert failed(healed.proof) == []
    assert healed.by == "request"
    restarted = not isinstance(fault, Pause | Partition)
    until(lambda: field.platform.state(member).restarts == before.restarts + restarted, 30, every_s=0.5)
    assert field.injector.ledger.open_injections() == ()
    assert field.injector.heal(injection.id, "request").healed_ns == healed.healed_ns  # harmless when repeated


def test_a_fast_restart_that_would_be_a_slow_one_is_refused(field: Field) -> None:
    until(lambda: field.platform.state("redis-cluster-3").restarts, 30, every_s=0.5)  # by an earlier test
    with pytest.raises(FaultError, match="the kubelet would wait"):
        field.plan(FastRestart(), "redis-cluster-3")


def test_a_restart_is_held_back_until_healing(field: Field) -> None:
    """The kubelet would have started another one after a second."""
    before = field.platform.state("collaboration-0")
    injection = field.plan(Kill(restart=False), "collaboration-0")
    field.injector.inject(injection)
    time.sleep(10)
    assert failed(field.injector.probe(injection.id)) == []
    assert field.platform.state("collaboration-0").restarts == before.restarts
    assert field.injector.heal(injection.id, "request").proof.holds
    until(lambda: field.platform.state("collaboration-0").restarts == before.restarts + 1, 30, every_s=0.5)


def test_a_pause_that_kubernetes_ended_is_not_proved_any_more(field: Field) -> None:
    injection = field.plan(Pause(), "session-0")
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    uid = field.platform.state("session-0").handle["pod_uid"].replace("-", "[-_]")
    # what a liveness probe has the kubelet do
    field.on_node(
        "session-0",
        f'for p in /proc/[0-9]*; do grep -q "{uid}" $p/cgroup && grep -q "services.session" $p/cmdline'
        " && kill -KILL $(basename $p); done; true",
    )
    until(lambda: field.platform.state("session-0").restarts, 30, every_s=0.5)
    assert any("another server" in item.observed for item in failed(field.injector.probe(injection.id)))
    assert field.injector.heal(injection.id, "request").proof.holds


def test_its_time_to_live_ends_it_without_the_harness(field: Field) -> None:
    injection = field.plan(Partition(cut_from="peers"), "redis-cluster-5", ttl_s=4.0)
    field.injector.inject(injection)
    assert "hf_test" in field.on_node("redis-cluster-5", tables_of(field, "redis-cluster-5"))
    until(
        lambda: "hf_test" not in field.on_node("redis-cluster-5", tables_of(field, "redis-cluster-5")), 14, every_s=0.5
    )
    assert [item.observed for item in failed(field.injector.probe(injection.id))]
    assert field.injector.heal(injection.id, "request").by == "ttl"


@pytest.mark.parametrize("fault", [Pause(), Partition(cut_from="all")], ids=["pause", "partition"])
def test_an_agent_that_is_killed_is_followed_by_one_that_heals(field: Field, fault: FaultSpec) -> None:
    before = field.platform.state("redis-cluster-5")
    injection = field.plan(fault, "redis-cluster-5")
    field.injector.inject(injection)
    assert failed(field.injector.probe(injection.id)) == []
    keeper = field.on_node("redis-cluster-5", KEEPER).split()
    assert len(keeper) == 1
    field.on_node("redis-cluster-5", f"kill -KILL {keeper[0]}; true")
    host = before.handle["host"]
    until(lambda: host not in opened(field, host), 30)  # nobody asked it to
    with_reason = failed(field.injector.probe(injection.id))
    assert any("ended by restart" in item.observed for item in with_reason)
    healed = field.injector.heal(injection.id, "request")
    assert failed(healed.proof) == []
    assert healed.by == "restart"


def test_a_daemon_that_is_killed_is_seen_to_by_the_agent(field: Field) -> None:
    injection = field.plan(Pause(), "redis-cluster-5", ttl_s=6.0)
    field.injector.inject(injection)
    field.on_node(
        "redis-cluster-5",
        'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null | grep -q "resilience.agent.node [a]pply"'
        " && kill -KILL $(basename $p); done; true",
    )
    with_reason = failed(field.injector.probe(injection.id))  # the witness goes on looking
    assert any("its agent is gone, so its effect cannot be proved" in item.observed for item in with_reason)
    host = field.platform.state("redis-cluster-5").handle["host"]
    until(lambda: host not in opened(field, host), 20)
    assert field.injector.heal(injection.id, "request").by == "ttl"


def test_a_pod_of_another_namespace_is_refused(field: Field) -> None:
    state = field.platform.state("redis-cluster-0")
    listed = field.cluster.kubectl(
        "get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-proxy",
        "--field-selector", f"spec.nodeName={state.handle['host']}", "-o", "jsonpath={.items[0].metadata.uid}",
    )  # fmt: skip
    (step,) = field.platform.pause_steps(["redis-cluster-0"])
    others = {**step, "members": [{**step["members"][0], "pod_uid": listed.strip()}]}
    injection = field.plan(Noop(), "redis-cluster-0", steps=(others,), watch=())
    with pytest.raises(FaultError, match="is in namespace kube-system: this agent touches harmonyflow, redis only"):
        field.injector.inject(injection)


def test_no_agent_stands_on_the_observers_node(field: Field) -> None:
    aim = Aim(members=("prometheus-0",))
    injection = field.plan(Noop(), "redis-cluster-0", steps=fault_from_spec(Pause()).inject(aim, field.platform))
    with pytest.raises(FaultError, match="no agent runs there"):
        field.platform.apply({"id": injection.id, "ttl_s": 5, "steps": list(injection.steps), "watch": []})


def opened(field: Field, host: str) -> dict[str, list[str]]:
    try:
        return field.platform.open_injections()
    except FaultError:  # its agent is about to be there
        return {host: ["not known"]}


def tables_of(field: Field, member: str) -> str:
    """A script that lists the tables in a member's own network."""
    uid = field.platform.state(member).handle["pod_uid"].replace("-", "[-_]")
    return (
        f'for p in /proc/[0-9]*; do grep -q "{uid}" $p/cgroup'
        ' && exec nsenter --target "$(basename $p)" --net nft list tables; done; exit 1'
    )
