"""Assumptions about the load: it was there, it was punctual, and its generators lived to the end."""

from collections.abc import Iterator

import numpy as np

from resilience.check.assumption.finding import held_unless
from resilience.check.assumption.processors import stolen_ratio, used_cores
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding
from resilience.check.off_shards import SERVICES, services_of
from resilience.check.text import ended_text
from resilience.check.window import JUDGED, judged_windows
from resilience.history.columns import Flags
from resilience.history.read import History
from resilience.history.transaction import KIND
from resilience.spec.load import Load
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource

DEFAULT_RATIO_MIN = 0.9
LAG_SHARE = 0.1  # of the smallest latency threshold
STOLEN_RATIO_TOLD = 0.05  # from here on it is a likely cause
# what one process of several makes its share of
_OF_PROCESSES = ("session.", "collaboration.edit", *(kind for service in SERVICES for kind in service.kinds))


def load_rate(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Each part of the load was sent at its minimum rate in each phase, and each process sent its share of that."""
    measured = tuple(_rates(scenario, history))
    low = [f"{what}: {rate:.1f} ops/s, at least {least:g} needed" for what, rate, least in measured if rate < least]
    shortest = min((rate / least for _, rate, least in measured), default=0.0)
    if not measured:
        low = ["no phase was recorded in which load could be counted"]
    text = f"at least {shortest * 100:.0f} % of the minimum everywhere"
    return (held_unless("load-rate", "The load kept its minimum rate in each phase", low, text, "100 %"),)


def _rates(scenario: Scenario, history: History) -> Iterator[tuple[str, float, float]]:
    ops = history.ops
    streams = list(_streams(scenario, history))
    for window in judged_windows(history):
        due = (ops.due >= window.start) & (ops.due < window.end)
        length_s = (window.end - window.start) / SECOND_US
        for what, rows, least in streams:
            yield f"{what} in {window.phase}", float((due & rows).sum()) / length_s, least


def _streams(scenario: Scenario, history: History) -> Iterator[tuple[str, Flags, float]]:
    ops, load = history.ops, scenario.load
    sessions, edits = ops.of_kind("session."), ops.of_kind("collaboration.edit")
    session_least = _least(load.session_rate_ops_per_s, load.session_rate_ops_per_s_min)
    edit_least = _least(load.edit_rate_ops_per_s, load.edit_rate_ops_per_s_min)
    yield from _of_locust("session ops", sessions, session_least, load, history)
    yield from _of_locust("edits", edits, edit_least, load, history)
    direct = ops.of_kind("direct.write")
    for group in range(1, len(scenario.stack.shards) + 1):
        yield f"direct writes to shard {group}", direct & (ops.group == group), _direct_least(load)
    for service in services_of(scenario.stack):
        least = _least(*service.asked(load))
        yield from _of_locust(service.ops, ops.of_kind(*service.kinds), least, load, history)
    if scenario.stack.postgresql is not None:
        least = 2 * _least(load.postgresql_ops_per_s, load.postgresql_rate_ops_per_s_min)
        yield "writes to PostgreSQL, both ways", ops.of_kind("postgresql.write"), least
    if (registers := load.postgresql_register_rate_ops_per_s) is not None:
        yield "ops on registers in PostgreSQL", ops.of_kind("register."), _least(registers, None)
    if (transactions := load.postgresql_list_rate_ops_per_s) is not None:
        yield "transactions on lists in PostgreSQL", ops.of_kind(KIND), _least(transactions, None)
    if scenario.stack.rabbitmq is not None:
        least = _least(load.rabbitmq_ops_per_s, load.rabbitmq_rate_ops_per_s_min)
        for queue in scenario.stack.load_queues:
            yield f"publishes to {queue}", ops.of_kind("rabbitmq.publish") & ops.with_key(queue), least


def _of_locust(
    what: str, rows: Flags, least: float, load: Load, history: History
) -> Iterator[tuple[str, Flags, float]]:
    """What all processes of Locust sent, and each of several: one of sixteen may stand still and not be missed in the
    sum.

    One that sent nothing at all is told by `generator_alive`.
    """
    yield what, rows, least
    for client in history.ops.clients if load.processes > 1 else ():
        own = history.ops.of_client(client)
        if (own & history.ops.of_kind(*_OF_PROCESSES)).any():
            yield f"{what} of {client}", rows & own, least / load.processes


def _direct_least(load: Load) -> float:
    return _least(load.direct_rate_ops_per_s, load.direct_rate_ops_per_s_min)


def _least(rate: float, least: float | None) -> float:
    return DEFAULT_RATIO_MIN * rate if least is None else least


def schedule_lag(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Ops were sent when they were due: the 99th percentile of the delay stays under a tenth of the smallest
    latency threshold, in each phase for itself: what is judged in a late one must not lean on punctual others.
    """
    thresholds = [s.source.latency_threshold_s for s in scenario.slos if isinstance(s.source, RatioSource)]
    limit_s = LAG_SHARE * min((limit for limit in thresholds if limit is not None), default=1.0)
    ops = history.ops
    lags_s = {
        (client, phase): float(np.percentile(ops.called[rows] - ops.due[rows], 99)) / SECOND_US
        for client in ops.clients
        for phase in JUDGED
        if (rows := ops.in_phase(phase) & ops.of_client(client)).any()
    }
    late = [
        f"{client} in {phase}: {lag * 1000:.1f} ms behind its schedule{_using(client, phase, history)}"
        for (client, phase), lag in lags_s.items()
        if lag > limit_s
    ]
    late += [
        f"{client} sent {early} ops before they were due, so that they seem faster than they were"
        for client in ops.clients
        if (early := int((ops.of_client(client) & (ops.called < ops.due)).sum()))
    ]
    if not lags_s:
        late = ["no op was recorded in a phase that is judged"]
    measured = f"p99 {max(lags_s.values(), default=0.0) * 1000:.1f} ms"
    return (held_unless("schedule-lag", "Ops were sent when due", late, measured, f"p99 ≤ {limit_s * 1000:g} ms"),)


def _using(client: str, phase: str, history: History) -> str:
    """What a late generator used of the one core that it can use, if that is on record; it tells what held it up."""
    window = history.window(phase)
    used = used_cores(history, window).get(client) if window else None
    if window is None or used is None:
        return ""
    stolen = stolen_ratio(history, window)
    host = f"; this machine's host gave {stolen * 100:.0f} % of it to others" if stolen >= STOLEN_RATIO_TOLD else ""
    return f" (and used {used * 100:.0f} % of the one core that it can use{host})"


def generator_alive(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Every generator ran to its end, told its story whole and dropped nothing that was due."""
    del scenario  # the clients are those that were started
    started = [name for event in history.events_of("load-started") for name in event.data.get("clients", ())]
    stopped: dict[str, dict[str, object]] = {}
    for event in history.events_of("load-stopped"):
        stopped |= event.data.get("clients", {})
    reasons = [] if started else ["no start of the load is on record"]
    reasons += [f"{client}: its start is not on record" for client in history.ops.clients if client not in started]
    for client in started:
        reasons += _client_reasons(client, stopped.get(client), history)
    reasons += [f"{client} dropped {n} due ops" for client, n in _dropped(history).items()]
    measured = f"{len(started)} generators"
    return (held_unless("generator-alive", "The load generators ran to their end", reasons, measured),)


def _client_reasons(client: str, end: dict[str, object] | None, history: History) -> Iterator[str]:
    told = history.summaries.get(client, {"exit": 0})
    if end is None:
        yield f"{client}: its end is not on record"
    elif codes := [code for code in (end.get("exit"), told.get("exit")) if code != 0]:
        yield f"{client} {ended_text(codes[0])}"
    elif end.get("torn"):
        yield f"{client}: its record is torn"
    if client not in history.summaries:
        yield f"{client} left no summary"
    if client not in history.ops.clients:
        yield f"{client} left no ops"


def _dropped(history: History) -> dict[str, int]:
    counts: dict[str, int] = {}
    for client, _ in history.dropped:
        counts[client] = counts.get(client, 0) + 1
    return counts
