"""Sessions: each acknowledged write must be a row of the session's log, and the log an unbroken chain.

A row is (version, op id, hash of the row before). The op id is the op's ``value``; the hash is the first 16 hex digits
of the SHA-1 of the row's text, compact JSON, and "" for the first row. A log keeps its last `LOG_ROWS` rows: of older
ones the chain and the versions tell that they were there. A write that was rolled back and written over is one whose
version belongs to another op now.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.durability.booking import Booked, Defect, What, findings, of_shards
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.expiry import expired
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Ints, are_among
from resilience.history.read import History
from resilience.history.record import SessionRead
from resilience.spec.scenario import Scenario

LOG_ROWS = 64
HASH_DIGITS = 16
SESSION = of_shards("durability.session", "session write")


def session(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the sessions on it."""
    return findings(SESSION, scenario, history, book(history, expired(scenario, history)))


@dataclass(slots=True)
class _Book:
    """What was found so far."""

    lost: list[int] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    unrecorded: list[int] = field(default_factory=list)

    def defect(self, what: What, read: SessionRead, detail: str) -> None:
        self.defects.append(Defect(what=what, group=read.group, key=read.key, detail=detail))


def book(history: History, gone: Collection[str] = ()) -> Booked:
    """What the audit found of the sessions; those that are ``gone`` since their time had run out are no loss."""
    written = history.ops.of_kind(*SESSION_WRITES)
    found, late = _Book(), unrecorded(history, written)
    for read, writes in _written(history, gone):
        _book_writes(history, read, writes, found)
        _book_log(read, writes, found)
        _book_strangers(read, writes, late, found)
    return Booked(
        writes=written,
        lost=_sorted(found.lost),
        recovered=np.array(found.recovered, dtype=np.int64),
        defects=tuple(found.defects),
        unrecorded=tuple(found.unrecorded),
        expired=_rows_of(history, gone),
    )


def lost_writes(history: History, gone: Collection[str] = ()) -> Ints:
    """The rows that `book` finds lost, without a look at the logs for anything else."""
    found = _Book()
    for read, writes in _written(history, gone):
        _book_writes(history, read, writes, found)
    return _sorted(found.lost)


def _rows_of(history: History, keys: Collection[str]) -> Ints:
    """The writes to sessions of these keys."""
    ops = history.ops
    return np.flatnonzero(ops.of_kind(*SESSION_WRITES) & are_among(ops.keys, keys)[ops.key])


def _sorted(rows: list[int]) -> Ints:
    return np.array(sorted(rows), dtype=np.int64)


class _Write(NamedTuple):
    """A write to a session, with its row among the ops."""

    row: int
    op: str
    outcome: int
    version: int
    ends: bool  # whether it is the session's end


def _written(history: History, gone: Collection[str]) -> Iterator[tuple[SessionRead, list[_Write]]]:
    """Each session that was read back, with the writes to it."""
    ops = history.ops
    rows = np.flatnonzero(ops.of_kind(*SESSION_WRITES))
    rows = rows[np.argsort(ops.key[rows], kind="stable")]
    columns = (rows, ops.value[rows], ops.outcome[rows], ops.version[rows], ops.of_kind("session.end")[rows])
    borders = np.flatnonzero(np.diff(ops.key[rows], prepend=-1, append=-1)).tolist()
    for first, end in pairwise(borders):
        key = ops.keys[ops.key[rows[first]]]
        if key not in gone and (read := history.audit.sessions.get(key)) is not None:
            yield read, list(map(_Write, *(column[first:end].tolist() for column in columns)))


def _book_writes(history: History, read: SessionRead, writes: list[_Write], found: _Book) -> None:
    """Compares each write's outcome with the log."""
    name = history.ops.name
    versions = {op: version for version, op, _ in read.log}
    for row, op, outcome, version, _ in writes:
        stored = versions.get(op)
        if stored is None and outcome == OK and not _trimmed(read, version):
            found.lost.append(row)
        elif stored is not None and outcome == UNKNOWN:
            found.recovered.append(row)
        elif stored is not None and outcome == FAIL:
            found.defect("refused but there", read, f"{name(row)} was refused, the log has it as version {stored}")
        elif stored is not None and stored != version:
            detail = f"{name(row)} was answered with version {version}, the log says {stored}"
            found.defect("version went back", read, detail)


def _trimmed(read: SessionRead, version: int) -> bool:
    """Whether a row with that version has left the log because of newer ones."""
    return len(read.log) >= LOG_ROWS and 0 < version < read.log[0][0]


def _book_log(read: SessionRead, writes: list[_Write], found: _Book) -> None:
    """Looks for what a log must never be."""
    stored = [op for _, op, _ in read.log]
    for op, times in Counter(stored).items():
        if times > 1:
            found.defect("duplicated", read, f"{op} is {times} times in the log")
    for detail in _chain_breaks(read):
        found.defect("chain broken", read, detail)
    for detail in _resurrections(read, writes):
        found.defect("resurrected", read, detail)


def _book_strangers(read: SessionRead, writes: list[_Write], late: Callable[[str], bool], found: _Book) -> None:
    """Ops in the log that are not on record: sent by a client in its last moment, or by nobody."""
    known = {write.op for write in writes}
    for op in (op for _, op, _ in read.log if op not in known):
        if late(op):
            found.unrecorded.append(read.group)
        else:
            found.defect("unexpected", read, f"{op} is in the log, and nobody wrote it")


def _chain_breaks(read: SessionRead) -> Iterator[str]:
    if not read.log:
        if read.exists:
            yield f"the session is at version {read.version}, its log is empty"
        return
    first, last = read.log[0], read.log[-1]
    if not read.exists:
        yield f"the session is gone, its log ends at version {last[0]}"
    if len(read.log) < LOG_ROWS and (first[0] != 1 or first[2]):
        yield f"the log begins at version {first[0]}"
    if last[0] != read.version:
        yield f"the session is at version {read.version}, its log ends at {last[0]}"
    for before, row in pairwise(read.log):
        if row[0] != before[0] + 1:
            yield f"version {row[0]} follows version {before[0]}"
        elif row[2] != row_hash(before):
            yield f"version {row[0]} does not follow from the stored version {before[0]}"


def row_hash(row: tuple[int, str, str]) -> str:
    """The hash by which a row is named in the next one."""
    # SHA-1 is what the services use: a fingerprint that Redis can compute in a script, no protection
    return hashlib.sha1(msgspec.json.encode(row), usedforsecurity=False).hexdigest()[:HASH_DIGITS]


def _resurrections(read: SessionRead, writes: list[_Write]) -> Iterator[str]:
    """An acknowledged end that is in the log, and yet the session lives or was written afterwards."""
    ended = {write.op for write in writes if write.ends and write.outcome == OK}
    for version, op, _ in read.log:
        if op in ended and (read.state != "ended" or read.version > version):
            yield f"{op} ended it at version {version}; it is {read.state} at version {read.version}"
