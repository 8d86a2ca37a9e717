"""Service level objectives: ratios counted from Prometheus' raw samples, and numbers that other checks measured."""

from collections.abc import Iterable, Iterator

from resilience.check import needs
from resilience.check.compare import SIGNS, holds
from resilience.check.counter import Count, count
from resilience.check.finding import Finding, Where
from resilience.check.measure import combined, is_summed
from resilience.check.text import percent, seconds
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.slo import FindingSource, RatioSource, Slo


def slo(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each phase of each objective whose source is Prometheus."""
    return tuple(
        _ratio(objective, objective.source, phase, history)
        for objective in scenario.slos
        if isinstance(objective.source, RatioSource)
        for phase in objective.phases
    )


def _ratio(objective: Slo, source: RatioSource, phase: str, history: History) -> Finding:
    good, total = count(history, source.good, phase), count(history, source.total, phase)
    reasons = tuple(_uncountable(objective, good, total))
    ratio = good.events / total.events if total.events else 0.0
    met = holds(ratio, objective.op, objective.target)
    missed = f"{total.events - good.events:,g} of {total.events:,g} events were not good"
    window = history.window(phase)
    return Finding(
        check=f"slo.{objective.name}",
        verdict="inconclusive" if reasons else "pass" if met else "fail",
        title=titled(objective, phase),
        measured=f"{percent(ratio)} of {total.events:,g} events" if total.events else "no events",
        allowed=f"{SIGNS[objective.op]} {percent(objective.target)}",
        value=ratio if total.events else None,
        unit="ratio",
        reason="; ".join(reasons) if reasons else "" if met else missed,
        where=Where(phase=phase, start_us=window.start if window else -1, end_us=window.end if window else -1),
        rests_on=needs.in_phase(phase) + needs.TIMING + needs.METRICS,
    )


def titled(objective: Slo, phase: str) -> str:
    """An objective's title with the phase, which many titles name already."""
    return objective.title if phase in objective.title else f"{objective.title} in phase {phase}"


def _uncountable(objective: Slo, good: Count, total: Count) -> Iterator[str]:
    yield from dict.fromkeys(total.reasons + good.reasons)
    if good.events > total.events:
        yield f"{good.events:g} good of {total.events:g} events cannot be"
    if total.events < objective.events_min and total.series:
        yield f"{total.events:g} events, at least {objective.events_min} needed"


def measured_slos(scenario: Scenario, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """A finding for each objective whose source is a number that these findings measured."""
    found = tuple(findings)
    return tuple(
        _measured(objective, objective.source, found)
        for objective in scenario.slos
        if isinstance(objective.source, FindingSource)
    )


def _measured(objective: Slo, source: FindingSource, findings: tuple[Finding, ...]) -> Finding:
    sources = tuple(finding for finding in findings if source.measure in finding.measures)
    value = _worst_of(sources, source.measure, at_least=objective.op in {"gte", "gt"})
    met = value is not None and holds(value, objective.op, objective.target)
    unproved = next((one.reason for one in sources if one.verdict == "inconclusive"), None) if met else None
    text = "not measured" if value is None else seconds(value) if source.unit == "s" else f"{value:,g} {source.unit}"
    return Finding(
        check=f"slo.{objective.name}",
        verdict="inconclusive" if value is None or unproved is not None else "pass" if met else "fail",
        title=objective.title,
        measured=text,
        allowed=f"{SIGNS[objective.op]} {objective.target:g} {source.unit}",
        value=value,
        unit=source.unit,
        reason=f"no check of this scenario measured {source.measure}"
        if value is None
        else unproved or ("" if met else text),
        where=Where(phase=", ".join(objective.phases)),
        rests_on=_rests_on(sources, met=met),
    )


def _worst_of(sources: tuple[Finding, ...], measure: str, *, at_least: bool) -> float | None:
    """What these findings measured together; of places that each have to reach ``at_least`` so much, the last one's."""
    found = [finding.measures[measure] for finding in sources]
    if at_least and found and not is_summed(measure):
        return min(found)
    return combined(sources).get(measure)


def _rests_on(sources: tuple[Finding, ...], *, met: bool) -> tuple[str, ...]:
    """What the sources rest on; a miss that a failed source explains rests on no more than that source does."""
    failed = tuple(finding for finding in sources if finding.verdict == "fail")
    decisive = failed if failed and not met else sources
    return tuple(dict.fromkeys(name for finding in decisive for name in finding.rests_on))
