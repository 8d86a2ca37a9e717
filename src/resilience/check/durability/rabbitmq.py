"""Messages of RabbitMQ: each that was confirmed must have been acknowledged by a consumer, or be in a queue at the end.

Publishes and sights of messages are compared as multisets, queue by queue, after all queues have been drained. A
message that was never seen again is lost. One that died by design (expired, rejected, delivered too often) and is in
its dead-letter queue is there; how many are, and why, is told. The server promises *at least once*: a message may come
again if it is flagged as redelivered, or if its publish was repeated; without either it is a duplicate.

A message that was handed over is its consumer's only once that has acknowledged it: until then the server has to keep
it, and to hand it over again. One that nobody acknowledged, and that is not there at the end, is lost like any other,
and counted as *unsettled* besides, since somebody had it in hand. How often a lost message was handed over tells what
it was lost by: never or once with the server that held it, once with a consumer that acknowledged automatically, as
often as the delivery limit lets it where it was dropped by that.

A fault can only lose what is there: how many messages were *at rest* as it took effect (confirmed, and kept by the
server: acknowledged by no consumer, not dead) is told of each queue, and how many consumers *held*: they had been
handed those, and had not dealt with them. The server keeps them all the same, so they are at rest as well, unless it
takes a message for acknowledged as it sends it: what is held is then its consumer's alone, and dies with the
connection. Where nothing was at rest or held, that none is lost says nothing. Nor does it of a queue whose leader was
hit, if most of that was held by a consumer which was connected to somebody else.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import Booked, Defect, Ledger, What, findings
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import Applied, injections
from resilience.check.finding import Finding, Where
from resilience.check.rabbitmq.place import leader_at, member_of
from resilience.check.rabbitmq.traffic import NONE, Traffic, traffic
from resilience.check.text import count
from resilience.history.columns import FAIL, OK, UNKNOWN, Codes, Flags, Ints, of_codes
from resilience.history.content import is_job
from resilience.history.outbox import is_event
from resilience.history.read import History
from resilience.history.record import NEVER
from resilience.spec.scenario import Scenario

NAME = "durability.rabbitmq"
_LESS_SURE = np.array([0, 2, 1])  # by outcome: an acknowledged publish is there before one that is unknown, or refused


def rabbitmq(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each queue that is published to, or that something is in which nobody published."""
    seen = traffic(history)
    booked = book(history, seen)
    ledger = Ledger(
        name=NAME,
        noun="message",
        audit=(*needs.QUEUES, "assumption.history-whole", "assumption.generator-alive"),  # consumers tell half of it
        primaries=(),
        place=lambda queue: f"queue {seen.queues[queue]}",
        excuses=lambda *_: (),  # what is confirmed is on the disks of a majority, or on that of a classic queue's node
        hits=lambda _: (),
        by_phase=True,
    )
    found = findings(ledger, scenario, history, booked) if seen.queues else ()
    found = tuple(_told(finding, history, seen, booked.lost) for finding in found)
    found += tuple(_unpublished(scenario, found))
    applied = next(iter(injections(history)), None)
    if applied is None:
        return found
    stake = _stake(scenario, history, seen, applied)
    return tuple(_at_stake(finding, seen, stake, booked.lost) for finding in found)


def _unpublished(scenario: Scenario, found: tuple[Finding, ...]) -> Iterator[Finding]:
    """A finding for each queue that the load publishes to and that none of these speaks of."""
    told = {finding.where.group for finding in found}
    for group in (f"queue {queue}" for queue in scenario.stack.load_queues):
        if group not in told:
            yield Finding(
                check=NAME,
                verdict="inconclusive",
                title="messages could not be judged",
                reason="nothing was published to it",
                where=Where(group=group),
            )


def book(history: History, seen: Traffic) -> Booked:
    """What consumers and the audit saw of the publishes; an op's group is its queue."""
    writes = np.zeros(len(history.ops), dtype=np.bool_)
    writes[seen.sent] = True
    group = np.zeros(len(history.ops), dtype=np.int32)
    group[seen.sent] = seen.sent_queue
    outcome, rank = history.ops.outcome[seen.sent], _ranks(history, seen)
    sights = seen.times(np.ones(len(seen.value), dtype=np.bool_))
    settled = seen.times(seen.acked | seen.drained)
    fresh = np.maximum(seen.times(seen.fresh), sights > 0)  # one that was only seen flagged came once at least
    late = unrecorded(history, writes)
    unsent = np.flatnonzero((seen.own == NONE) & (sights > 0)).tolist()
    strangers = [code for code in unsent if not _of_a_service(seen.values[code])]
    beyond = {code for code in strangers if late(seen.values[code])}
    places = _first_places(seen) if strangers else {}
    there = rank < fresh[seen.sent_value]
    return Booked(
        writes=writes,
        group=group,
        lost=seen.sent[(outcome == OK) & (rank >= settled[seen.sent_value])],
        recovered=seen.sent[(outcome == UNKNOWN) & there],
        defects=(
            *_refused(history, seen, (outcome == FAIL) & there),
            *_duplicates(seen, outcome),
            *_misplaced(seen),
            *(_defect("unexpected", seen, places[code], code, "nobody published it")
              for code in strangers if code not in beyond),
        ),
        unrecorded=tuple(places[code] for code in beyond),
    )  # fmt: skip


