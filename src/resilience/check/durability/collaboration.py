"""Edits: each acknowledged one must be in its room's stored log, once, under the number that the answer named.

Where logs are in Redis there is a finding for each shard. Where they are in PostgreSQL there is one, and an edit may be
lost around a failover as any other row may (`durability.postgresql`). Where edits are events of RabbitMQ besides, each
is followed from its row on, with a finding for each hop (`hops`); whether people got it `collaboration.delivery` says.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import Booked, Defect, What, findings, of_shards
from resilience.check.durability.hops import Stream, Way, of_queue, of_rows, sights_of, way_of, with_hop
from resilience.check.durability.postgresql import at_stake, excuses, of_postgresql
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL
from resilience.check.finding import Finding
from resilience.history.columns import FAIL, OK, UNKNOWN
from resilience.history.outbox import edit_in, edits_among, event_of_edit
from resilience.history.read import History
from resilience.history.record import RoomRead
from resilience.spec.rabbitmq import ROOM_QUEUE
from resilience.spec.scenario import Scenario

NAME = "durability.collaboration"
IN_REDIS = of_shards(NAME, "edit")
IN_POSTGRESQL = of_postgresql(NAME, "edit", needs.ROOMS)
STREAM = Stream(
    name=NAME, rows="rooms", queue=ROOM_QUEUE, kind="collaboration.edit", audit=needs.ROOMS, among=edits_among
)


def collaboration(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard about the edits of the rooms on it, or one for PostgreSQL about all of them."""
    booked = book(history)
    if not scenario.stack.has_rooms_in_postgresql:
        return findings(IN_REDIS, scenario, history, booked)
    booked = replace(booked, group=np.full(len(history.ops), POSTGRESQL, dtype=np.int32))
    found = (at_stake(finding, history, booked) for finding in findings(IN_POSTGRESQL, scenario, history, booked))
    if not scenario.stack.has_room_events:
        return tuple(found)
    way, forgiven = follow(history), bool(excuses(scenario, history, POSTGRESQL))
    rows = (with_hop(finding, STREAM, way, booked) for finding in found)
    return (*rows, of_rows(STREAM, history, way), of_queue(STREAM, history, way, forgiven=forgiven))


def follow(history: History) -> Way:
    """The ways of all edits that are events, by the numbers that rows, answers and messages have for them."""
    ops = history.ops
    asked_for = ops.of_kind(STREAM.kind)
    rows, late = np.flatnonzero(asked_for).tolist(), unrecorded(history, asked_for)
    op_of = {(ops.keys[ops.key[row]], str(ops.value[row])): row for row in rows}
    sights = sights_of(history, STREAM)
    said = {event: (room, edit) for event, room, edit in (edit_in(sight.message) for sight in sights)}
    stored = {
        event_of_edit(room.key, epoch, seq): (room.key, edit)
        for room in history.audit.rooms.values()
        for epoch, seq, edit in room.log
    }
    edits = said | stored
    acked = (row for row in rows if ops.outcome[row] == OK)
    numbered = {event_of_edit(ops.keys[ops.key[row]], ops.epoch[row], ops.version[row]): row for row in acked}
    return way_of(
        sights,
        ops=numbered | {event: op_of[edit] for event, edit in edits.items() if edit in op_of},
        published={
            event_of_edit(room.key, epoch, seq): seq not in room.unpublished
            for room in history.audit.rooms.values()
            for epoch, seq, _ in room.log
        },
        late=lambda event: event in edits and late(edits[event][1]),
    )


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
