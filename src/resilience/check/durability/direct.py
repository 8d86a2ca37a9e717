"""Direct writes: each key must hold the value of a write that no acknowledged one came after.

A key may have been written once or many times. Of the value that it holds now, the *winner* is the op that wrote it;
every acknowledged write that was invoked after the winner had been answered is lost. A winner whose outcome is unknown
may have happened at any time, so nothing can have been lost to it.
"""

from collections.abc import Iterator

import numpy as np

from resilience.check.durability.booking import Booked, Defect, findings, of_shards
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN, Flags, Ints, text_array
from resilience.history.read import History
from resilience.spec.scenario import Scenario

_NEVER = np.iinfo(np.int64).max
DIRECT = of_shards("durability.direct", "direct write")


def direct(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the keys of the direct client."""
    return findings(DIRECT, scenario, history, book(history))


def book(history: History) -> Booked:
    """What the audit found of the direct client's keys."""
    ops = history.ops
    writes = ops.of_kind("direct.write")
    rows = np.flatnonzero(writes)
    stored = list(map(history.audit.direct.get, ops.keys))
    there = np.array([value is not None for value in stored], dtype=np.bool_)
    was_read = there.copy()
    for code in np.flatnonzero(~there).tolist():
        was_read[code] = ops.keys[code] in history.audit.direct
    texts = text_array([value or "" for value in stored])
    keys = ops.key[rows]
    won = there[keys] & (ops.value[rows] == texts[keys]) if len(rows) else np.zeros(0, dtype=np.bool_)
    winners = rows[won]
    answered = _winners_answered(history, winners)
    gone = was_read[keys] & ((~there[keys]) | (ops.called[rows] > answered[keys]))
    return Booked(
        writes=writes,
        lost=rows[gone & (ops.outcome[rows] == OK)],
        recovered=winners[ops.outcome[winners] == UNKNOWN],
        defects=tuple(_defects(history, winners, there, read=int(was_read.sum()))),
    )


def _winners_answered(history: History, winners: Ints) -> Ints:
    """For each key when the winner's answer came; never for a key without a winner, or with an uncertain one."""
    ops = history.ops
    answered = np.full(len(ops.keys), _NEVER, dtype=np.int64)
    certain = winners[ops.outcome[winners] == OK]
    answered[ops.key[certain]] = ops.returned[certain]
    return answered


def _defects(history: History, winners: Ints, there: Flags, *, read: int) -> Iterator[Defect]:
    """What must never be; ``read`` is how many keys of ops the audit has an answer about."""
    ops, audit = history.ops, history.audit
    for row in winners[ops.outcome[winners] == FAIL].tolist():
        yield Defect(
            what="refused but there", group=int(ops.group[row]), key=ops.keys[ops.key[row]], detail=ops.name(row)
        )
    explained = np.zeros(len(ops.keys), dtype=np.bool_)
    explained[ops.key[winners]] = True
    strange = {ops.keys[code] for code in np.flatnonzero(there & ~explained).tolist()}
    if read < len(audit.direct):  # there are others: it costs as much as all else to find out which
        strange |= {key for key in audit.direct.keys() - set(ops.keys) if audit.direct[key] is not None}
    written = set(ops.value[ops.of_kind("direct.write")].tolist()) if strange else set()
    for key in sorted(strange):
        value = audit.direct[key]
        if value in written:
            detail = f"holds {value}, which was written to another key"
            yield Defect(what="duplicated", group=audit.direct_groups[key], key=key, detail=detail)
        else:
            detail = f"holds {value}, which nobody wrote"
            yield Defect(what="unexpected", group=audit.direct_groups[key], key=key, detail=detail)