def _of_a_service(value: str) -> bool:
    """Whether a message is one that a service publishes, which other checks follow (`hops`, `content`)."""
    return is_event(value) or is_job(value)


def _ranks(history: History, seen: Traffic) -> Ints:
    """Of each publish how many others of the same value are surer to be there than it."""
    order = np.lexsort((_LESS_SURE[history.ops.outcome[seen.sent]], seen.sent_value))
    sorted_values = seen.sent_value[order]
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(sorted_values, sorted_values)
    return ranks


def _first_places(seen: Traffic) -> dict[int, int]:
    """Of each value that was seen the queue that it was seen in first."""
    return dict(zip(seen.value[::-1].tolist(), seen.queue[::-1].tolist(), strict=True))


def _refused(history: History, seen: Traffic, which: Flags) -> Iterator[Defect]:
    for index in np.flatnonzero(which).tolist():
        code, row = int(seen.sent_value[index]), int(seen.sent[index])
        yield _defect("refused but there", seen, int(seen.sent_queue[index]), code, history.ops.name(row))


def _duplicates(seen: Traffic, outcome: Codes) -> Iterator[Defect]:
    """Values that came as new, or died, more often than they were published."""
    published = np.bincount(seen.sent_value[outcome != FAIL], minlength=len(seen.values))
    allowed = np.maximum(published, 1)
    for what, times in (("was handed out as new", seen.times(seen.fresh)), ("died", seen.times(seen.died))):
        for code in np.flatnonzero((seen.own != NONE) & (times > allowed)).tolist():
            detail = f"{what} {times[code]} times, published {published[code]} times"
            yield _defect("duplicated", seen, int(seen.own[code]), code, detail)


def _misplaced(seen: Traffic) -> Iterator[Defect]:
    """Messages that were seen in another queue than their own, alive."""
    own = seen.own[seen.value]
    for index in np.flatnonzero((own != NONE) & ~seen.dead & (seen.queue != own)).tolist():
        detail = f"was published to {seen.queues[own[index]]}"
        yield _defect("unexpected", seen, int(seen.queue[index]), int(seen.value[index]), detail)


def _defect(what: What, seen: Traffic, queue: int, value: int, detail: str) -> Defect:
    return Defect(what=what, group=queue, key=seen.values[value], detail=detail)


def _told(finding: Finding, history: History, seen: Traffic, lost: Ints) -> Finding:
    """The finding, which also says how often messages came again, which died and of what, and which nobody settled."""
    queue = _queue_of(finding, seen)
    of_it = seen.own[seen.value] == queue
    reasons = _deaths(history, seen, queue)
    counts = {
        "redelivered": int((of_it & seen.redelivered & ~seen.drained).sum()),
        "dead_lettered": int((of_it & seen.died).sum()),
        "unsettled": _unsettled(seen, queue),
    }
    words = {
        "redelivered": "handed over again",
        "dead_lettered": f"in the dead-letter queue ({', '.join(f'{n:,} {of}' for of, n in reasons.items())})",
        "unsettled": "handed over, never acknowledged and not left",
    }
    told = [finding.reason, *(f"{number:,} {words[name]}" for name, number in counts.items() if number)]
    measures = {f"{NAME}.{name}_ops": float(number) for name, number in counts.items()} | _handed(seen, queue, lost)
    return replace(finding, reason="; ".join(filter(None, told)), measures=finding.measures | measures)


def _handed(seen: Traffic, queue: int, lost: Ints) -> dict[str, float]:
    """How often consumers were handed the lost messages of a queue, at least and at most; nothing if none is lost."""
    values = seen.sent_value[np.isin(seen.sent, lost) & (seen.sent_queue == queue)]
    if not len(values):
        return {}
    times = seen.times(~seen.drained)[values]
    return {f"{NAME}.lost_handed_least": float(times.min()), f"{NAME}.lost_handed_most": float(times.max())}


def _deaths(history: History, seen: Traffic, queue: int) -> Counter[str]:
    """Of what the messages of a queue died that are in its dead-letter queue, or were taken out of it."""
    messages = history.audit.messages
    of_it = seen.died & (seen.own[seen.value] == queue)
    died_of = messages.died_of[of_it[seen.drained]].tolist()  # the audit's are all those that were drained
    found = Counter(messages.reasons[code] or "for no known reason" for code in died_of)
    return found + Counter({"handed over there": int((of_it & ~seen.drained).sum())})


