"""What a scenario would do, to whom, worked out without doing it: pure, from a stack's members and their roles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resilience.backend.base import MemberState
from resilience.backend.local.paper import PaperPlatform
from resilience.errors import FaultError
from resilience.fault.base import Aim, NoTarget, RedisRole
from resilience.fault.injector import ttl_s
from resilience.fault.registry import fault_from_spec
from resilience.fault.target import resolve
from resilience.report.plan import FaultPlan
from resilience.spec.scenario import Experiment, Scenario
from resilience.spec.stack import Stack
from resilience.stack.redis_role import RedisRole as KnownRole

_SIGHTS: Mapping[str, str] = {
    "silent": "neither an open nor a new connection from {via} to {to} shows any sign of life",
    "unreachable": "a new connection from {via} to {to} times out",
    "reachable": "a new connection from {via} to {to} is accepted",
    "refused": "a new connection from {via} to {to} is refused",
    "counter": "the injection's drop counter rises",
}


def fault_plan(scenario: Scenario, known: str) -> FaultPlan | None:
    """What would be done to the scenario's own stack, as its file places it and its roles begin; None: no fault.

    ``known`` says to people where the roles are known from.
    """
    return fault_plan_on(scenario, scenario.stack, (), initial_roles(scenario.stack), known)


def fault_plan_on(
    scenario: Scenario, stack: Stack, states: Sequence[MemberState], roles: Sequence[RedisRole], known: str
) -> FaultPlan | None:
    """What would be done to a stack whose members and roles are these."""
    if scenario.experiment is None:
        return None
    platform = PaperPlatform(stack, states)
    try:
        aim = resolve(scenario.experiment.target, platform.states(), lambda: roles)
    except FaultError as error:
        return FaultPlan(known=known, nothing=str(error))
    if isinstance(aim, NoTarget):
        return FaultPlan(known=known, nothing=aim.reason)
    parts = {role.member: f"{role.role} of shard {role.group}" for role in roles}
    members = tuple((name, parts.get(name, platform.state(name).component)) for name in aim.members)
    plan = FaultPlan(known=known, nodes=aim.nodes, members=members, ttl_s=ttl_s(scenario.timeline.fault_s))
    return _carried_out(plan, scenario.experiment, aim, platform)


def initial_roles(stack: Stack) -> tuple[KnownRole, ...]:
    """Who is what right after the stack file's cluster was formed."""
    return tuple(
        KnownRole(member=name, group=group, role="primary" if name == shard.primary else "replica", epoch=0, address="")
        for group, shard in enumerate(stack.shards, start=1)
        for name in (shard.primary, *shard.replicas)
    )


def _carried_out(plan: FaultPlan, experiment: Experiment, aim: Aim, platform: PaperPlatform) -> FaultPlan:
    fault = fault_from_spec(experiment.fault)
    names = {state.address: state.name for state in platform.states()}
    try:
        steps, watched = fault.inject(aim, platform), fault.effect(aim, platform)
    except FaultError as error:
        return replace(plan, nothing=str(error))
    return replace(
        plan,
        steps=tuple(step_in_words(step, names) for step in steps),
        proofs=tuple(proofs_in_words(watched)),
    )


def step_in_words(step: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """One step of the agent's; ``names`` of members by address."""
    match step:
        case {"primitive": "hold", "dirs": dirs}:
            return f"hold back the restart of {_listed(dirs)}, until healing"
        case {"primitive": "links", "devices": devices}:
            return f"cut all links of {_listed(devices)}, in one step"
        case {"primitive": "signal", "signal": signal, "members": members}:
            return f"send SIG{signal} to the server of {_listed(member['name'] for member in members)}"
        case {"primitive": "drop", "member": member, "others": others, "direction": direction}:
            ways = {"both": "between {0} and {1}", "in": "from {1} to {0}", "out": "from {0} to {1}"}
            others_named = _listed(names.get(address, address) for address in others)
            return f"drop every packet {ways[direction].format(member['name'], others_named)}"
        case _:
            return _other(step)


def _other(step: Mapping[str, Any]) -> str:
    """A primitive without words of its own here: its name, and whom it is done to."""
    members = [member["name"] for member in step.get("members", ())] or [step.get("member", {}).get("name", "")]
    return f"{step['primitive']} {_listed(name for name in members if name)}".rstrip()


def proofs_in_words(watched: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What has to be seen before the fault counts as proved; what is alike is told once."""
    targets: dict[tuple[str, str], list[str]] = {}
    for item in watched:
        via, to = _name(item, "via"), _name(item, "to") or _name(item, "of")
        targets.setdefault((_sight(item), via), []).append(to)
    witnesses: dict[tuple[str, str], list[str]] = {}
    for (sight, via), members in targets.items():
        witnesses.setdefault((sight, _listed(members)), []).append(via)
    for (sight, towards), seen_by in witnesses.items():
        yield sight.format(to=towards, via=_listed(seen_by))


def _name(item: Mapping[str, Any], end: str) -> str:
    return str(item[end]["name"]) if end in item else ""


def _sight(item: Mapping[str, Any]) -> str:
    """What a probe of the agent's sees; ``{via}`` and ``{to}`` stand for members."""
    match item:
        case {"probe": "identity", "expect": "dead"}:
            return "the server of {to} is gone, and nothing runs in its place"
        case {"probe": "identity", "expect": "replaced"}:
            return "the server that {to} runs now is gone"
        case {"probe": "datagram", "arrives": arrives}:
            return f"a datagram from {{via}} to {{to}} {'arrives' if arrives else 'does not arrive'}"
        case _:
            return _SIGHTS.get(item["probe"], f"{item['probe']}: {{to}}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
