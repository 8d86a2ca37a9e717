"""What has to fit together in a scenario, across its files: a run that could never mean anything is not started.

Each check takes what it looks at and the label that messages begin with, and raises `SpecError`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from resilience.spec.blast import COLLABORATION, CONTENT, PERSONALIZATION, SESSION
from resilience.spec.content_coherence import check_content, check_content_load
from resilience.spec.convert import refuse, show
from resilience.spec.fault import (
    CutReplication,
    Delete,
    Deny,
    Drain,
    FaultSpec,
    NodeFault,
    Partition,
    Prelude,
    RollingRestart,
    Scale,
    Target,
)
from resilience.spec.load import Load
from resilience.spec.personalization_coherence import check_personalization, check_personalization_load
from resilience.spec.postgresql_coherence import (
    check_by_hand,
    check_cancelling,
    check_cut,
    check_etcd_data,
    check_postgresql,
    check_postgresql_load,
    check_promotion,
    check_standby,
    check_takeover,
)
from resilience.spec.rabbitmq import all_queues
from resilience.spec.rabbitmq_coherence import check_queue, check_rabbitmq, check_rabbitmq_load, least_fault_s
from resilience.spec.scenario import Experiment, Scenario, Timeline
from resilience.spec.slo import RatioSource, Slo
from resilience.spec.stack import GENERATORS, LOADGEN, OBSERVER, OUTSIDE, Shard, Stack, Wait

RATIO_PHASE_S_MIN = 20.0  # a ratio over less is noise
SCRAPES_MIN = 10  # samples that a phase must hold for its ends to be known
SHARDS_MIN = 3  # Redis Cluster elects by a majority of primaries
SEED_MAX = 2**32 - 1
_EXPORTERS = ("redis-exporter", "node-exporter", "postgres-exporter")
_PLACE = {"edge": OUTSIDE} | dict.fromkeys(("prometheus", *_EXPORTERS, *GENERATORS), OBSERVER)
_ONE_OF_EACH = ("prometheus", "loadgen", "direct-client")
_STORES = frozenset({"redis", "postgresql", "rabbitmq", "etcd"})
_AT_LEAST_ONE = ("redis", "session", "collaboration", "edge")


def check_stack(stack: Stack, label: str, workers: int = 1) -> None:
    """Members, nodes and shards fit together; ``workers``: how many processes of Locust it has members for."""
    _unique(stack.nodes, label, "nodes")
    for index, node in enumerate(stack.nodes):
        if node in {OBSERVER, OUTSIDE}:
            raise refuse(label, f"nodes[{index}]", "expected another name: this one is reserved", node)
    _unique([member.name for member in stack.members], label, "members")
    _check_places(stack, label)
    _check_components(stack, label, workers)
    _check_shards(stack, label)
    _check_durability(stack, label)
    check_postgresql(stack, label)
    check_rabbitmq(stack, label)
    check_personalization(stack, label)
    _check_rooms(stack, label)
    check_content(stack, label)


def check_scenario(scenario: Scenario, label: str) -> None:
    """Timeline, load, target and SLOs fit the stack and one another."""
    if not 0 <= scenario.seed <= SEED_MAX:
        raise refuse(label, "seed", f"expected 0 to {SEED_MAX}", scenario.seed)
    _check_timeline(scenario, label)
    _check_load(scenario.load, label)
    check_postgresql_load(scenario, label)
    check_rabbitmq_load(scenario.load, scenario.stack, label)
    check_personalization_load(scenario.load, scenario.stack, label)
    check_content_load(scenario.load, scenario.stack, label)
    if scenario.experiment is not None:
        _check_experiment(scenario.experiment, scenario.stack)
        check_by_hand(scenario)
        check_promotion(scenario, label)
        check_cancelling(scenario)
        check_etcd_data(scenario.experiment, scenario.stack)
    check_takeover(scenario, label)
    _check_blast_radius(scenario, label)
    for index, weakness in enumerate(scenario.known_weaknesses):
        check_bounds(weakness.within, label, f"known_weaknesses[{index}].within")
        if weakness.group:
            _check_one_of(_places(scenario.stack), weakness.group, label, f"known_weaknesses[{index}].group")
    _unique([slo.name for slo in scenario.slos], label, "slos")
    for slo in scenario.slos:
        _check_slo(slo, scenario, label)


def _check_blast_radius(scenario: Scenario, label: str) -> None:
    named = scenario.blast_radius.may_suffer if scenario.blast_radius else ()
    _unique(named, label, "blast_radius.may_suffer")
    for index, name in enumerate(named):
        _check_one_of(_sufferers(scenario.stack), name, label, f"blast_radius.may_suffer[{index}]")


def _check_one_of(known: Iterable[str], group: str, label: str, field: str) -> None:
    known = tuple(known)
    if group not in known:
        raise refuse(label, field, f"expected one of {', '.join(known)}", group)


def _shards(stack: Stack) -> Iterator[str]:
    return (f"shard {number}" for number in range(1, len(stack.shards) + 1))


def _sufferers(stack: Stack) -> Iterator[str]:
    """Who can be named in a blast radius: all that the load's own clients see the suffering of."""
    yield from _shards(stack)
    yield from (f"queue {queue}" for queue in stack.load_queues)
    yield from (SESSION, COLLABORATION)
    if stack.personalization is not None:
        yield PERSONALIZATION
    if stack.content is not None:
        yield CONTENT


