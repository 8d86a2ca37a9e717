"""What the report's charts show, as the page takes it: the timeline's numbers with names, units and colours' kinds."""

import msgspec

from resilience.check.timeline import QueueChange, RoleChange, Timeline
from resilience.check.timeline import Span as Interval
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource

Values = tuple[float | None, ...]  # None: nothing was measured, shown as a gap


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a chart. ``kind`` names a colour (ok, fail, unknown); "": the next free one."""

    label: str
    values: Values
    kind: str = ""
    area: bool = False


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A level that means something, such as an objective's threshold."""

    value: float
    label: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One chart; ``t`` are the instants (s) of all its lines. The one called ``roles`` draws the lanes instead."""

    id: str
    title: str
    unit: str
    t: tuple[float, ...]
    series: tuple[Line, ...]
    log: bool = False
    floor: float = 0.0  # the axis reaches at least this far
    phases: bool = False  # whether their names are shown
    outages: bool = False
    marks: tuple[Mark, ...] = ()
    kinds: tuple[str, ...] = ()  # of the spans in the lanes
    section: str = "timeline"  # where on the page it stands


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a lane, in seconds."""

    kind: str
    start: float
    end: float
    label: str = ""


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One member's roles over time, or who led a queue."""

    label: str
    spans: tuple[Span, ...]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A named interval, in seconds; ``text`` says it for people. ``row`` counts from 0, one for each shard."""

    name: str
    label: str
    start: float
    end: float
    text: str
    row: int = 0


class Charts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is drawn on the common axis of time, which goes from ``start`` to ``end`` (s)."""

    start: float
    end: float
    charts: tuple[Chart, ...]
    lanes: tuple[Lane, ...]
    phases: tuple[Window, ...]
    injections: tuple[Window, ...]
    outages: tuple[Window, ...]
    brief_outages: tuple[Window, ...] = ()  # not drawn
    brief_text: str = ""  # what there is to say of them in one line


_QUANTILE_NAMES = {"p50": "median"}


def charts_of(timeline: Timeline, scenario: Scenario) -> Charts:
    """The charts of a run."""
    lanes = lanes_of(timeline)
    return Charts(
        start=0.0,
        end=float(len(timeline.seconds)),
        charts=(*_load_charts(timeline, scenario), *_roles_chart(timeline, lanes)),
        lanes=lanes,
        phases=_windows(timeline.phases),
        injections=_windows(timeline.injections, scenario.experiment.title if scenario.experiment else ""),
        outages=_windows(timeline.outages, "outage"),
        brief_outages=_windows(timeline.brief_outages, "brief outage"),
        brief_text=_brief_text(timeline.brief_outages),
    )


def _brief_text(outages: tuple[Interval, ...]) -> str:
    if not outages:
        return ""
    worst = max(outages, key=lambda outage: outage.end_s - outage.start_s)
    longest = f"{worst.end_s - worst.start_s:.3f} s on shard {worst.group}"
    return f"1 brief outage, {longest}" if len(outages) == 1 else f"{len(outages)} brief outages, at most {longest}"


def lanes_of(timeline: Timeline) -> tuple[Lane, ...]:
    """For each member the roles that it was seen in, each until it was seen in another or the run ended; then for each
    queue who led it.
    """
    seen: dict[str, list[RoleChange]] = {}
    for change in timeline.roles:
        seen.setdefault(change.member, []).append(change)
    led: dict[str, list[QueueChange]] = {}
    for queue in timeline.queues:
        led.setdefault(queue.queue, []).append(queue)
    end_s = len(timeline.seconds)
    members = tuple(Lane(label=member, spans=_spans(seen[member], end_s)) for member in sorted(seen))
    return members + tuple(Lane(label=queue, spans=_led(led[queue], end_s)) for queue in sorted(led))


