"""Turns faults into the agents' steps and carries them out in a cluster; see `backend.base.FaultCapable`.

What Kubernetes does not leave to an agent is refused with its reason: nobody but the kubelet decides whether a
container is started again. What is done to whole nodes is done by the machine under them, and so is what the cluster
itself is told to do.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from resilience.agent.before import LOOKS_S_MAX
from resilience.agent.node import BOOT_ID
from resilience.agent.start import APPLIED_WITHIN_S
from resilience.backend.base import At, Evidence, Injected, MemberState, NodeFault, Pace, Proof, Undone, at_once
from resilience.backend.injecting import converted, named, never_begun, undone
from resilience.backend.kubernetes.agents import AgentClock, Agents
from resilience.backend.kubernetes.backoff import forgotten_at, next_wait_s
from resilience.backend.kubernetes.reach import may_reach
from resilience.backend.kubernetes.split import MACHINE, split
from resilience.backend.machine.delete import GONE_WITHIN_S
from resilience.backend.machine.deny import DENIED_WITHIN_S
from resilience.backend.machine.drain import EVICTING_S, MOVED_WITHIN_S
from resilience.backend.machine.rollout import REPLACED_WITHIN_S
from resilience.backend.machine.scale import SCALED_WITHIN_S
from resilience.errors import FaultError
from resilience.spec.fault import Delete, Deny, Drain, FaultSpec, RollingRestart, Scale, Target
from resilience.spec.stack import OBSERVER

# How long orders are under way on a machine that is busy, by what they have to pass.
EXEC_S = 2.0  # a call by `exec` into an agent's pod
MACHINE_S = 8.0  # a ConfigMap, the harness outside that looks at it, and its process that asks Docker for all nodes
PODS_S = 4.0  # the API server, asked for each pod of a node, one after the other
CONNECTING_S = 4.0  # an `exec` into a pod, and what it waits there for an answer
BACK_WITHIN_S = 30.0  # how long servers may take to be back after healing: the kubelet looks and pulls once more
ORDER_BACK_WITHIN_S = 60.0  # how long pods may take that an order of the cluster's had moved or replaced
NODE_BACK_WITHIN_S = 90.0  # how long a node's pods may take: its system, the kubelet, containers, their probes
_LOOK_EVERY_S = 0.5
_PROBE_TIMEOUT_S = 20.0
_MACHINE_PROBE_TIMEOUT_S = 60.0  # which waits once for what a cluster does in its own time

# Who looks is asked before who does it.
AGENTS = Pace(lead_s=2 * EXEC_S, proof_s=2 * EXEC_S, look_s=2 * EXEC_S)
# Who looks may look a few times before. Without that it was 12 s in the run on record, which began 7 ms late.
NODES = Pace(lead_s=2 * EXEC_S + LOOKS_S_MAX + MACHINE_S, proof_s=EXEC_S + MACHINE_S, look_s=EXEC_S + MACHINE_S)
_ORDER_S = MACHINE_S + PODS_S
# A drain was proved 21 s after it had begun: evictions that wait for budgets, then pods that start elsewhere.
DRAIN = Pace(lead_s=_ORDER_S, proof_s=EVICTING_S + MOVED_WITHIN_S + _ORDER_S, look_s=_ORDER_S)
# Beside its grace. Who connects has connected once before.
_CONNECTED_S = _ORDER_S + CONNECTING_S
DELETE = Pace(lead_s=_CONNECTED_S, proof_s=GONE_WITHIN_S + _CONNECTED_S, look_s=_CONNECTED_S)
DENY = Pace(lead_s=_CONNECTED_S, proof_s=DENIED_WITHIN_S + _CONNECTED_S, look_s=_CONNECTED_S)
SCALE = Pace(lead_s=_ORDER_S, proof_s=SCALED_WITHIN_S + _ORDER_S, look_s=_ORDER_S)
ROLLOUT = Pace(lead_s=_ORDER_S, proof_s=REPLACED_WITHIN_S + _ORDER_S, look_s=_ORDER_S)

_APPLY_TIMEOUT_S = NODES.lead_s + APPLIED_WITHIN_S + 5.0
_UNDO_TIMEOUT_S = NODES.lead_s + BACK_WITHIN_S + 45.0
_ORDER_UNDO_TIMEOUT_S = _ORDER_S + ORDER_BACK_WITHIN_S + 45.0

Json = dict[str, Any]


class Injector:
    """The `FaultCapable` of a platform in a cluster."""

    def __init__(self, agents: Agents, states: Callable[[], tuple[MemberState, ...]]) -> None:
        """``states`` says what the members are at the moment; nothing is touched before `apply`."""
        self._agents = agents
        self._states = states
        self._now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._sleep: Callable[[float], None] = time.sleep

    def pace(self, fault: FaultSpec, target: Target) -> Pace:
        """See `FaultCapable`."""
        return pace(fault, target)

    def node_steps(self, what: NodeFault, nodes: Sequence[str], members: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`: the machine under the nodes does it; what stands on them goes with them."""
        del members
        return ({"primitive": what, "nodes": self._platform_nodes(what, nodes)},)

    def drain_steps(self, nodes: Sequence[str], members: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`: the cluster itself does it, told by the machine under its nodes."""
        found = self._platform_nodes("drain", nodes)
        return tuple({"primitive": "drain", "node": node, "pods": self._places(members)} for node in found)

    def delete_steps(self, members: Sequence[str], grace_s: int) -> tuple[Json, ...]:
        """See `FaultCapable`: the API server does it, told likewise, and the StatefulSet makes another."""
        places = self._places(members)
        for place in places:
            if not place["workload"]:
                raise FaultError(f"deletion of {place['name']}: it is in no StatefulSet, so none would have its name")
        return ({"primitive": "delete", "grace_s": grace_s, "pods": places},)

    def rollout_steps(self, members: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`: the StatefulSet that the members' pods belong to does it, told likewise."""
        return ({"primitive": "rollout", **self._workload("rolling restart", members)},)

    def scale_steps(self, members: Sequence[str], replicas: int) -> tuple[Json, ...]:
        """See `FaultCapable`: the StatefulSet that the members' pods belong to does it, told likewise."""
        return ({"primitive": "scale", "replicas": replicas, **self._workload("scale", members)},)

    def deny_steps(self, members: Sequence[str], others: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`: a NetworkPolicy beside those that are there, told likewise."""
        ((space, component),), ((to_space, to),) = (self._one_component(names) for names in (members, others))
        if not may_reach(component, to):
            raise FaultError(f"deny of {component} to {to}: it is not let there anyway, so nothing would change")
        who = {"namespace": space, "component": component, "to_namespace": to_space, "to_component": to}
        return ({"primitive": "deny", **who, "pods": self._places(members)},)

    def _one_component(self, members: Sequence[str]) -> set[tuple[str, str]]:
        found = {
            (place["namespace"], state.component)
            for place, state in zip(self._places(members), self._named(members), strict=True)
        }
        if len(found) != 1:
            raise FaultError(f"deny of {', '.join(members)}: expected members of one component")
        return found

    def _workload(self, what: str, members: Sequence[str]) -> Json:
        """The one StatefulSet that keeps these running."""
        places = self._places(members)
        workloads = {(place["namespace"], place["workload"]) for place in places}
        if len(workloads) != 1 or not all(name for _space, name in workloads):
            raise FaultError(f"{what} of {', '.join(members)}: expected all pods of one StatefulSet")
        ((space, name),) = workloads
        return {"namespace": space, "workload": name, "pods": places}

    def hold_steps(self, members: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`: nobody hears of the container's end until healing (`agent.withhold`).

        Raises `FaultError` where the kubelet would hold the restart back for longer than that.
        """
        for state in self._named(members):
            self._require_no_wait(state, BACK_WITHIN_S)
        return ({"primitive": "withhold", "members": self._places(members)},)

    def kill_steps(self, members: Sequence[str], signal: str) -> tuple[Json, ...]:
        """See `FaultCapable`: the containers' restart policy brings them back, at once or after its back-off."""
        return ({"primitive": "signal", "signal": signal, "members": self._places(members)},)

    def pause_steps(self, members: Sequence[str]) -> tuple[Json, ...]:
        """See `FaultCapable`; a liveness probe may end it, and then it is not proved any more."""
        return ({"primitive": "pause", "members": self._places(members)},)

    def restart_steps(self, members: Sequence[str], delay_s: float, *, wiped: bool) -> tuple[Json, ...]:
        """See `FaultCapable`: the kubelet's first restart takes about a second, whatever ``delay_s`` says.

        Data goes while the server stands still, so that it writes nothing any more, and none starts in between.
        Raises `FaultError` where the kubelet would hold the restart back.
        """
        for state in self._named(members):
            self._require_no_wait(state, delay_s)
        places = self._places(members)
        kill = {"primitive": "signal", "signal": "KILL", "members": places}
        if not wiped:
            return (kill,)
        for place in places:
            if not place.get("data_dir"):
                raise FaultError(f"{place['name']}: it has no volume called data that could be emptied")
        return ({"primitive": "pause", "members": places}, {"primitive": "wipe", "folders": places}, kill)

    def partition_steps(self, member: str, others: Sequence[str], direction: str) -> tuple[Json, ...]:
        """See `FaultCapable`: rules in the pod's own network. With members of the observer node the witness is cut off,
        which looks in their place.
        """
        cut = [state for state in self._named(others) if state.address]
        addresses = [state.address for state in cut]
        if any(state.node == OBSERVER for state in cut):
            addresses.append(self._agents.witness_address())
        if not addresses:
            raise FaultError(f"{member}: none of {', '.join(others)} has a pod to be cut from")
        (place,) = self._places([member])
        return ({"primitive": "drop", "member": place, "others": addresses, "direction": direction},)

    def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
        """See `FaultCapable`; those that only look are ready before anything is done, or the instant is known."""
        parts = split(injection, {state.name: state for state in self._states()})
        if not parts:
            raise FaultError(f"injection {injection['id']}: there is nothing to be done and nothing to be seen")
        common = {"parts": len(parts), "at_ns": 0}
        *lookers, doer = [(agent, {"injection": part, **common}) for agent, part in parts.items()]
        clock = self._clock_of(doer[0])
        for answer in self._agents.ask_all(dict(lookers), "apply", _APPLY_TIMEOUT_S).values():
            if isinstance(answer, FaultError):
                raise answer
        agent, request = doer
        told = {**request, "at_ns": clock.theirs(at_ns()), "boot_id": clock.boot_id}
        applied = converted(self._agents.ask(agent, "apply", told, _APPLY_TIMEOUT_S), Injected)
        began_ns, applied_ns = clock.ours(applied.began_ns), clock.ours(applied.applied_ns)
        return Injected(began_ns=began_ns, applied_ns=applied_ns, told_by=clock.told_by)

    def _clock_of(self, agent: str) -> AgentClock:
        """Raises `FaultError` where instants here and there cannot be compared."""
        clock = self._agents.clocks([agent], _boot_id())[agent]
        if clock.offset is None:
            raise FaultError(f"agent of {agent}: it is under another kernel, and does not tell its clock")
        return clock

    def probe(self, injection_id: str) -> Proof:
        """See `FaultCapable`: what all of its parts see; a part that is missing is not in effect."""
        hosts = self._agents.hosts_of(injection_id)
        requests = {agent: {"id": injection_id} for agent in self._concerned(hosts)}
        answers = self._ask_all(requests, "probe", _PROBE_TIMEOUT_S)
        found = _known(answers)
        if not found:
            raise FaultError(f"injection {injection_id}: no agent knows it, so its effect cannot be proved")
        return Proof(evidence=(_whole(found, _troubles(answers)), *_evidence(found)))

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        """See `FaultCapable`. Raises `FaultError` unless every part is known to have ended."""
        hosts = self._agents.hosts_of(injection_id)
        ordered = hosts == ()
        how: Json = {"within_s": ORDER_BACK_WITHIN_S if ordered else BACK_WITHIN_S}
        back: list[Evidence] = []
        if hosts:
            how["addresses"], *back = self._nodes_back(injection_id, hosts, at_ns)
        timeout_s = _ORDER_UNDO_TIMEOUT_S if ordered else _UNDO_TIMEOUT_S
        concerned = self._concerned(hosts)
        clocks = self._agents.clocks(concerned, _boot_id())
        requests = {agent: {"id": injection_id, **how, "at_ns": clocks[agent].theirs(at_ns)} for agent in concerned}
        answers = self._ask_all(requests, "undo", timeout_s)
        found, troubles = _known(answers), _troubles(answers)
        if troubles and (not found or len(found) < found[0]["parts"]):
            raise FaultError(f"injection {injection_id}: not ended everywhere: {'; '.join(troubles)}")
        if not found:
            return never_begun(injection_id)
        doer = next((answer for answer in found if answer["does"]), found[0])  # the others only looked
        clock = next(clocks[agent] for agent, answer in answers.items() if answer is doer)
        ended = undone(doer, Proof(evidence=(_whole(found, troubles), *back, *_evidence(found))))
        return msgspec.structs.replace(
            ended,
            began_ns=clock.ours(ended.began_ns),
            healed_ns=clock.ours(ended.healed_ns),
            told_by=clock.told_by,
        )

    def open_injections(self, *, known_by_running: bool = False) -> dict[str, list[str]]:
        """The injections that have not ended, by agent; all have to answer, or those that run. Raises `FaultError`."""
        opened = self._opened(self._agents.running() if known_by_running else self._agents.all())
        return {agent: list(answer["open"]) for agent, answer in opened.items() if answer["open"]}

    def left_injections(self) -> dict[str, list[str]]:
        """Those of them that do something still: what only looks outlives a node's fault for a while.

        An agent that does not run is not missed: it ends what is open as soon as it is started. Raises `FaultError`.
        """
        opened = self._opened(self._agents.running())
        left = {
            name: [one for one in said["open"] if one not in said.get("looks", ())] for name, said in opened.items()
        }
        return {agent: injections for agent, injections in left.items() if injections}

    def _opened(self, agents: Iterable[str]) -> dict[str, Json]:
        answers = self._agents.ask_all({agent: {} for agent in agents}, "open", _PROBE_TIMEOUT_S)
        if troubles := _troubles(answers):
            raise FaultError("; ".join(troubles))
        return {agent: answer for agent, answer in answers.items() if isinstance(answer, dict)}

    def _concerned(self, hosts: Sequence[str] | None) -> list[str]:
        """The agents that are not lost with these nodes, and the machine, if it has a part in it at all.

        What the cluster was told to do is the machine's alone (`split`): no agent that is slow, or away, and has no
        part in it keeps anybody from proving it in time.
        """
        if hosts is None:
            return list(self._agents.names())
        return [agent for agent in self._agents.names() if hosts and agent not in hosts] + [MACHINE]

    def _ask_all(self, requests: Mapping[str, Json], command: str, timeout_s: float) -> dict[str, Json | FaultError]:
        machine_s = max(timeout_s, _MACHINE_PROBE_TIMEOUT_S)
        return self._agents.ask_all(requests, command, timeout_s, machine_timeout_s=machine_s)

    def _nodes_back(self, injection_id: str, hosts: Sequence[str], at_ns: int) -> tuple[dict[str, str], Evidence]:
        """Has nodes put right at an instant, and waits for what stood on them: where its members are now, and whether
        all are back.

        A node that was started gives its pods other addresses, and what the API server says of them is from before
        until its kubelet has told otherwise: a pod counts once it was started after its node.
        """
        request = {"id": injection_id, "within_s": BACK_WITHIN_S, "at_ns": at_ns}
        told = self._agents.ask(MACHINE, "undo", request, _UNDO_TIMEOUT_S)
        started = {host: datetime.fromisoformat(at) for host, at in told.get("started_at", {}).items()}
        deadline = time.monotonic() + NODE_BACK_WITHIN_S
        while True:
            lost = [state for state in self._states() if state.handle.get("host") in hosts]
            away = [state.name for state in lost if not is_back(state, started.get(state.handle["host"]))]
            if not away or time.monotonic() > deadline:
                break
            self._sleep(_LOOK_EVERY_S)
        ready = "none" if not lost else "ready" if not away else f"not ready: {', '.join(away)}"
        seen = Evidence(what=f"pods on {', '.join(hosts)}", expected="ready", observed=ready, ok=ready == "ready")
        return {state.name: state.address for state in lost if state.address}, seen

    def _platform_nodes(self, what: str, nodes: Sequence[str]) -> list[Json]:
        hosts = {state.node: state.handle["host"] for state in self._states() if state.handle}
        for node in nodes:
            if node == OBSERVER or node not in hosts:
                raise FaultError(
                    f"{what} of {node}: it is no node that carries the platform, and no fault may touch it"
                )
        return [{"name": node, "host": hosts[node]} for node in nodes]

    def _require_no_wait(self, state: MemberState, delay_s: float) -> None:
        if not state.handle.get("started_at"):
            raise FaultError(f"{state.name}: it does not run, so there is nothing to be restarted")
        started = datetime.fromisoformat(state.handle["started_at"])
        wait_s = next_wait_s(state.restarts, started, self._now())
        if wait_s > delay_s:
            raise FaultError(
                f"{state.name}: its container was restarted before (restarts: {state.restarts}), so the kubelet"
                f" would wait up to {wait_s:g} s: no such fault before {forgotten_at(started):%H:%M:%S} UTC"
            )

    def _places(self, members: Sequence[str]) -> list[Json]:
        states = self._named(members)
        for state in states:
            if not state.handle:
                raise FaultError(f"{state.name}: it has no pod")
        return [{"name": state.name, "address": state.address, **state.handle} for state in states]

    def _named(self, members: Iterable[str]) -> list[MemberState]:
        return named(members, self._states())


def is_back(state: MemberState, node_started: datetime | None) -> bool:
    """Whether a member is ready, and was started since its node was; an API server tells whole seconds."""
    if not (state.running and state.handle.get("ready")):
        return False
    if node_started is None:
        return True
    return datetime.fromisoformat(state.handle["started_at"]) >= node_started.replace(microsecond=0)


def _boot_id() -> str:
    """Of the kernel that this process tells its instants by; where there is none to be read, no node is under it."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def pace(fault: FaultSpec, target: Target) -> Pace:
    """Who does a fault here, and so how long it takes; see `Pace`."""
    match fault:
        case Drain():
            return DRAIN
        case Delete(grace_s=grace_s):
            return msgspec.structs.replace(DELETE, proof_s=DELETE.proof_s + grace_s)
        case Scale():
            return SCALE
        case Deny():
            return DENY
        case RollingRestart():
            return ROLLOUT
        case _:
            return AGENTS if target.scope == "member" else NODES


def _known(answers: Mapping[str, Json | FaultError]) -> list[Json]:
    return [answer for answer in answers.values() if not isinstance(answer, FaultError) and not answer.get("unknown")]


def _troubles(answers: Mapping[str, Json | FaultError]) -> list[str]:
    return [str(answer) for answer in answers.values() if isinstance(answer, FaultError)]


def _whole(found: Sequence[Json], troubles: Sequence[str]) -> Evidence:
    """That no agent's part of an injection is missing: what nobody looks at any more could not be seen failing.

    Nor is it proved by agents that all know it, and of which none has looked at anything.
    """
    expected = str(found[0]["parts"])
    unseen = [] if any(answer["evidence"] for answer in found) else ["none of them has looked at anything"]
    observed = "; ".join([str(len(found)), *troubles, *unseen])
    ok = str(len(found)) == expected and not unseen
    return Evidence(what="agents that know it", expected=expected, observed=observed, ok=ok)


def _evidence(found: Iterable[Json]) -> tuple[Evidence, ...]:
    return tuple(converted(item, Evidence) for answer in found for item in answer["evidence"])