def _places(stack: Stack) -> Iterator[str]:
    """What a finding may speak of, as it names it."""
    yield from _shards(stack)
    if stack.postgresql is not None:
        yield "postgresql"
    if stack.rabbitmq is not None:
        yield from (f"queue {queue}" for queue in all_queues(stack.rabbitmq))
    if stack.has_outbox:
        yield "outbox"
    if stack.personalization is not None:
        yield "profiles"
    if stack.has_room_events:
        yield "rooms"
    if stack.content is not None:
        yield from ("cache", "jobs", "renditions")


def check_bounds(bounds: Mapping[str, tuple[float, float]], label: str, field: str) -> None:
    """Each is [least, most]: one that nothing can be within would be noticed only after the run."""
    for name, (least, most) in bounds.items():
        if least > most:
            raise refuse(label, f"{field}.{name}", "expected [least, most]", [least, most])


def _unique(names: Iterable[str], label: str, field: str) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 1))
    if count > 1:
        raise refuse(label, field, f"expected every name once ({show(name)} stands {count} times)")


def _check_places(stack: Stack, label: str) -> None:
    for index, member in enumerate(stack.members):
        field = f"members[{index}].node"
        place = _PLACE.get(member.component)
        if place and member.node != place:
            raise refuse(label, field, f"expected {place}, where every {member.component} stands", member.node)
        if not place and member.node not in stack.nodes:
            raise refuse(label, field, f"expected one of {', '.join(stack.nodes)}", member.node)


def _check_components(stack: Stack, label: str, workers: int) -> None:
    counts: Counter[str] = Counter(member.component for member in stack.members)
    for component in _ONE_OF_EACH:
        if counts[component] != (workers if component == LOADGEN else 1):
            raise refuse(label, "members", f"expected exactly one {component} (got {counts[component]})")
    for component in _AT_LEAST_ONE:
        if not counts[component]:
            raise refuse(label, "members", f"expected at least one {component} (got 0)")


def _check_shards(stack: Stack, label: str) -> None:
    if len(stack.shards) < SHARDS_MIN:
        raise refuse(label, "shards", f"expected at least {SHARDS_MIN}: a majority of primaries elects")
    names = [name for shard in stack.shards for name in _names(shard)]
    _unique(names, label, "shards")
    redis = {member.name for member in stack.of("redis")}
    for name in names:
        if name not in redis:
            raise refuse(label, "shards", f"expected redis members, of {', '.join(sorted(redis))}", name)
    if left := sorted(redis - set(names)):
        raise refuse(label, "shards", f"expected every redis member in one shard ({', '.join(left)} is in none)")
    for index, shard in enumerate(stack.shards):
        nodes = [stack.member(name).node for name in _names(shard)]
        if len(set(nodes)) != len(nodes):
            expected = "expected primary and replicas on different nodes: one node would take the whole shard"
            raise refuse(label, f"shards[{index}]", expected, ", ".join(nodes))


def _names(shard: Shard) -> Iterator[str]:
    yield shard.primary
    yield from shard.replicas


def _check_durability(stack: Stack, label: str) -> None:
    """A shard that can never have as many replicas as a write asks for would never acknowledge one."""
    replicas = min(len(shard.replicas) for shard in stack.shards)
    if isinstance(stack.durability, Wait) and stack.durability.replicas > replicas:
        raise refuse(label, "durability.replicas", f"expected at most {replicas}", stack.durability.replicas)
    if stack.redis.min_replicas_to_write > replicas:
        expected = f"expected at most {replicas}"
        raise refuse(label, "redis.min_replicas_to_write", expected, stack.redis.min_replicas_to_write)


