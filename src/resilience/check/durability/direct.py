"""Direct writes: each key must hold the value of a write that no acknowledged one came after.

A key may have been written once or many times. Of the value that it holds now, the *winner* is the op that wrote it;
every acknowledged write that was invoked after the winner had been answered is lost. A winner whose outcome is unknown
may have happened at any time, so nothing can have been lost to it.
"""

from collections.abc import Iterator

import numpy as np

from resilience.check.durability.booking import Booked, Defect, findings, of_shards
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Codes, Flags, in_pieces, rows_of, rows_with, same_texts
from resilience.history.read import History
from resilience.spec.scenario import Scenario

_NOBODY = -1
DIRECT = of_shards("durability.direct", "direct write")


def direct(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the keys of the direct client."""
    return findings(DIRECT, scenario, history, book(history))


def book(history: History) -> Booked:
    """What the audit found of the direct client's keys."""
    ops = history.ops
    writes = ops.of_kind("direct.write")
    rows = rows_of(writes)
    answers = _answers(history)
    winners = rows[in_pieces(lambda piece: _stands(history, answers, piece), rows)]
    winner = _last_certain(history, winners)
    gone = in_pieces(lambda piece: _is_gone(history, answers, winner, piece), rows)
    return Booked(
        writes=writes,
        lost=rows[gone & (ops.outcome[rows] == OK)].astype(np.int64),
        recovered=winners[ops.outcome[winners] == UNKNOWN].astype(np.int64),
        defects=tuple(_defects(history, winners)),
    )


def _answers(history: History) -> Codes:
    """For each key the row of what was read under it, `_NOBODY` if nobody looked."""
    key = history.audit.direct.key
    answers = np.full(history.key_count, _NOBODY, dtype=np.int32)
    answers[key] = np.arange(len(key), dtype=np.int32)
    return answers


def _stands(history: History, answers: Codes, rows: Codes) -> Flags:
    """Whether the value that each of these ops wrote is what its key holds."""
    ops, reads = history.ops, history.audit.direct
    answer = answers[ops.key[rows]]
    stands: Flags = answer != _NOBODY
    stands[stands] = reads.there[answer[stands]]
    stands[stands] = same_texts(ops.value, rows[stands], reads.value, answer[stands])
    return stands


def _last_certain(history: History, winners: Codes) -> Codes:
    """For each key its winner, `_NOBODY` for one without a winner, or with an uncertain one."""
    ops = history.ops
    found = np.full(len(ops.keys), _NOBODY, dtype=np.int32)
    certain = winners[ops.outcome[winners] == OK]
    found[ops.key[certain]] = certain
    return found


def _is_gone(history: History, answers: Codes, winner: Codes, rows: Codes) -> Flags:
    """Whether the key of each of these ops was read, and holds nothing, or a value that had been written before."""
    ops = history.ops
    answer = answers[ops.key[rows]]
    gone: Flags = answer != _NOBODY
    asked = rows[gone]
    before = winner[ops.key[asked]]
    late = (before != _NOBODY) & (ops.called[asked] > ops.returned[before])
    gone[gone] = ~history.audit.direct.there[answer[gone]] | late
    return gone


def _defects(history: History, winners: Codes) -> Iterator[Defect]:
    """What must never be."""
    ops, reads = history.ops, history.audit.direct
    for row in winners[ops.outcome[winners] == FAIL].tolist():
        yield Defect(
            what="refused but there", group=int(ops.group[row]), key=ops.keys[ops.key[row]], detail=ops.name(row)
        )
    explained = np.zeros(history.key_count, dtype=np.bool_)
    explained[ops.key[winners]] = True
    strange = np.flatnonzero(reads.there & ~explained[reads.key]).tolist()
    written = rows_with(ops.value, rows_of(ops.of_kind("direct.write")), {reads.value[answer] for answer in strange})
    for key, answer in sorted((history.key(reads.key[answer]), answer) for answer in strange):
        value, group = reads.value[answer], int(reads.group[answer])
        if value in written:
            detail = f"holds {value}, which was written to another key"
            yield Defect(what="duplicated", group=group, key=key, detail=detail)
        else:
            detail = f"holds {value}, which nobody wrote"
            yield Defect(what="unexpected", group=group, key=key, detail=detail)
