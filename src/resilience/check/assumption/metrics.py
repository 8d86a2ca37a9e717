"""Assumptions about Prometheus: it saw its observers all the time, on a steady clock, and counted what they did."""

from itertools import pairwise

from resilience.check.assumption.finding import held_unless
from resilience.check.counter import count, wall_s
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding
from resilience.check.selection import recorded_total
from resilience.check.window import judged_windows
from resilience.history.read import History
from resilience.history.record import PhaseWindow, Series
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource
from resilience.spec.stack import GENERATORS

COVERAGE_MIN = 0.95
FRESH_SCRAPES = 3  # how many scrapes the sample nearest to a phase's end may be away from it
OBSERVERS = ("prometheus", *GENERATORS)  # components; what they see judges, so they must be seen
STEP_US_MAX = 50_000
TOTALS_RATIO_MAX = 0.01
TOTALS_OPS_MAX = 20  # a difference of so few ops is no sign of anything


def coverage(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Prometheus scraped itself and the load generators in each phase, and to its end."""
    # an objective whose own query failed says so itself: the others can be judged all the same
    reasons = [f"{failed.selector}: {failed.reason}" for failed in history.queries_failed if failed.selector == "up"]
    shares = []
    for observer in (member for member in scenario.stack.members if member.component in OBSERVERS):
        seen = _seen_at(history, observer.name, observer.component)
        for window in judged_windows(history):
            share, fresh = _seen_in(window, seen, history, scenario.stack.scrape_interval_s)
            shares.append(share)
            if share < COVERAGE_MIN:
                reasons.append(f"{observer.name} was scraped {int(share * 100)} % of the time in phase {window.phase}")
            elif not fresh:
                reasons.append(f"{observer.name} was not scraped at the end of phase {window.phase}")
    if not shares:
        reasons.append("no observer and phase to look at")
    measured = f"at least {int(min(shares, default=0) * 100)} % of the scrapes"  # rounded up it would look like enough
    return (
        held_unless("coverage", "Prometheus saw its observers", reasons, measured, f"≥ {COVERAGE_MIN * 100:.0f} %"),
    )


def _seen_in(window: PhaseWindow, seen: set[float], history: History, scrape_s: float) -> tuple[float, bool]:
    """The share of a phase's scrapes that succeeded, and whether there was one near its end."""
    start, end = wall_s(history.clock, window.start), wall_s(history.clock, window.end)
    share = sum(start <= at < end for at in seen) * scrape_s / (end - start)
    return share, min((abs(at - end) for at in seen), default=float("inf")) <= FRESH_SCRAPES * scrape_s


def _seen_at(history: History, name: str, component: str) -> set[float]:
    """When an observer was scraped with success, on the wall clock; twice at one instant is once."""
    return {
        at
        for series in history.series
        if _is_up_of(series, name, component)
        for at, value in zip(series.times_s, series.values, strict=True)
        if value == 1
    }


def _is_up_of(series: Series, name: str, component: str) -> bool:
    metric = series.labels.get("__name__", series.selector.partition("{")[0])
    if member := series.labels.get("member"):  # one of several of its component
        return metric == "up" and member == name
    host = series.labels.get("instance", "").partition(":")[0]
    return metric == "up" and (host == name or series.labels.get("job") in {name, component})


def clock_step(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """The wall clock, by which Prometheus stamps, ran evenly with the run's own in each phase."""
    del scenario
    reasons, largest = [], 0
    for window in judged_windows(history):
        near = [pair for pair in history.clock if window.start - SECOND_US <= pair.at <= window.end + SECOND_US]
        if len(near) < 2:
            reasons.append(f"the clocks were not compared in phase {window.phase}")
        for one, other in pairwise(near):
            step = abs((other.wall - other.at) - (one.wall - one.at))
            largest = max(largest, step)
            if step > STEP_US_MAX:
                reasons.append(f"the wall clock stepped by {step / 1000:.0f} ms in phase {window.phase}")
    measured = f"largest step {largest / 1000:.1f} ms"
    return (held_unless("clock-step", "The wall clock was steady", reasons, measured, f"≤ {STEP_US_MAX / 1000:g} ms"),)


def totals_reconciled(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """For each ratio SLO on the load's own counters, Prometheus counted what the generators recorded."""
    reasons, compared = [], 0
    for selector, phase in sorted(_counted_like_ops(scenario)):
        recorded = recorded_total(history, selector, phase, scenario.load.room_members)
        counted = count(history, selector, phase)
        if recorded is None or counted.reasons:
            continue  # nothing to compare with, or the objective says itself why it cannot be judged
        compared += 1
        if abs(counted.events - recorded) > max(TOTALS_OPS_MAX, TOTALS_RATIO_MAX * recorded):
            reasons.append(f"phase {phase}: Prometheus counted {counted.events:g} of {selector}, {recorded} on record")
    measured = f"{compared} totals compared"
    return (held_unless("totals-reconciled", "Prometheus and the record agree", reasons, measured, "within 1 %"),)


def _counted_like_ops(scenario: Scenario) -> set[tuple[str, str]]:
    """What objectives count, with their phases, but for the fast ones: those ``check.latency`` counts once more."""
    return {
        (selector, phase)
        for slo in scenario.slos
        if isinstance(slo.source, RatioSource)
        for selector in ((slo.source.good,) if slo.source.latency_threshold_s is None else ()) + (slo.source.total,)
        for phase in slo.phases
    }
