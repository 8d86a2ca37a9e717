"""Order of messages: what was confirmed before another message was sent comes out of the queue before it.

::

    published, one after another    1  2  3  4  5  6        the largest before it
    handed to one consumer          1     3  2  4           3: one inversion, displaced by 1
    drained when all was over                      6  5     6: another one

Whoever published them: that two were under way at the same time says nothing of their order. Looked at is what the
server gives out for the first time: what it flags as redelivered may come late, that is what the flag says, and so may
what died. What a consumer rejects as it comes, or loses with its connection, is on record at another moment than what
it deals with in turn, so it has no place. Of two consumers of a queue one may be slower, so each is held to its own
order; what was drained comes after all of them. Only acknowledged publishes have a place, by when they were called: one
that is unknown may still have come after later ones, and one that was repeated has two. A *gap* is a place that nobody
was given for the first time, though a later one was: it came flagged, died, or is lost (``durability.rabbitmq``), so it
is told and no fail.

A queue with priorities is held to it, too: the load gives no message one, and those of the same priority keep their
order. A queue that nothing was published to, that gave out no message after another one, or none since the fault, has
shown no order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience.check import needs
from resilience.check.fault import injections
from resilience.check.finding import Finding, Where
from resilience.check.rabbitmq.traffic import NONE, Traffic, traffic
from resilience.check.text import count
from resilience.history.columns import OK, Codes, Flags, Ints
from resilience.history.read import History
from resilience.spec.scenario import Scenario

NAME = "order.rabbitmq"
EVIDENCE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ordered:
    """The first deliveries, one entry each, by queues and consumers and in the order in which they came.

    ``before`` is the largest place in the queue that came earlier to this consumer, or to any if the message was
    drained (`NONE`: nothing did).
    """

    sight: Ints  # into the traffic's columns
    row: Ints  # the op that published it
    queue: Ints
    place: Ints
    before: Ints
    inverted: Flags  # whether it was confirmed before something was sent that came earlier


def order_of_messages(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each queue that is published to."""
    seen = traffic(history)
    found, gaps = ordered(history, seen)
    queues = np.unique(seen.sent_queue).tolist()
    silent = [queue for queue in scenario.stack.load_queues if queue not in {seen.queues[code] for code in queues}]
    return (*(_of_queue(queue, history, seen, found, gaps) for queue in queues), *map(_of_nothing, silent))


def _of_nothing(queue: str) -> Finding:
    return Finding(
        check=NAME,
        verdict="inconclusive",
        title="Messages came in order",
        reason="nothing was published to it",
        unit="ops",
        where=Where(group=f"queue {queue}"),
    )


def ordered(history: History, seen: Traffic) -> tuple[Ordered, Ints]:
    """The first deliveries with their places; of each queue how many places nobody was given though a later one was."""
    ops = history.ops
    place, row = _places(history, seen)
    dealt_with = seen.fresh & (seen.acked | seen.drained)
    first = _first_sights(seen, dealt_with & (place[seen.value] != NONE) & (seen.queue == seen.own[seen.value]))
    drained = seen.consumer[first] == NONE
    first = first[np.lexsort((first, seen.consumer[first], drained, seen.queue[first]))]
    drained, value = seen.consumer[first] == NONE, seen.value[first]
    queue, places, rows = seen.queue[first].astype(np.int64), place[value], row[value]
    newest = np.full(len(seen.queues), NONE, dtype=np.int64)  # of each queue the largest place that was handed out
    np.maximum.at(newest, queue[~drained], places[~drained])
    before = _largest_before(queue, seen.consumer[first], places)
    before[drained] = np.maximum(before[drained], newest[queue[drained]])
    called = ops.called[_row_at(seen, place, row, queue, before)]
    found = Ordered(
        sight=first,
        row=rows,
        queue=queue,
        place=places,
        before=before,
        inverted=(before != NONE) & (ops.returned[rows] < called),
    )
    return found, _gaps(seen, place, first)


def _row_at(seen: Traffic, place: Ints, row: Ints, queue: Ints, wanted: Ints) -> Ints:
    """The ops that have these places in these queues; any op where `NONE` is wanted."""
    span = int(place.max(initial=NONE)) + 2
    values = np.flatnonzero(place != NONE)
    numbers = seen.own[values] * np.int64(span) + place[values]
    order = np.argsort(numbers)
    at = np.searchsorted(numbers[order], queue * span + np.maximum(wanted, 0))
    return row[values[order[at]]] if len(values) else np.empty(0, dtype=np.int64)


def _first_sights(seen: Traffic, which: Flags) -> Ints:
    """Of each value the first of these sights: another one is a duplicate, which has no place."""
    sights = np.flatnonzero(which)
    _, first = np.unique(seen.value[sights], return_index=True)
    return sights[np.sort(first)]


