"""What has to fit together in a stack's PostgreSQL tier; each check raises `SpecError` with the field."""

from collections import Counter
from collections.abc import Mapping

from resilience.spec.convert import refuse
from resilience.spec.fault import FastRestart, Partition, Target, parts_from_etcd
from resilience.spec.plan import links_max, register_links_max
from resilience.spec.postgresql import AnyStandbys, Asynchronous, FirstStandbys, Manual, Patroni, Postgresql
from resilience.spec.scenario import Experiment, Scenario
from resilience.spec.stack import Stack

COMPONENTS = ("postgresql", "pgbouncer", "postgres-exporter", "postgresql-client", "etcd")
ETCD_MEMBERS = 3  # a majority of them decides
ETCD_ELECTION_S = 4  # without a leader at most: one to two times the election-timeout in stacks/etcd, as measured
PROMOTED_S_MIN = 10.0  # of the fault phase, with a new primary
CONNECTIONS_OF_OWN = 10  # of a server's: for the harness, the exporter and those that replicate


def check_postgresql(stack: Stack, label: str) -> None:
    """Members, nodes and durability of the tier, where the stack has one; else that none of its members is there."""
    tier = stack.postgresql
    if tier is None:
        for component in COMPONENTS:
            if stack.of(component):
                raise refuse(label, "postgresql", f"is missing: the stack has members of {component}")
        return
    _check_members(stack, tier, label)
    _check_pgbouncers(stack, tier, label)
    _check_durability(tier, label)
    _check_failover(stack, tier, label)
    _check_connections(tier, label)
    for component in ("postgres-exporter", "postgresql-client"):
        if len(stack.of(component)) != 1:
            raise refuse(label, "members", f"expected one {component} (got {len(stack.of(component))})")


def check_postgresql_load(scenario: Scenario, label: str) -> None:
    """Where the load is to write to PostgreSQL there is one, with a place for each write that waits for its answer."""
    load, tier = scenario.load, scenario.stack.postgresql
    least, rate = load.postgresql_rate_ops_per_s_min, load.postgresql_ops_per_s
    if tier is None:
        for field in (
            "postgresql_rate_ops_per_s",
            "postgresql_rate_ops_per_s_min",
            "postgresql_register_rate_ops_per_s",
            "postgresql_list_rate_ops_per_s",
            "postgresql_list_isolation",
        ):
            if (value := getattr(load, field)) is not None:
                raise refuse(label, f"load.{field}", "expected none: the stack has no PostgreSQL", value)
        return
    if least is not None and least > rate:
        raise refuse(
            label, "load.postgresql_rate_ops_per_s_min", f"expected at most {rate:g}, what is asked for", least
        )
    if load.postgresql_list_isolation is not None and load.postgresql_list_rate_ops_per_s is None:
        expected = "expected none: there are no transactions on lists (load.postgresql_list_rate_ops_per_s)"
        raise refuse(label, "load.postgresql_list_isolation", expected, load.postgresql_list_isolation)
    own = links_max(load) + register_links_max(load)  # transactions on lists all share PgBouncers' pools
    needed = _connections(tier) + own
    if tier.max_connections < needed:
        expected = f"expected at least {needed} for this load: {own} are the direct client's"
        raise refuse(label, "postgresql.max_connections", expected, tier.max_connections)


def check_standby(target: Target, stack: Stack, label: str, field: str) -> None:
    """Only PostgreSQL's replicas are standbys, and only where commits wait for some is there one of the sort `sync`."""
    if target.standby is None:
        return
    if (target.component, target.role) != ("postgresql", "replica"):
        expected = "expected none: only postgresql with role replica has standbys"
        raise refuse(label, f"{field}.standby", expected, target.standby)
    if target.standby == "sync" and stack.postgresql and isinstance(stack.postgresql.durability, Asynchronous):
        expected = "expected most-lag, least-lag or async: commits wait for no standby (postgresql.durability)"
        raise refuse(label, f"{field}.standby", expected, target.standby)


def check_cut(target: Target, label: str, field: str) -> None:
    """Whom a cut of replication means are standbys."""
    if target.component != "postgresql":
        raise refuse(label, f"{field}.component", "expected postgresql (fault cut-replication)", target.component)
    if target.role != "replica":
        raise refuse(label, f"{field}.role", "expected replica (fault cut-replication)", target.role)


