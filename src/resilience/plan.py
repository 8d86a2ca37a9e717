"""What a scenario would do, to whom, worked out without doing it, from a platform's members and their roles."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from resilience.backend.local.paper import PaperPlatform
from resilience.errors import FaultError
from resilience.fault.base import FaultPlatform, MemberRole, NoTarget, QueueRole, Watch
from resilience.fault.injector import Planner
from resilience.report.plan import FaultPlan
from resilience.spec.fault import Injection, PreludeInjection, parts_from_etcd
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, FirstStandbys, Patroni
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack
from resilience.stack.postgresql_role import PostgresqlRole
from resilience.stack.rabbitmq_view import initial_queue_roles
from resilience.stack.redis_role import RedisRole as KnownRole

_STEPS: Mapping[str, str] = {
    "hold": "hold back the restart of {to}, until healing",
    "release": "let {to} start again after {after_s:g} s",
    "links": "cut all links of {to}, in one step",
    "signal": "send SIG{signal} to the server of {to}",
    "pause": "stop {to} where it stands, until healing",
    "wipe": "empty the data folder of {to}",
    "withhold": "let nobody hear of the end of {to}, until healing, so that it is not started again",
    "power-off": "cut all links of {to} from inside, then kill its container",
    "freeze": "pause the container of {to}",
    "isolate": "take the container of {to} off its networks",
    "reboot": "cut all links of {to} from inside, kill its container, and start it again",
    "drain": "cordon {node[name]}, and evict {to} as far as disruption budgets let them go",
    "delete": "delete the pod of {to}, which is given {grace_s:g} s to end by itself",
    "scale": "have {workload} keep {replicas} of {to}, until healing",
    "deny": "let no new connection out from {to} to any {to_component}, by a NetworkPolicy of its own, until healing",
    "rollout": "have {to} replaced, one after the other",
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
    "node": "Docker says of {to} what this has made of it, and that it was well before",
    "drained": "{to} are gone from their node, which takes none, and run elsewhere if nothing binds them to it",
    "deleted": "{to} is gone, or another in its place, and a witness cannot connect to what was there",
    "scaled": "of {to} those beyond the number are gone, the others are the same, and their controller counts so",
    "rolled-out": "{to} have been replaced, one after the other",
}


class Carried(NamedTuple):
    """How a platform would carry an injection out."""

    watches: Sequence[Watch]  # those of the injection's that can be taken there
    allowed: Sequence[str] = ()  # who would suffer, and the rule by which that is allowed
    besides: Sequence[str] = ()  # what its nodes take with them that is no member


def _as_it_is(injection: Injection) -> Carried:
    return Carried(injection.watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a plan is made for: a platform at one moment.

    ``carried`` says what becomes of an injection there; raises `FaultError` where it would be refused.
    """

    platform: FaultPlatform
    roles: Sequence[MemberRole]
    known: str  # says to people where members and roles are known from
    queue_roles: Sequence[QueueRole] = ()
    names: Mapping[str, str] = field(default_factory=dict)  # by address, of what is no member
    carried: Callable[[Injection], Carried] = _as_it_is


def fault_plan(scenario: Scenario, known: str) -> FaultPlan | None:
    """What would be done to the scenario's own stack, as its file places it and its roles begin; None: no fault.

    ``known`` says to people where the roles are known from.
    """
    stack = scenario.stack
    ground = Ground(
        platform=PaperPlatform(stack), roles=initial_roles(stack), queue_roles=initial_queue_roles(stack), known=known
    )
    return fault_plan_on(scenario, ground)


def fault_plan_on(scenario: Scenario, ground: Ground) -> FaultPlan | None:
    """What would be done to a platform as it is. Raises `StackError` if it cannot be looked at."""
    experiment = scenario.experiment
    if experiment is None:
        return None
    planner = Planner(platform=ground.platform, roles=lambda: ground.roles, queue_roles=lambda: ground.queue_roles)
    planned_s = planner.planned_s(scenario.timeline.fault_s, experiment.fault, experiment.target)
    try:
        injection = planner.plan("plan", experiment.fault, experiment.target, planned_s, experiment.prelude)
        if isinstance(injection, NoTarget):
            return FaultPlan(known=ground.known, nothing=injection.reason)
        told = _told(injection, ground.carried(injection), ground)
        return replace(told, steps=(*told.steps, *_runbook(scenario)))
    except FaultError as error:
        return FaultPlan(known=ground.known, nothing=str(error))


def _runbook(scenario: Scenario) -> Iterator[str]:
    """What an operator, or Patroni in his place, does while the fault lasts."""
    tier, experiment = scenario.stack.postgresql, scenario.experiment
    if tier is None or experiment is None:
        return
    if experiment.cancels:
        yield "at once, by the runbook: cancel every backend of PostgreSQL's primary that waits for a standby"
    if isinstance(tier.failover, Patroni):
        aimed = (experiment.target.component, experiment.target.role) == ("postgresql", "primary")
        if aimed and parts_from_etcd(experiment.fault, failsafe=tier.failover.failsafe_mode):
            least_s, most_s = (tier.failover.ttl_s + sign * tier.failover.loop_wait_s for sign in (-1, 1))
            yield f"{least_s} s to {most_s} s later, by itself: Patroni promotes a PostgreSQL standby"
    elif experiment.promotes:
        delay_s, runbook = tier.failover.operator_delay_s, experiment.runbook
        which = "most" if runbook.standby == "least-lag" else "least"
        left = "" if runbook.fence else ", and leave the node of the former primary alone"
        yield f"{delay_s:g} s later, by the runbook: promote the PostgreSQL standby that has received {which}{left}"


