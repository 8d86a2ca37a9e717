"""Cuts the raw samples of servers' counters at the borders of a phase.

A server's counters carry no phase, so a phase is cut out by the samples around it. What a sample says was true at some
moment between its time and the end of its scrape. So what is cut out is the phase and a little more, never less::

             ╭ begun            start                         end   ╭ ended
    scrapes ─┴────╮───────┴────╮──|──┴────╮───────┴────╮──────|─────┴────╮
               the last that was over                  the first that began
               before the phase                        after it

A server that ends takes what it counted after its last sample with it: for so long it was *blind*, as far as anybody
can see. Its successor counts from 0.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from resilience.check.counter import instant_us
from resilience.check.fault import SECOND_US
from resilience.history.event import ended_between
from resilience.history.read import History
from resilience.history.record import PhaseWindow, Series

Interval = tuple[int, int]  # us on the run's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What one server's counter grew by from one scrape to another, and when the server was blind in between."""

    events: float
    begun: Interval
    ended: Interval
    blind: tuple[Interval, ...]


class CannotCutError(Exception):
    """The samples do not enclose the phase; the message says what is missing."""


def cut(
    history: History,
    window: PhaseWindow,
    member: str,
    labels: Mapping[str, str],
    *,
    scrape_us: int,
    ends: Collection[Interval],
) -> Cut:
    """What a member counted in a phase under these labels (``__name__`` among them). Raises `CannotCutError`.

    A scrape whose length is not on record took ``scrape_us`` at most; ``ends`` are those of the member (`ends_of`).
    """
    series = _series(history, member, labels)
    scrapes = _scrapes(history, member, series, scrape_us)
    first = max((n for n, (_, over) in enumerate(scrapes) if over <= window.start), default=None)
    last = next((n for n, (at, _) in enumerate(scrapes) if at >= window.end), len(scrapes))
    if first is None:
        raise CannotCutError(f"{member} was not sampled before phase {window.phase}")
    if last == len(scrapes) and not any(since >= scrapes[-1][0] for since, _ in ends):
        raise CannotCutError(f"{member} was not sampled after phase {window.phase}")
    begun = scrapes[first]
    for since, end in ends:
        if since == begun[0] and end <= window.start:  # nobody counted from its end to the phase
            begun = (end, end)
    return Cut(
        events=_grown(series.values[first : last + 1], [at for at, _ in scrapes[first : last + 1]], ends),
        begun=begun,
        ended=scrapes[last] if last < len(scrapes) else (window.end, window.end),
        blind=tuple((since, end) for since, end in ends if since < window.end and end > begun[1]),
    )


def _series(history: History, member: str, labels: Mapping[str, str]) -> Series:
    wanted = {"member": member, **labels}.items()
    for series in history.series:
        if series.times_s and wanted <= series.labels.items():
            return series
    raise CannotCutError(f"Prometheus has no {labels['__name__']} of {member}")


def _scrapes(history: History, member: str, series: Series, scrape_us: int) -> list[Interval]:
    """From when to when each sample of a series was taken."""
    try:
        lengths = _series(history, member, {"__name__": "scrape_duration_seconds"})
    except CannotCutError:
        lasted = {}
    else:
        lasted = dict(zip(lengths.times_s, lengths.values, strict=True))
    return [
        (at, at + round(lasted[at_s] * SECOND_US) if at_s in lasted else at + scrape_us)
        for at_s in series.times_s
        for at in (instant_us(history.clock, at_s),)
    ]


def _grown(values: Sequence[float], times: list[int], ends: Iterable[Interval]) -> float:
    """The sum of the steps; after an end the successor's first value is the step."""
    last_seen = {since for since, _ in ends}
    steps = zip(pairwise(values), times, strict=False)
    return sum(value if at in last_seen else value - before for (before, value), at in steps)


def ends_of(history: History, member: str) -> set[Interval]:
    """From a member's last sample to its end; where nobody saw that, to the first sample of its successor.

    It ended where the backend saw its server exit, or where any of its counters fell. Needs a clock pair.
    """
    exits = [
        ended_between(event)
        for event in history.events_of("member")
        if event.data.get("member") == member and event.data.get("what") == "exited"
    ]
    return {
        end
        for series in history.series
        if series.labels.get("member") == member and series.labels.get("__name__", "").endswith("_total")
        for end in _ends_of(history, series, exits)
    }


def _ends_of(history: History, series: Series, exits: list[Interval]) -> Iterator[Interval]:
    fallen = [n for n, (before, value) in enumerate(pairwise(series.values)) if value < before]
    if not exits and not fallen:
        return
    times = [instant_us(history.clock, at) for at in series.times_s]
    falls = [(times[n], times[n + 1]) for n in fallen]
    seen = {max((t for t in times if t < at), default=at): at for at in _told(exits, falls)}
    yield from seen.items()
    yield from ((since, until) for since, until in falls if since not in seen)


def _told(exits: Iterable[Interval], falls: Iterable[Interval]) -> Iterator[int]:
    """When exits were; not of one that is told of so inexactly that the counter's own fall says it better."""
    for earliest, latest in exits:
        if earliest == latest or not any(since <= latest and until >= earliest for since, until in falls):
            yield latest
