"""Service level objectives, as `spec.read` takes them from OpenSLO v1 documents."""

from typing import Annotated, Literal

from msgspec import Meta

from resilience.spec.record import Record

Phase = Literal["warmup", "steady", "fault", "recovery"]
PHASES: tuple[Phase, ...] = ("warmup", "steady", "fault", "recovery")


class RatioSource(Record, frozen=True, kw_only=True, tag_field="source", tag="prometheus"):
    """Good and total events as bare selectors of counters; they are counted from raw samples.

    ``latency_threshold_s`` is set when ``good`` selects a histogram's bucket with that bound.
    """

    good: str
    total: str
    latency_threshold_s: float | None = None


class FindingSource(Record, frozen=True, kw_only=True, tag_field="source", tag="history"):
    """A number that a check measures from the history, e.g. ``recovery.first_good_write_s``."""

    measure: str
    unit: Literal["s", "ms", "ops", "ratio"]


class Slo(Record, frozen=True, kw_only=True):
    """One objective, in the phases that it is judged in (each on its own).

    A ratio must be at least ``target``; a finding's number is compared by ``op`` with ``value``.
    """

    name: str
    title: str
    service: str
    phases: tuple[Phase, ...]
    source: RatioSource | FindingSource
    op: Literal["gte", "lte", "gt", "lt"]
    target: float  # a ratio for RatioSource; in the source's unit for FindingSource
    events_min: Annotated[int, Meta(ge=1)] = 200  # fewer events in a phase: inconclusive
    file: str = ""  # where it was read from, for messages
