"""Session guarantees: what one person, who does one thing after another, may rely on.

*Read your writes*: a read names no older version than a write that had been acknowledged before it was sent, and nobody
is told that there is no such session (`MISSING`) after one of its writes was acknowledged.
*Monotonic reads*: nor an older one than a read that had been answered before. *No write after the end*: once the end of
a session was acknowledged, no later write to it is.

Only acknowledged ops are compared: what is unknown raises no bound. A write that was lost is booked as a loss by
``durability.session`` and raises no bound either, nor does a read that saw it, or may have seen an unknown one: what
they knew of is gone, and allowed or not, it is told once. A session whose time had run out may be missing. Versions are
those that the answers named; one that names none shows nothing. Where there was a fault, reads that come before it
alone show nothing of it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from resilience.check import needs
from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.durability.session import lost_writes
from resilience.check.expiry import expired
from resilience.check.fault import injections
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import OK, UNKNOWN, Codes, Flags, Ints, are_among
from resilience.history.read import History
from resilience.spec.scenario import Scenario

EVIDENCE_MAX = 200
MISSING = "http-404:missing"  # the session service's answer about a session that is not in the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An op that contradicts what its session had been told before."""

    what: str
    row: int
    detail: str


def guarantees(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all sessions."""
    gone = expired(scenario, history)
    found = violations(history, lost_writes(history, gone), gone)
    ops = history.ops
    told = ops.of_kind("session.read") & (ops.outcome == OK) & (ops.version >= 0)
    reads, too_little = int(told.sum()), _too_little(history, told)
    tally = ", ".join(f"{sum(v.what == what for v in found):,} {what}" for what in dict.fromkeys(v.what for v in found))
    evidence = tuple(
        {"what": v.what, "op": ops.name(v.row), "key": ops.keys[ops.key[v.row]], "detail": v.detail} for v in found
    )
    return (
        Finding(
            check="session.guarantees",
            verdict="fail" if found else "inconclusive" if too_little else "pass",
            title="Sessions read their writes, and never go back in time",
            measured=tally or f"{count(reads, 'read')}, none older than what was known",
            allowed="no stale read, no read that goes back, no write after the end",
            value=float(len(found)),
            unit="ops",
            reason=tally or too_little,
            where=_where(history, found),
            rests_on=needs.WHOLE + needs.LOAD + needs.AUDIT + (() if found else needs.FAULT),
            evidence=evidence[:EVIDENCE_MAX],
            evidence_total=len(found),
            measures={"session.violations": float(len(found))},
        ),
    )


def _too_little(history: History, told: Flags) -> str:
    """Why these reads show nothing, "" if they do."""
    if not told.any():
        return "no session was read by an answer that names a version"
    applied = max((injection.applied for injection in injections(history)), default=None)
    if applied is not None and not (history.ops.called[told] > applied).any():
        return "no session was read after the fault"
    return ""


def violations(history: History, lost: Ints, gone: Collection[str] = ()) -> list[Violation]:
    """All violations, by kind; ``lost`` are the rows of writes that are booked as lost, ``gone`` expired sessions."""
    ops = history.ops
    good = (ops.outcome == OK) & (ops.version >= 0)
    writes = ops.of_kind(*SESSION_WRITES) & good
    writes[lost] = False
    reads = ops.of_kind("session.read") & good
    kept = reads & ~_saw_a_lost_write(history, lost)
    return [
        *_older(history, writes, reads, "stale read", "had been acknowledged"),
        *_older(history, writes, _told_missing(history, gone), "missing though written", "had been acknowledged"),
        *_older(history, kept & ~_after_an_unknown_write(history), kept, "read that goes back", "had been read"),
        *_after_the_end(history, writes),
    ]


def _told_missing(history: History, gone: Collection[str]) -> Flags:
    """Which ops were told that there is no such session, though its time had not run out; they name no version (-1)."""
    ops = history.ops
    code = ops.errors.index(MISSING) if MISSING in ops.errors else -1
    lives = ~are_among(ops.keys, gone)
    told: Flags = ops.of_kind("session.") & (ops.error == code)
    told[told] = lives[ops.key[told]]
    return told


def _saw_a_lost_write(history: History, lost: Ints) -> Flags:
    """Which ops name a version that a lost write of their session had, or a later one."""
    ops = history.ops
    first = np.full(len(ops.keys), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, ops.key[lost], ops.version[lost])
    saw: Flags = ops.version >= first[ops.key]
    return saw


def _after_an_unknown_write(history: History) -> Flags:
    """Which ops were sent after a write of their session that may or may not have been carried out."""
    ops = history.ops
    first = np.full(len(ops.keys), np.iinfo(np.int64).max, dtype=np.int64)
    unknown = np.flatnonzero(ops.of_kind(*SESSION_WRITES) & (ops.outcome == UNKNOWN))
    np.minimum.at(first, ops.key[unknown], ops.called[unknown])
    after: Flags = ops.called >= first[ops.key]
    return after


def _older(history: History, known: Flags, reads: Flags, what: str, how: str) -> Iterator[Violation]:
    """Reads that name an older version than one of ``known`` that was answered before they were sent."""
    ops = history.ops
    before, asked = np.flatnonzero(known), np.flatnonzero(reads)
    rows = np.concatenate((before, asked))
    is_read = np.concatenate((np.zeros(len(before), dtype=np.bool_), np.ones(len(asked), dtype=np.bool_)))
    instants = np.where(is_read, ops.called[rows], ops.returned[rows])
    order = np.lexsort((~is_read, instants, ops.key[rows]))  # at the same instant the read comes first: it may miss
    rows, is_read = rows[order], is_read[order]
    newest = _running_max(ops.key[rows], np.where(is_read, -1, ops.version[rows]))
    for index in np.flatnonzero(is_read & (ops.version[rows] < newest)).tolist():
        row = int(rows[index])
        read = f"read version {ops.version[row]}" if ops.version[row] >= 0 else "was told that it is missing"
        detail = f"{ops.name(row)} {read}, {newest[index]} {how}"
        yield Violation(what=what, row=row, detail=detail)


def _after_the_end(history: History, writes: Flags) -> Iterator[Violation]:
    """Acknowledged writes that were sent after the acknowledged end of their session."""
    ops = history.ops
    ended = np.full(len(ops.keys), np.iinfo(np.int64).max, dtype=np.int64)
    ends = np.flatnonzero(ops.of_kind("session.end") & writes)
    np.minimum.at(ended, ops.key[ends], ops.returned[ends])
    for row in np.flatnonzero(writes & (ops.called > ended[ops.key])).tolist():
        detail = f"{ops.name(row)} was acknowledged, sent after the session had ended"
        yield Violation(what="write after the end", row=row, detail=detail)


def _running_max(keys: Codes, values: Ints) -> Ints:
    """For each position the largest value so far among those of its key; the keys are sorted."""
    if not len(values):
        return values
    span = int(values.max()) + 2
    ranks = np.concatenate(([0], np.cumsum(np.diff(keys) != 0))).astype(np.int64)
    return np.maximum.accumulate(values + ranks * span) - ranks * span


def _where(history: History, found: list[Violation]) -> Where:
    """The shard of the first violation, and the window that all were answered in."""
    if not found:
        return Where()
    ops = history.ops
    rows = [violation.row for violation in found]
    answered = ops.returned[rows]
    return Where(group=f"shard {ops.group[rows[0]]}", start_us=int(answered.min()), end_us=int(answered.max()))
