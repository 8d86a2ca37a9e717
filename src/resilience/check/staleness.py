"""Staleness of suggestions: none is made of a profile that is further behind than the bound that the stack states.

::

    profile of anna     version 6 acknowledged          version 7 acknowledged, or read
                        │                               │◀────── more than the bound ──────▶│ read: version 6, too stale

A profile's version grows with each change. Once somebody was told of a version (its write was acknowledged, or a read
gave it), a read that is called more than the bound later has to give at least that one. The instants are the clients'
own: what the service says of its lag is not asked. How stale a read was for certain is the time from the first answer
that had a later version to its call; the longest of that is told, whatever the bound. A read about somebody else than
was asked for is no answer at all.

A failover of PostgreSQL may take back what was acknowledged (`durability.postgresql`), and versions with it: where one
may have, reads that are too stale make the finding inconclusive.
"""

from typing import NamedTuple

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX
from resilience.check.durability.postgresql import excuses
from resilience.check.fault import POSTGRESQL, SECOND_US, after_fault
from resilience.check.finding import Finding, Verdict
from resilience.check.text import count, seconds
from resilience.check.versions import by_key, overtaken_at
from resilience.history.columns import OK, Flags, Ints
from resilience.history.people import OF_PEOPLE, READ
from resilience.history.read import History
from resilience.spec.scenario import Scenario

NAME = "staleness.suggestions"
OTHER_PERSON = "other-person"  # the error of an answer about somebody else (`loadgen.users.personalization`)


class _Reads(NamedTuple):
    """Reads that were answered: their rows, and for how long each was behind, for certain, in microseconds.

    ``older``: those that a version was known before for longer than the bound; the others show nothing.
    """

    rows: Ints
    behind_us: Ints
    older: Ints


def suggestions(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all people."""
    if scenario.stack.personalization is None:
        return ()
    bound_us = round(scenario.stack.personalization.staleness_bound_s * SECOND_US)
    ops = history.ops
    others = np.flatnonzero(ops.of_kind(*OF_PEOPLE) & ops.with_error(OTHER_PERSON))
    reads = _read(history, (ops.outcome == OK) & (ops.version >= 0) & ~ops.with_error(OTHER_PERSON), bound_us)
    after = after_fault(history)
    too_little = "" if len(reads.older) else "no read came longer after a version was known than the bound"
    if not too_little and after is not None and not (ops.called[reads.older] > after.since).any():
        too_little = f"no read that shows anything was answered after the {after.name}"
    stale = reads.rows[reads.behind_us > bound_us]
    worst_s = float(reads.behind_us.max(initial=0)) / SECOND_US
    taken_back = bool(len(stale)) and bool(excuses(scenario, history, POSTGRESQL))
    reason = "; ".join(filter(None, (
        f"{count(len(stale), 'read')} staler than the bound" if len(stale) else "",
        "a failover may have taken back what was known" if taken_back else "",
        f"{count(len(others), 'answer')} about somebody else" if len(others) else "",
        too_little,
    )))  # fmt: skip
    verdict: Verdict = "inconclusive" if too_little else "pass"
    if len(others) or (len(stale) and not taken_back):
        verdict = "fail"
    elif taken_back:
        verdict = "inconclusive"
    found = [("staler than the bound", row) for row in stale.tolist()]
    found += [("about somebody else", row) for row in others.tolist()]
    return (
        Finding(
            check=NAME,
            verdict=verdict,
            title="No suggestion is staler than its bound",
            measured=f"{count(len(reads.rows), 'read')}, {len(stale):,} too stale, the worst {seconds(worst_s)} behind",
            allowed=f"≤ {seconds(bound_us / SECOND_US)} behind",
            value=worst_s,
            unit="s",
            reason=reason,
            rests_on=needs.RECORD if verdict == "fail" else needs.WHOLE + needs.LOAD + needs.FAULT,
            evidence=tuple(
                {"what": what, "person": ops.keys[ops.key[row]], "op": ops.name(row)}
                for what, row in found[:EVIDENCE_MAX]
            ),
            evidence_total=len(found),
            measures={f"{NAME}.worst_s": worst_s, f"{NAME}.too_stale_ops": float(len(stale))},
        ),
    )


def _read(history: History, answered: Flags, bound_us: int) -> _Reads:
    ops = history.ops
    is_read = ops.of_kind(READ)
    rows, behind, older = [], [], []
    for _, known in by_key(ops, np.flatnonzero(answered & ops.of_kind(*OF_PEOPLE))):
        reads = known[is_read[known]]
        missed = overtaken_at(ops.version[known], ops.returned[known], ops.version[reads])
        rows.append(reads)
        behind.append(np.maximum(0, ops.called[reads] - missed))
        older.append(reads[ops.called[reads] - ops.returned[known].min() > bound_us])
    if not rows:
        nothing = np.zeros(0, dtype=np.int64)
        return _Reads(nothing, nothing, nothing)
    return _Reads(np.concatenate(rows), np.concatenate(behind), np.concatenate(older))
