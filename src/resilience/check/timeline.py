"""What happened in each second of a run: the series that reports draw, computed here so that they only render."""

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import numpy as np

from resilience.check.fault import SECOND_US, hit_shards, injections, load_end_us, shards_at_start
from resilience.check.outage import Outage, longest, outages
from resilience.history.columns import OK, OUTCOMES, Flags, Ints
from resilience.history.read import History
from resilience.spec.scenario import Scenario

LENGTH_S_MAX = 6 * 3_600  # four phases of the longest kind; a damaged history may name any instant
# As long as the shipped objectives let one answer take. Gaps of this kind are those of a busy machine, where 30 ms are
# three usual ones; checks judge them like all others.
BRIEF_US = SECOND_US // 2
QUANTILES = {"p50": 50, "p95": 95, "p99": 99}


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """An interval in seconds of the run; ``label`` says of what, ``group`` which shard's (0: none)."""

    label: str
    start_s: float
    end_s: float
    group: int = 0


class RoleChange(msgspec.Struct, frozen=True, kw_only=True):
    """A member was seen in a role."""

    at_s: float
    member: str
    group: int
    role: str


class QueueChange(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of RabbitMQ was seen to be led by a member ("": by nobody that is known), with these taking part."""

    at_s: float
    queue: str
    leader: str
    online: tuple[str, ...]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Series of one value for each second from the run's base on; ``seconds[i]`` is where bin ``i`` begins.

    Ops are counted in the second that they were due in, acknowledged direct writes and deliveries in the second of
    their arrival. ``None``: there is nothing to compute a value from.
    """

    seconds: tuple[int, ...]
    ops_per_s: dict[str, tuple[int, ...]]  # session ops and edits, by outcome
    error_ratio: tuple[float | None, ...]  # of session ops and edits: all that is not ok
    latency_ms: dict[str, tuple[float | None, ...]]  # p50, p95, p99 of session ops that are ok, from their due time
    direct_ok_per_s: dict[str, tuple[int, ...]]  # by shard: "1", "2" …
    deliveries_per_s: tuple[int, ...]
    roles: tuple[RoleChange, ...]
    phases: tuple[Span, ...]
    injections: tuple[Span, ...]
    outages: tuple[Span, ...]
    brief_outages: tuple[Span, ...] = ()  # those that nobody notices: see `BRIEF_US`
    queues: tuple[QueueChange, ...] = ()


def timeline(scenario: Scenario, history: History) -> Timeline:
    """The series of a run; of a run without a line they are empty."""
    ops = history.ops
    length = _length_s(history)
    users = ops.of_kind("session.", "collaboration.edit")
    counts = {name: _counted(ops.due[users & (ops.outcome == code)], length) for code, name in enumerate(OUTCOMES)}
    direct = ops.of_kind("direct.write") & (ops.outcome == OK)
    groups = sorted(shards_at_start(history)) or list(range(1, len(scenario.stack.shards) + 1))
    found = [item for group in groups for item in outages(scenario, history, group)]
    brief = _brief(history, found)
    return Timeline(
        seconds=tuple(range(length)),
        ops_per_s={name: tuple(series.tolist()) for name, series in counts.items()},
        error_ratio=_error_ratio(counts),
        latency_ms=_latencies(history, ops.of_kind("session.") & (ops.outcome == OK), length),
        direct_ok_per_s={
            str(group): tuple(_counted(ops.returned[direct & (ops.group == group)], length).tolist())
            for group in groups
        },
        deliveries_per_s=tuple(_counted(history.deliveries.at, length).tolist()),
        roles=tuple(_roles(history)),
        phases=tuple(
            Span(
                label=window.phase, start_s=_s(window.start), end_s=_s(window.end) if window.end >= 0 else float(length)
            )
            for window in history.windows
        ),
        injections=tuple(
            Span(label=item.id, start_s=_s(item.applied), end_s=_s(item.healed) if item.healed else float(length))
            for item in injections(history)
        ),
        outages=tuple(_span(item) for item in found if item not in brief),
        brief_outages=tuple(_span(item) for item in brief),
        queues=tuple(_queues(history)),
    )


def _span(outage: Outage) -> Span:
    return Span(label="outage", start_s=_s(outage.start), end_s=_s(outage.end), group=outage.group)


def _brief(history: History, found: Iterable[Outage]) -> list[Outage]:
    """The outages that are told in one line; the longest of a shard that was hit never is one of them."""
    hit = {shard.group for shard in hit_shards(history)}
    told = [longest(tuple(item for item in found if item.group == group)) for group in hit]
    return [item for item in found if item.end - item.start < BRIEF_US and item not in told]


def _s(instant_us: float) -> float:
    return instant_us / SECOND_US


def _length_s(history: History) -> int:
    last_due = int(history.ops.due.max()) if len(history.ops) else -1
    return min(max(load_end_us(history), last_due) // SECOND_US + 1, LENGTH_S_MAX)


def _counted(instants: Ints, length: int) -> Ints:
    bins = instants // SECOND_US
    return np.bincount(bins[(bins >= 0) & (bins < length)], minlength=length).astype(np.int64)


def _error_ratio(counts: dict[str, Ints]) -> tuple[float | None, ...]:
    good = counts["ok"].tolist()
    totals = np.sum(list(counts.values()), axis=0).tolist()
    return tuple(1 - ok / total if total else None for ok, total in zip(good, totals, strict=True))


def _latencies(history: History, rows: Flags, length: int) -> dict[str, tuple[float | None, ...]]:
    due = history.ops.due[rows]
    order = np.argsort(due, kind="stable")
    due = due[order]
    latency_ms = (history.ops.returned[rows][order] - due) / 1000
    borders = np.searchsorted(due, np.arange(length + 1) * SECOND_US)
    bins = [latency_ms[first:last] for first, last in pairwise(borders.tolist())]
    return {
        name: tuple(round(float(np.percentile(values, share)), 3) if len(values) else None for values in bins)
        for name, share in QUANTILES.items()
    }


def _roles(history: History) -> Iterable[RoleChange]:
    for event in history.events_of("role"):
        yield RoleChange(
            at_s=_s(event.at),
            member=str(event.data.get("member", "")),
            group=int(event.data.get("group", 0)),
            role=str(event.data.get("role", "")),
        )


def _queues(history: History) -> Iterable[QueueChange]:
    for event in history.events_of("queue-role"):
        yield QueueChange(
            at_s=_s(event.at),
            queue=str(event.data["queue"]),
            leader=str(event.data["leader"]),
            online=tuple(event.data["online"]),
        )
