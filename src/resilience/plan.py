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
from resilience.spec.fault import Prelude
from resilience.spec.scenario import Experiment, Scenario
from resilience.spec.stack import Stack
from resilience.stack.redis_role import RedisRole as KnownRole

_STEPS: Mapping[str, str] = {
    "hold": "hold back the restart of {to}, until healing",
    "release": "let {to} start again after {after_s:g} s",
    "links": "cut all links of {to}, in one step",
    "signal": "send SIG{signal} to the server of {to}",
    "pause": "stop {to} where it stands, until healing",
    "wipe": "empty the data folder of {to}",
}
_SIGHTS: Mapping[str, str] = {
    "silent": "neither an open nor a new connection from {via} to {to} shows any sign of life",
    "unreachable": "a new connection from {via} to {to} times out",
    "reachable": "a new connection from {via} to {to} is accepted",
    "refused": "a new connection from {via} to {to} is refused",
    "stopped": "every process of {to} is stopped",
    "mute": "a request from {via} to {to} is not answered",
    "emptied": "no file of the data of {to} from before is left",
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
    prelude = _prelude(scenario.experiment, platform, roles)
    if isinstance(prelude, NoTarget):
        return FaultPlan(known=known, nothing=prelude.reason)
    parts = {role.member: f"{role.role} of shard {role.group}" for role in roles}
    members = tuple(
        (name, parts.get(name, platform.state(name).component)) for name in (*aim.members, *prelude.members)
    )
    plan = FaultPlan(known=known, nodes=aim.nodes, members=members, ttl_s=ttl_s(scenario.timeline.fault_s))
    return _carried_out(plan, scenario.experiment, aim, prelude, platform)


def initial_roles(stack: Stack) -> tuple[KnownRole, ...]:
    """Who is what right after the stack file's cluster was formed."""
    return tuple(
        KnownRole(member=name, group=group, role="primary" if name == shard.primary else "replica", epoch=0, address="")
        for group, shard in enumerate(stack.shards, start=1)
        for name in (shard.primary, *shard.replicas)
    )


def _prelude(experiment: Experiment, platform: PaperPlatform, roles: Sequence[RedisRole]) -> Aim | NoTarget:
    """Whom the prelude is done to; nobody if there is none."""
    if experiment.prelude is None:
        return Aim(members=())
    return resolve(experiment.prelude.target, platform.states(), lambda: roles)


def _carried_out(plan: FaultPlan, experiment: Experiment, aim: Aim, prelude: Aim, platform: PaperPlatform) -> FaultPlan:
    fault = fault_from_spec(experiment.fault)
    names = {state.address: state.name for state in platform.states()}
    try:
        steps, watched = fault.inject(aim, platform), fault.effect(aim, platform)
    except FaultError as error:
        return replace(plan, nothing=str(error))
    return replace(
        plan,
        steps=tuple(_all_in_words(experiment.prelude, prelude, [step_in_words(step, names) for step in steps])),
        proofs=(*_prelude_proofs(experiment.prelude, prelude, platform), *proofs_in_words(watched)),
    )


def _all_in_words(prelude: Prelude | None, aim: Aim, steps: Sequence[str]) -> Iterator[str]:
    """The steps, between the beginning and the end of the prelude."""
    if prelude is None:
        yield from steps
        return
    yield f"stop {_listed(aim.members)} where it stands, for {prelude.for_s:g} s at least"
    yield from steps
    yield f"let {_listed(aim.members)} go on, at once"


def _prelude_proofs(prelude: Prelude | None, aim: Aim, platform: PaperPlatform) -> Iterator[str]:
    if prelude is not None:
        watched = fault_from_spec(prelude.fault).effect(aim, platform)
        yield from (f"before that: {sight}" for sight in proofs_in_words(watched))


def step_in_words(step: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """One step of the agent's; ``names`` of members by address."""
    if step["primitive"] == "drop":
        ways = {"both": "between {0} and {1}", "in": "from {1} to {0}", "out": "from {0} to {1}"}
        others = _listed(names.get(address, address) for address in step["others"])
        return f"drop every packet {ways[step['direction']].format(step['member']['name'], others)}"
    words = _STEPS.get(step["primitive"], f"{step['primitive']} {{to}}")
    return words.format(**step, to=_listed(_whom(step))).rstrip()


def _whom(step: Mapping[str, Any]) -> Iterator[str]:
    """The members that a step is done to; on paper all that belongs to a member is called by its name."""
    yield from (member["name"] for member in step.get("members", ()))
    yield from (folder["data_dir"] for folder in step.get("folders", ()))
    yield from step.get("dirs", ())
    yield from step.get("devices", ())


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
        case {"probe": "identity", "expect": "succeeded"}:
            return "the server that {to} runs now is gone, and another runs"
        case {"probe": "datagram", "arrives": arrives}:
            return f"a datagram from {{via}} to {{to}} {'arrives' if arrives else 'does not arrive'}"
        case _:
            return _SIGHTS.get(item["probe"], f"{item['probe']}: {{to}}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
