"""When a queue's consumers were handed messages, and its outages for them.

Consumers are behind, so there is always something for them: an interval in which a queue hands out nothing is an outage
if it is longer than the larger of three times the 99th percentile of such gaps before the fault, and two periods of the
schedule. It is looked at from when consumers began to deal with messages, and before the load's end: what the drain
takes out of a queue then was nobody's delivery.
"""

from typing import NamedTuple

import numpy as np

from resilience.check.fault import load_end_us
from resilience.check.outage import Outage, limit_us, silences
from resilience.history.columns import Flags, Ints
from resilience.history.read import History
from resilience.history.record import NEVER
from resilience.spec.scenario import Scenario


class Deliveries(NamedTuple):
    """What a queue's consumers were handed as long as the load went on."""

    handed: Ints  # the instants at which they were handed any; of older records those at which they dealt with any
    outages: tuple[Outage, ...]  # in the order of time
    limit_us: float  # what is shorter is none


def deliveries_of(scenario: Scenario, history: History, queue: str) -> Deliveries | None:
    """Those of a queue; None if nobody dealt with a message of it."""
    consumed = history.consumed
    steady, end = history.window("steady"), load_end_us(history)
    mine: Flags = np.array([name == queue for name in consumed.queues], dtype=np.bool_)[consumed.queue]
    dealt_with = consumed.at[mine & consumed.acked & (consumed.at <= end)]
    if not len(dealt_with):
        return None
    begin = max(int(dealt_with.min()), steady.start if steady else 0)
    told = mine & (consumed.came != NEVER)
    instants = np.concatenate((consumed.came[told], consumed.at[mine & ~told & consumed.acked]))
    handed = np.sort(instants[(instants >= begin) & (instants <= end)])
    limit = limit_us(history, handed, scenario.load.rabbitmq_ops_per_s)
    found = silences(begin, handed, end, limit)
    outages = (Outage(group=NEVER, start=start, end=end, error=0, ended=ended) for start, end, ended in found)
    return Deliveries(handed, tuple(outages), limit)