def _unsettled(seen: Traffic, queue: int) -> int:
    """How many messages of a queue were handed over, and neither acknowledged, nor seen again by the audit."""
    settled = seen.times(seen.acked | seen.drained) > 0
    handed = seen.times(~seen.drained) > 0
    return int((handed & ~settled & (seen.own == queue)).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stake:
    """Where each value was that a fault could have lost as it took effect."""

    rest: Flags  # at rest in a queue
    held: Flags  # with a consumer
    kept: bool  # whether the server keeps what is held
    apart: Flags  # of what it does not: held by a consumer that was connected to nobody whom the fault hit
    elsewhere: dict[int, str]  # of a queue whose leader was hit, to whom consumers with such ones were connected


def _stake(scenario: Scenario, history: History, seen: Traffic, injection: Applied) -> _Stake:
    rabbitmq = scenario.stack.rabbitmq
    unsettled = _unsettled_at(history, seen, injection.applied)
    holding = _holding(history, injection.began)  # a consumer may lose its connection before all has taken effect
    held = unsettled & (seen.times(holding) > 0)
    if rabbitmq is None or rabbitmq.acknowledgement == "manual":
        return _Stake(rest=unsettled, held=held, kept=True, apart=np.zeros_like(held), elsewhere={})
    consumed, members = history.consumed, member_of(history)
    at = [members.get(consumer, "somebody who is not on record") for consumer in consumed.consumers]
    holding[: len(consumed)] &= of_codes(consumed.consumer, (member not in injection.members for member in at))
    elsewhere = {
        code: ", ".join(sorted({at[consumer] for consumer in seen.consumer[holding & (seen.queue == code)].tolist()}))
        for code, name in enumerate(seen.queues)
        if leader_at(history, name, injection.began) in injection.members
    }
    apart = held & (seen.times(holding) > 0)
    return _Stake(rest=unsettled & ~held, held=held, kept=False, apart=apart, elsewhere=elsewhere)


def _unsettled_at(history: History, seen: Traffic, instant_us: int) -> Flags:
    """Which values were confirmed by an instant, and neither dealt with by then nor dead."""
    ops, consumed = history.ops, history.consumed
    confirmed = (ops.outcome[seen.sent] == OK) & (ops.returned[seen.sent] <= instant_us)
    found = np.zeros(len(seen.values), dtype=np.bool_)
    found[seen.sent_value[confirmed]] = True
    taken = seen.acked.copy()
    taken[: len(consumed)] &= consumed.at <= instant_us
    found[seen.value[taken | seen.dead]] = False
    return found


def _holding(history: History, instant_us: int) -> Flags:
    """Which sights are of a message that a consumer had been handed by an instant, and dealt with, or lost, later."""
    consumed, drained = history.consumed, len(history.audit.messages)
    held = (consumed.came != NEVER) & (consumed.came <= instant_us) & (instant_us < consumed.at)
    return np.concatenate((held, np.zeros(drained, dtype=np.bool_)))


def _at_stake(finding: Finding, seen: Traffic, stake: _Stake, lost: Ints) -> Finding:
    """The finding, which also says how much the fault could lose; a pass that had nothing to lose is none."""
    queue = _queue_of(finding, seen)
    mine = seen.own == queue
    gone = np.zeros_like(mine)
    gone[seen.sent_value[np.isin(seen.sent, lost)]] = True
    rest, held, apart = (int((mine & flags).sum()) for flags in (stake.rest, stake.held, stake.apart))
    measures = {
        "at_rest_ops": rest,
        "lost_at_rest_ops": int((mine & stake.rest & gone).sum()),
        "held_ops": held,
        "lost_held_ops": int((mine & stake.held & gone).sum()),
    }
    there = f"{count(rest, 'message')} at rest as the fault took effect"
    told = replace(
        finding,
        measured=f"{finding.measured}; {there}, {held:,} {'of them' if stake.kept else 'more'} held by consumers",
        measures=finding.measures | {f"{NAME}.{name}": float(number) for name, number in measures.items()},
    )
    total = rest if stake.kept else rest + held
    reason = _nothing_to_lose(total, apart, stake.elsewhere.get(queue))
    if finding.verdict != "pass" or not reason:
        return told
    return replace(told, verdict="inconclusive", reason="; ".join(filter(None, (reason, finding.reason))))


def _nothing_to_lose(total: int, apart: int, elsewhere: str | None) -> str:
    """That the fault could not lose anything, or not most of what there was; "" where it could."""
    if not total:
        return "nothing was at rest in it that the fault could have lost"
    if elsewhere is None or 2 * apart <= total:
        return ""
    held = f"{apart:,} of {count(total, 'message')} that it could have lost"
    return f"{held} were with a consumer that was connected to {elsewhere}, which the fault did not hit"


def _queue_of(finding: Finding, seen: Traffic) -> int:
    return next((code for code, name in enumerate(seen.queues) if finding.where.group == f"queue {name}"), NONE)