def check_cancelling(scenario: Scenario) -> None:
    """Where an experiment has backends cancelled that wait for a standby, some can wait for one."""
    if scenario.experiment is None or not scenario.experiment.cancels:
        return
    tier = scenario.stack.postgresql
    if tier is None or isinstance(tier.durability, Asynchronous):
        expected = "expected no cancel_waiting: commits wait for no standby (postgresql.durability)"
        raise refuse(scenario.experiment.file, "method", expected)


def check_by_hand(scenario: Scenario) -> None:
    """No step of an experiment does what Patroni has to do by itself: it would be told as Patroni's."""
    experiment, tier = scenario.experiment, scenario.stack.postgresql
    if experiment is None or tier is None or isinstance(tier.failover, Manual):
        return
    for step, does in (("promote", experiment.promotes), ("rejoin", experiment.rejoins)):
        if does:
            expected = f"expected no {step}: {scenario.stack.name} has postgresql.failover patroni, whose work that is"
            raise refuse(experiment.file, "method", expected)


def check_promotion(scenario: Scenario, label: str) -> None:
    """Where an experiment has a standby promoted, there is one, and the fault lasts until it shows what it is worth."""
    if scenario.experiment is None or not scenario.experiment.promotes:
        return
    tier = scenario.stack.postgresql
    if tier is None:
        stack = scenario.stack.name
        raise refuse(scenario.experiment.file, "method", f"expected no promote: the stack {stack} has no PostgreSQL")
    assert isinstance(tier.failover, Manual)  # `check_by_hand`
    fault = scenario.experiment.fault
    if isinstance(fault, Partition) and fault.cut_from != "all":
        expected = "expected all where a standby is promoted: nobody else could reach a former primary that was fenced"
        raise refuse(scenario.experiment.file, "fault.cut_from", expected, fault.cut_from)
    least_s = tier.failover.operator_delay_s + PROMOTED_S_MIN
    if scenario.timeline.fault_s < least_s:
        expected = f"expected at least {least_s:g} s, the operator's delay and {PROMOTED_S_MIN:g} s"
        raise refuse(label, "timeline.fault_s", expected, scenario.timeline.fault_s)


def check_takeover(scenario: Scenario, label: str) -> None:
    """Where Patroni has to replace a primary, the fault lasts until it has, and the new one shows what it is worth."""
    experiment, tier = scenario.experiment, scenario.stack.postgresql
    if experiment is None or tier is None or not isinstance(tier.failover, Patroni):
        return
    target = experiment.target
    parts = parts_from_etcd(experiment.fault, failsafe=tier.failover.failsafe_mode)
    if (target.component, target.role) != ("postgresql", "primary") or not parts:
        return
    least_s = tier.failover.ttl_s + tier.failover.loop_wait_s + PROMOTED_S_MIN
    if scenario.timeline.fault_s < least_s:
        expected = f"expected at least {least_s:g} s, Patroni's ttl_s and loop_wait_s and {PROMOTED_S_MIN:g} s"
        raise refuse(label, "timeline.fault_s", expected, scenario.timeline.fault_s)


def check_etcd_data(experiment: Experiment, stack: Stack) -> None:
    """No member of etcd loses its data: it would not come back before somebody has added it anew by hand."""
    fault, target = experiment.fault, experiment.target
    hit = target.component == "etcd" or (target.scope == "node" and stack.of("etcd"))
    if isinstance(fault, FastRestart) and fault.data == "gone" and hit:
        raise refuse(experiment.file, "fault.data", "expected kept: etcd takes no member back without it", "gone")


def _check_members(stack: Stack, tier: Postgresql, label: str) -> None:
    known = [member.name for member in stack.of("postgresql")]
    for name in tier.members:
        if name not in known:
            field = "primary" if name == tier.primary else "replicas"
            raise refuse(label, f"postgresql.{field}", f"expected postgresql members, of {', '.join(known)}", name)
    name, count = Counter(tier.members).most_common(1)[0]
    if count > 1:
        raise refuse(label, "postgresql.replicas", f"expected every member once ({name} stands {count} times)")
    if left := sorted(set(known) - set(tier.members)):
        raise refuse(label, "postgresql.replicas", f"expected every postgresql member ({', '.join(left)} is no part)")
    nodes = [stack.member(name).node for name in tier.members]
    if len(set(nodes)) != len(nodes):
        expected = "expected primary and replicas on different nodes: one node would take several of them"
        raise refuse(label, "postgresql", expected, ", ".join(nodes))


