"""Latency from the ops themselves, a cross-check of the objectives that Prometheus judges.

Counted from the intended start. An op that is not ok was never fast enough; quantiles are for information.
"""

from collections.abc import Iterator

import numpy as np

from resilience.check import needs
from resilience.check.compare import holds
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding, Where
from resilience.check.selection import rows_of_selector
from resilience.check.slo import titled
from resilience.check.text import count, percent
from resilience.history.columns import OK, Flags
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource, Slo

QUANTILES = (50, 95, 99)


def latency(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each phase of each latency objective; without one, the quantiles of each phase."""
    judged = tuple(_objectives(scenario, history))
    return judged or tuple(_informed(history))


def _objectives(scenario: Scenario, history: History) -> Iterator[Finding]:
    for slo in scenario.slos:
        source = slo.source
        if not isinstance(source, RatioSource) or source.latency_threshold_s is None:
            continue
        rows = rows_of_selector(history.ops, source.total)
        if rows is None:
            continue
        for phase in slo.phases:
            yield _judged(slo, source.latency_threshold_s, phase, history, rows & history.ops.in_phase(phase))


def _judged(slo: Slo, threshold_s: float, phase: str, history: History, rows: Flags) -> Finding:
    ops = history.ops
    total = int(rows.sum())
    fast = int((rows & (ops.outcome == OK) & (ops.returned - ops.due <= threshold_s * SECOND_US)).sum())
    ratio = fast / total if total else 0.0
    met, enough = holds(ratio, slo.op, slo.target), total >= slo.events_min
    return Finding(
        check="latency",
        verdict="inconclusive" if not enough else "pass" if met else "fail",
        title=f"{titled(slo, phase)}, counted from the ops",
        measured=f"{percent(ratio)} of {count(total, 'op')} in {threshold_s * 1000:g} ms{_quantiles(history, rows)}",
        allowed=f"≥ {percent(slo.target)}",
        value=ratio,
        unit="ratio",
        reason=f"{count(total, 'op')}, at least {slo.events_min} needed"
        if not enough
        else ""
        if met
        else f"{count(total - fast, 'op')} slower than {threshold_s * 1000:g} ms or not ok",
        where=_where(phase, history),
        rests_on=needs.in_phase(phase) + needs.TIMING,
    )


def _informed(history: History) -> Iterator[Finding]:
    for window in (window for window in history.windows if window.phase != "warmup"):
        rows = history.ops.of_kind("session.") & history.ops.in_phase(window.phase)
        quantiles = _quantiles(history, rows)
        yield Finding(
            check="latency",
            verdict="pass" if quantiles else "inconclusive",
            title=f"session ops in phase {window.phase} (no objective)",
            measured=quantiles.strip(" ()"),
            reason="" if quantiles else "no session op succeeded",
            where=_where(window.phase, history),
            rests_on=needs.in_phase(window.phase) + needs.TIMING,
        )


def _quantiles(history: History, rows: Flags) -> str:
    good = rows & (history.ops.outcome == OK)
    if not good.any():
        return ""
    values = np.percentile((history.ops.returned - history.ops.due)[good], QUANTILES) / 1000
    return " (ok ops: " + ", ".join(f"p{q} {ms:.1f} ms" for q, ms in zip(QUANTILES, values, strict=True)) + ")"


def _where(phase: str, history: History) -> Where:
    window = history.window(phase)
    return Where(phase=phase, start_us=window.start, end_us=window.end) if window else Where(phase=phase)
