"""The plan of each client: what the scenario asks for, on the stack as it was found."""

from pathlib import Path

from resilience.history.clock import RunClock, kernel_boot_id
from resilience.spec.plan import LoadPlan, ShardPlan
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource
from resilience.spec.stack import PORTS

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
    password_file: Path,
    clock: RunClock,
    clock_address: str,
) -> LoadPlan:
    """The plan of the client that runs in the member of a component."""
    stack = scenario.stack
    return LoadPlan(
        base_ns=clock.base_ns,
        boot_id=kernel_boot_id(),
        seed=scenario.seed,
        load=scenario.load,
        directory=str(directory),
        edges=tuple(f"http://{edge.name}:{PORTS['edge']}" for edge in stack.of("edge")),
        shards=shards,
        redis_password_file=str(password_file),
        durability=stack.durability,
        session_ttl_s=stack.session_ttl_s,
        latency_bounds_s=latency_bounds_s(scenario),
        metrics_port=PORTS[component],
        clock_address=clock_address,
    )
