"""Arrivals: the instants at which ops are due, fixed before the first is sent and blind to what became of any."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from resilience.spec.plan import Share

_US_PER_S = 1_000_000


class Schedule:
    """Due instants at a rate, from a seed: the same seed gives the same instants.

    With ``jitter`` each arrival lies anywhere in its own slot of ``1/rate`` seconds, so that arrivals do not march in
    step with timers elsewhere, while every second still holds ``rate`` of them, give or take one.
    """

    def __init__(self, *, rate_ops_per_s: float, start_us: int, seed: int, jitter: bool = True) -> None:
        """``start_us`` is on the run's clock."""
        self._slot_us = _US_PER_S / rate_ops_per_s
        self._start_us = start_us
        self._random = random.Random(f"arrivals-{seed}")  # noqa: S311  not for secrets
        self._jitter = jitter

    def __iter__(self) -> Iterator[int]:
        """The due instants (us), in order, without an end."""
        n = 0
        while True:
            offset = self._random.random() if self._jitter else 0.0
            yield self._start_us + int((n + offset) * self._slot_us)
            n += 1


def share_of(schedule: Iterable[int], part: Share, from_us: int) -> Iterator[int]:
    """The instants of a schedule that one of several processes has; those before it was there are over."""
    return (due for due in islice(schedule, part.index, None, part.of) if due >= from_us)
