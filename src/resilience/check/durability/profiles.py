"""The last hop of an event: what it changes in the profile of whose session has ended.

The personalization service acknowledges an event after its effect. So once all has settled, an event that was confirmed
is among those that have had their effect, or it is left in its queue, or in that for dead letters. One that is nowhere
was acknowledged too soon, or lost in RabbitMQ: who consumes is no client of ours, so nobody but the effect tells which.

A profile counts each event of its person once, however often that came: it has to say as many ends as there are events
with their effect of that person. And each interest that was acknowledged has made a version, so that no profile may be
at an earlier one than its people were told of; one whose answer named none cannot be looked for.
"""

from collections import Counter

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX
from resilience.check.durability.hops import Stream, Way, evidence, rests_on
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import OK
from resilience.history.people import WRITE
from resilience.history.read import History

GROUP = "profiles"


def of_profiles(stream: Stream, history: History, way: Way) -> Finding:
    """Whether every event that was confirmed has had its effect, or is left; and whether profiles say as much."""
    confirmed = way.confirmed
    lost = [event for event in confirmed if event not in way.settled]
    counted = Counter(read.person for read in history.audit.effects if read.person)
    says = {read.person: read.sessions for read in history.audit.profiles}
    wrong = sorted(person for person in {*counted, *says} if counted[person] != says.get(person, 0))
    behind, unnamed = _behind(history)
    had = len(history.audit.effects)
    reasons = (
        f"{count(len(lost), 'event')} confirmed, in no queue, and without effect" if lost else "",
        f"{count(len(wrong), 'profile')} with another number of ends than events" if wrong else "",
        f"{count(len(behind), 'interest')} acknowledged and not there" if behind else "",
        f"{count(unnamed, 'interest')} acknowledged by an answer that names no version to look for" if unnamed else "",
        "" if had else "no event came this far",
    )
    number = len(lost) + len(wrong) + len(behind)
    found = (
        *evidence(history, way.ops, lost, "without effect"),
        *({"what": "miscounted", "person": one, "ends": says.get(one, 0), "events": counted[one]} for one in wrong),
        *({"what": "interest lost", "person": history.ops.keys[history.ops.key[row]], "op": history.ops.name(row)}
          for row in behind),
    )  # fmt: skip
    return Finding(
        check=stream.name,
        verdict="fail" if number else "pass" if had and not unnamed else "inconclusive",
        title="each event that was consumed shows in its profile, once",
        measured=f"{len(lost):,} of {count(len(confirmed), 'confirmed event')} without effect, {had:,} had theirs, "
        f"{count(len(says), 'profile')}",
        allowed="each has its effect, or is left in a queue; profiles count each once, and keep what they acknowledged",
        value=float(len(lost)),
        unit="ops",
        reason="; ".join(filter(None, reasons)),
        where=Where(group=GROUP),
        rests_on=rests_on((*stream.audit, *needs.QUEUES, *needs.PROFILES), bad=bool(number)),
        evidence=found[:EVIDENCE_MAX],
        evidence_total=number,
        measures={
            f"{stream.name}.without_effect_ops": float(len(lost)),
            f"{stream.name}.miscounted_profiles": float(len(wrong)),
            f"{stream.name}.lost_interest_ops": float(len(behind)),
        },
    )


def _behind(history: History) -> tuple[list[int], int]:
    """Interests that were acknowledged with a version which their profile has not reached; how many without one."""
    ops = history.ops
    versions = {read.person: read.version for read in history.audit.profiles}
    rows = np.flatnonzero(ops.of_kind(WRITE) & (ops.outcome == OK))
    behind = [row for row in rows.tolist() if ops.version[row] > versions.get(ops.keys[ops.key[row]], 0)]
    return behind, int((ops.version[rows] < 0).sum())