def _check_pgbouncers(stack: Stack, tier: Postgresql, label: str) -> None:
    beside = Counter(member.node for member in stack.of("pgbouncer"))
    for name in tier.members:
        node = stack.member(name).node
        if beside.pop(node, 0) != 1:
            raise refuse(label, "members", f"expected one pgbouncer on {node}, in front of {name}")
    if beside:
        raise refuse(label, "members", f"expected no pgbouncer on {', '.join(sorted(beside))}: no postgresql is there")


def _check_durability(tier: Postgresql, label: str) -> None:
    """Standbys that can never be there would block every commit; a commit that does not wait needs none named."""
    if isinstance(tier.durability, Asynchronous):
        return
    if tier.durability.standbys > len(tier.replicas):
        expected = f"expected at most {len(tier.replicas)}, the number of replicas"
        raise refuse(label, "postgresql.durability.standbys", expected, tier.durability.standbys)
    if tier.synchronous_commit in {"off", "local"}:
        expected = "expected remote_write, on or remote_apply: otherwise no commit waits for the standbys of durability"
        raise refuse(label, "postgresql.synchronous_commit", expected, tier.synchronous_commit)


def _check_failover(stack: Stack, tier: Postgresql, label: str) -> None:
    """Patroni has its etcd, and times that leave a primary the time to renew its key; nobody else has an etcd."""
    etcd, failover = stack.of("etcd"), tier.failover
    if not isinstance(failover, Patroni):
        if etcd:
            raise refuse(label, "members", "expected no etcd: only postgresql.failover patroni asks it", etcd[0].name)
        return
    if len(etcd) != ETCD_MEMBERS:
        raise refuse(label, "members", f"expected {ETCD_MEMBERS} etcd, of which a majority decides (got {len(etcd)})")
    nodes = [member.node for member in etcd]
    if len(set(nodes)) != len(nodes):
        expected = "expected every etcd on a node of its own: one node would take the majority"
        raise refuse(label, "members", expected, ", ".join(nodes))
    if failover.retry_timeout_s <= ETCD_ELECTION_S:
        expected = (
            f"expected at least {ETCD_ELECTION_S + 1}: etcd may take {ETCD_ELECTION_S} s to elect another leader, and a"
            " primary that tries for no longer steps down for it"
        )
        raise refuse(label, "postgresql.failover.retry_timeout_s", expected, failover.retry_timeout_s)
    least_s = failover.loop_wait_s + 2 * failover.retry_timeout_s
    if failover.ttl_s < least_s:
        expected = f"expected at least {least_s}, loop_wait_s + 2 * retry_timeout_s: Patroni would change them"
        raise refuse(label, "postgresql.failover.ttl_s", expected, failover.ttl_s)
    _check_synchronous_mode(failover, tier, label)


def _check_synchronous_mode(failover: Patroni, tier: Postgresql, label: str) -> None:
    """Patroni knows one way of waiting for each kind of `durability`."""
    field = "postgresql.failover.synchronous_mode"
    ways: Mapping[str, type[FirstStandbys | AnyStandbys]] = {"on": FirstStandbys, "quorum": AnyStandbys}
    fits = ways.get(failover.synchronous_mode)
    if fits is not None and not isinstance(tier.durability, fits):
        kind = str(fits.__struct_config__.tag)
        raise refuse(label, field, f"expected postgresql.durability {kind} with it", failover.synchronous_mode)
    if fits is None and failover.synchronous_mode_strict:
        raise refuse(label, f"{field}_strict", "expected false where synchronous_mode is off", "true")


def _connections(tier: Postgresql) -> int:
    return tier.pgbouncer.default_pool_size * len(tier.members) + CONNECTIONS_OF_OWN


def _check_connections(tier: Postgresql, label: str) -> None:
    """Each PgBouncer may hold its pool at the primary at the same time."""
    needed = _connections(tier)
    if tier.max_connections < needed:
        expected = f"expected at least {needed}: a pool of each pgbouncer's and {CONNECTIONS_OF_OWN} more"
        raise refuse(label, "postgresql.max_connections", expected, tier.max_connections)
