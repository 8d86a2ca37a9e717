"""The last hop of an event: what it changes in the profile of whose session has ended.

The personalization service acknowledges an event after its effect. So once all has settled, an event that was confirmed
is among those that have had their effect, or it is left in its queue, or in that for dead letters. One that is nowhere
was acknowledged too soon, or lost in RabbitMQ: who consumes is no client of ours, so nobody but the effect tells which.

A profile counts each event of its person once, however often that came: it has to say as many ends as there are events
with their effect of that person. And each interest that was acknowledged has made a version, so that no profile may be
at an earlier one than its people were told of.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from resilience.check.durability.booking import EVIDENCE_MAX
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import OK
from resilience.history.read import History

GROUP = "profiles"


def of_profiles(
    name: str,
    history: History,
    *,
    confirmed: Collection[str],
    settled: Collection[str],
    ends: Mapping[str, int],
    rests_on: tuple[tuple[str, ...], tuple[str, ...]],
) -> Finding:
    """The finding of a check's ``name`` about this hop.

    ``settled`` are the events that are known to be somewhere, ``ends`` the op of each end that is on record; it rests
    on the first where something is amiss, else on the second.
    """
    audit = history.audit
    lost = [event for event in confirmed if event not in settled]
    counted = Counter(read.person for read in audit.effects if read.person)
    says = {read.person: read.sessions for read in audit.profiles}
    wrong = sorted(person for person in {*counted, *says} if counted[person] != says.get(person, 0))
    behind = _behind(history)
    had = len(audit.effects)
    reasons = (
        f"{count(len(lost), 'event')} confirmed, in no queue, and without effect" if lost else "",
        f"{count(len(wrong), 'profile')} with another number of ends than events" if wrong else "",
        f"{count(len(behind), 'interest')} acknowledged and not there" if behind else "",
        "" if had else "no event came this far",
    )
    bad = bool(lost or wrong or behind)
    evidence = (
        *_of_events(history, lost, ends),
        *({"what": "miscounted", "person": one, "ends": says.get(one, 0), "events": counted[one]} for one in wrong),
        *({"what": "interest lost", "person": history.ops.keys[history.ops.key[row]], "op": history.ops.name(row)}
          for row in behind),
    )  # fmt: skip
    return Finding(
        check=name,
        verdict="fail" if bad else "pass" if had else "inconclusive",
        title="each event that was consumed shows in its profile, once",
        measured=f"{len(lost):,} of {count(len(confirmed), 'confirmed event')} without effect, {had:,} had theirs, "
        f"{count(len(says), 'profile')}",
        allowed="each has its effect, or is left in a queue; profiles count each once, and keep what they acknowledged",
        value=float(len(lost)),
        unit="ops",
        reason="; ".join(filter(None, reasons)),
        where=Where(group=GROUP),
        rests_on=rests_on[0] if bad else rests_on[1],
        evidence=evidence[:EVIDENCE_MAX],
        evidence_total=len(evidence),
        measures={
            f"{name}.without_effect_ops": float(len(lost)),
            f"{name}.miscounted_profiles": float(len(wrong)),
            f"{name}.lost_interest_ops": float(len(behind)),
        },
    )


def _of_events(history: History, lost: list[str], ends: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for event in lost:
        row = ends.get(event)
        yield {"what": "without effect", "event": event} | ({} if row is None else {"op": history.ops.name(row)})


def _behind(history: History) -> list[int]:
    """Interests that were acknowledged with a version which their profile has not reached."""
    ops = history.ops
    versions = {read.person: read.version for read in history.audit.profiles}
    rows = np.flatnonzero(ops.of_kind("profile.write") & (ops.outcome == OK))
    return [row for row in rows.tolist() if ops.version[row] > versions.get(ops.keys[ops.key[row]], 0)]
