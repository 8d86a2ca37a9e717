"""Rows of PostgreSQL: each acknowledged one must be in the table of whoever is the primary after healing, once.

A client writes each row with one INSERT that commits by itself, under a key and with a value of its own. Under
``async``, and where ``synchronous_commit`` waits for no standby, a row may be lost like a write to a Redis shard: see
`booking`. A commit whose wait for a standby was cancelled is *acknowledged locally*.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import Booked, Defect, Ledger, What, findings
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL, Applied, hit_postgresql, injections, primary_at
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Flags, Ints
from resilience.history.read import History
from resilience.history.record import ACKED_LOCALLY
from resilience.spec.postgresql import Asynchronous
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

_NOBODY = -1


def postgresql(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about all rows."""
    booked = book(history)
    return tuple(_with_locals(finding, booked) for finding in findings(ROWS, scenario, history, booked))


def may_lose(stack: Stack) -> bool:
    """Whether a commit is acknowledged that no standby has."""
    tier = stack.postgresql
    alone = {"off", "local"}  # with these nothing is waited for, whatever standbys are named
    return tier is not None and (isinstance(tier.durability, Asynchronous) or tier.synchronous_commit in alone)


def excuses(scenario: Scenario, history: History, group: int) -> tuple[Applied, ...]:
    """The injections around which acknowledged rows may be lost: those that hit the primary, where none is waited for.

    Where nobody saw who was the primary it may have been any: a finding rests on that (`needs.PRIMARY`).
    """
    if not may_lose(scenario.stack):
        return ()
    return tuple(
        injection
        for injection in injections(history)
        if primary_at(history, group, injection.began) in {"", *injection.members}
    )


ROWS = Ledger(
    name="durability.postgresql",
    noun="row",
    audit=needs.ROWS,
    primaries=needs.PRIMARY,
    place=lambda _: "postgresql",
    excuses=excuses,
    hits=hit_postgresql,
    by_phase=True,
)


class _Stored(NamedTuple):
    """A row of the table, and the op that sent its value; `_NOBODY` if none is on record."""

    key: str
    value: str
    writer: int
    in_place: bool  # it stands under the key that it was sent with


def book(history: History) -> Booked:
    """What the audit found of the rows."""
    ops = history.ops
    writes = ops.of_kind("postgresql.write")
    sent = np.flatnonzero(writes)
    stored = _stored(history, sent)
    there = np.zeros(len(ops), dtype=np.bool_)
    there[[row.writer for row in stored if row.in_place]] = True
    gone = sent[~there[sent] & (ops.outcome[sent] == OK) & _looked_for(history)[ops.key[sent]]]
    locally = ops.with_error(ACKED_LOCALLY) & (ops.outcome == OK)
    late = unrecorded(history, writes)
    strangers = [row for row in stored if row.writer == _NOBODY]
    beyond = [row for row in strangers if late(row.value)]
    return Booked(
        writes=writes,
        lost=gone[~locally[gone]],
        recovered=sent[there[sent] & (ops.outcome[sent] == UNKNOWN)],
        defects=(
            *_refused(history, sent[there[sent] & (ops.outcome[sent] == FAIL)]),
            *_duplicates(history, stored),
            *(_defect("unexpected", row.key, f"holds {row.value}, which nobody wrote") for row in strangers
              if not late(row.value)),
        ),
        unrecorded=(POSTGRESQL,) * len(beyond),
        acked_locally=sent[locally[sent]],
        lost_locally=gone[locally[gone]],
    )  # fmt: skip


def _stored(history: History, sent: Ints) -> list[_Stored]:
    """The rows that are there, in the order in which they were read."""
    ops, rows = history.ops, history.audit.rows
    writers = dict(zip(ops.value[sent].tolist(), sent.tolist(), strict=True))
    key_of = dict(zip(sent.tolist(), ops.key[sent].tolist(), strict=True))
    stored = []
    for key, value in zip(rows.key[rows.there].tolist(), rows.value[rows.there].tolist(), strict=True):
        writer = writers.get(value, _NOBODY)
        in_place = writer != _NOBODY and ops.keys[key_of[writer]] == key
        stored.append(_Stored(key, value, writer, in_place))
    return stored


def _looked_for(history: History) -> Flags:
    """Which keys the audit has an answer about, by their codes."""
    asked = set(history.audit.rows.key.tolist())
    return np.array([key in asked for key in history.ops.keys], dtype=np.bool_)


def _refused(history: History, rows: Ints) -> Iterator[Defect]:
    ops = history.ops
    return (_defect("refused but there", ops.keys[ops.key[row]], ops.name(row)) for row in rows.tolist())


def _duplicates(history: History, stored: list[_Stored]) -> Iterator[Defect]:
    """Rows that stand under another key than their own, or that stood there before."""
    ops, seen = history.ops, set[int]()
    for row in stored:
        if row.writer != _NOBODY and not row.in_place:
            own = ops.keys[ops.key[row.writer]]
            yield _defect("duplicated", row.key, f"holds {row.value}, which was written to {own}")
        elif row.writer in seen:
            yield _defect("duplicated", row.key, f"{row.value} stands in the table more than once")
        elif row.in_place:
            seen.add(row.writer)


def _defect(what: What, key: str, detail: str) -> Defect:
    return Defect(what=what, group=POSTGRESQL, key=key, detail=detail)


def _with_locals(finding: Finding, booked: Booked) -> Finding:
    """The finding, which also measures how much was acknowledged locally, and how much of that is gone."""
    measures = {
        f"{ROWS.name}.acked_locally_ops": float(len(booked.acked_locally)),
        f"{ROWS.name}.lost_locally_ops": float(len(booked.lost_locally)),
    }
    return replace(finding, measures=finding.measures | measures)
