"""Direct writes: each key must hold the value of a write that no acknowledged one came after.

A key may have been written once or many times. Of the value that it holds now, the *winner* is the op that wrote it;
every acknowledged write that was invoked after the winner had been answered is lost. A winner whose outcome is unknown
may have happened at any time, so nothing can have been lost to it.
"""

from collections.abc import Iterator

import numpy as np

from resilience.check.durability.booking import Booked, Defect, findings, of_shards
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Codes, Ints, rows_with, same_texts
from resilience.history.read import History
from resilience.spec.scenario import Scenario

_NEVER = np.iinfo(np.int64).max
_NOT_READ = -1
DIRECT = of_shards("durability.direct", "direct write")


def direct(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the keys of the direct client."""
    return findings(DIRECT, scenario, history, book(history))


def book(history: History) -> Booked:
    """What the audit found of the direct client's keys."""
    ops, reads = history.ops, history.audit.direct
    writes = ops.of_kind("direct.write")
    rows = np.flatnonzero(writes)
    answer = _answers(history)[ops.key[rows]]
    was_read = answer != _NOT_READ
    there = was_read.copy()
    there[was_read] = reads.there[answer[was_read]]
    won = there.copy()
    won[there] = same_texts(ops.value, rows[there], reads.value, answer[there])
    winners = rows[won]
    answered = _winners_answered(history, winners)
    gone = was_read & ((~there) | (ops.called[rows] > answered[ops.key[rows]]))
    return Booked(
        writes=writes,
        lost=rows[gone & (ops.outcome[rows] == OK)],
        recovered=winners[ops.outcome[winners] == UNKNOWN],
        defects=tuple(_defects(history, winners)),
    )


def _answers(history: History) -> Codes:
    """For each key the row of what was read under it, `_NOT_READ` if nobody looked."""
    key = history.audit.direct.key
    answers = np.full(history.key_count, _NOT_READ, dtype=np.int32)
    answers[key] = np.arange(len(key), dtype=np.int32)
    return answers


def _winners_answered(history: History, winners: Ints) -> Ints:
    """For each key when the winner's answer came; never for a key without a winner, or with an uncertain one."""
    ops = history.ops
    answered = np.full(len(ops.keys), _NEVER, dtype=np.int64)
    certain = winners[ops.outcome[winners] == OK]
    answered[ops.key[certain]] = ops.returned[certain]
    return answered


def _defects(history: History, winners: Ints) -> Iterator[Defect]:
    """What must never be."""
    ops, reads = history.ops, history.audit.direct
    for row in winners[ops.outcome[winners] == FAIL].tolist():
        yield Defect(
            what="refused but there", group=int(ops.group[row]), key=ops.keys[ops.key[row]], detail=ops.name(row)
        )
    explained = np.zeros(history.key_count, dtype=np.bool_)
    explained[ops.key[winners]] = True
    strange = np.flatnonzero(reads.there & ~explained[reads.key]).tolist()
    written = rows_with(
        ops.value, np.flatnonzero(ops.of_kind("direct.write")), {reads.value[answer] for answer in strange}
    )
    for key, answer in sorted((history.key(reads.key[answer]), answer) for answer in strange):
        value, group = reads.value[answer], int(reads.group[answer])
        if value in written:
            detail = f"holds {value}, which was written to another key"
            yield Defect(what="duplicated", group=group, key=key, detail=detail)
        else:
            detail = f"holds {value}, which nobody wrote"
            yield Defect(what="unexpected", group=group, key=key, detail=detail)
