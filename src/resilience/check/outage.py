"""Outages of a shard, from the direct client's writes: it keeps its schedule whatever becomes of its answers.

Those of PostgreSQL come from its own client's rows in the same way, once for each way on which they are written.

An outage is a maximal interval without an acknowledged write that is longer than the larger of three times the 99th
percentile of such gaps before the fault, and two periods of the schedule: its *limit*. How long it lasted is known up
to the distance of the writes around it::

    ok        ok   x    x    x    x    ok
              |----|-----------|-------|
              start                    end     the longest it can have lasted: start to end
                   |-----------|               the shortest: from the first to the last write in vain

A write was sent *in vain* if it failed, or if its answer took longer than the limit: a server that stood still answers
late what it was sent meanwhile, and whoever waits is as little served as who is refused.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resilience.check.fault import POSTGRESQL, SECOND_US, load_end_us
from resilience.check.finding import Where
from resilience.check.way import rows_by
from resilience.history.columns import OK, Flags, Ints
from resilience.history.read import History
from resilience.history.way import Way
from resilience.spec.scenario import Scenario

GAP_FACTOR = 3
PERIODS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One outage, ``[start, end]`` at most; ``ended`` is False if no write was acknowledged afterwards."""

    group: int
    start: int
    end: int
    error: int  # us by which the true length may be shorter
    ended: bool

    @property
    def length_s(self) -> float:
        """The longest that it can have lasted."""
        return (self.end - self.start) / SECOND_US

    @property
    def error_s(self) -> float:
        """By how much it may have been shorter."""
        return self.error / SECOND_US


def outages(scenario: Scenario, history: History, group: int, at_most_us: float = math.inf) -> tuple[Outage, ...]:
    """All outages of a shard from the steady phase on, in the order of time.

    Their limit is ``at_most_us`` at most: where nobody may do without for longer, it does not count how long they did
    before the fault.
    """
    writes = history.ops.of_kind("direct.write") & (history.ops.group == group)
    limit = limit_us(history, _acked(history, writes), scenario.load.direct_rate_ops_per_s)
    return gaps(history, writes, group, min(limit, at_most_us))


def outages_of_rows(scenario: Scenario, history: History, way: Way) -> tuple[Outage, ...]:
    """All outages of PostgreSQL for those who write on a way, from the steady phase on, in the order of time."""
    rows = rows_by(history.ops, way)
    return gaps(history, rows, POSTGRESQL, limit_us(history, _acked(history, rows), scenario.load.postgresql_ops_per_s))


def gaps(history: History, rows: Flags, group: int, longer_than_us: float) -> tuple[Outage, ...]:
    """The intervals from the steady phase on, in the order of time, in which none of these ops was acknowledged."""
    begin, end = _judged(history)
    acked = _acked(history, rows)
    late = history.ops.returned - history.ops.called > longer_than_us
    in_vain = np.sort(history.ops.called[rows & (late | (history.ops.outcome != OK))])
    return tuple(_outage(group, silence, in_vain) for silence in silences(begin, acked, end, longer_than_us))


class Silence(NamedTuple):
    """An interval in which nothing came to pass; ``ended`` is False if nothing did any more."""

    start: int
    end: int
    ended: bool


def silences(begin: int, instants: Ints, end: int, longer_than_us: float) -> Iterator[Silence]:
    """The intervals between two of these sorted instants, or between one and an end of the time that is looked at."""
    last = [end] if not len(instants) or instants[-1] < end else []
    marks = np.concatenate(([begin], instants, last)).astype(np.int64)
    for at in np.flatnonzero(np.diff(marks) > longer_than_us).tolist():
        yield Silence(int(marks[at]), int(marks[at + 1]), ended=at < len(instants))


def limit_us(history: History, instants: Ints, rate_ops_per_s: float) -> float:
    """How long nothing may come to pass without being missed, by how these sorted instants lie before the fault."""
    steady = history.window("steady")
    before = instants[(instants >= steady.start) & (instants < steady.end)] if steady else instants[:0]
    usual = float(np.percentile(np.diff(before), 99)) if len(before) > 1 else 0.0
    return max(GAP_FACTOR * usual, PERIODS * (SECOND_US / rate_ops_per_s))


def _judged(history: History) -> tuple[int, int]:
    steady = history.window("steady")
    return (steady.start if steady else 0), load_end_us(history)


def _acked(history: History, rows: Flags) -> Ints:
    """When these ops were acknowledged, in the time that is judged; a little later is the load's own end."""
    begin, end = _judged(history)
    acked = np.sort(history.ops.returned[rows & (history.ops.outcome == OK)])
    judged: Ints = acked[(acked >= begin) & (acked <= end + SECOND_US)]
    return judged


def _outage(group: int, silence: Silence, in_vain: Ints) -> Outage:
    start, end, ended = silence
    inside = in_vain[(in_vain >= start) & (in_vain <= end)]
    shortest = int(inside[-1] - inside[0]) if len(inside) else 0
    return Outage(group=group, start=start, end=end, error=end - start - shortest, ended=ended)


def longest(found: tuple[Outage, ...]) -> Outage | None:
    """The longest of several outages, None of none."""
    return max(found, key=lambda outage: outage.end - outage.start, default=None)


def where(group: str, outage: Outage | None) -> Where:
    """The place of a finding about an outage, None if there was none."""
    if outage is None:
        return Where(group=group)
    return Where(group=group, start_us=outage.start, end_us=outage.end)
