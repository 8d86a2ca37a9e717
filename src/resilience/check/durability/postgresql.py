"""Rows of PostgreSQL: each acknowledged one must be in the table of whoever is the primary after healing, once.

A client writes each row with one INSERT that commits by itself, under a key and with a value of its own. Under
``async``, and where ``synchronous_commit`` waits for no standby, a row may be lost like a write to a Redis shard: see
`booking`. A commit whose wait for a standby was cancelled is *acknowledged locally*.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import BEFORE_FAULT, WINDOW_US, Booked, Defect, Ledger, What, findings
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import (
    POSTGRESQL,
    SECOND_US,
    Applied,
    HitShard,
    hit_postgresql,
    injections,
    primary_at,
    promoted_at,
)
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Codes, Flags, Ints, rows_of, rows_with, same_texts
from resilience.history.read import History
from resilience.history.record import ACKED_LOCALLY
from resilience.spec.fault import CutReplication
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

_NOBODY = -1


def postgresql(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about all rows."""
    booked = book(history)
    found = findings(ROWS, scenario, history, booked)
    return tuple(_with_locals(at_stake(finding, history, booked), booked) for finding in found)


def may_lose(stack: Stack) -> bool:
    """Whether a commit is acknowledged that no standby has."""
    return stack.postgresql is not None and not stack.postgresql.standbys_waited_for


def excuses(scenario: Scenario, history: History, group: int) -> tuple[Applied, ...]:
    """The injections around which acknowledged rows may be lost: those that hit the primary, where none is waited for
    and another took over. What was acknowledged is on the primary: one that comes back by itself has to have it.

    Where nobody saw who was the primary it may have been any: a finding rests on that (`needs.PRIMARY`). Where standbys
    were cut off first, the window ends with that: whatever was acknowledged in the cut is a loss like any other.
    """
    if not may_lose(scenario.stack):
        return ()
    tier = scenario.stack.postgresql
    unflushed = tier is not None and tier.synchronous_commit == "off"  # then a primary that comes back lacks some, too
    found = []
    for injection in injections(history):
        primary = primary_at(history, group, injection.began)
        another = promoted_at(history, HitShard(group=group, primary=primary, injection=injection)) is not None
        if not primary or (primary in injection.members and (another or unflushed)):
            found.append(dataclasses.replace(injection, applied=injection.began) if _cut_first(scenario) else injection)
    return tuple(found)


def _cut_first(scenario: Scenario) -> bool:
    """Whether standbys are cut off before the fault."""
    prelude = scenario.experiment.prelude if scenario.experiment else None
    return prelude is not None and isinstance(prelude.fault, CutReplication)


def window(scenario: Scenario) -> str:
    """When a row that may be lost was acknowledged, in words; see `excuses`."""
    prelude, length = scenario.experiment.prelude if scenario.experiment else None, f"{WINDOW_US / SECOND_US:g} s"
    if prelude is None:
        return BEFORE_FAULT
    if _cut_first(scenario):
        return f"within {length} before standbys were cut off"
    return f"from {length} before the fault's prelude until the fault"


def of_postgresql(name: str, noun: str, audit: tuple[str, ...]) -> Ledger:
    """A kind of write to PostgreSQL."""
    return Ledger(
        name=name,
        noun=noun,
        audit=audit,
        primaries=needs.PRIMARY,
        place=lambda _: "postgresql",
        excuses=excuses,
        hits=lambda _: (),
        window=window,
        by_phase=True,
    )


ROWS = dataclasses.replace(of_postgresql("durability.postgresql", "row", needs.ROWS), hits=hit_postgresql)


