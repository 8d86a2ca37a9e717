"""Edits: each acknowledged one must be in its room's stored log, once, under the number that the answer named.

Where logs are in Redis there is a finding for each shard. Where they are in PostgreSQL there is one, and an edit may be
lost around a failover as any other row may (`durability.postgresql`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import Booked, Defect, What, findings, of_shards
from resilience.check.durability.postgresql import at_stake, of_postgresql
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN
from resilience.history.read import History
from resilience.history.record import RoomRead
from resilience.spec.scenario import Scenario

NAME = "durability.collaboration"
IN_REDIS = of_shards(NAME, "edit")
IN_POSTGRESQL = of_postgresql(NAME, "edit", needs.ROOMS)


def collaboration(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the edits of the rooms on it, or one for PostgreSQL about all of them."""
    booked = book(history)
    if not scenario.stack.has_rooms_in_postgresql:
        return findings(IN_REDIS, scenario, history, booked)
    booked = replace(booked, group=np.full(len(history.ops), POSTGRESQL, dtype=np.int32))
    return tuple(at_stake(finding, history, booked) for finding in findings(IN_POSTGRESQL, scenario, history, booked))


def book(history: History) -> Booked:
    """What the audit found of the rooms."""
    ops = history.ops
    writes = ops.of_kind("collaboration.edit")
    numbers = {key: {edit: (epoch, seq) for epoch, seq, edit in room.log} for key, room in history.audit.rooms.items()}
    lost, recovered, defects, written = [], [], [], set()
    rows = np.flatnonzero(writes)
    columns = (rows, ops.key[rows], ops.value[rows], ops.outcome[rows])
    for row, key, edit, outcome in zip(*(column.tolist() for column in columns), strict=True):
        room = ops.keys[key]
        written.add((room, edit))
        if room not in numbers:
            continue
        number = numbers[room].get(edit)
        if number is None and outcome == OK:
            lost.append(row)
        elif number is not None and outcome == UNKNOWN:
            recovered.append(row)
        elif number is not None and outcome == FAIL:
            defects.append(_defect("refused but there", history.audit.rooms[room], ops.name(row)))
        elif number is not None and number != (ops.epoch[row], ops.version[row]):
            said = f"{ops.name(row)} was acknowledged as {ops.epoch[row]}/{ops.version[row]}"
            detail = f"{said}, the log says {number[0]}/{number[1]}"
            defects.append(_defect("version went back", history.audit.rooms[room], detail))
    late, beyond = unrecorded(history, writes), []
    for room_read in history.audit.rooms.values():
        strange = {edit for _, _, edit in room_read.log if (room_read.key, edit) not in written}
        beyond += [room_read.group for edit in strange if late(edit)]
        defects += _log_defects(room_read, {edit for edit in strange if not late(edit)})
    return Booked(
        writes=writes,
        lost=np.array(lost, dtype=np.int64),
        recovered=np.array(recovered, dtype=np.int64),
        defects=tuple(defects),
        unrecorded=tuple(beyond),
    )


def _log_defects(room: RoomRead, strange: set[str]) -> Iterator[Defect]:
    for edit, times in Counter(edit for _, _, edit in room.log).items():
        if times > 1:
            yield _defect("duplicated", room, f"{edit} is {times} times in the log")
        if edit in strange:
            yield _defect("unexpected", room, f"{edit} is in the log, and nobody wrote it")
    if room.log and room.epoch < room.log[-1][0]:
        yield _defect("version went back", room, f"the room is in epoch {room.epoch}, its log in {room.log[-1][0]}")
    for before, row in pairwise(room.log):
        if row[:2] <= before[:2]:
            yield _defect("version went back", room, f"{row[0]}/{row[1]} follows {before[0]}/{before[1]}")


def _defect(what: What, room: RoomRead, detail: str) -> Defect:
    return Defect(what=what, group=room.group, key=room.key, detail=detail)
