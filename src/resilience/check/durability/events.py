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

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import Booked, findings
from resilience.check.durability.hops import Stream, Way, of_queue, of_rows, sights_of, way_of, with_hop
from resilience.check.durability.postgresql import at_stake, book_named, excuses, of_postgresql
from resilience.check.durability.profiles import of_profiles
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import OK
from resilience.history.outbox import event_of, events_among, op_of
from resilience.history.read import History
from resilience.spec.rabbitmq import PRIORITY_QUEUE
from resilience.spec.scenario import Scenario

NAME = "durability.events"
ROWS = of_postgresql(NAME, "session end", needs.OUTBOX)
STREAM = Stream(
    name=NAME, rows="outbox", queue=PRIORITY_QUEUE, kind="session.end", audit=needs.OUTBOX, among=events_among
)


def events(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each hop."""
    way = follow(history)
    booked = book(history, way)
    forgiven = bool(excuses(scenario, history, POSTGRESQL))
    found = (at_stake(finding, history, booked) for finding in findings(ROWS, scenario, history, booked))
    rows = (_of_ends(finding, history, way, booked) for finding in found)
    by_effect = scenario.stack.personalization is not None
    queue = of_queue(STREAM, history, way, forgiven=forgiven, by_effect=by_effect)
    hops = (*rows, of_rows(STREAM, history, way), queue)
    return (*hops, of_profiles(STREAM, history, way)) if by_effect else hops


def follow(history: History) -> Way:
    """The ways of all events of a run."""
    ops = history.ops
    asked_for = ops.of_kind(STREAM.kind)
    ends, late = np.flatnonzero(asked_for).tolist(), unrecorded(history, asked_for)
    return way_of(
        sights_of(history, STREAM),
        ops={event_of(ops.keys[ops.key[row]], str(ops.value[row])): row for row in ends},
        published={read.event: read.published for read in history.audit.outbox},
        late=lambda event: late(op_of(event)),
        effects=frozenset(read.event for read in history.audit.effects),
    )


def _of_ends(finding: Finding, history: History, way: Way, booked: Booked) -> Finding:
    """The finding, which also names the hop, and says what Redis no longer has."""
    gone = _gone_from_redis(history, way)
    also = f"{count(gone, 'end')} gone from Redis though the row is there" if gone else ""
    finding = with_hop(finding, STREAM, way, booked, also)
    return replace(finding, measures=finding.measures | {f"{NAME}.gone_from_redis_ops": float(gone)})


def book(history: History, way: Way) -> Booked:
    """What the audit found of the rows of ends."""
    return book_named(history, [STREAM.kind], asked=way.ops, stored=way.published.keys(), late=way.late)


def _gone_from_redis(history: History, way: Way) -> int:
    """How many acknowledged ends have their row, and a session that was read and has not ended."""
    ops, sessions = history.ops, history.audit.sessions
    kept = (row for event, row in way.ops.items() if event in way.published and ops.outcome[row] == OK)
    reads = (sessions.get(ops.keys[ops.key[row]]) for row in kept)
    return sum(read is not None and read.exists and read.state != "ended" for read in reads)
