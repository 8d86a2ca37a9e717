"""Takes what Prometheus stored about a run into the history, once, when the run is over."""

import time
from collections.abc import Iterable

from resilience.errors import MetricsError
from resilience.history.record import QueryFailed, SampleLine
from resilience.history.writer import Writer
from resilience.metrics.prometheus import Prometheus
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource

# What every run has, besides the SLOs' own selectors: that one of these has no samples is put on record. Verdicts rest
# on `up` alone of them, the others tell how the generators fared.
NEEDED = (
    "up",
    "load_ops_total",
    "load_deliveries_total",
    "load_schedule_lag_seconds_bucket",
    "load_inflight_ops",
    "load_phase",
    "load_unfinished_total",
    "load_dropped_total",
)
# What explains a verdict: taken if it is there. A server that is down exports nothing, and that is no fault of ours.
EXPLAINING = (
    "scrape_duration_seconds",
    "prometheus_tsdb_head_samples_appended_total",
    "redis_up",
    "redis_connected_slaves",
    "redis_master_repl_offset",
    "service_requests_total",
    "edge_retries_total",
    'redis_commands_total{cmd="set"}',
    "redis_errors_total",
    "redis_evicted_keys_total",
    "node_pressure_cpu_waiting_seconds_total",
    'node_cpu_seconds_total{mode=~"idle|steal"}',
)
EXPLAINING_POSTGRESQL = (  # where the stack has it
    "pg_up",
    "pg_replication_is_replica",
    "pg_replication_lag_seconds",
    'pg_stat_database_xact_commit{datname="harmonyflow"}',
)
MARGIN_SCRAPES = 2  # samples on both sides of the run, so that counters have a value before its start and after its end
NO_SAMPLES = "Prometheus has no sample of it: is there a metric of that name?"
QUERY_TIMEOUT_S = 5.0
DEADLINE_S = 30.0


def selectors(scenario: Scenario) -> tuple[str, ...]:
    """All selectors that Prometheus is asked for after a run, each once; what verdicts rest on comes first."""
    explaining = EXPLAINING if scenario.stack.postgresql is None else (*EXPLAINING, *EXPLAINING_POSTGRESQL)
    return tuple(dict.fromkeys((*needed_selectors(scenario), *explaining)))


def needed_selectors(scenario: Scenario) -> tuple[str, ...]:
    """The selectors that a run of the scenario must have samples of, those of its SLOs first."""
    sources = (slo.source for slo in scenario.slos)
    queries = [query for source in sources if isinstance(source, RatioSource) for query in (source.good, source.total)]
    return tuple(dict.fromkeys((*queries, *NEEDED)))


def collect(
    scenario: Scenario,
    url: str,
    start_wall_s: float,
    end_wall_s: float,
    writer: Writer,
    *,
    query_timeout_s: float = QUERY_TIMEOUT_S,
    deadline_s: float = DEADLINE_S,
) -> None:
    """Writes a run's raw samples as `Series`, and `QueryFailed` for each query without a usable answer.

    The run is ``[start, end]`` on the wall clock (seconds since 1970); call this `MARGIN_SCRAPES` scrapes and a
    scrape's time-out after its end. Takes at most ``deadline_s``, also if Prometheus is gone: that is on record then,
    and no error. Raises `OSError` if the writer cannot write.
    """
    margin_s = MARGIN_SCRAPES * scenario.stack.scrape_interval_s
    until = time.monotonic() + deadline_s
    needed = frozenset(needed_selectors(scenario))
    with Prometheus(url) as prometheus:
        for selector in selectors(scenario):
            timeout_s = min(query_timeout_s, until - time.monotonic())
            lines = _lines(prometheus, selector, (start_wall_s - margin_s, end_wall_s + margin_s), timeout_s)
            _write(writer, lines if lines or selector not in needed else [QueryFailed(selector, NO_SAMPLES)])


def _lines(
    prometheus: Prometheus, selector: str, window_wall_s: tuple[float, float], timeout_s: float
) -> Iterable[SampleLine]:
    if timeout_s <= 0:
        return [QueryFailed(selector, "not asked: the time for collecting samples was over")]
    try:
        return prometheus.samples(selector, *window_wall_s, timeout_s)
    except MetricsError as error:
        return [QueryFailed(selector, str(error))]


def _write(writer: Writer, lines: Iterable[SampleLine]) -> None:
    for line in lines:
        writer.append(line)
    writer.flush()
