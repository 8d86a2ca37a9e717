"""The events that a run recorded, as the page shows them: what happened, whom it hit, how the generators fared."""

from collections.abc import Iterable, Iterator, Sequence

from resilience.errors import SpecError
from resilience.history.lines import Damage
from resilience.history.read import read_run_lines
from resilience.history.record import Event
from resilience.report.charts import Chart, Line
from resilience.report.evidence import Table, plain_json
from resilience.report.run import Run
from resilience.report.text import instant_text
from resilience.spec.stack import Stack

_EACH_SECOND = frozenset({"generator", "pressure"})  # shown as charts
_BULKY = frozenset({"shards"})  # shown elsewhere
_TEXT_MAX = 400
_SECOND_US = 1_000_000


def events_of(run: Run) -> list[Event]:
    """The events of the runner, the chaos process and the generators in order; a broken line is left out.

    The judgement says so when the history is damaged. Raises `SpecError` if a file is there and cannot be read.
    """
    try:
        found = [line for line in read_run_lines(run.directory, Damage()) if isinstance(line, Event)]
    except OSError as error:
        raise SpecError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda event: event.at)


def happenings(events: Iterable[Event]) -> Table:
    """Everything that happened, in order."""
    rows = [
        (instant_text(event.at), event.name, _details(event))
        for event in events
        if event.name not in _EACH_SECOND | _BULKY
    ]
    return Table(title="Everything that happened, in order", columns=("at", "what", "details"), rows=tuple(rows))


def hits(events: Iterable[Event], stack: Stack) -> Table:
    """Each member that an injection took, with the node that it stood on."""
    rows = tuple(row for event in events if event.name == "injected" for row in _hit_rows(event, stack))
    return Table(title="Members", columns=("injection", "member", "component", "node", "at"), rows=rows)


def _hit_rows(event: Event, stack: Stack) -> Iterator[tuple[str, ...]]:
    failed = frozenset(map(str, event.data.get("nodes", ())))
    at = event.data.get("applied_us", event.at)
    for name in map(str, event.data.get("members", ())):
        yield str(event.data.get("injection", "")), *_stand(name, stack, failed), instant_text(at)


def generator_charts(events: Sequence[Event]) -> tuple[Chart, ...]:
    """How far the generators were behind their schedule, and how busy they and the machine were."""
    generators = [event for event in events if event.name == "generator"]
    machine = [event for event in events if event.name == "pressure"]
    clients = sorted({str(event.data.get("client", "")) for event in generators})
    lag = [_series(client, _of(generators, client), "lag_ms_p99") for client in clients]
    busy = [_series(f"{client} CPU", _of(generators, client), "cpu_ratio") for client in clients]
    busy += [_series(label, machine, key) for label, key in _MACHINE]
    charts = (
        _chart("lag", "Generators behind their schedule, 99th percentile", "ms", lag),
        _chart("busy", "Generators and machine", "ratio", busy),
    )
    return tuple(chart for chart in charts if chart.t)


_MACHINE = (("machine busy", "busy_ratio"), ("waiting for CPU", "cpu_some_ratio"), ("stolen", "steal_ratio"))
_Samples = tuple[str, dict[int, float]]  # label, value by second


def _of(events: Iterable[Event], client: str) -> list[Event]:
    return [event for event in events if event.data.get("client") == client]


def _series(label: str, events: Iterable[Event], key: str) -> _Samples:
    numbers = ((event.at // _SECOND_US, event.data.get(key)) for event in events)
    return label, {second: float(value) for second, value in numbers if isinstance(value, int | float)}


def _chart(name: str, title: str, unit: str, samples: Sequence[_Samples]) -> Chart:
    present = [(label, values) for label, values in samples if values]
    last = max((second for _, values in present for second in values), default=-1)
    lines = [
        Line(label=label, values=tuple(values.get(second) for second in range(last + 1))) for label, values in present
    ]
    t = tuple(second + 0.5 for second in range(last + 1))
    return Chart(id=name, title=title, unit=unit, t=t, series=tuple(lines), section="generator")


def _stand(name: str, stack: Stack, failed: frozenset[str]) -> tuple[str, str, str]:
    member = next((member for member in stack.members if member.name == name), None)
    if member is None:
        return name, "", ""
    return name, member.component, f"{member.node} (whole node)" if member.node in failed else member.node


def _details(event: Event) -> str:
    text = "  ".join(f"{name} {plain_json(value)}" for name, value in event.data.items())
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]} …"
