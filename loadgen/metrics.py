"""What a generator exports to Prometheus; every label combination is there, at 0, from the start."""

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from resilience.history.record import Outcome
from resilience.spec.slo import PHASES

OUTCOMES: tuple[Outcome, ...] = ("ok", "fail", "unknown")
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class LoadMetrics:
    """Counters and histograms of one client's ops, in a registry of their own."""

    def __init__(self, client: str, ops: Sequence[str], bounds_s: Sequence[float]) -> None:
        """``bounds_s`` are the bounds of the latency histogram's buckets, the SLOs' thresholds among them."""
        self.registry = CollectorRegistry()
        total = Counter(
            "load_ops", "Ops as their client saw them", ("client", "op", "phase", "outcome"), registry=self.registry
        )
        duration = Histogram(
            "load_op_duration_seconds",
            "From the intended start; an op that is not ok counts as endless",
            ("client", "op", "phase"),
            buckets=tuple(sorted(set(bounds_s))),
            registry=self.registry,
        )
        names: tuple[str, ...] = PHASES
        combinations: list[tuple[str, str]] = [(op, phase) for op in ops for phase in names]
        self._ops: dict[tuple[str, str, str], Counter] = {
            (o, p, outcome): total.labels(client, o, p, outcome) for o, p in combinations for outcome in OUTCOMES
        }
        self._durations = {(o, p): duration.labels(client, o, p) for o, p in combinations}
        self._deliveries = self._delivery_counters()
        self._lag = Histogram(
            "load_schedule_lag_seconds",
            "How late ops were sent, against their intended start",
            buckets=LAG_BOUNDS_S,
            registry=self.registry,
        )
        self._inflight = Gauge("load_inflight_ops", "Ops without an answer by now", registry=self.registry)
        phase = Gauge("load_phase", "1 for the phase in force", ("phase",), registry=self.registry)
        self._phases = {name: phase.labels(name) for name in PHASES}
        self._unfinished = Counter("load_unfinished", "Ops cut off at the end", registry=self.registry)
        self._dropped = Counter("load_dropped", "Arrivals that were due and never sent", registry=self.registry)

    def _delivery_counters(self) -> dict[tuple[str, str], Counter]:
        counter = Counter(
            "load_deliveries",
            "Edits due at a room's members, and those that arrived in time",
            ("phase", "outcome"),
            registry=self.registry,
        )
        return {(phase, what): counter.labels(phase, what) for phase in PHASES for what in ("expected", "delivered")}

    def op_sent(self, lag_s: float) -> None:
        """An op went out, so much later than it was due."""
        self._lag.observe(lag_s)

    def op_ended(self, op: str, phase: str, outcome: Outcome, latency_s: float) -> None:
        """An op ended; the latency counts from its intended start."""
        self._ops[op, phase, outcome].inc()
        self._durations[op, phase].observe(latency_s if outcome == "ok" else math.inf)

    def op_unfinished(self) -> None:
        """An op was cut off at the end (`op_ended` is called for it as well)."""
        self._unfinished.inc()

    def op_dropped(self) -> None:
        """An arrival was due and not sent."""
        self._dropped.inc()

    def deliveries(self, phase: str, *, expected: int = 0, delivered: int = 0) -> None:
        """Counts deliveries of edits that were due in a phase."""
        if expected:
            self._deliveries[phase, "expected"].inc(expected)
        if delivered:
            self._deliveries[phase, "delivered"].inc(delivered)

    def now(self, phase: str, inflight: int) -> None:
        """Sets the gauges."""
        self._inflight.set(inflight)
        for name, gauge in self._phases.items():
            gauge.set(1 if name == phase else 0)