def book_named(
    history: History,
    kinds: Sequence[str],
    *,
    asked: Mapping[str, int],
    stored: Collection[str],
    late: Callable[[str], bool],
    is_whole: Callable[[int], bool] = lambda _: True,
) -> Booked:
    """What the audit found of rows that have names of their own, which follow from the ops of these kinds.

    ``asked`` is the op of each name that is on record, ``stored`` are the names that are there. ``late`` says whether
    one without an op is of a client that died before it had recorded it, ``is_whole`` whether all else of an op's
    commit is there, too.
    """
    ops, outcome = history.ops, history.ops.outcome
    there = {name: row for name, row in asked.items() if name in stored}
    strangers = [name for name in stored if name not in asked]
    unexpected = [name for name in strangers if not late(name)]
    refused = [name for name, row in there.items() if outcome[row] == FAIL]
    acked = [(name, row) for name, row in asked.items() if outcome[row] == OK]
    lost = [row for name, row in acked if name not in there or not is_whole(row)]
    recovered = [row for row in there.values() if outcome[row] == UNKNOWN]
    return Booked(
        writes=ops.of_kind(*kinds),
        group=np.full(len(ops), POSTGRESQL, dtype=np.int32),
        lost=np.array(lost, dtype=np.int64),
        recovered=np.array(recovered, dtype=np.int64),
        defects=(
            *(_defect("refused but there", name, ops.name(there[name])) for name in refused),
            *(_defect("unexpected", name, "nobody is on record to have asked for it") for name in unexpected),
        ),
        unrecorded=(POSTGRESQL,) * (len(strangers) - len(unexpected)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stored:
    """The rows that are there, in columns, in the order in which they were read."""

    line: Codes  # of the audit's rows
    writer: Codes  # the op that sent its value, `_NOBODY` if none is on record
    in_place: Flags  # it stands under the key that it was sent with


def book(history: History) -> Booked:
    """What the audit found of the rows."""
    ops = history.ops
    writes = ops.of_kind("postgresql.write")
    stored = _stored(history, rows_of(writes))
    there = np.zeros(len(ops), dtype=np.bool_)
    there[stored.writer[stored.in_place]] = True
    gone = writes & ~there & (ops.outcome == OK) & _looked_for(history)[ops.key]
    locally = writes & ops.with_error(ACKED_LOCALLY) & (ops.outcome == OK)
    strangers = np.flatnonzero(stored.writer == _NOBODY)
    values = history.audit.rows.value[stored.line[strangers]].tolist()
    late = np.array(list(map(unrecorded(history, writes), values)), dtype=np.bool_)
    return Booked(
        writes=writes,
        lost=np.flatnonzero(gone & ~locally),
        recovered=np.flatnonzero(writes & there & (ops.outcome == UNKNOWN)),
        defects=(
            *_refused(history, np.flatnonzero(writes & there & (ops.outcome == FAIL))),
            *_duplicates(history, stored),
            *_unexpected(history, stored.line[strangers[~late]]),
        ),
        unrecorded=(POSTGRESQL,) * int(late.sum()),
        acked_locally=np.flatnonzero(locally),
        lost_locally=np.flatnonzero(gone & locally),
    )


def _stored(history: History, sent: Codes) -> _Stored:
    """The rows that are there; ``sent`` are the ops that wrote."""
    ops, rows = history.ops, history.audit.rows
    line = rows_of(rows.there)
    writer = _writers_of_keys(history, sent)[rows.key[line]]
    found = rows_of(writer != _NOBODY)
    writer[found[~same_texts(ops.value, writer[found], rows.value, line[found])]] = _NOBODY
    elsewhere = np.flatnonzero(writer == _NOBODY)  # each value by itself, since it costs a look: there are none, mostly
    values = rows.value[line[elsewhere]].tolist()
    by_value = rows_with(ops.value, sent, set(values))
    writer[elsewhere] = [by_value.get(value, _NOBODY) for value in values]
    in_place = writer != _NOBODY
    in_place[in_place] = ops.key[writer[in_place]] == rows.key[line[in_place]]
    return _Stored(line=line, writer=writer, in_place=in_place)


def _writers_of_keys(history: History, sent: Codes) -> Codes:
    """By the code of each key the last op that wrote to it, `_NOBODY` if none did."""
    writers = np.full(history.key_count, _NOBODY, dtype=np.int32)
    writers[history.ops.key[sent]] = sent
    return writers


def _looked_for(history: History) -> Flags:
    """Which keys the audit has an answer about, by their codes."""
    asked = np.zeros(history.key_count, dtype=np.bool_)
    asked[history.audit.rows.key] = True
    return asked


def _refused(history: History, rows: Ints) -> Iterator[Defect]:
    ops = history.ops
    return (_defect("refused but there", ops.keys[ops.key[row]], ops.name(row)) for row in rows.tolist())


def _duplicates(history: History, stored: _Stored) -> Iterator[Defect]:
    """Rows that stand under another key than their own, or that stood there before."""
    ops = history.ops
    for index in np.flatnonzero((stored.writer != _NOBODY) & ~stored.in_place).tolist():
        key, value = _row(history, stored.line[index])
        own = ops.keys[ops.key[stored.writer[index]]]
        yield _defect("duplicated", key, f"holds {value}, which was written to {own}")
    for index in _again(stored, len(ops)).tolist():
        key, value = _row(history, stored.line[index])
        yield _defect("duplicated", key, f"{value} stands in the table more than once")


def _again(stored: _Stored, ops: int) -> Codes:
    """Those of the rows in their places that stand there after another one of the same op."""
    placed = rows_of(stored.in_place)
    writer = stored.writer[placed]
    first = np.zeros(ops, dtype=np.int32)
    first[writer[::-1]] = placed[::-1]
    again: Codes = placed[first[writer] != placed]
    return again


def _unexpected(history: History, lines: Codes) -> Iterator[Defect]:
    for line in lines.tolist():
        key, value = _row(history, line)
        yield _defect("unexpected", key, f"holds {value}, which nobody wrote")


def _row(history: History, line: int) -> tuple[str, str]:
    """The key and the value of a line of the audit."""
    rows = history.audit.rows
    return history.key(rows.key[line]), rows.value[line]


def _defect(what: What, key: str, detail: str) -> Defect:
    return Defect(what=what, group=POSTGRESQL, key=key, detail=detail)


def at_stake(finding: Finding, history: History, booked: Booked) -> Finding:
    """The finding; a pass is none where the fault found nothing acknowledged that it could have taken."""
    applied = min((injection.applied for injection in injections(history)), default=None)
    if finding.verdict != "pass" or applied is None:
        return finding
    if (booked.acked(history) & (history.ops.returned <= applied)).any():
        return finding
    reason = "; ".join(filter(None, ("nothing was acknowledged before the fault that it could lose", finding.reason)))
    return replace(finding, verdict="inconclusive", reason=reason)


def _with_locals(finding: Finding, booked: Booked) -> Finding:
    """The finding, which also measures how much was acknowledged locally, and how much of that is gone."""
    measures = {
        f"{ROWS.name}.acked_locally_ops": float(len(booked.acked_locally)),
        f"{ROWS.name}.lost_locally_ops": float(len(booked.lost_locally)),
        f"{ROWS.name}.kept_locally_ops": float(len(booked.acked_locally) - len(booked.lost_locally)),
    }
    return replace(finding, measures=finding.measures | measures)
