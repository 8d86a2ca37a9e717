"""Faults in a cluster: what is asked of which agent, and what becomes of it when one of them is not to be had."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from resilience.agent.node import AHEAD_S_MAX, BOOT_ID
from resilience.backend.base import MemberState
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.injector import NODE_BACK_WITHIN_S, ORDER_BACK_WITHIN_S
from resilience.backend.kubernetes.mailbox import ANSWERED_WITHIN_S_MAX
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.split import LOOKERS_STAY_S, WITNESS
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.delete import GONE_WITHIN_S
from resilience.backend.machine.deny import DENIED_WITHIN_S
from resilience.backend.machine.drain import EVICTING_S, MOVED_WITHIN_S
from resilience.backend.machine.scale import SCALED_WITHIN_S
from resilience.errors import FaultError
from resilience.fault.base import Aim
from resilience.fault.injector import Planner
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
    Partition,
    Pause,
    PowerOff,
    Reboot,
    RollingRestart,
    Scale,
    Target,
)
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.stack import Member
from tests.fakes import FakeAgents, FakeMachine
from tests.unit.backend.kubernetes.cluster import HOSTS, NODES, Object, RecordedApi, pod, pods_path

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
SPACES = {"redis": "redis", "session": "harmonyflow", "collaboration": "harmonyflow", "edge": "harmonyflow"}
NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


def member_pod(number: int, member: Member) -> Object:
    """All are in StatefulSets, and those of Redis have a volume that binds them to their node."""
    space = SPACES.get(member.component, "monitoring")
    host = HOSTS[number % 3] if space != "monitoring" else "hf-worker4"
    made = pod(member.name, component=member.component, namespace=space, host=host, ip=f"10.244.9.{number}")
    made["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-11-25T08:59:00Z"}}
    mounts = [{"name": "data", "mountPath": "/data"}] if member.component == "redis" else []
    made["spec"]["containers"] = [{"volumeMounts": mounts}]
    made["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {}}] if mounts else [{"name": "config"}]
    workload = member.name.rpartition("-")[0]
    made["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": workload}]
    return made


def cluster() -> RecordedApi:
    kept = [one for one in STACK.members if one.component not in {"loadgen", "direct-client"}]
    pods = [member_pod(number, member) for number, member in enumerate(kept)]
    pods += [pod(f"agent-{host}", component="agent", namespace="resilience", host=host) for host in HOSTS]
    pods.append(pod("witness-x", component=WITNESS, namespace="monitoring", host="hf-worker4", ip="10.244.9.99"))
    answers: dict[str, Any] = {"/api/v1/nodes": NODES}
    for space in ("harmonyflow", "monitoring", "redis", "resilience"):
        found = [one for one in pods if one["metadata"]["namespace"] == space]
        answers[pods_path(space)] = {"items": found}
    return RecordedApi(answers)


@pytest.fixture
def api() -> RecordedApi:
    return cluster()


@pytest.fixture
def agents() -> FakeAgents:
    return FakeAgents({f"agent-{host}": host for host in HOSTS} | {"witness-x": WITNESS})


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def platform(api: RecordedApi, agents: FakeAgents, machine: FakeMachine) -> KubernetesPlatform:
    pods = Agents(api.api(), agents.run, machine=machine, sleep=lambda _seconds: None, patience_s=2.0)
    made = KubernetesPlatform(api.api(), STACK, str, agents=pods)
    made._now = lambda: NOW
    return made


def injection(
    platform: KubernetesPlatform, fault: FaultSpec, member: str = "redis-cluster-0", nodes: tuple[str, ...] = ()
) -> dict[str, Any]:
    members = [state.name for state in platform.states() if state.node in nodes] or [member]
    aim, kind = Aim(members=tuple(members), nodes=nodes), fault_from_spec(fault)
    steps, watches = kind.inject(aim, platform), kind.effect(aim, platform)
    return {"id": "test-1", "ttl_s": 9.0, "steps": list(steps), "watch": list(watches)}


def test_those_that_look_are_ready_before_anything_is_done(platform: KubernetesPlatform, agents: FakeAgents):
    applied = platform.apply(injection(platform, Partition(cut_from="peers")), at_ns=lambda: 77)
    assert (applied.began_ns, applied.applied_ns) == (5_000, 6_000)
    assert agents.asked[-1] == ("hf-worker", "apply")
    assert {agent for agent, _command in agents.asked} == {*HOSTS, WITNESS}
    assert {agent: told["at_ns"] for agent, told in agents.told.items()} == {
        "hf-worker": 77, "hf-worker2": 0, "hf-worker3": 0, WITNESS: 0
    }  # fmt: skip
    assert {told["parts"] for told in agents.told.values()} == {4}
    assert agents.told["hf-worker"]["boot_id"] == BOOT_ID.read_text().strip()  # those that look tell no instants


@pytest.mark.parametrize(
    ("fault", "primitives"),
    [
        (Kill(restart=True), ["signal"]),
        (Kill(restart=False), ["withhold", "signal"]),
        (Pause(), ["pause"]),
        (FastRestart(), ["signal"]),
        (FastRestart(data="gone"), ["pause", "wipe", "signal"]),
        (Partition(cut_from="clients"), ["drop"]),
    ],
)
def test_what_is_done_to_a_pod(platform: KubernetesPlatform, fault: FaultSpec, primitives: list[str]):
    steps = injection(platform, fault)["steps"]
    assert [step["primitive"] for step in steps] == primitives
    place = steps[0].get("member") or steps[0]["members"][0]
    assert (place["pod_uid"], place["host"]) == ("uid-redis-cluster-0", "hf-worker")
    assert place["container_id"] == "0123456789abcdef"
    assert (place["data_dir"], place["data_keep"]) == ("/data", ["nodes.conf"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (FastRestart(data="gone"), "no volume called data"),
    ],
)
def test_what_cannot_be_done_is_refused(platform: KubernetesPlatform, fault: FaultSpec, words: str):
    aim = Aim(members=("session-0",), nodes=("node-1",))
    with pytest.raises(FaultError, match=words):
        fault_from_spec(fault).inject(aim, platform)


@pytest.mark.parametrize(("restarts", "after_s", "refused"), [(0, 60, False), (1, 60, True), (1, 700, False)])
def test_a_fast_restart_waits_for_the_kubelet_to_forget(
    api: RecordedApi, platform: KubernetesPlatform, restarts: int, after_s: float, refused: bool
):
    status = api.answers[pods_path("redis")]["items"][0]["status"]["containerStatuses"][0]
    status["restartCount"] = restarts
    status["state"]["running"]["startedAt"] = (NOW - timedelta(seconds=after_s)).isoformat()
    if refused:
        with pytest.raises(FaultError, match="would wait up to 10 s: no such fault before 09:09:00 UTC"):
            platform.restart_steps(["redis-cluster-0"], 0.2, wiped=False)
        assert platform.restart_steps(["redis-cluster-0"], 10.0, wiped=False)  # it is as slow as it will be
    else:
        assert platform.restart_steps(["redis-cluster-0"], 0.2, wiped=False)


def test_it_is_ended_at_the_instant_that_is_asked_for(platform: KubernetesPlatform):
    platform.apply(injection(platform, Pause()))
    assert platform.undo("test-1", at_ns=9_000_000).healed_ns == 9_000_000


@pytest.mark.parametrize(("restarts", "refused"), [(0, False), (2, False), (3, True)])
def test_a_restart_is_not_held_back_that_would_come_too_late_to_be_healing(
    api: RecordedApi, platform: KubernetesPlatform, restarts: int, refused: bool
):
    status = api.answers[pods_path("redis")]["items"][0]["status"]["containerStatuses"][0]
    status["restartCount"] = restarts
    status["state"]["running"]["startedAt"] = (NOW - timedelta(seconds=60)).isoformat()
    if refused:
        with pytest.raises(FaultError, match="would wait up to 40 s"):
            platform.hold_steps(["redis-cluster-0"])
    else:
        assert platform.hold_steps(["redis-cluster-0"])


def test_a_member_without_a_pod(api: RecordedApi, platform: KubernetesPlatform):
    api.answers[pods_path("redis")]["items"].pop(0)
    with pytest.raises(FaultError, match="redis-cluster-0: it has no pod"):
        platform.kill_steps(["redis-cluster-0"], "KILL")
    with pytest.raises(FaultError, match="does not run"):
        platform.restart_steps(["redis-cluster-0"], 0.2, wiped=False)
    with pytest.raises(FaultError, match="none of redis-cluster-0 has a pod"):
        platform.partition_steps("redis-cluster-1", ["redis-cluster-0"], "both")
    (step,) = platform.partition_steps("redis-cluster-1", ["redis-cluster-0", "redis-cluster-2"], "both")
    assert step["others"] == ["10.244.9.2"]


def test_the_witness_is_cut_off_with_those_that_it_looks_for(api: RecordedApi, platform: KubernetesPlatform):
    (step,) = platform.partition_steps("redis-cluster-1", ["redis-cluster-2", "prometheus-0"], "both")
    assert step["others"] == ["10.244.9.2", "10.244.9.12", "10.244.9.99"]
    api.answers[pods_path("monitoring")]["items"].pop()
    with pytest.raises(FaultError, match="no witness runs"):
        platform.partition_steps("redis-cluster-1", ["prometheus-0"], "both")


def observed(item: Any) -> str:
    return str(item.observed)


def test_an_effect_is_what_all_parts_see(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Partition(cut_from="peers")))
    proof = platform.probe("test-1")
    assert proof.holds
    assert len(proof.evidence) == 1 + 4
    agents.blind.add(WITNESS)
    assert [item.what for item in platform.probe("test-1").evidence if not item.ok] == [f"seen by {WITNESS}"]


@pytest.mark.parametrize("trouble", ["forgets", "refuses"])
def test_a_part_that_is_missing_is_no_proof(platform: KubernetesPlatform, agents: FakeAgents, trouble: str):
    platform.apply(injection(platform, Partition(cut_from="peers")))
    getattr(agents, trouble).add("hf-worker2")
    (missing,) = [item for item in platform.probe("test-1").evidence if not item.ok]
    assert (missing.what, missing.expected, missing.observed[:1]) == ("agents that know it", "4", "3")
    assert ("refused by the test" in missing.observed) == (trouble == "refuses")


def test_that_all_know_it_proves_nothing_where_none_looks(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Partition(cut_from="peers")))
    agents.idle = {*HOSTS, WITNESS}
    for proof in (platform.probe("test-1"), platform.undo("test-1").proof):
        (failed,) = [item for item in proof.evidence if not item.ok]
        assert failed.observed == "4; none of them has looked at anything"
    agents.idle.remove(WITNESS)
    assert platform.probe("test-1").holds


def test_what_nobody_knows_is_not_proved(platform: KubernetesPlatform):
    with pytest.raises(FaultError, match="no agent knows it"):
        platform.probe("test-1")
    assert platform.undo("test-1").proof.holds  # and there is nothing to be undone


def test_all_parts_are_ended(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Pause()))
    assert platform.open_injections() == {"hf-worker": ["test-1"], WITNESS: ["test-1"]}
    agents.ended_by[WITNESS] = "ttl"  # it only looked
    undone = platform.undo("test-1")
    assert (undone.by, undone.proof.holds) == ("request", True)
    assert 5_000 < undone.healed_ns <= agents.now_ns
    assert platform.open_injections() == {}


def test_an_end_of_an_older_harness_says_only_when_it_was(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Pause()))
    agents.silent_on.add("began_ns")
    undone = platform.undo("test-1")
    assert undone.began_ns == undone.healed_ns


@pytest.mark.parametrize("by", ["ttl", "restart"])
def test_who_ended_it_is_told(platform: KubernetesPlatform, agents: FakeAgents, by: str):
    platform.apply(injection(platform, Pause()))
    agents.ended_by["hf-worker"] = by
    assert platform.undo("test-1").by == by


def test_an_end_that_is_not_known_is_none(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Pause()))
    agents.refuses.add("hf-worker")
    with pytest.raises(FaultError, match="not ended everywhere: agent of hf-worker: refused by the test"):
        platform.undo("test-1")
    with pytest.raises(FaultError, match="refused"):
        platform.open_injections()


def test_an_agent_that_should_be_there_may_know_of_it(api: RecordedApi, platform: KubernetesPlatform):
    api.answers[pods_path("resilience")]["items"].pop(0)  # who would have been told
    with pytest.raises(
        FaultError, match=r"not ended everywhere: the agent of hf-worker cannot be asked: no agent runs"
    ):
        platform.undo("test-1")


def test_an_agent_that_has_no_part_in_it_may_be_away(platform: KubernetesPlatform, agents: FakeAgents):
    platform.apply(injection(platform, Pause()))
    agents.refuses.add("hf-worker3")
    assert platform.undo("test-1").proof.holds


def test_a_connection_that_breaks_is_tried_again(platform: KubernetesPlatform, agents: FakeAgents):
    agents.away = {"hf-worker": 2, WITNESS: 1}
    platform.apply(injection(platform, Pause()))
    assert agents.asked.count(("hf-worker", "apply")) == 3


def test_an_agent_that_stays_away(platform: KubernetesPlatform, agents: FakeAgents):
    agents.away = {"hf-worker": 99}
    with pytest.raises(FaultError, match=r"the agent of hf-worker cannot be asked: .*the connection broke"):
        platform.apply(injection(platform, Pause()))


def test_nothing_is_done_if_somebody_cannot_look(platform: KubernetesPlatform, agents: FakeAgents):
    agents.refuses.add(WITNESS)
    with pytest.raises(FaultError, match=f"agent of {WITNESS}: refused"):
        platform.apply(injection(platform, Pause()))
    assert ("hf-worker", "apply") not in agents.asked


def test_a_node_without_an_agent(api: RecordedApi, platform: KubernetesPlatform):
    api.answers[pods_path("resilience")]["items"].pop(0)
    with pytest.raises(FaultError, match=r"hf-worker cannot be asked: no agent runs there .those that run: hf-worker2"):
        platform.apply(injection(platform, Pause()))


def test_an_injection_of_nothing(platform: KubernetesPlatform):
    with pytest.raises(FaultError, match="nothing to be done and nothing to be seen"):
        platform.apply({"id": "test-1", "ttl_s": 1.0, "steps": [], "watch": []})


def test_a_platform_without_a_way_to_call_agents(api: RecordedApi):
    platform = KubernetesPlatform(api.api(), STACK, str)
    with pytest.raises(FaultError, match="given no way to call agents"):
        platform.apply(injection(platform, Kill(restart=True)))


def test_states_are_the_platforms(platform: KubernetesPlatform):
    state: MemberState = platform.state("redis-cluster-1")
    assert state.handle["started_at"] == "2026-11-25T08:59:00Z"


NODE_1 = ("node-1",)


@pytest.mark.parametrize("fault", [PowerOff(), Freeze(), Isolate(), Reboot()], ids=lambda fault: type(fault).__name__)
def test_a_node_is_the_machines(platform: KubernetesPlatform, fault: NodeFault):
    (step,) = injection(platform, fault, nodes=NODE_1)["steps"]
    assert step["nodes"] == [{"name": "node-1", "host": "hf-worker"}]


@pytest.mark.parametrize("node", ["observer", "hf-control-plane", "node-9"])
def test_a_node_that_no_fault_may_touch(platform: KubernetesPlatform, node: str):
    with pytest.raises(FaultError, match=f"freeze of {node}: it is no node that carries the platform"):
        platform.node_steps("freeze", [node], [])


def test_nobody_asks_agents_that_a_node_took_away(
    platform: KubernetesPlatform, agents: FakeAgents, machine: FakeMachine
):
    agents.refuses.add("hf-worker")  # it would have to be waited for
    applied = platform.apply(injection(platform, PowerOff(), nodes=NODE_1), at_ns=lambda: 77)
    assert (applied.began_ns, applied.applied_ns) == (7_000, 8_000)
    assert machine.told["test-1"]["at_ns"] == 77
    assert {agent: told["injection"]["ttl_s"] for agent, told in agents.told.items()} == dict.fromkeys(
        (WITNESS, "hf-worker2"), 9.0 + LOOKERS_STAY_S
    )
    proof = platform.probe("test-1")
    assert proof.holds
    assert [item.what for item in proof.evidence] == [
        "agents that know it", "seen by hf-worker2", f"seen by {WITNESS}", "container hf-worker"
    ]  # fmt: skip


def test_what_the_machine_does_not_see_is_not_proved(platform: KubernetesPlatform, machine: FakeMachine):
    platform.apply(injection(platform, Freeze(), nodes=NODE_1))
    machine.sees = False
    assert not platform.probe("test-1").holds


def test_a_node_is_healed_once_its_pods_are_and_they_are_looked_for_where_they_are_now(
    api: RecordedApi, platform: KubernetesPlatform, agents: FakeAgents, machine: FakeMachine
):
    platform.apply(injection(platform, PowerOff(), nodes=NODE_1))
    machine.started_at = {"hf-worker": "2026-11-25T09:00:30.512345678Z"}
    looks: list[float] = []

    def node_starts_its_pods(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            for pods in (pods_path("redis"), pods_path("harmonyflow")):
                for one in api.answers[pods]["items"]:
                    if one["spec"]["nodeName"] == "hf-worker":
                        one["status"]["podIP"] = one["status"]["podIP"].replace("9.", "77.")
                        one["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] = "2026-11-25T09:00:30Z"

    platform._sleep = node_starts_its_pods
    undone = platform.undo("test-1")
    assert len(looks) == 2
    assert (undone.began_ns, undone.healed_ns, undone.by) == (8_500, 9_000, "request")
    assert undone.proof.holds
    assert agents.requests[WITNESS]["addresses"]["redis-cluster-0"] == "10.244.77.0"


def test_a_pod_that_does_not_come_back_is_not_waited_for_for_ever(
    api: RecordedApi, platform: KubernetesPlatform, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
):
    platform.apply(injection(platform, Freeze(), nodes=NODE_1))
    api.answers[pods_path("redis")]["items"][0]["status"]["conditions"][0]["status"] = "False"
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    platform._sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
    undone = platform.undo("test-1")
    assert [item.observed for item in undone.proof.evidence if not item.ok] == ["not ready: redis-cluster-0"]
    assert now[0] == pytest.approx(NODE_BACK_WITHIN_S, abs=1.0)


def test_a_node_without_any_pod_is_not_called_healed(api: RecordedApi, platform: KubernetesPlatform):
    platform.apply(injection(platform, Freeze(), nodes=NODE_1))
    for space in ("redis", "harmonyflow"):
        found = api.answers[pods_path(space)]
        found["items"] = [one for one in found["items"] if one["spec"]["nodeName"] != "hf-worker"]
    undone = platform.undo("test-1")
    assert [item.observed for item in undone.proof.evidence if not item.ok] == ["none"]


def test_a_machine_that_cannot_be_asked_leaves_the_injection_open(platform: KubernetesPlatform, machine: FakeMachine):
    platform.apply(injection(platform, Freeze(), nodes=NODE_1))
    machine.away = 99
    with pytest.raises(FaultError, match="nobody is there"):
        platform.undo("test-1")


def test_what_the_machine_keeps_open_is_known(platform: KubernetesPlatform):
    platform.apply(injection(platform, Isolate(), nodes=NODE_1))
    assert platform.open_injections()["machine"] == ["test-1"]


def test_questions_that_hang_take_of_the_patience_too(
    platform: KubernetesPlatform, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
):
    platform.apply(injection(platform, Freeze(), nodes=NODE_1))
    hanging = iter(range(0, 10_000, 20))
    monkeypatch.setattr("time.monotonic", lambda: float(next(hanging)))
    machine.away, before = 99, len(machine.asked)
    with pytest.raises(FaultError, match="nobody is there"):
        platform.undo("test-1")
    assert len(machine.asked) - before == 2


def test_a_drain_is_the_machines_and_takes_no_node_away(
    platform: KubernetesPlatform, agents: FakeAgents, machine: FakeMachine
):
    drain = injection(platform, Drain(), nodes=NODE_1)
    (step,) = drain["steps"]
    assert step["node"] == {"name": "node-1", "host": "hf-worker"}
    found = {pod["pod"]: (pod["workload"], pod["bound"]) for pod in step["pods"]}
    assert found["redis-cluster-0"] == ("redis-cluster", True)
    assert set(found.values()) >= {("redis-cluster", True), ("session", False)}
    applied = platform.apply(drain, at_ns=lambda: 77)
    assert (applied.began_ns, agents.told) == (7_000, {})
    assert machine.told["test-1"]["injection"]["watch"] == [{"probe": "drained", "pods": step["pods"]}]
    assert platform.probe("test-1").holds
    machine.sees = False
    assert not platform.probe("test-1").holds


def test_what_the_cluster_was_told_to_do_waits_for_no_agent(
    platform: KubernetesPlatform, agents: FakeAgents, machine: FakeMachine
):
    """None of them has a part in it; one that is slow had a drain end by its time to live before it was proved."""
    agents.refuses = {*HOSTS, WITNESS}
    platform.apply(injection(platform, Drain(), nodes=NODE_1))
    assert platform.probe("test-1").holds
    assert platform.undo("test-1").proof.holds
    assert agents.asked == []
    machine.away = 99
    with pytest.raises(FaultError, match="no agent knows it"):
        platform.probe("test-1")


@pytest.mark.parametrize(
    ("scenario", "at_least_s"), [("node-drain", 21.0), ("rolling-restart-session", 0.0), ("node-power-off", 8.0)]
)
def test_a_fault_in_a_cluster_lives_for_as_long_as_it_was_seen_to_take(
    platform: KubernetesPlatform, scenario: str, at_least_s: float
):
    """It may be held, proved as late as it ever was, or as a probe waits for it, looked at again, and ended by then."""
    found = read_scenario(PROJECT_ROOT, scenario)
    assert found.experiment
    fault, target, fault_s = found.experiment.fault, found.experiment.target, found.timeline.fault_s
    paced = platform.pace(fault, target)
    assert paced.proof_s > at_least_s
    planned_s = Planner(platform=platform, roles=tuple).planned_s(fault_s, fault, target)
    assert planned_s >= max(fault_s, paced.proof_s) + paced.look_s + paced.lead_s
    assert paced.lead_s < AHEAD_S_MAX, "who is asked would not wait until then"
    if isinstance(fault, Drain):
        assert paced.proof_s > EVICTING_S + MOVED_WITHIN_S


def test_a_member_is_an_agents(platform: KubernetesPlatform):
    target = Target(component="redis", role="primary", shard=1)
    assert platform.pace(Pause(), target).lead_s < platform.pace(PowerOff(), target_node(target)).lead_s


def target_node(target: Target) -> Target:
    return msgspec.structs.replace(target, scope="node")


def test_a_drain_is_ended_while_its_pods_are_waited_for(
    platform: KubernetesPlatform, agents: FakeAgents, machine: FakeMachine
):
    platform.apply(injection(platform, Drain(), nodes=NODE_1))
    undone = platform.undo("test-1", at_ns=9)
    assert (undone.began_ns, undone.healed_ns, undone.by) == (8_500, 9_000, "request")
    assert undone.proof.holds
    assert machine.requests["undo"]["within_s"] == ORDER_BACK_WITHIN_S
    assert machine.longest_s <= ANSWERED_WITHIN_S_MAX, "the harness outside refuses to answer that"
    machine.away = 99
    with pytest.raises(FaultError, match=r"not ended everywhere: .*nobody is there"):
        platform.undo("test-1")


def test_a_deletion_is_the_machines_and_lives_for_its_grace_too(platform: KubernetesPlatform, machine: FakeMachine):
    delete = injection(platform, Delete(grace_s=20), "session-0")
    (step,), (watch,) = delete["steps"], delete["watch"]
    assert (step["primitive"], step["grace_s"], [pod["pod"] for pod in step["pods"]]) == ("delete", 20, ["session-0"])
    assert (watch["pods"][0]["port"], watch["grace_s"]) == (8080, 20)
    platform.apply(delete)
    assert machine.asked == [("apply", "test-1")]
    target = Target(component="session")
    longer_s = platform.pace(Delete(grace_s=20), target).proof_s - platform.pace(Delete(), target).proof_s
    assert (longer_s, platform.pace(Delete(), target).proof_s > GONE_WITHIN_S) == (20, True)


def test_what_nobody_makes_again_is_not_deleted(api: RecordedApi, platform: KubernetesPlatform):
    for one in api.answers[pods_path("harmonyflow")]["items"]:
        one["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "x"}]
    with pytest.raises(FaultError, match="deletion of session-0: it is in no StatefulSet"):
        platform.delete_steps(["session-0"], 0)


def test_a_scale_is_of_one_stateful_set_and_the_machines(platform: KubernetesPlatform, machine: FakeMachine):
    aim, kind = Aim(members=("session-0", "session-1")), fault_from_spec(Scale(replicas=1))
    (step,), watch = kind.inject(aim, platform), list(kind.effect(aim, platform))
    assert (step["primitive"], step["replicas"], step["workload"]) == ("scale", 1, "session")
    assert watch == [{"probe": "scaled", "replicas": 1, "pods": step["pods"]}]
    platform.apply({"id": "test-1", "ttl_s": 9.0, "steps": [step], "watch": watch})
    assert machine.asked == [("apply", "test-1")]
    target = Target(component="session", scope="component")
    assert platform.pace(Scale(), target).proof_s > SCALED_WITHIN_S
    with pytest.raises(FaultError, match="scale of session-0, edge-0: expected all pods of one StatefulSet"):
        platform.scale_steps(["session-0", "edge-0"], 1)


def test_a_denial_is_of_one_component_to_another_and_the_machines(platform: KubernetesPlatform, machine: FakeMachine):
    aim, kind = Aim(members=("session-0", "session-1")), fault_from_spec(Deny(to="redis"))
    (step,), (watch,) = kind.inject(aim, platform), kind.effect(aim, platform)
    who = {key: step[key] for key in ("namespace", "component", "to_namespace", "to_component")}
    assert who == {
        "namespace": "harmonyflow", "component": "session", "to_namespace": "redis", "to_component": "redis"
    }  # fmt: skip
    assert len(watch["others"]) == len(STACK.of("redis"))
    platform.apply({"id": "test-1", "ttl_s": 9.0, "steps": [step], "watch": [watch]})
    assert machine.asked == [("apply", "test-1")]
    paced = platform.pace(Deny(to="redis"), Target(component="session", scope="component"))
    assert (paced.proof_s > DENIED_WITHIN_S, paced.lead_s < AHEAD_S_MAX) == (True, True)


@pytest.mark.parametrize(
    ("members", "others", "words"),
    [
        (["session-0", "edge-0"], ["redis-cluster-0"], "deny of session-0, edge-0: expected members of one component"),
        (["session-0"], ["redis-cluster-0", "edge-0"], "deny of redis-cluster-0, edge-0: expected members of one"),
        (["session-0"], ["collaboration-0"], "deny of session to collaboration: it is not let there anyway"),
    ],
    ids=["two", "to two", "not let there"],
)
def test_whom_nobody_can_deny(platform: KubernetesPlatform, members: list[str], others: list[str], words: str):
    with pytest.raises(FaultError, match=words):
        platform.deny_steps(members, others)


def test_a_rolling_restart_is_of_one_stateful_set(platform: KubernetesPlatform, machine: FakeMachine):
    aim, kind = Aim(members=("session-0", "session-1")), fault_from_spec(RollingRestart())
    (step,) = kind.inject(aim, platform)
    assert (step["primitive"], step["namespace"], step["workload"]) == ("rollout", "harmonyflow", "session")
    assert [pod["pod"] for pod in step["pods"]] == ["session-0", "session-1"]
    platform.apply({"id": "test-1", "ttl_s": 9.0, "steps": [step], "watch": list(kind.effect(aim, platform))})
    assert machine.asked == [("apply", "test-1")]


@pytest.mark.parametrize("members", [["session-0", "edge-0"], ["redis-exporter-0"]], ids=["of two", "of none"])
def test_members_that_nobody_replaces_together(api: RecordedApi, platform: KubernetesPlatform, members: list[str]):
    for one in api.answers[pods_path("monitoring")]["items"]:
        one["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "x"}]
    with pytest.raises(FaultError, match="expected all pods of one StatefulSet"):
        platform.rollout_steps(members)


@pytest.mark.parametrize("node", ["observer", "node-9"])
def test_a_node_that_no_fault_may_touch_is_not_drained(platform: KubernetesPlatform, node: str):
    with pytest.raises(FaultError, match=f"drain of {node}: it is no node that carries the platform"):
        platform.drain_steps([node], ["session-0"])


HERE, THERE = BOOT_ID.read_text().strip(), "90bc"
AHEAD_NS = 250_000_000
TOLD = {"process": "agent of hf-worker", "boot_id": THERE}


@pytest.fixture
def elsewhere(api: RecordedApi, agents: FakeAgents, machine: FakeMachine) -> KubernetesPlatform:
    """A cluster whose worker `hf-worker` is under another kernel than the runner; its clock is 250 ms ahead."""
    kernels = dict.fromkeys(HOSTS, HERE) | {"hf-worker": THERE}
    items = [
        {**one, "status": {"nodeInfo": {"bootID": kernels.get(one["metadata"]["name"], HERE)}}}
        for one in NODES["items"]
    ]
    api.answers["/api/v1/nodes"] = {"items": items}
    agents.kernels, agents.ahead_ns = {"hf-worker": THERE}, {"hf-worker": AHEAD_NS}
    pods = Agents(api.api(), agents.run, trips=agents.trips, machine=machine, sleep=lambda _seconds: None)
    return KubernetesPlatform(api.api(), STACK, str, agents=pods)


def test_an_order_to_another_kernel_is_told_by_its_clock_and_its_answer_by_ours(
    elsewhere: KubernetesPlatform, agents: FakeAgents
):
    agents.now_ns = 9_000_000_000
    applied = elsewhere.apply(injection(elsewhere, Kill(restart=True)), at_ns=lambda: 8_000_000_000)
    told = agents.told["hf-worker"]
    assert (told["boot_id"], told["at_ns"]) == (THERE, 8_000_000_000 + AHEAD_NS)
    assert (applied.began_ns, applied.applied_ns) == (9_000_000_000 - AHEAD_NS, 9_000_001_000 - AHEAD_NS)
    assert msgspec.to_builtins(applied.told_by) == {**TOLD, "error_ns": 3_000_000}
    undone = elsewhere.undo("test-1", at_ns=10_000_000_000)
    assert agents.requests["hf-worker"]["at_ns"] == 10_000_000_000 + AHEAD_NS
    assert agents.requests["hf-worker2"]["at_ns"] == 10_000_000_000
    assert undone.began_ns == undone.healed_ns == 10_000_000_000
    assert msgspec.to_builtins(undone.told_by) == {**TOLD, "error_ns": 3_000_000}


def test_under_one_kernel_no_clock_is_asked_for(elsewhere: KubernetesPlatform, agents: FakeAgents, api: RecordedApi):
    for one in api.answers["/api/v1/nodes"]["items"]:
        one["status"]["nodeInfo"]["bootID"] = HERE
    applied = elsewhere.apply(injection(elsewhere, Kill(restart=True)), at_ns=lambda: 77)
    undone = elsewhere.undo("test-1", at_ns=99)
    assert agents.told["hf-worker"]["boot_id"] == HERE
    assert agents.told["hf-worker"]["at_ns"] == 77
    same = {"process": "agent of hf-worker", "boot_id": HERE, "error_ns": 0}
    assert msgspec.to_builtins(applied.told_by) == msgspec.to_builtins(undone.told_by) == same
    assert "clock" not in {command for _agent, command in agents.asked}


def test_a_clock_that_is_not_told_lets_nothing_begin(elsewhere: KubernetesPlatform, agents: FakeAgents):
    agents.kernels = {}
    with pytest.raises(FaultError, match="agent of hf-worker: it is under another kernel, and does not tell its clock"):
        elsewhere.apply(injection(elsewhere, Kill(restart=True)), at_ns=lambda: 77)
    assert agents.told == {}


def test_healing_waits_for_no_clock(elsewhere: KubernetesPlatform, agents: FakeAgents):
    """It is asked for at once then, and by when it was is known no better than that the answer has come."""
    elsewhere.apply(injection(elsewhere, Kill(restart=True)), at_ns=lambda: 77)
    agents.kernels = {}
    before_ns = time.monotonic_ns()
    undone = elsewhere.undo("test-1", at_ns=10_000_000_000)
    assert agents.requests["hf-worker"]["at_ns"] == 0
    assert before_ns <= undone.healed_ns <= time.monotonic_ns()
    assert msgspec.to_builtins(undone.told_by) == {**TOLD, "error_ns": None}
