"""The plan of each client: what the scenario asks for, on the stack as it was found."""

from collections.abc import Callable
from pathlib import Path

from msgspec import UNSET

from resilience.history.clock import RunClock, kernel_boot_id
from resilience.spec.plan import (
    WHOLE,
    LoadPlan,
    PostgresqlPlan,
    RabbitmqPlan,
    ShardPlan,
    Share,
    links_max,
    list_links_max,
    register_links_max,
)
from resilience.spec.rabbitmq import USER, VHOST
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource
from resilience.spec.stack import LOADGEN, PORTS

DEFAULT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def latency_bounds_s(scenario: Scenario) -> tuple[float, ...]:
    """The bounds of the latency buckets: each SLO's threshold, and enough others for a chart."""
    sources = (slo.source for slo in scenario.slos)
    thresholds = {source.latency_threshold_s for source in sources if isinstance(source, RatioSource)} - {None}
    return tuple(sorted({*DEFAULT_BOUNDS_S, *(bound for bound in thresholds if bound is not None)}))


def plan_for(
    component: str,
    *,
    scenario: Scenario,
    shards: tuple[ShardPlan, ...],
    directory: Path,
    secret_file: Callable[[str], Path],
    clock: RunClock,
    clock_address: str,
    share: Share = WHOLE,
) -> LoadPlan:
    """The plan of the process of a client that runs in a member of a component.

    ``secret_file`` says where a secret is.
    """
    stack = scenario.stack
    return LoadPlan(
        base_ns=clock.base_ns,
        boot_id=kernel_boot_id(),
        seed=scenario.seed,
        load=scenario.load,
        directory=str(directory),
        edges=tuple(f"http://{edge.name}:{PORTS['edge']}" for edge in stack.of("edge")),
        shards=shards,
        redis_password_file=str(secret_file("redis-password")),
        durability=stack.durability,
        session_ttl_s=stack.session_ttl_s,
        latency_bounds_s=latency_bounds_s(scenario),
        metrics_port=PORTS[component],
        postgresql=_postgresql(scenario, secret_file) if component == "postgresql-client" else None,
        rabbitmq=_rabbitmq(scenario, secret_file) if component == "rabbitmq-client" else None,
        personalization_rate_ops_per_s=scenario.load.personalization_ops_per_s if stack.personalization else None,
        content_rate_ops_per_s=scenario.load.content_ops_per_s
        if component == LOADGEN and stack.content is not None
        else None,
        clock_address=clock_address,
        share=UNSET if share == WHOLE else share,
    )


def _postgresql(scenario: Scenario, secret_file: Callable[[str], Path]) -> PostgresqlPlan:
    """As the tier is formed; who takes writes by now, the client finds out."""
    stack = scenario.stack
    assert stack.postgresql is not None  # only a stack that has the tier has its client
    primary = stack.member(stack.postgresql.primary)
    pgbouncers = sorted(stack.of("pgbouncer"), key=lambda member: member.node != primary.node)
    return PostgresqlPlan(
        members={member.name: f"{member.name}:{PORTS['postgresql']}" for member in stack.of("postgresql")},
        pgbouncers=tuple(f"{member.name}:{PORTS['pgbouncer']}" for member in pgbouncers),
        primary=primary.name,
        user="harmonyflow",
        database="harmonyflow",
        password_file=str(secret_file("postgresql-password")),
        rate_ops_per_s=scenario.load.postgresql_ops_per_s,
        links_max=links_max(scenario.load),
        register_rate_ops_per_s=scenario.load.postgresql_register_rate_ops_per_s,
        register_links_max=register_links_max(scenario.load),
        list_rate_ops_per_s=scenario.load.postgresql_list_rate_ops_per_s,
        list_isolation=scenario.load.postgresql_isolation,
        list_links_max=list_links_max(scenario.load),
    )


def _rabbitmq(scenario: Scenario, secret_file: Callable[[str], Path]) -> RabbitmqPlan:
    members, rabbitmq = scenario.stack.of("rabbitmq"), scenario.stack.rabbitmq
    assert rabbitmq is not None  # only a stack that has the tier has its client
    return RabbitmqPlan(
        members={member.name: f"{member.name}:{PORTS['rabbitmq']}" for member in members},
        queues=scenario.stack.load_queues,
        vhost=VHOST,
        user=USER,
        password_file=str(secret_file("rabbitmq-password")),
        rate_ops_per_s=scenario.load.rabbitmq_ops_per_s,
        backlog_messages=scenario.load.rabbitmq_backlog_messages,
        persistent=rabbitmq.delivery_mode == "persistent",
        automatic_ack=rabbitmq.acknowledgement == "automatic",
        poison_every=scenario.load.rabbitmq_poison_every or 0,
    )