def _places(history: History, seen: Traffic) -> tuple[Ints, Ints]:
    """Of each value its place in its queue, by when it was called, and its op; `NONE` for one without a place."""
    ops = history.ops
    times = np.bincount(seen.sent_value, minlength=len(seen.values))
    sure = (ops.outcome[seen.sent] == OK) & (times[seen.sent_value] == 1)
    rows, value, queue = seen.sent[sure], seen.sent_value[sure], seen.sent_queue[sure]
    order = np.lexsort((ops.called[rows], queue))
    place = np.full(len(seen.values), NONE, dtype=np.int64)
    place[value[order]] = np.arange(len(order)) - np.searchsorted(queue[order], queue[order])
    row = np.full(len(seen.values), NONE, dtype=np.int64)
    row[value] = rows
    return place, row


def _largest_before(queues: Ints, consumers: Codes, places: Ints) -> Ints:
    """Of each delivery the largest place before it in its queue at its consumer; both are sorted."""
    begins = np.ones(len(places), dtype=np.bool_)
    begins[1:] = (np.diff(queues) != 0) | (np.diff(consumers) != 0)
    lift = np.cumsum(begins) * (int(places.max(initial=0)) + 2)  # no place of one stream reaches into the next
    largest = np.maximum.accumulate(places + lift) - lift
    before = np.full(len(places), NONE, dtype=np.int64)
    before[1:] = np.where(begins[1:], NONE, largest[:-1])
    return before


def _gaps(seen: Traffic, place: Ints, first: Ints) -> Ints:
    """Of each queue how many places nobody was given for the first time though a later one was."""
    given = np.zeros(len(seen.values), dtype=np.bool_)
    given[seen.value[first]] = True
    last = np.full(len(seen.queues) + 1, NONE, dtype=np.int64)
    np.maximum.at(last, seen.own[given], place[given])
    missed = (place != NONE) & ~given & (place < last[seen.own])
    return np.bincount(seen.own[missed], minlength=len(seen.queues))


def _of_queue(queue: int, history: History, seen: Traffic, found: Ordered, gaps: Ints) -> Finding:
    name = seen.queues[queue]
    of_it = found.queue == queue
    wrong = np.flatnonzero(of_it & found.inverted)
    furthest = int((found.before[wrong] - found.place[wrong]).max(initial=0))
    total, inverted = int(of_it.sum()), len(wrong)
    untold = _untold(history, seen, found, of_it)
    again = int(((seen.own[seen.value] == queue) & seen.redelivered).sum())
    return Finding(
        check=NAME,
        verdict="fail" if inverted else "inconclusive" if untold else "pass",
        title="Messages came in the order in which they were published",
        measured=f"{count(inverted, 'inversion')} among {count(total, 'message')} given out for the first time, "
        f"{count(int(gaps[queue]), 'gap')}, {again:,} redelivered",
        allowed="no inversion",
        value=float(inverted),
        unit="ops",
        reason=_reason(inverted, furthest) or untold,
        where=_where(name, seen, history, found.sight[wrong]),
        rests_on=needs.WHOLE + needs.LOAD + (() if inverted else needs.FAULT + needs.QUEUES),
        evidence=tuple(_item(history, seen, found, index) for index in wrong[:EVIDENCE_MAX].tolist()),
        evidence_total=inverted,
        measures={
            f"{NAME}.inverted_ops": float(inverted),
            f"{NAME}.displaced_places": float(furthest),
            f"{NAME}.gap_ops": float(gaps[queue]),
            f"{NAME}.redelivered_ops": float(again),
        },
    )


def _reason(inverted: int, furthest: int) -> str:
    if not inverted:
        return ""
    return f"{count(inverted, 'message')} came after later ones, by up to {count(furthest, 'place')}"


def _untold(history: History, seen: Traffic, found: Ordered, of_it: Flags) -> str:
    """Why what a queue gave out says nothing of its order, "" if it does."""
    second = of_it & (found.before != NONE)
    applied = max((injection.applied for injection in injections(history)), default=None)
    if not of_it.any():
        return "no message was given out for the first time"
    if not second.any():
        return "no message was given out after another one"
    if applied is not None and not (second & _since(history, seen, found.sight, applied)).any():
        return "no message was given out after another one since the fault"
    return ""


def _since(history: History, seen: Traffic, sights: Ints, instant_us: int) -> Flags:
    """Which of these sights came after an instant; what was drained came when all was over."""
    later = seen.drained.copy()
    later[: len(history.consumed)] |= history.consumed.at > instant_us
    chosen: Flags = later[sights]
    return chosen


def _where(name: str, seen: Traffic, history: History, sights: Ints) -> Where:
    """The window in which what came too late was handed over; what was drained has no instant."""
    at = history.consumed.at[sights[~seen.drained[sights]]]
    if not len(at):
        return Where(group=f"queue {name}")
    return Where(group=f"queue {name}", start_us=int(at.min()), end_us=int(at.max()))


def _item(history: History, seen: Traffic, found: Ordered, index: int) -> dict[str, Any]:
    ops, row, sight = history.ops, int(found.row[index]), int(found.sight[index])
    drained = bool(seen.drained[sight])
    item = {
        "what": "inversion",
        "op": ops.name(row),
        "key": ops.keys[ops.key[row]],
        "value": str(ops.value[row]),
        "consumer": "drained" if drained else history.consumed.consumers[seen.consumer[sight]],
        "detail": f"place {found.place[index]} came after place {found.before[index]}",
    }
    return item if drained else item | {"at_us": int(history.consumed.at[sight])}
