"""Recovery of RabbitMQ's consumers: how long no message of a queue was handed to any of them.

::

    took effect    first delivery       later ones
    |──────────────|────|────|──────────|────|
     first_delivery_s             outage_s, the longest of all

Which intervals are outages is `check.rabbitmq.deliveries`' matter. A queue is *hit* if an injection's members are among
those that lead it or hold a copy of it, or that its consumer was connected to.

How long it may be is the configuration's: a silent member is given up after 125 % of ``net_ticktime``, and one that was
cut off stops then, which took 14 s at most; that a leader is elected, or that a member starts, takes less. An objective
may ask for more (``recovery.rabbitmq.outage_s``). Only under ``pause_minority`` does one stop that was cut off from its
peers: under the others it keeps its consumers, and has nothing for them, for as long as the cut lasts.
"""

from collections.abc import Iterator

import numpy as np

from resilience.check import needs
from resilience.check.fault import SECOND_US, Applied, injections
from resilience.check.finding import Finding, Where
from resilience.check.left_alone import left_alone
from resilience.check.outage import Outage, longest, where
from resilience.check.rabbitmq.deliveries import deliveries_of
from resilience.check.rabbitmq.place import consumers_at, copies_at, leader_at
from resilience.check.recovery import UNEXPECTED_OUTAGE_S
from resilience.check.text import seconds
from resilience.history.columns import Ints
from resilience.history.read import History
from resilience.spec.fault import Partition
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.rabbitmq_coherence import GIVEN_UP_AFTER
from resilience.spec.scenario import Scenario

NAME = "recovery.rabbitmq"
SETTLED_AFTER_S = 25.0  # of whoever was given up: stopped, replaced, and found by consumers
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING


def recovery_of_consumers(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each queue that was published to."""
    ops = history.ops
    queues = [ops.keys[code] for code in np.unique(ops.key[ops.of_kind("rabbitmq.publish")]).tolist()]
    return tuple(_judged(scenario, history, queue) for queue in queues)


def _judged(scenario: Scenario, history: History, queue: str) -> Finding:
    deliveries = deliveries_of(scenario, history, queue)
    if deliveries is None:
        return Finding(
            check=NAME,
            verdict="inconclusive",
            title="Consumers were handed messages",
            reason="no consumer dealt with a message before the load ended",
            where=Where(group=f"queue {queue}"),
            rests_on=_RESTS_ON,
        )
    handed, found = deliveries.handed, deliveries.outages
    hit = next(((one, how) for one in injections(history) if (how := _how_hit(scenario, history, queue, one))), None)
    if hit is None:
        return _spared(history, queue, longest(found))
    injection, how = hit
    since = tuple(outage for outage in found if outage.end > injection.began)
    unended = longest(tuple(outage for outage in since if _never_again(outage)))
    measures = dict(_measures(injection, handed, unended or longest(since)))
    return _restored(queue, how, unended or longest(since), measures, bound_of(scenario, injection))


def _how_hit(scenario: Scenario, history: History, queue: str, injection: Applied) -> str:
    """In which way a queue suffered from an injection, "" if in none. Of one that nobody saw all may hold a copy."""
    members = {member.name for member in scenario.stack.of("rabbitmq")}
    struck = members & set(injection.members)
    leader = leader_at(history, queue, injection.began)
    copies = copies_at(history, queue, injection.began) or members
    if leader in struck:
        return f"its leader {leader} was hit"
    if consumers := struck & consumers_at(history, queue, injection.began):
        return f"{', '.join(sorted(consumers))} was hit, to which its consumer was connected"
    return f"{', '.join(sorted(struck & copies))} was hit, which holds a copy of it" if struck & copies else ""


def _restored(queue: str, how: str, outage: Outage | None, measures: dict[str, float], bound_s: float) -> Finding:
    reason = _not_in_time(outage, measures, bound_s)
    return Finding(
        check=NAME,
        verdict="fail" if reason else "pass",
        title=f"Consumers were handed messages again after {how}",
        measured=_measured(measures),
        allowed=f"again before the load ends, and within {seconds(bound_s)}, as the configuration has it",
        value=measures[f"{NAME}.outage_s"],
        unit="s",
        reason=reason,
        where=where(f"queue {queue}", outage),
        rests_on=_RESTS_ON + needs.FAULT,
        evidence=tuple({"what": name, "value": value} for name, value in measures.items()),
        evidence_total=len(measures),
        measures=measures,
    )


def bound_of(scenario: Scenario, injection: Applied) -> float:
    """How long consumers may be without messages by the configuration of the cluster, in seconds."""
    rabbitmq = scenario.stack.rabbitmq
    assert rabbitmq is not None
    unnoticed_s = GIVEN_UP_AFTER * rabbitmq.net_ticktime_s
    if injection.healed is not None and _goes_on_alone(scenario, rabbitmq):
        unnoticed_s = max(unnoticed_s, (injection.healed - injection.began) / SECOND_US)
    return unnoticed_s + SETTLED_AFTER_S


def _goes_on_alone(scenario: Scenario, rabbitmq: Rabbitmq) -> bool:
    """Whether a member that is cut off from its peers keeps its consumers until that is healed."""
    match scenario.experiment.fault if scenario.experiment else None:
        case Partition(cut_from="peers"):
            return rabbitmq.cluster_partition_handling != "pause_minority"
        case _:
            return False


def _measures(injection: Applied, handed: Ints, outage: Outage | None) -> Iterator[tuple[str, float]]:
    """What is known of the recovery, in seconds."""
    yield f"{NAME}.outage_s", outage.length_s if outage else 0.0
    after = handed[handed >= injection.applied]
    if len(after):
        yield f"{NAME}.first_delivery_s", (int(after[0]) - injection.applied) / SECOND_US


def _never_again(outage: Outage) -> bool:
    """Whether an outage lasted to the load's end; a moment then is a busy machine."""
    return not outage.ended and outage.length_s > UNEXPECTED_OUTAGE_S


def _not_in_time(outage: Outage | None, measures: dict[str, float], bound_s: float) -> str:
    if outage is not None and _never_again(outage):
        return f"no message was handed to anybody in the last {seconds(outage.length_s)} of the load"
    return "later than the configuration explains" if measures[f"{NAME}.outage_s"] > bound_s else ""


def _measured(measures: dict[str, float]) -> str:
    outage, first = measures[f"{NAME}.outage_s"], measures.get(f"{NAME}.first_delivery_s")
    longest_one = f"longest outage {seconds(outage)}" if outage else "no outage"
    return f"{longest_one}, first delivery {'never' if first is None else f'after {seconds(first)}'}"


def _spared(history: History, queue: str, outage: Outage | None) -> Finding:
    return left_alone(
        history,
        outage,
        check=NAME,
        title="Consumers were handed messages all the time, since the queue was left alone",
        lack="no message was handed to anybody",
        where=where(f"queue {queue}", outage),
        rests_on=_RESTS_ON,
    )
