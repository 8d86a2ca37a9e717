"""Shifts what a process under another kernel recorded onto the runner's clock.

Its clock is compared at its start, each minute and at its end (event ``clock-compared``). Between two comparisons the
offset is taken to change evenly, as two quartz clocks drift apart; before the first and after the last it is that one.
Were the nearest comparison's taken, it would leap half-way, and ops of one client could end before they began.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from resilience.history.columns import Ints
from resilience.history.record import Event

COMPARED = "clock-compared"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shift:
    """How far a process's clock was ahead of the runner's (us), at instants of its own that rise."""

    at: Ints
    offset: Ints

    def instants(self, recorded: Ints) -> Ints:
        """Instants of that process on the runner's clock."""
        shifted: Ints = recorded - np.rint(np.interp(recorded, self.at, self.offset)).astype(np.int64)
        return shifted

    def instant(self, recorded: int) -> int:
        """The same of one instant."""
        return int(self.instants(np.array([recorded], dtype=np.int64))[0])


def shift_of(process: str, events: Iterable[Event]) -> Shift | None:
    """How to shift what a process recorded, by what it said itself; None if nothing has to be."""
    known = {
        event.at: int(event.data["offset_us"])
        for event in events
        if event.name == COMPARED and event.data["process"] == process and "offset_us" in event.data
    }
    if not any(known.values()):
        return None
    at = sorted(known)
    return Shift(at=np.array(at, dtype=np.int64), offset=np.array([known[one] for one in at], dtype=np.int64))
