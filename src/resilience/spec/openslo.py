"""SLOs from OpenSLO v1 documents, as far as a run can judge them; everything else in such a file is refused.

What OpenSLO has no field for stands in annotations:

- ``resilience/phases``: the phases that the SLO is judged in, each on its own: ``fault`` or ``fault+recovery``
- ``resilience/events-min``: fewer events in a phase make the SLO inconclusive; at least two per bad event that the
  target allows in a hundred per cent, ``2 / (1 - target)``, which is also the default (never under 200)
- ``resilience/threshold``: of a latency SLO, with its unit (``250ms``); the ``le`` of the good selector is the same
- ``resilience/unit``: of a number that a check measures (``metricSource: {type: History}``)
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from msgspec import UNSET, Meta, UnsetType, field

from resilience.spec.convert import did_you_mean, record_from, refuse
from resilience.spec.document import read_documents
from resilience.spec.record import Record
from resilience.spec.selector import Selector, selector_from_text
from resilience.spec.slo import PHASES, FindingSource, Phase, RatioSource, Slo

EVENTS_MIN = 200
_DOCUMENTS_MAX = 100
_PREFIX = "resilience/"
_RATIO_ANNOTATIONS = frozenset({"resilience/phases", "resilience/events-min", "resilience/threshold"})
_FINDING_ANNOTATIONS = frozenset({"resilience/phases", "resilience/unit"})
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(us|ms|s|m)\Z")
_MEASURE_UNIT = re.compile(r"_(s|ms|ops|ratio)$")

Op = Literal["gte", "lte", "gt", "lt"]
Unit = Literal["s", "ms", "ops", "ratio"]
SloName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=2_000)]
Share = Annotated[float, Meta(gt=0, lt=1)]  # at least nothing would be no objective


class _Metadata(Record, frozen=True, kw_only=True):
    name: SloName
    annotations: dict[str, str]
    display_name: Text | UnsetType = field(default=UNSET, name="displayName")
    labels: dict[str, Any] = field(default_factory=dict)


class _Query(Record, frozen=True, kw_only=True):
    query: Text


class _Prometheus(Record, frozen=True, kw_only=True):
    type: Literal["Prometheus"]
    spec: _Query


class _Counted(Record, frozen=True, kw_only=True):
    metric_source: _Prometheus = field(name="metricSource")


class _Ratio(Record, frozen=True, kw_only=True):
    counter: bool
    good: _Counted
    total: _Counted


class _Measure(Record, frozen=True, kw_only=True):
    measure: Annotated[str, Meta(pattern=r"^[a-z_]+(\.[a-z0-9_]+)+\Z")]


class _History(Record, frozen=True, kw_only=True):
    type: Literal["History"]
    spec: _Measure


class _Measured(Record, frozen=True, kw_only=True):
    metric_source: _History = field(name="metricSource")


class _IndicatorSpec(Record, frozen=True, kw_only=True):
    ratio: _Ratio | UnsetType = field(default=UNSET, name="ratioMetric")
    threshold: _Measured | UnsetType = field(default=UNSET, name="thresholdMetric")


class _Indicator(Record, frozen=True, kw_only=True):
    spec: _IndicatorSpec
    metadata: dict[str, Any] = field(default_factory=dict)


class _TimeWindow(Record, frozen=True, kw_only=True):
    duration: Annotated[str, Meta(pattern=r"^[1-9][0-9]*[mhdwMQY]\Z")]
    rolling: bool = field(name="isRolling")


class _Objective(Record, frozen=True, kw_only=True):
    """``target`` of a threshold is what OpenSLO requires of the field; one run has one number, so it is not used."""

    display_name: Text | UnsetType = field(default=UNSET, name="displayName")
    target: Share | UnsetType = UNSET
    op: Op | UnsetType = UNSET
    value: float | UnsetType = UNSET


class _Spec(Record, frozen=True, kw_only=True):
    service: SloName
    indicator: _Indicator
    time_window: list[_TimeWindow] = field(name="timeWindow")
    budgeting_method: Literal["Occurrences"] = field(name="budgetingMethod")
    objectives: list[_Objective]
    description: Text | UnsetType = UNSET


class _Document(Record, frozen=True, kw_only=True):
    api_version: Literal["openslo/v1"] = field(name="apiVersion")
    kind: Literal["SLO"]
    metadata: _Metadata
    spec: _Spec


def slos_from_file(path: Path, label: str) -> tuple[Slo, ...]:
    """The SLOs of one file, in its order. Raises `SpecError`; a file without any is refused."""
    documents = [document for document in read_documents(path, label) if document is not None]
    if not 0 < len(documents) <= _DOCUMENTS_MAX:
        raise refuse(label, "", f"expected 1 to {_DOCUMENTS_MAX} OpenSLO documents (got {len(documents)})")
    slos = tuple(_slo(document, label, index) for index, document in enumerate(documents, start=1))
    for index, slo in enumerate(slos, start=1):
        if slo.name in {other.name for other in slos[: index - 1]}:
            raise refuse(
                label, f"document {index}: metadata.name", "expected a name that no document before has", slo.name
            )
    return slos


def _slo(value: Any, label: str, index: int) -> Slo:
    document = record_from(value, _Document, f"{label}: document {index}")
    label_of_slo = f"{label}: {document.metadata.name}"
    _one_window(document.spec.time_window, label_of_slo)
    indicator = document.spec.indicator.spec
    if (indicator.ratio is UNSET) == (indicator.threshold is UNSET):
        raise refuse(label_of_slo, "spec.indicator.spec", "expected either ratioMetric or thresholdMetric")
    if isinstance(indicator.ratio, _Ratio):
        return _ratio_slo(document, indicator.ratio, label_of_slo, label)
    return _finding_slo(document, cast("_Measured", indicator.threshold), label_of_slo, label)


def _ratio_slo(document: _Document, ratio: _Ratio, label: str, file: str) -> Slo:
    annotations = _annotations(document, label, _RATIO_ANNOTATIONS)
    objective = _one_objective(document.spec.objectives, label)
    if isinstance(objective.target, UnsetType):
        raise refuse(label, "spec.objectives[0].target", "is missing, expected a ratio under 1, as 0.999")
    if objective.op is not UNSET or objective.value is not UNSET:
        raise refuse(label, "spec.objectives[0]", "expected only target: op and value belong to thresholdMetric")
    return Slo(
        name=document.metadata.name,
        title=_title(document),
        service=document.spec.service,
        phases=_phases(annotations, label),
        source=_ratio_source(ratio, annotations, label),
        op="gte",
        target=objective.target,
        events_min=_events_min(annotations, objective.target, label),
        file=file,
    )


def _finding_slo(document: _Document, threshold: _Measured, label: str, file: str) -> Slo:
    annotations = _annotations(document, label, _FINDING_ANNOTATIONS)
    objective = _one_objective(document.spec.objectives, label)
    if isinstance(objective.op, UnsetType) or isinstance(objective.value, UnsetType):
        raise refuse(label, "spec.objectives[0]", "expected op (lte, lt, gte, gt) and value")
    return Slo(
        name=document.metadata.name,
        title=_title(document),
        service=document.spec.service,
        phases=_phases(annotations, label),
        source=_finding_source(threshold.metric_source.spec.measure, annotations, label),
        op=objective.op,
        target=objective.value,
        file=file,
    )


def _title(document: _Document) -> str:
    name = document.metadata.display_name
    return document.metadata.name if isinstance(name, UnsetType) else name


def _one_window(windows: list[_TimeWindow], label: str) -> None:
    if len(windows) != 1:
        raise refuse(label, "spec.timeWindow", f"expected exactly one item (got {len(windows)})")
    if not windows[0].rolling:
        raise refuse(label, "spec.timeWindow[0].isRolling", "expected true", got=False)


def _one_objective(objectives: list[_Objective], label: str) -> _Objective:
    if len(objectives) != 1:
        raise refuse(label, "spec.objectives", f"expected exactly one item (got {len(objectives)})")
    return objectives[0]


def _annotations(document: _Document, label: str, known: frozenset[str]) -> dict[str, str]:
    ours = {name: text for name, text in document.metadata.annotations.items() if name.startswith(_PREFIX)}
    for name in ours:
        if name not in known:
            field_of_it = f"metadata.annotations.{name}"
            raise refuse(label, field_of_it, "unknown annotation" + did_you_mean(name, known))
    return ours


def _phases(annotations: dict[str, str], label: str) -> tuple[Phase, ...]:
    name = "resilience/phases"
    words = annotations.get(name, "").split("+")
    phases = tuple(phase for phase in PHASES if phase in words)
    if len(phases) != len(words):
        expected = f"expected phases joined by +, of {', '.join(PHASES)}"
        raise refuse(label, f"metadata.annotations.{name}", expected, annotations.get(name))
    return phases


def _events_min(annotations: dict[str, str], target: float, label: str) -> int:
    name = "resilience/events-min"
    least = math.ceil(round(2 / (1 - target), 6))  # one bad event is then at most half of what the target allows
    text = annotations.get(name)
    if text is None:
        return max(EVENTS_MIN, least)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        expected = f"expected a whole number of at least {least}, that is 2 / (1 - target)"
        raise refuse(label, f"metadata.annotations.{name}", expected, text)
    return int(text)


def _ratio_source(ratio: _Ratio, annotations: dict[str, str], label: str) -> RatioSource:
    where = "spec.indicator.spec.ratioMetric"
    if not ratio.counter:
        raise refuse(label, f"{where}.counter", "expected true: events are counted from counters", got=False)
    good_text, total_text = ratio.good.metric_source.spec.query, ratio.total.metric_source.spec.query
    good = _selector(good_text, label, f"{where}.good.metricSource.spec.query")
    total = _selector(total_text, label, f"{where}.total.metricSource.spec.query")
    if good == total:
        raise refuse(label, f"{where}.good", "expected a selector that differs from total's")
    threshold = _threshold(good, total, annotations, label)
    return RatioSource(good=good_text.strip(), total=total_text.strip(), latency_threshold_s=threshold)


def _selector(text: str, label: str, where: str) -> Selector:
    try:
        selector = selector_from_text(text)
    except ValueError as error:
        raise refuse(label, where, str(error), text) from error
    if any(matcher.label == "phase" for matcher in selector.matchers):
        raise refuse(label, where, "expected no condition on phase: the annotation resilience/phases says it", text)
    return selector


def _threshold(good: Selector, total: Selector, annotations: dict[str, str], label: str) -> float | None:
    """The latency threshold in seconds, None if the SLO is about no latency. Raises `SpecError`."""
    name = "resilience/threshold"
    bucket = good.metric.endswith("_bucket")
    if not bucket and name not in annotations:
        return None
    where = f"metadata.annotations.{name}"
    if not bucket:
        raise refuse(label, where, "expected a good selector of a histogram's _bucket", good.metric)
    seconds = _seconds(annotations.get(name), label, where)
    if good.equals("le") != repr(seconds):  # the text as exporters write it, else nothing matches
        raise refuse(label, where, f'expected the bound of the good selector, le="{seconds!r}"', good.equals("le"))
    if total.metric != good.metric.removesuffix("_bucket") + "_count" or total.without("le") != good.without("le"):
        raise refuse(label, "spec.indicator.spec.ratioMetric.total", "expected the same histogram's _count")
    return seconds


def _seconds(text: str | None, label: str, where: str) -> float:
    if text is None:
        raise refuse(label, where, "is missing, expected the latency threshold with its unit, as 250ms")
    found = _DURATION.match(text)
    if found is None:
        missing = "missing unit, " if re.fullmatch(r"[0-9.]+", text) else ""
        raise refuse(label, where, f"{missing}expected a number and one of us, ms, s, m, as 250ms", text)
    seconds = round(float(found[1]) * _SECONDS[found[2]], 9)
    if seconds <= 0:
        raise refuse(label, where, "expected more than nothing", text)
    return seconds


def _finding_source(measure: str, annotations: dict[str, str], label: str) -> FindingSource:
    name = "resilience/unit"
    where = f"metadata.annotations.{name}"
    unit = annotations.get(name)
    if unit is None:
        raise refuse(label, where, f"missing unit, expected one of {', '.join(get_args(Unit))}")
    suffix = _MEASURE_UNIT.search(measure)
    if suffix is None or suffix[1] != unit:
        raise refuse(label, where, f"expected the unit that {measure} ends with", unit)
    return FindingSource(measure=measure, unit=cast("Unit", unit))
