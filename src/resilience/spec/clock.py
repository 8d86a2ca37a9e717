"""How far one kernel's monotonic clock is ahead of another's, as round trips to it tell.

::

    here    sent ──────────────────── got
    there              told

What was told was true at some moment between sending and getting: at the midpoint, give or take half of the trip.
"""

from collections.abc import Iterable
from typing import NamedTuple

TRIPS = 20  # of which the best counts: one that nothing held up


class Trip(NamedTuple):
    """One round trip, in nanoseconds: ``told_ns`` by the other kernel's clock, the others by this one's."""

    sent_ns: int
    told_ns: int
    got_ns: int


class Offset(NamedTuple):
    """The other clock is ``offset_ns`` ahead of this one, give or take ``error_ns``."""

    offset_ns: int
    error_ns: int


SAME = Offset(0, 0)  # of two processes under one kernel


def offset_from_trips(trips: Iterable[Trip]) -> Offset | None:
    """What the shortest of these trips tells, None if there was none."""
    best = min(trips, key=lambda trip: trip.got_ns - trip.sent_ns, default=None)
    if best is None:
        return None
    half_ns = (best.got_ns - best.sent_ns + 1) // 2
    return Offset(best.told_ns - best.sent_ns - half_ns, half_ns)