def _spans(changes: list[RoleChange], end_s: float) -> tuple[Span, ...]:
    ends = [*(change.at_s for change in changes[1:]), end_s]
    return tuple(
        Span(kind=change.role, start=change.at_s, end=end, label=_role_text(change))
        for change, end in zip(changes, ends, strict=True)
    )


def _led(changes: list[QueueChange], end_s: float) -> tuple[Span, ...]:
    ends = [*(change.at_s for change in changes[1:]), end_s]
    first = changes[0].leader
    return tuple(
        Span(kind=_led_kind(change, first), start=change.at_s, end=end, label=_led_text(change))
        for change, end in zip(changes, ends, strict=True)
    )


def _led_kind(change: QueueChange, first: str) -> str:
    if not change.leader:
        return "no-known-leader"
    return "first-leader" if change.leader == first else "next-leader"


def _led_text(change: QueueChange) -> str:
    others = ", ".join(member for member in change.online if member != change.leader)
    return f"led by {change.leader or 'nobody that is known'}" + (f", with {others}" if others else "")


def _role_text(change: RoleChange) -> str:
    return f"{change.role}, shard {change.group}" if change.group > 0 else change.role


def _load_charts(timeline: Timeline, scenario: Scenario) -> tuple[Chart, ...]:
    t = tuple(second + 0.5 for second in timeline.seconds)  # a count of a second stands in its middle
    return (
        Chart(
            id="throughput",
            title="Session ops and edits by outcome",
            unit="ops/s",
            t=t,
            series=tuple(Line(label=name, kind=name, values=values) for name, values in timeline.ops_per_s.items()),
            phases=True,
        ),
        Chart(
            id="errors",
            title="Error ratio",
            unit="ratio",
            t=t,
            series=(Line(label="not ok", kind="fail", values=timeline.error_ratio, area=True),),
            floor=0.02,
        ),
        Chart(
            id="latency",
            title="Latency of session ops from their intended start",
            unit="ms",
            t=t,
            series=tuple(
                Line(label=_QUANTILE_NAMES.get(name, name), values=values)
                for name, values in timeline.latency_ms.items()
            ),
            log=True,
            marks=_thresholds(scenario),
        ),
        Chart(
            id="direct",
            title="Direct writes acknowledged",
            unit="ok/s",
            t=t,
            series=tuple(
                Line(label=f"shard {group}", values=values) for group, values in timeline.direct_ok_per_s.items()
            ),
            outages=True,
        ),
        Chart(
            id="deliveries",
            title="Edits delivered to members of rooms",
            unit="deliveries/s",
            t=t,
            series=(Line(label="delivered", kind="ok", values=timeline.deliveries_per_s),),
        ),
    )


def _roles_chart(timeline: Timeline, lanes: tuple[Lane, ...]) -> tuple[Chart, ...]:
    if not lanes:
        return ()
    kinds = tuple(dict.fromkeys(span.kind for lane in lanes for span in lane.spans))
    t = tuple(second + 0.5 for second in timeline.seconds)
    return (
        Chart(id="roles", title="Roles", unit="", t=t, series=(Line(label="", values=(None,) * len(t)),), kinds=kinds),
    )


def _thresholds(scenario: Scenario) -> tuple[Mark, ...]:
    """The latency objectives' thresholds of the sessions, each once."""
    found = {
        slo.source.latency_threshold_s
        for slo in scenario.slos
        if isinstance(slo.source, RatioSource) and slo.source.latency_threshold_s and slo.service == "session"
    }
    return tuple(Mark(value=limit * 1000, label=f"objective {limit * 1000:g} ms") for limit in sorted(found))


def _windows(spans: tuple[Interval, ...], label: str = "") -> tuple[Window, ...]:
    return tuple(
        Window(
            name=span.label,
            label=f"{label}, shard {span.group}" if span.group else label or span.label,
            start=span.start_s,
            end=span.end_s,
            text=f"{span.start_s:.3f} to {span.end_s:.3f} s",
            row=max(span.group - 1, 0),
        )
        for span in spans
    )
