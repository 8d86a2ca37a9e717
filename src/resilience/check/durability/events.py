"""Events of ended sessions: each acknowledged end is followed through all hops, and a loss is named with its hop.

::

    end acknowledged ─▶ row in the outbox ─▶ published, confirmed ─▶ acknowledged by a consumer, or left in its queue
                 lost in PostgreSQL    never published       lost in RabbitMQ          └▶ effect in a profile

A finding for each hop, about what came that far. The *row* has to be in the outbox as the primary has it after healing;
where PostgreSQL may lose acknowledged rows around a failover it may be lost like those (`durability.postgresql`). Once
the outbox has had time to settle no row may be unpublished. What was published has to be with a consumer that has
acknowledged it, or in its queue (or in that for its dead letters) at the end.

Where the stack has the personalization service that is the consumer, and no client of the load's: what has come is seen
by its effect then (`profiles`), which is a hop of its own.

The other way round: a row is of an end that was asked for, and an event is of a row. An event may come without one
where a failover was allowed to lose rows; that is told. A row is published *at least once*, so events may come twice:
those that did are counted, and so are those that RabbitMQ handed over again.

Redis is the hop before the row, and ``durability.session`` judges it; how many ends are gone from there while their row
is there is told, since nobody's consumer hears of that.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX, Booked, Defect, What, findings
from resilience.check.durability.postgresql import at_stake, excuses, of_postgresql
from resilience.check.durability.profiles import of_profiles
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import FAIL, OK, UNKNOWN
from resilience.history.outbox import event_of, events_among, op_of
from resilience.history.read import History
from resilience.spec.rabbitmq import PRIORITY_QUEUE, dead_letter_queue
from resilience.spec.scenario import Scenario

NAME = "durability.events"
ROWS = of_postgresql(NAME, "session end", needs.OUTBOX)


def events(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each hop."""
    way = follow(history)
    booked = book(history, way)
    forgiven = bool(excuses(scenario, history, POSTGRESQL))
    found = (at_stake(finding, history, booked) for finding in findings(ROWS, scenario, history, booked))
    rows = (_of_rows(finding, history, way, booked) for finding in found)
    by_effect = scenario.stack.personalization is not None
    hops = (*rows, _of_outbox(history, way), _of_queue(history, way, forgiven=forgiven, by_effect=by_effect))
    return (*hops, _of_profiles(history, way)) if by_effect else hops


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How far each event came, by its id."""

    ends: Mapping[str, int]  # of each end that is on record, its op
    published: Mapping[str, bool]  # of each row, whether it is marked
    seen: frozenset[str]  # at a consumer, or in a queue, or in a profile
    settled: frozenset[str]  # acknowledged by a consumer, or left in a queue, or in a profile
    dead: frozenset[str]  # in the queue for dead letters
    fresh: Counter[str]  # how often each came that had not been handed over before
    redelivered: int  # how often one came that had been
    late: Callable[[str], bool]  # whether an op is of a client, now dead, that may have sent it without recording it


class _Sight(NamedTuple):
    """An event at a consumer, or in a queue as that was drained."""

    event: str
    dead: bool
    redelivered: bool
    settled: bool


def follow(history: History) -> Way:
    """The ways of all events of a run."""
    ops = history.ops
    sights = [sight for sight in _sights(history) if sight is not None]
    asked_for = ops.of_kind("session.end")
    effects = frozenset(read.event for read in history.audit.effects)
    ends = np.flatnonzero(asked_for).tolist()
    return Way(
        ends={event_of(ops.keys[ops.key[row]], str(ops.value[row])): row for row in ends},
        published={read.event: read.published for read in history.audit.outbox},
        seen=effects | frozenset(sight.event for sight in sights),
        settled=effects | frozenset(sight.event for sight in sights if sight.settled),
        dead=frozenset(sight.event for sight in sights if sight.dead),
        fresh=Counter(sight.event for sight in sights if not sight.redelivered and not sight.dead),
        redelivered=sum(sight.redelivered and not sight.dead for sight in sights),
        late=unrecorded(history, asked_for),
    )


def _sights(history: History) -> Iterator[_Sight | None]:
    """None for what was seen in another queue than that of events."""
    consumed, messages = history.consumed, history.audit.messages
    for at in np.flatnonzero(events_among(consumed.value)).tolist():
        queue, settled = consumed.queues[consumed.queue[at]], bool(consumed.acked[at])
        yield _sight(str(consumed.value[at]), queue, redelivered=bool(consumed.redelivered[at]), settled=settled)
    for at in np.flatnonzero(events_among(messages.value)).tolist():
        queue, redelivered = messages.queues[messages.queue[at]], bool(messages.redelivered[at])
        yield _sight(str(messages.value[at]), queue, redelivered=redelivered, settled=True)


def _sight(event: str, queue: str, *, redelivered: bool, settled: bool) -> _Sight | None:
    dead = queue == dead_letter_queue(PRIORITY_QUEUE)
    return _Sight(event, dead, redelivered, settled) if dead or queue == PRIORITY_QUEUE else None


def book(history: History, way: Way) -> Booked:
    """What the audit found of the rows of ends."""
    ops, outcome = history.ops, history.ops.outcome
    there = {event: row for event, row in way.ends.items() if event in way.published}
    strangers = [event for event in way.published if event not in way.ends]
    unexpected = [event for event in strangers if not way.late(op_of(event))]
    refused = [event for event, row in there.items() if outcome[row] == FAIL]
    lost = [row for event, row in way.ends.items() if outcome[row] == OK and event not in there]
    recovered = [row for row in there.values() if outcome[row] == UNKNOWN]
    return Booked(
        writes=ops.of_kind("session.end"),
        group=np.full(len(ops), POSTGRESQL, dtype=np.int32),
        lost=np.array(lost, dtype=np.int64),
        recovered=np.array(recovered, dtype=np.int64),
        defects=(
            *(_defect("refused but there", event, ops.name(there[event])) for event in refused),
            *(_defect("unexpected", event, "nobody is on record to have asked for it") for event in unexpected),
        ),
        unrecorded=(POSTGRESQL,) * (len(strangers) - len(unexpected)),
    )


def _defect(what: What, event: str, detail: str) -> Defect:
    return Defect(what=what, group=POSTGRESQL, key=event, detail=detail)


def _of_rows(finding: Finding, history: History, way: Way, booked: Booked) -> Finding:
    """The finding, which also names the hop, and says of how many the event came, and what Redis no longer has."""
    lost = set(booked.lost.tolist())
    came = sum(event in way.seen for event, row in way.ends.items() if row in lost)
    gone = _gone_from_redis(history, way)
    told = (
        f"{len(lost):,} lost in PostgreSQL, the event of {came:,} of them came" if lost else "",
        finding.reason,
        f"{count(gone, 'end')} gone from Redis though the row is there" if gone else "",
    )
    measures = {f"{NAME}.lost_in_postgresql_ops": float(len(lost)), f"{NAME}.gone_from_redis_ops": float(gone)}
    return replace(finding, reason="; ".join(filter(None, told)), measures=finding.measures | measures)


def _gone_from_redis(history: History, way: Way) -> int:
    """How many acknowledged ends have their row, and a session that was read and has not ended."""
    ops, sessions = history.ops, history.audit.sessions
    kept = (row for event, row in way.ends.items() if event in way.published and ops.outcome[row] == OK)
    reads = (sessions.get(ops.keys[ops.key[row]]) for row in kept)
    return sum(read is not None and read.exists and read.state != "ended" for read in reads)


def _of_outbox(history: History, way: Way) -> Finding:
    """Whether every row was published, once the outbox had had time to settle."""
    waiting = [event for event, published in way.published.items() if not published]
    total = len(way.published)
    return Finding(
        check=NAME,
        verdict="fail" if waiting else "pass" if total else "inconclusive",
        title=f"{count(len(waiting), 'event')} never published" if waiting else "every row was published",
        measured=f"{len(waiting):,} of {count(total, 'row')} not published",
        allowed="none",
        value=float(len(waiting)),
        unit="ops",
        reason=_reason(total, f"{count(len(waiting), 'row')} not marked as confirmed after healing" if waiting else ""),
        where=Where(group="outbox"),
        rests_on=_rests_on(needs.OUTBOX, bad=bool(waiting)),
        evidence=tuple(_evidence(history, way, waiting, "never published")),
        evidence_total=len(waiting),
        measures={f"{NAME}.never_published_ops": float(len(waiting)), f"{NAME}.row_ops": float(total)},
    )


def _of_profiles(history: History, way: Way) -> Finding:
    """Whether every event that was confirmed has had its effect, or is left; see `profiles`."""
    audits = (*needs.OUTBOX, *needs.QUEUES, *needs.PROFILES)
    return of_profiles(
        NAME,
        history,
        confirmed=[event for event, published in way.published.items() if published],
        settled=way.settled,
        ends=way.ends,
        rests_on=(_rests_on(audits, bad=True), _rests_on(audits, bad=False)),
    )


def _of_queue(history: History, way: Way, *, forgiven: bool, by_effect: bool) -> Finding:
    """Whether every event that was confirmed is with a consumer, or left; and whether each that came has its row.

    ``by_effect``: nobody's record but its effect tells that an event was with its consumer.
    """
    confirmed = [event for event, published in way.published.items() if published]
    lost = [] if by_effect else [event for event in confirmed if event not in way.settled]
    alone = sorted(way.seen - way.published.keys())
    wrong = [event for event in alone if not way.late(op_of(event)) and not (forgiven and event in way.ends)]
    again = sum(way.fresh.values()) - len(way.fresh)
    told = {
        "lost in RabbitMQ: confirmed, and neither acknowledged by a consumer nor left": len(lost),
        "without a row": len(alone),
        "published again": again,
        "handed over again": way.redelivered,
        "in the dead-letter queue": len(way.dead),
    }
    return Finding(
        check=NAME,
        verdict="fail" if lost or wrong else "pass" if confirmed else "inconclusive",
        title=_title(len(lost), len(wrong), by_effect=by_effect),
        measured=(
            f"{count(len(confirmed), 'confirmed event')}"
            if by_effect
            else f"{len(lost):,} of {count(len(confirmed), 'confirmed event')} lost"
        )
        + f", {len(alone):,} without a row, {again:,} published again",
        allowed="none lost, " + ("those without a row that a failover may lose" if forgiven else "none without a row"),
        value=float(len(lost)),
        unit="ops",
        reason=_reason(len(confirmed), "; ".join(f"{number:,} {what}" for what, number in told.items() if number)),
        where=Where(group=f"queue {PRIORITY_QUEUE}"),
        rests_on=_rests_on(
            (*needs.OUTBOX, *needs.QUEUES, *(needs.PROFILES if by_effect else ())), bad=bool(lost or wrong)
        ),
        evidence=(*_evidence(history, way, lost, "lost in RabbitMQ"),
                  *_evidence(history, way, wrong, "event without its row"))[:EVIDENCE_MAX],
        evidence_total=len(lost) + len(wrong),
        measures={
            f"{NAME}.lost_in_rabbitmq_ops": float(len(lost)),
            f"{NAME}.without_row_ops": float(len(alone)),
            f"{NAME}.published_again_ops": float(again),
            f"{NAME}.redelivered_ops": float(way.redelivered),
            f"{NAME}.dead_lettered_ops": float(len(way.dead)),
        },
    )  # fmt: skip


def _title(lost: int, wrong: int, *, by_effect: bool) -> str:
    if lost:
        return f"{count(lost, 'confirmed event')} lost"
    if wrong:
        return f"{count(wrong, 'event')} without its row"
    return "every event has its row" if by_effect else "every confirmed event came, or is left"


def _reason(total: int, told: str) -> str:
    return told if total else "; ".join(filter(None, ("no event came this far", told)))


def _rests_on(audit: tuple[str, ...], *, bad: bool) -> tuple[str, ...]:
    """A loss rests on what was read alone; consumers' records tell half of what was read from a queue."""
    recorded = (*audit, "assumption.history-whole", "assumption.generator-alive")
    others = () if bad else (*needs.WHOLE, *needs.LOAD, *needs.FAULT, *needs.PRIMARY)
    return tuple(dict.fromkeys((*recorded, *others)))


def _evidence(history: History, way: Way, found: list[str], what: str) -> Iterator[dict[str, Any]]:
    for event in found[:EVIDENCE_MAX]:
        row = way.ends.get(event)
        yield {"what": what, "event": event} | ({} if row is None else {"op": history.ops.name(row)})
