"""Agreement of RabbitMQ after healing: every member sees the same leader and members of each queue.

There is no partition and no alarm, and nothing is unacknowledged where there is no consumer: such a message is handed
to nobody any more. It is looked at once the load has ended (`resilience.stack.converge` waits for it);
``convergence.queues_took_s`` counts from the last healing, and since nobody looks before, all may have been at one
earlier.
"""

from collections.abc import Iterator, Sequence

import msgspec

from resilience.check import needs
from resilience.check.fault import SECOND_US, injections, too_early
from resilience.check.finding import Finding
from resilience.check.text import count, seconds
from resilience.history.queues import QueuesSeen, amiss, unknown
from resilience.history.read import History
from resilience.spec.rabbitmq import all_queues
from resilience.spec.scenario import Scenario

NAME = "convergence.queues"
SHOWN = 3  # reasons in one line


def agreement(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all members and queues."""
    events = history.events_of("queues")
    if scenario.stack.rabbitmq is None:
        return ()
    if not events:
        return (_finding(unknown_because=["what the members said of their queues is not on record"]),)
    seen = msgspec.convert(events[-1].data, QueuesSeen)
    wrong = [*amiss(seen), *_incomplete(scenario, seen)]
    return (
        _finding(
            measured=f"{count(len(seen.members), 'member')} asked, {_seen_by_all(seen)} queues the same to all",
            wrong=wrong,
            unknown_because=[*_unasked(scenario, history, seen), *unknown(seen)],
            took_s=None if wrong else _took_s(history, seen),
        ),
    )


def _seen_by_all(seen: QueuesSeen) -> int:
    """How many queues every member describes in the same words."""
    told = [set(said.queues) for said in seen.members.values()]
    return len(set.intersection(*told)) if told else 0


def _incomplete(scenario: Scenario, seen: QueuesSeen) -> Iterator[str]:
    """Queues of the stack that a member does not know, or that lack a copy."""
    rabbitmq = scenario.stack.rabbitmq
    assert rabbitmq is not None
    copies = len(scenario.stack.of("rabbitmq")) if rabbitmq.queue_kind == "quorum" else 1
    for name, said in seen.members.items():
        known = {queue.queue: queue for queue in said.queues}
        for queue in () if said.error else all_queues(rabbitmq):
            if queue not in known:
                yield f"{name} knows of no queue {queue}"
            elif len(known[queue].online) < copies:
                yield f"{queue} has {len(known[queue].online)} of {copies} copies online by the word of {name}"


def _unasked(scenario: Scenario, history: History, seen: QueuesSeen) -> Iterator[str]:
    """Members that were not asked, and that it was too early."""
    missing = [member.name for member in scenario.stack.of("rabbitmq") if member.name not in seen.members]
    yield from (f"{name} was not asked" for name in missing)
    if early := too_early(history, "queues"):
        yield f"the members were asked {early}"


def _took_s(history: History, seen: QueuesSeen) -> float | None:
    """Seconds from the last healing to the instant from which on nothing was amiss; nothing where none was injected."""
    healed = [injection.healed for injection in injections(history) if injection.healed is not None]
    if not healed or seen.whole_us is None:
        return None
    return max(0, seen.whole_us - max(healed)) / SECOND_US


def _finding(
    *,
    measured: str = "",
    wrong: Sequence[str] = (),
    unknown_because: Sequence[str] = (),
    took_s: float | None = None,
) -> Finding:
    reasons = wrong or unknown_because
    more = len(reasons) - SHOWN
    after = "" if took_s is None else f", at the latest {seconds(took_s)} after healing"
    return Finding(
        check=NAME,
        verdict="fail" if wrong else "inconclusive" if reasons else "pass",
        title="Every member of RabbitMQ sees the same queues, and none holds what nobody will be handed",
        measured=measured + after,
        allowed="one leader and the same members of each queue; no partition, alarm or orphaned message",
        value=took_s,
        unit="s",
        reason="; ".join(reasons[:SHOWN]) + (f"; and {more} more" if more > 0 else ""),
        rests_on=needs.WHOLE + needs.FAULT,
        evidence=tuple({"what": reason} for reason in reasons),
        evidence_total=len(reasons),
        measures={} if took_s is None or reasons else {f"{NAME}_took_s": took_s},
    )