def initial_roles(stack: Stack) -> tuple[MemberRole, ...]:
    """Who is what right after the stack file's cluster and tier were formed."""
    return (*_redis_roles(stack), *_postgresql_roles(stack))


def _postgresql_roles(stack: Stack) -> Iterator[PostgresqlRole]:
    tier = stack.postgresql
    if tier is None:
        return
    yield PostgresqlRole(member=tier.primary, role="primary")
    for place, name in enumerate(tier.replicas):
        yield PostgresqlRole(member=name, role="replica", synchrony=_synchrony(tier.durability, place))


def _synchrony(durability: Durability, place: int) -> str:
    """What the primary makes of a replica, by its place in the stack file."""
    match durability:
        case Asynchronous():
            return "async"
        case AnyStandbys():
            return "quorum"
        case FirstStandbys():
            return "sync" if place < durability.standbys else "potential"


def _redis_roles(stack: Stack) -> tuple[KnownRole, ...]:
    return tuple(
        KnownRole(member=name, group=group, role="primary" if name == shard.primary else "replica", epoch=0, address="")
        for group, shard in enumerate(stack.shards, start=1)
        for name in (shard.primary, *shard.replicas)
    )


def _told(injection: Injection, carried: Carried, ground: Ground) -> FaultPlan:
    states = ground.platform.states()
    components = {state.name: state.component for state in states}
    parts = {role.member: _part(role) for role in ground.roles}
    parts |= {
        role.member: f"{role.role} of {role.queue}"
        for role in ground.queue_roles
        if (role.queue, role.role) == (injection.target.queue, injection.target.role)
    }
    names = {**ground.names, **{state.address: state.name for state in states}}
    return FaultPlan(
        known=ground.known,
        nodes=injection.nodes,
        members=tuple((name, parts.get(name, components[name])) for name in injection.members),
        besides=tuple(carried.besides),
        steps=tuple(_all_in_words(injection, names)),
        proofs=(*_prelude_proofs(injection.prelude), *proofs_in_words(carried.watches)),
        allowed=tuple(carried.allowed),
        ttl_s=injection.ttl_s,
    )


def _part(role: MemberRole) -> str:
    return f"{role.role} of shard {role.group}" if role.group else role.role


def _all_in_words(injection: Injection, names: Mapping[str, str]) -> Iterator[str]:
    """The steps, between the beginning and the end of the prelude."""
    prelude, steps = injection.prelude, [step_in_words(step, names) for step in injection.steps]
    if prelude is None:
        yield from steps
        return
    if prelude.prelude.ends == "healed":
        yield from (step_in_words(step, names) for step in prelude.steps)
        yield f"leave it so for {prelude.for_s:g} s at least, and until healing"
        yield from steps
        return
    yield f"stop {_listed(prelude.members)} where it stands, for {prelude.for_s:g} s at least"
    yield from steps
    yield f"let {_listed(prelude.members)} go on, at once"


def _prelude_proofs(prelude: PreludeInjection | None) -> Iterator[str]:
    if prelude is not None:
        yield from (f"before that: {sight}" for sight in proofs_in_words(prelude.watch))


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
    yield from (folder.get("name", folder["data_dir"]) for folder in step.get("folders", ()))
    yield from step.get("dirs", ())
    yield from step.get("devices", ())
    yield from map(_node, step.get("nodes", ()))
    yield from (pod["name"] for pod in step.get("pods", ()))


def proofs_in_words(watched: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What has to be seen before the fault counts as proved; what is alike is told once."""
    targets: dict[tuple[str, str], list[str]] = {}
    for item in watched:
        via, to = _name(item, "via"), _name(item, "to") or _name(item, "of") or _listed(_whom(item))
        targets.setdefault((_sight(item), via), []).append(to)
    witnesses: dict[tuple[str, str], list[str]] = {}
    for (sight, via), members in targets.items():
        witnesses.setdefault((sight, _listed(members)), []).append(via)
    for (sight, towards), seen_by in witnesses.items():
        yield sight.format(to=towards, via=_listed(seen_by))


def _node(node: Mapping[str, Any]) -> str:
    return f"{node['name']} ({node['host']})"


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
        case {"probe": "denied", "others": others}:
            reached = _listed(one["name"] for one in others)
            return f"no new connection from {{to}} to {reached} is accepted, while a witness's to all of them are"
        case {"probe": "datagram", "arrives": arrives}:
            return f"a datagram from {{via}} to {{to}} {'arrives' if arrives else 'does not arrive'}"
        case _:
            return _SIGHTS.get(item["probe"], f"{item['probe']}: {{to}}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
