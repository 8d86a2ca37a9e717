"""The ways of events from their rows to consumers, whichever service publishes them: a finding for each hop.

::

    row ─▶ published, confirmed ─▶ acknowledged by a consumer, or left in its queue
       never published        lost in RabbitMQ

Rows are judged by whoever knows what they are of (`events`, `collaboration`). Once services have had time to settle no
row may be unpublished. What was published has to be with a consumer that has acknowledged it, or in its queue (or in
that for its dead letters) at the end; and an event is of a row. Where a service consumes them, what has come is seen by
its effect, which is a hop of its own (`profiles`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX, Booked
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import Flags, Texts
from resilience.history.read import History
from resilience.spec.rabbitmq import dead_letter_queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Events of one kind: whose rows they are of, and where they go.

    ``rows`` names the place of the rows in findings, ``kind`` is that of the ops that ask for them, ``among`` says
    which messages are its events: each is its id, or begins with that and a space.
    """

    name: str  # of the check
    rows: str
    queue: str
    kind: str
    audit: tuple[str, ...]
    among: Callable[[Texts], Flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How far each event came, by its id."""

    ops: Mapping[str, int]  # of each that an op on record asked for, that op
    published: Mapping[str, bool]  # of each row, whether it is marked
    late: Callable[[str], bool]  # whether it is of a client, now dead, that may have asked for it without recording it
    seen: frozenset[str]  # at a consumer, or in a queue, or by its effect
    settled: frozenset[str]  # acknowledged by a consumer, or left in a queue, or by its effect
    dead: frozenset[str]  # in the queue for dead letters
    fresh: Counter[str]  # how often each came that had not been handed over before
    redelivered: int  # how often one came that had been

    @property
    def confirmed(self) -> list[str]:
        """Those whose rows are marked."""
        return [event for event, published in self.published.items() if published]


class Sight(NamedTuple):
    """A message at a consumer, or in a queue as that was drained."""

    message: str
    dead: bool
    redelivered: bool
    settled: bool

    @property
    def event(self) -> str:
        """Its id."""
        return self.message.partition(" ")[0]


def sights_of(history: History, stream: Stream) -> tuple[Sight, ...]:
    """Where events were seen; what was seen in another queue than their own is left out."""
    return tuple(sight for sight in _sights(history, stream) if sight is not None)


def way_of(
    sights: Iterable[Sight],
    ops: Mapping[str, int],
    published: Mapping[str, bool],
    late: Callable[[str], bool],
    effects: frozenset[str] = frozenset(),
) -> Way:
    """The ways of all events of a run; ``effects`` are those that have had theirs, at a consumer that is a service."""
    sights = tuple(sights)
    return Way(
        ops=ops,
        published=published,
        late=late,
        seen=effects | frozenset(sight.event for sight in sights),
        settled=effects | frozenset(sight.event for sight in sights if sight.settled),
        dead=frozenset(sight.event for sight in sights if sight.dead),
        fresh=Counter(sight.event for sight in sights if not sight.redelivered and not sight.dead),
        redelivered=sum(sight.redelivered and not sight.dead for sight in sights),
    )


def _sights(history: History, stream: Stream) -> Iterator[Sight | None]:
    """None for what was seen in another queue than the stream's."""
    consumed, messages = history.consumed, history.audit.messages
    for at in np.flatnonzero(stream.among(consumed.value)).tolist():
        queue, settled = consumed.queues[consumed.queue[at]], bool(consumed.acked[at])
        redelivered = bool(consumed.redelivered[at])
        yield _sight(stream, str(consumed.value[at]), queue, redelivered=redelivered, settled=settled)
    for at in np.flatnonzero(stream.among(messages.value)).tolist():
        queue, redelivered = messages.queues[messages.queue[at]], bool(messages.redelivered[at])
        yield _sight(stream, str(messages.value[at]), queue, redelivered=redelivered, settled=True)


def _sight(stream: Stream, message: str, queue: str, *, redelivered: bool, settled: bool) -> Sight | None:
    dead = queue == dead_letter_queue(stream.queue)
    return Sight(message, dead, redelivered, settled) if dead or queue == stream.queue else None


def with_hop(finding: Finding, stream: Stream, way: Way, booked: Booked, *also: str) -> Finding:
    """The finding about rows, which also names the hop, and says of how many of the lost the event came."""
    lost = set(booked.lost.tolist())
    came = len({row for event, row in way.ops.items() if row in lost and event in way.seen})
    hop = f"{len(lost):,} lost in PostgreSQL, the event of {came:,} of them came" if lost else ""
    measures = finding.measures | {f"{stream.name}.lost_in_postgresql_ops": float(len(lost))}
    return replace(finding, reason="; ".join(filter(None, (hop, finding.reason, *also))), measures=measures)


def of_rows(stream: Stream, history: History, way: Way) -> Finding:
    """Whether every row was published, once services had had time to settle."""
    waiting = [event for event, published in way.published.items() if not published]
    total = len(way.published)
    return Finding(
        check=stream.name,
        verdict="fail" if waiting else "pass" if total else "inconclusive",
        title=f"{count(len(waiting), 'event')} never published" if waiting else "every row was published",
        measured=f"{len(waiting):,} of {count(total, 'row')} not published",
        allowed="none",
        value=float(len(waiting)),
        unit="ops",
        reason=reason(total, f"{count(len(waiting), 'row')} not marked as confirmed after healing" if waiting else ""),
        where=Where(group=stream.rows),
        rests_on=rests_on(stream.audit, bad=bool(waiting)),
        evidence=tuple(evidence(history, way.ops, waiting, "never published")),
        evidence_total=len(waiting),
        measures={
            f"{stream.name}.never_published_ops": float(len(waiting)),
            f"{stream.name}.row_ops": float(total),
        },
    )


def of_queue(stream: Stream, history: History, way: Way, *, forgiven: bool, by_effect: bool = False) -> Finding:
    """Whether every event that was confirmed is with a consumer, or left; and whether each that came has its row.

    ``forgiven``: a failover may have lost rows. ``by_effect``: nobody's record but its effect tells that an event was
    with its consumer.
    """
    confirmed = way.confirmed
    lost = [] if by_effect else [event for event in confirmed if event not in way.settled]
    total = count(len(confirmed), "confirmed event")
    far = len(way.seen if by_effect and confirmed else confirmed)
    whole = total if by_effect else f"{len(lost):,} of {total} lost"
    alone = sorted(way.seen - way.published.keys())
    wrong = [event for event in alone if not way.late(event) and not (forgiven and event in way.ops)]
    again = sum(way.fresh.values()) - len(way.fresh)
    told = {
        "lost in RabbitMQ: confirmed, and neither acknowledged by a consumer nor left": len(lost),
        "without a row": len(alone),
        "published again": again,
        "handed over again": way.redelivered,
        "in the dead-letter queue": len(way.dead),
    }
    name, audits = stream.name, (*stream.audit, *needs.QUEUES, *(needs.PROFILES if by_effect else ()))
    return Finding(
        check=name,
        verdict="fail" if lost or wrong else "pass" if far else "inconclusive",
        title=_title(len(lost), len(wrong), by_effect=by_effect),
        measured=f"{whole}, {len(alone):,} without a row, {again:,} published again",
        allowed="none lost, " + ("those without a row that a failover may lose" if forgiven else "none without a row"),
        value=float(len(lost)),
        unit="ops",
        reason=reason(far, "; ".join(f"{number:,} {what}" for what, number in told.items() if number)),
        where=Where(group=f"queue {stream.queue}"),
        rests_on=rests_on(audits, bad=bool(lost or wrong)),
        evidence=(*evidence(history, way.ops, lost, "lost in RabbitMQ"),
                  *evidence(history, way.ops, wrong, "event without its row"))[:EVIDENCE_MAX],
        evidence_total=len(lost) + len(wrong),
        measures={
            f"{name}.lost_in_rabbitmq_ops": float(len(lost)),
            f"{name}.without_row_ops": float(len(alone)),
            f"{name}.published_again_ops": float(again),
            f"{name}.redelivered_ops": float(way.redelivered),
            f"{name}.dead_lettered_ops": float(len(way.dead)),
        },
    )  # fmt: skip


def _title(lost: int, wrong: int, *, by_effect: bool) -> str:
    if lost:
        return f"{count(lost, 'confirmed event')} lost"
    if wrong:
        return f"{count(wrong, 'event')} without its row"
    return "every event has its row" if by_effect else "every confirmed event came, or is left"


def reason(total: int, told: str, noun: str = "event") -> str:
    """What is told of a hop, and that nothing came as far as it, if nothing did."""
    return told if total else "; ".join(filter(None, (f"no {noun} came this far", told)))


def rests_on(audit: tuple[str, ...], *, bad: bool) -> tuple[str, ...]:
    """A loss rests on what was read alone; consumers' records tell half of what was read from a queue."""
    recorded = (*audit, "assumption.history-whole", "assumption.generator-alive")
    others = () if bad else (*needs.WHOLE, *needs.LOAD, *needs.FAULT, *needs.PRIMARY)
    return tuple(dict.fromkeys((*recorded, *others)))


def evidence(
    history: History, ops: Mapping[str, int], found: Sequence[str], what: str, noun: str = "event"
) -> Iterator[dict[str, Any]]:
    """Those that were found, each with the op that asked for it, if that is on record."""
    for name in found[:EVIDENCE_MAX]:
        row = ops.get(name)
        yield {"what": what, noun: name} | ({} if row is None else {"op": history.ops.name(row)})
