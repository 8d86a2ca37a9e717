"""Availability of each key group in each phase, from the ops as their clients saw them.

The objective over all groups is an SLO's; this check shows where its errors lie, and fails a group that was sick
before any fault, or that nothing got through to in a whole phase.
"""

from collections.abc import Iterator

from resilience.check import needs
from resilience.check.finding import Finding, Where
from resilience.check.text import count, percent
from resilience.history.columns import OK, Flags
from resilience.history.read import History
from resilience.history.record import PhaseWindow
from resilience.spec.scenario import Scenario

STEADY_RATIO_MIN = 0.99
_KINDS = {"session": "session.", "collaboration": "collaboration.edit", "direct": "direct.write"}
_EVERYWHERE = ("session", "direct")  # kinds whose keys are spread over every shard


def availability(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each kind of op, shard and phase."""
    return tuple(
        _judged(kind, group, window, history, history.ops.of_kind(prefix) & (history.ops.group == group))
        for kind, prefix in _KINDS.items()
        for group in _groups(scenario, history, kind)
        for window in _windows(history)
    )


def _windows(history: History) -> Iterator[PhaseWindow]:
    return (window for window in history.windows if window.phase != "warmup" and window.end > window.start)


def _groups(scenario: Scenario, history: History, kind: str) -> list[int]:
    if kind in _EVERYWHERE:
        return list(range(1, len(scenario.stack.shards) + 1))
    return sorted(set(history.ops.group[history.ops.of_kind(_KINDS[kind])].tolist()))


def _judged(kind: str, group: int, window: PhaseWindow, history: History, rows: Flags) -> Finding:
    here = rows & history.ops.in_phase(window.phase)
    total, good = int(here.sum()), int((here & (history.ops.outcome == OK)).sum())
    least = STEADY_RATIO_MIN if window.phase == "steady" else 0.0
    ratio = good / total if total else 0.0
    reason = _reason(total, good, low=ratio < least)
    return Finding(
        check="availability",
        verdict="inconclusive" if not total else "fail" if reason else "pass",
        title=f"{kind} ops on shard {group} in phase {window.phase}",
        measured=f"{percent(ratio)} of {count(total, 'op')} ok" if total else "no ops",
        allowed=f"≥ {percent(least)}" if least else "more than none",
        value=ratio if total else None,
        unit="ratio",
        reason=reason,
        where=Where(phase=window.phase, group=f"shard {group}", start_us=window.start, end_us=window.end),
        rests_on=needs.in_phase(window.phase) + needs.TIMING + needs.SHARDS,
    )


def _reason(total: int, good: int, *, low: bool) -> str:
    if not total:
        return "no op of this kind reached this shard in this phase"
    if not good:
        return f"none of {count(total, 'op')} succeeded"
    return "sick before any fault" if low else ""
