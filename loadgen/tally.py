"""The tally: how many ops of what outcome, in the second before and in all, and how late they were sent."""

from collections import Counter
from typing import Any

from resilience.history.record import Outcome


def quantile(values: list[float], q: float) -> float:
    """The smallest value that at least a share ``q`` of them does not exceed; 0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Tally:
    """Counts of one client; `second` hands out those of the second before and starts the next."""

    def __init__(self) -> None:
        """All counts are 0."""
        self.sent_total = 0
        self.unfinished_total = 0
        self.dropped_total = 0
        self._totals: Counter[str] = Counter()
        self._second: Counter[str] = Counter()
        self._ok_by_stream: Counter[str] = Counter()
        self._lags_s: list[float] = []

    def sent(self, lag_s: float) -> None:
        """An op went out, so much later than it was due."""
        self.sent_total += 1
        self._second["sent"] += 1
        self._lags_s.append(lag_s)

    def ended(self, stream: str, outcome: Outcome) -> None:
        """An op ended."""
        self._totals[outcome] += 1
        self._second[outcome] += 1
        if outcome == "ok":
            self._ok_by_stream[stream] += 1

    def total(self, outcome: Outcome) -> int:
        """All ops that ended so, from the start."""
        return self._totals[outcome]

    def second(self) -> dict[str, Any]:
        """The counts since the last call, as an event's data: ``ok_by`` are the ok ops of each stream."""
        data = {
            "lag_ms_p99": round(quantile(self._lags_s, 0.99) * 1_000, 3),
            **{name: self._second[name] for name in ("sent", "ok", "fail", "unknown")},
            "ok_by": dict(self._ok_by_stream),
        }
        self._second.clear()
        self._ok_by_stream.clear()
        self._lags_s.clear()
        return data
