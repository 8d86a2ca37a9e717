"""When people were served again as before: the first window in which errors and latency are back inside bounds."""

from dataclasses import dataclass

import numpy as np

from resilience.check.fault import SECOND_US, load_end_us
from resilience.check.selection import rows_of_selector
from resilience.history.columns import OK
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource

WINDOW_US = 10 * SECOND_US
STEP_US = SECOND_US // 10
WINDOW_US_MIN = SECOND_US
DEFAULT_RATIO = 0.99
DEFAULT_LATENCY_FACTOR = 3  # times the steady phase's 99th percentile, where no objective names a threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What counts as being served as before, of all session ops that are due in a window."""

    ok_ratio: float
    fast_ratio: float
    latency_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Since when people were served as before (None: not by the end), and over how long a window that was seen."""

    since: int | None
    window_us: int


def bounds(scenario: Scenario, history: History) -> Bounds:
    """From the objectives on session ops after the fault, else from those before it, else the defaults."""
    ok_ratio, fast = DEFAULT_RATIO, (DEFAULT_RATIO, _usual_latency_us(history))
    for phase in ("steady", "recovery"):
        for slo in scenario.slos:
            source = slo.source
            if not isinstance(source, RatioSource) or phase not in slo.phases:
                continue
            if not _on_sessions(history, source.total):
                continue
            if source.latency_threshold_s is None:
                ok_ratio = slo.target
            else:
                fast = (slo.target, source.latency_threshold_s * SECOND_US)
    return Bounds(ok_ratio=ok_ratio, fast_ratio=fast[0], latency_us=fast[1])


def _on_sessions(history: History, selector: str) -> bool:
    rows = rows_of_selector(history.ops, selector)
    return rows is not None and bool((rows & history.ops.of_kind("session.")).any())


def _usual_latency_us(history: History) -> float:
    ops = history.ops
    rows = ops.of_kind("session.") & ops.in_phase("steady") & (ops.outcome == OK)
    if not rows.any():
        return float(SECOND_US)
    return DEFAULT_LATENCY_FACTOR * float(np.percentile((ops.returned - ops.due)[rows], 99))


def steady_again(scenario: Scenario, history: History, after: int) -> Steady:
    """The first window of session ops inside the bounds that starts at or after an instant.

    The window is `WINDOW_US` long, or half of what is left of the load if that is less, so that it need not begin at
    once.
    """
    ops, inside = history.ops, bounds(scenario, history)
    end = load_end_us(history)
    window = min(WINDOW_US, (end - after) // 2)
    if window < WINDOW_US_MIN:
        return Steady(since=None, window_us=max(window, 0))
    rows = np.flatnonzero(ops.of_kind("session.") & (ops.due >= after) & (ops.due < end))
    rows = rows[np.argsort(ops.due[rows], kind="stable")]
    due, good = ops.due[rows], ops.outcome[rows] == OK
    fast = good & (ops.returned[rows] - due <= inside.latency_us)
    starts = np.arange(after, end - window + 1, STEP_US)
    first, last = np.searchsorted(due, starts), np.searchsorted(due, starts + window)
    total = last - first
    good_sum, fast_sum = (np.concatenate(([0], np.cumsum(flags))) for flags in (good, fast))
    served = (total > 0) & (good_sum[last] - good_sum[first] >= inside.ok_ratio * total)
    served &= fast_sum[last] - fast_sum[first] >= inside.fast_ratio * total
    found = np.flatnonzero(served)
    return Steady(since=int(starts[found[0]]) if len(found) else None, window_us=window)
