"""Counts events from the raw samples of counters: adds up positive steps, extrapolates nothing.

The phase is a label of the generator's counters, so what happened in a phase is the growth of its series over the
whole run. What cannot be counted exactly is a reason, never a number.
"""

from bisect import bisect_right
from dataclasses import dataclass

from resilience.check.fault import SECOND_US
from resilience.history.read import History
from resilience.history.record import ClockPair, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Events of one selector in one phase; ``reasons`` says why the number cannot be trusted."""

    events: float
    series: int
    reasons: tuple[str, ...]


def count(history: History, selector: str, phase: str) -> Count:
    """The events that a selector's series with the label of a phase grew by, over the whole run."""
    reasons = [f"{selector}: {failed.reason}" for failed in history.queries_failed if failed.selector == selector]
    found = [series for series in history.series if series.selector == selector and series.labels.get("phase") == phase]
    if not found and not reasons:
        reasons.append(f"Prometheus has no series for {selector} in phase {phase}")
    events = 0.0
    for series in found:
        grown, why = _growth(series, history, phase)
        events += grown
        reasons += why
    return Count(events=events, series=len(found), reasons=tuple(dict.fromkeys(reasons)))


def _growth(series: Series, history: History, phase: str) -> tuple[float, list[str]]:
    """What a series grew by, and why that may not be the truth."""
    if not series.values:
        return 0.0, [f"a series of {series.selector} has no samples"]
    window = history.window(phase)
    if window is None:
        return 0.0, [f"phase {phase} has no window"]
    reasons = []
    if series.values[0] > 0 and series.times_s[0] > wall_s(history.clock, window.start):
        reasons.append(f"{series.selector} was first seen at {series.values[0]:g}: what it counted before is unknown")
    if series.times_s[-1] < wall_s(history.clock, window.end):
        reasons.append(f"the last sample of {series.selector} is from before the end of phase {phase}")
    before = series.values[0] if series.times_s[0] <= wall_s(history.clock, window.start) else 0.0
    grown = 0.0
    for value in series.values:
        if value < before:
            reasons.append(f"{series.selector} was reset: what it counted last is unknown")
            before = 0.0
        grown += value - before
        before = value
    return grown, reasons


def wall_s(clock: tuple[ClockPair, ...], instant_us: int) -> float:
    """An instant of the run on the wall clock, by the pair at or before it; infinite if there are no pairs."""
    if not clock:
        return float("inf")
    pair = clock[max(0, bisect_right(clock, instant_us, key=lambda item: item.at) - 1)]
    return (pair.wall + instant_us - pair.at) / SECOND_US


def instant_us(clock: tuple[ClockPair, ...], at_wall_s: float) -> int:
    """An instant on the wall clock as the run's, by the pair at or before it (else the first). Needs a pair."""
    wall_us = round(at_wall_s * SECOND_US)
    pair = clock[max(0, bisect_right(clock, wall_us, key=lambda item: item.wall) - 1)]
    return pair.at + wall_us - pair.wall