def _check_rooms(stack: Stack, label: str) -> None:
    """Rooms are kept and distributed by what the stack has."""
    if stack.has_rooms_in_postgresql and stack.postgresql is None:
        expected = "expected redis: the stack has no PostgreSQL"
        raise refuse(label, "collaboration.log", expected, "postgresql")
    if stack.has_room_events and stack.rabbitmq is None:
        expected = "expected redis: the stack has no RabbitMQ"
        raise refuse(label, "collaboration.fanout", expected, "rabbitmq")
    if stack.has_room_events and not stack.has_rooms_in_postgresql:
        expected = "expected redis where collaboration.log is that: an event is of a row"
        raise refuse(label, "collaboration.fanout", expected, "rabbitmq")


def _check_timeline(scenario: Scenario, label: str) -> None:
    timeline = scenario.timeline
    for field in ("warmup_s", "steady_s"):
        if getattr(timeline, field) <= 0:
            raise refuse(label, f"timeline.{field}", "expected more than 0", getattr(timeline, field))
    if scenario.experiment is None:
        _check_no_fault(timeline, label)
        return
    node_timeout_s = scenario.stack.redis.cluster_node_timeout_ms / 1_000
    least_s = 2 * node_timeout_s + 5
    if timeline.fault_s < least_s:
        expected = f"expected at least {least_s:g} s, twice the cluster's node time-out and 5 s"
        raise refuse(label, "timeline.fault_s", expected, timeline.fault_s)
    if timeline.fault_s < least_fault_s(scenario.experiment.target, scenario.stack):
        least_s = least_fault_s(scenario.experiment.target, scenario.stack)
        expected = f"expected at least {least_s:g} s, which members take to give up a silent one, and 5 s"
        raise refuse(label, "timeline.fault_s", expected, timeline.fault_s)
    if timeline.recovery_s <= 0:
        raise refuse(label, "timeline.recovery_s", "expected more than 0", timeline.recovery_s)


def _check_no_fault(timeline: Timeline, label: str) -> None:
    for field in ("fault_s", "recovery_s"):
        if getattr(timeline, field) != 0:
            expected = "expected 0 in a scenario without an experiment"
            raise refuse(label, f"timeline.{field}", expected, getattr(timeline, field))


def _check_load(load: Load, label: str) -> None:
    if load.timeout_s >= load.stop_timeout_s:
        expected = f"expected less than load.stop_timeout_s ({load.stop_timeout_s:g} s)"
        raise refuse(label, "load.timeout_s", expected, load.timeout_s)
    for name in ("session_rate_ops_per_s", "edit_rate_ops_per_s", "direct_rate_ops_per_s"):
        least, rate = getattr(load, f"{name}_min"), getattr(load, name)
        if least is not None and least > rate:
            raise refuse(label, f"load.{name}_min", f"expected at most load.{name} ({rate:g})", least)
    if load.processes > load.rooms:
        expected = f"expected at most load.rooms ({load.rooms}): each process has rooms of its own"
        raise refuse(label, "load.workers", expected, load.processes)


def _check_experiment(experiment: Experiment, stack: Stack) -> None:
    _check_target(experiment.target, stack, experiment.file, "target")
    _check_fault(experiment, len(stack.of(experiment.target.component)))
    if experiment.prelude is not None:
        _check_prelude(experiment.prelude, experiment, stack)


def _check_prelude(prelude: Prelude, experiment: Experiment, stack: Stack) -> None:
    """It is done to somebody else than the fault."""
    label = experiment.file
    _check_target(prelude.target, stack, label, "prelude.target")
    if isinstance(prelude.fault, CutReplication):
        check_cut(prelude.target, label, "prelude.target")
        if experiment.target.component == "postgresql" and experiment.target.role != "primary":
            expected = "expected primary, which the prelude leaves alone: it is done to standbys"
            raise refuse(label, "target.role", expected, experiment.target.role)
    elif prelude.target.scope == "component":  # nor all of a component: the fault's own target among them
        raise refuse(label, "prelude.target.scope", "expected member or node", "component")
    if isinstance(prelude.fault, CutReplication) and prelude.target.scope == "node":
        raise refuse(label, "prelude.target.scope", "expected member or component (fault cut-replication)", "node")
    if prelude.target == experiment.target:
        raise refuse(label, "prelude.target", "expected another target than the fault's own")


