"""Availability of each key group, of PostgreSQL, and of services whose ops are on no shard, in each phase, from the ops
as their clients saw them.

The objective over all groups is an SLO's; this check shows where its errors lie, and fails a group that was sick
before any fault, or that nothing got through to in a whole phase.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resilience.check import needs
from resilience.check.finding import Finding, Where
from resilience.check.off_shards import services_of
from resilience.check.text import count, percent
from resilience.check.way import WORDS, rows_by
from resilience.history.columns import OK, Flags
from resilience.history.read import History
from resilience.history.record import PhaseWindow
from resilience.history.way import WAYS
from resilience.spec.scenario import Scenario

STEADY_RATIO_MIN = 0.99
_KINDS = {"session": "session.", "collaboration": "collaboration.edit", "direct": "direct.write"}
_EVERYWHERE = ("session", "direct")  # kinds whose keys are spread over every shard


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """Ops that somebody gets through to together, or does not."""

    title: str
    group: str
    what: str  # one of the ops, and where it goes
    rows: Flags
    rests_on: tuple[str, ...] = ()


def availability(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each kind of op, shard and phase, for each way of writing to PostgreSQL, and for each service whose
    ops are on no shard.
    """
    parts = (*_of_shards(scenario, history), *_of_postgresql(scenario, history), *_of_services(scenario, history))
    return tuple(_judged(part, window, history) for part in parts for window in _windows(history))


def _of_shards(scenario: Scenario, history: History) -> Iterator[_Part]:
    for kind, prefix in _KINDS.items():
        for group in _groups(scenario, history, kind):
            yield _Part(
                title=f"{kind} ops on shard {group}",
                group=f"shard {group}",
                what="op of this kind reached this shard",
                rows=history.ops.of_kind(prefix) & (history.ops.group == group),
                rests_on=needs.SHARDS,
            )


def _of_postgresql(scenario: Scenario, history: History) -> Iterator[_Part]:
    for way in WAYS if scenario.stack.postgresql else ():
        yield _Part(
            title=WORDS[way],
            group="postgresql",
            what="row was sent on this way",
            rows=rows_by(history.ops, way),
        )


def _of_services(scenario: Scenario, history: History) -> Iterator[_Part]:
    for service in services_of(scenario.stack):
        yield _Part(title=service.ops, group=service.name, what=service.op, rows=history.ops.of_kind(*service.kinds))


def _windows(history: History) -> Iterator[PhaseWindow]:
    return (window for window in history.windows if window.phase != "warmup" and window.end > window.start)


def _groups(scenario: Scenario, history: History, kind: str) -> list[int]:
    if kind in _EVERYWHERE:
        return list(range(1, len(scenario.stack.shards) + 1))
    return sorted(set(history.ops.group[history.ops.of_kind(_KINDS[kind])].tolist()))


def _judged(part: _Part, window: PhaseWindow, history: History) -> Finding:
    here = part.rows & history.ops.in_phase(window.phase)
    total, good = int(here.sum()), int((here & (history.ops.outcome == OK)).sum())
    least = STEADY_RATIO_MIN if window.phase == "steady" else 0.0
    ratio = good / total if total else 0.0
    reason = _reason(part, total, good, low=ratio < least)
    return Finding(
        check="availability",
        verdict="inconclusive" if not total else "fail" if reason else "pass",
        title=f"{part.title} in phase {window.phase}",
        measured=f"{percent(ratio)} of {count(total, 'op')} ok" if total else "no ops",
        allowed=f"≥ {percent(least)}" if least else "more than none",
        value=ratio if total else None,
        unit="ratio",
        reason=reason,
        where=Where(phase=window.phase, group=part.group, start_us=window.start, end_us=window.end),
        rests_on=needs.in_phase(window.phase) + needs.TIMING + part.rests_on,
    )


def _reason(part: _Part, total: int, good: int, *, low: bool) -> str:
    if not total:
        return f"no {part.what} in this phase"
    if not good:
        return f"none of {count(total, 'op')} succeeded"
    return "sick before any fault" if low else ""