def _check_target(target: Target, stack: Stack, label: str, field: str) -> None:
    members = stack.of(target.component)
    if not members:
        raise refuse(label, f"{field}.component", f"expected a component of the stack {stack.name}", target.component)
    check_queue(target, stack, label, field)
    check_standby(target, stack, label, field)
    if target.component in {"postgresql", "rabbitmq"}:
        _check_no_shard(target, label, field)
    elif target.component != "redis":
        _check_no_role(target, label, field)
    elif target.shard is not None and target.shard > len(stack.shards):
        raise refuse(label, f"{field}.shard", f"expected 1 to {len(stack.shards)}", target.shard)
    if target.role == "replica" and not _has_replica(target, stack):
        raise refuse(label, f"{field}.role", "expected a shard that has a replica", target.role)
    if target.scope == "node" and members[0].node in {OBSERVER, OUTSIDE}:
        raise refuse(label, f"{field}.scope", f"expected member: {target.component} stands on no platform node", "node")


def _check_no_role(target: Target, label: str, field: str) -> None:
    _check_no_shard(target, label, field)
    if target.role != "any":
        raise refuse(label, f"{field}.role", "expected any: only redis and postgresql have roles", target.role)


def _check_no_shard(target: Target, label: str, field: str) -> None:
    if target.shard is not None:
        raise refuse(label, f"{field}.shard", "expected none: only redis has shards", target.shard)


def _has_replica(target: Target, stack: Stack) -> bool:
    if target.component == "postgresql":
        return True  # the tier has one, or the stack is none
    shards = stack.shards if target.shard is None else (stack.shards[target.shard - 1],)
    return any(shard.replicas for shard in shards)


def _check_fault(experiment: Experiment, member_count: int) -> None:
    fault, target, label = experiment.fault, experiment.target, experiment.file
    kind = fault.__struct_config__.tag
    scopes, why = _scopes(fault)
    if target.scope not in scopes:
        raise refuse(label, "target.scope", f"expected {' or '.join(scopes)}{why} (fault {kind})", target.scope)
    if isinstance(fault, RollingRestart | Scale | Deny) and target.component in _STORES:
        expected = "expected a service: a store may fail over for each member"
        raise refuse(label, "target.component", expected, target.component)
    if isinstance(fault, CutReplication):
        check_cut(target, label, "target")
    if isinstance(fault, Deny) and fault.to == target.component:
        raise refuse(label, "fault.to", f"expected another component than {target.component}", fault.to)
    if isinstance(fault, Scale) and fault.replicas >= member_count:
        expected = f"expected less than {member_count}: {target.component} has no more members"
        raise refuse(label, "fault.replicas", expected, fault.replicas)
    if isinstance(fault, Partition) and fault.cut_from == "peers" and member_count < 2:
        raise refuse(label, "fault.cut_from", f"expected clients or all: {target.component} has one member", "peers")


def _scopes(fault: FaultSpec) -> tuple[tuple[str, ...], str]:
    """What a fault can be done to, and why to nothing else."""
    if isinstance(fault, NodeFault | Drain):
        return ("node",), ": it is done to a whole node"
    if isinstance(fault, RollingRestart | Scale | Deny):
        return ("component",), ": it is done to all members"
    if isinstance(fault, CutReplication):
        return ("member", "component"), ": it is done to one standby or to all"
    return (("member",) if isinstance(fault, Delete) else ("member", "node")), ""


def _check_slo(slo: Slo, scenario: Scenario, label: str) -> None:
    where = f"slos: {slo.name}"
    for phase in slo.phases:
        lasts_s = getattr(scenario.timeline, f"{phase}_s")
        if lasts_s <= 0:
            raise refuse(label, where, f"is judged in phase {phase}, which this scenario does not have")
        if isinstance(slo.source, RatioSource):
            _check_ratio_phase(phase, lasts_s, scenario, label, where)
    if isinstance(slo.source, RatioSource) and (slo.source.latency_threshold_s or 0) > scenario.load.timeout_s:
        expected = f"expected a latency threshold within load.timeout_s ({scenario.load.timeout_s:g} s)"
        raise refuse(label, where, expected, slo.source.latency_threshold_s)


def _check_ratio_phase(phase: str, lasts_s: float, scenario: Scenario, label: str, where: str) -> None:
    least_s = max(RATIO_PHASE_S_MIN, SCRAPES_MIN * scenario.stack.scrape_interval_s)
    if lasts_s < least_s:
        expected = f"is a ratio judged in phase {phase}: expected timeline.{phase}_s of at least {least_s:g} s"
        raise refuse(label, where, expected, lasts_s)
