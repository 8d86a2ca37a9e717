"""Defects planted in a long history are found exactly: no other, and none is missed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resilience.check.collaboration.order import order
from resilience.check.durability.booking import Booked
from resilience.check.durability.collaboration import book as book_edits
from resilience.check.durability.direct import book
from resilience.check.durability.session import book as book_sessions
from resilience.check.guarantees import violations
from resilience.history.columns import FAIL, OK, UNKNOWN, DirectReads, Ops, text_array
from resilience.history.read import History, read_history
from resilience.history.record import RoomRead, SessionRead
from tests.histories import Op, Recorded, S, recorded, scenario

WRITES = 100_000
NO_ROWS = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def long() -> History:
    """So many acknowledged direct writes, each of its own key, one a millisecond; all of them are there."""
    numbers = np.arange(WRITES, dtype=np.int64)
    zeros = np.zeros(WRITES, dtype=np.int32)
    ops = Ops(
        client=zeros, id=numbers + 1, kind=zeros, key=numbers.astype(np.int32), phase=zeros, error=zeros,
        group=(1 + numbers % 3).astype(np.int32), due=numbers * 1000, called=numbers * 1000,
        returned=numbers * 1000 + 500, outcome=np.full(WRITES, OK, dtype=np.int32), version=-1 + 0 * numbers,
        epoch=-1 + 0 * numbers, value=text_array([f"v{number}" for number in range(WRITES)]), clients=("direct",),
        kinds=("direct.write",), keys=text_array([f"k{number}" for number in range(WRITES)]), phases=("steady",),
        errors=("",), stood=zeros, standing=("",),
    )  # fmt: skip
    nothing = read_history(Path("nowhere"))
    audit = dataclasses.replace(
        nothing.audit,
        direct=DirectReads(
            key=ops.key,
            value=ops.value,
            there=np.ones(WRITES, dtype=np.bool_),
            group=ops.group,
        ),
        direct_lines=WRITES,
    )
    return dataclasses.replace(nothing, ops=ops, audit=audit, problems=())


def planted(whole: History, stored: dict[int, str | None], outcomes: dict[int, int] | None = None) -> History:
    """The history with other values in the store under some keys, by their numbers, and other outcomes of some ops."""
    outcome = whole.ops.outcome.copy()
    for number, code in (outcomes or {}).items():
        outcome[number] = code
    reads = whole.audit.direct
    value, there = reads.value.copy(), reads.there.copy()
    for number, text in stored.items():
        value[number], there[number] = text or "", text is not None
    audit = dataclasses.replace(whole.audit, direct=dataclasses.replace(reads, value=value, there=there))
    return dataclasses.replace(whole, ops=dataclasses.replace(whole.ops, outcome=outcome), audit=audit)


def found(booked: Booked) -> tuple[set[int], set[int], set[tuple[str, str]]]:
    defects = {(str(defect.what), defect.key) for defect in booked.defects}
    return set(booked.lost.tolist()), set(booked.recovered.tolist()), defects


numbers = st.integers(0, WRITES - 1)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_one_write_in_100_000(data: st.DataObject, long: History) -> None:
    """Each kind of defect at a key of its own, all at once, in a history that is whole otherwise."""
    lost, copied, strange, refused, recovered, vanished = data.draw(
        st.lists(numbers, min_size=6, max_size=6, unique=True)
    )
    other = data.draw(numbers.filter(lambda number: number != copied))
    outcomes = {refused: FAIL, recovered: UNKNOWN, vanished: UNKNOWN}
    stored = {lost: None, vanished: None, copied: f"v{other}", strange: "who-1"}
    booked = book(planted(long, stored, outcomes))
    assert found(booked) == (
        {lost},
        {recovered},
        {("duplicated", f"k{copied}"), ("unexpected", f"k{strange}"), ("refused but there", f"k{refused}")},
    )


def test_a_whole_history_is_clean(long: History) -> None:
    assert found(book(long)) == (set(), set(), set())


@settings(max_examples=15, deadline=None)
@given(lost=st.lists(numbers, unique=True, max_size=50))
def test_every_lost_write_and_no_other(lost: list[int], long: History) -> None:
    booked = book(planted(long, dict.fromkeys(lost)))
    assert found(booked)[0] == set(lost)


def session_history(directory: Path) -> tuple[Recorded, History]:
    run = recorded()
    return run, run.history(directory, scenario(slos=()))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_stale_read(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """A read that names an older version than one acknowledged before it, among all reads of a run."""
    run, history = whole
    read = data.draw(st.sampled_from([op for op in run.good("session.read") if op.version > 1]))
    ops = history.ops
    row = int(np.flatnonzero((ops.id == read.id) & ops.of_kind("session.read"))[0])
    versions = ops.version.copy()
    versions[row] = data.draw(st.integers(0, read.version - 1))
    stale = dataclasses.replace(history, ops=dataclasses.replace(ops, version=versions))
    assert [(found.what, found.row) for found in violations(stale, NO_ROWS)] == [("stale read", row)]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_write_after_the_end(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """An acknowledged write that was sent after its session's acknowledged end, among all writes of a run."""
    run, history = whole
    write = data.draw(st.sampled_from([op for op in run.good("session.heartbeat") if run_ended(run, op.key)]))
    ops = history.ops
    row = int(np.flatnonzero((ops.id == write.id) & ops.of_kind("session.heartbeat"))[0])
    called, returned = ops.called.copy(), ops.returned.copy()
    called[row], returned[row] = called[row] + 10 * S, returned[row] + 10 * S
    late = dataclasses.replace(history, ops=dataclasses.replace(ops, called=called, returned=returned))
    assert [(found.what, found.row) for found in violations(late, NO_ROWS)] == [("write after the end", row)]


def run_ended(run: Recorded, key: str) -> bool:
    return any(op.key == key for op in run.good("session.end"))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_lost_session_write(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """An acknowledged write that is gone from its session's log is lost, alone, whichever row it was."""
    run, history = whole
    kinds = ("session.create", "session.update", "session.heartbeat", "session.end")
    op: Op = data.draw(st.sampled_from([op for kind in kinds for op in run.good(kind)]))
    read: SessionRead = history.audit.sessions[op.key]
    cut = replace(read, log=tuple(row for row in read.log if row[1] != op.value))
    sessions = history.audit.sessions | {op.key: cut}
    booked = book_sessions(dataclasses.replace(history, audit=dataclasses.replace(history.audit, sessions=sessions)))
    assert [history.ops.value[row] for row in booked.lost] == [op.value]
    assert {defect.what for defect in booked.defects} <= {"chain broken"}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_answer_with_an_older_version(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """An acknowledged write that was answered with an older version than the one it is stored under."""
    run, history = whole
    kinds = ("session.create", "session.update", "session.heartbeat", "session.end")
    op: Op = data.draw(st.sampled_from([op for kind in kinds for op in run.good(kind)]))
    ops = history.ops
    versions = ops.version.copy()
    versions[ops.value == op.value] = data.draw(st.integers(0, op.version - 1))
    booked = book_sessions(dataclasses.replace(history, ops=dataclasses.replace(ops, version=versions)))
    assert booked.lost.tolist() == []
    assert [(defect.what, defect.key) for defect in booked.defects] == [("version went back", op.key)]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_room_that_went_back(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """Two neighbours in a room's stored log that stand the wrong way round."""
    _, history = whole
    room: RoomRead = data.draw(st.sampled_from(sorted(history.audit.rooms.values(), key=lambda room: room.key)))
    log = list(room.log)
    at = data.draw(st.integers(0, len(log) - 3))  # the last one would be another defect too: the room is behind its log
    log[at : at + 2] = reversed(log[at : at + 2])
    rooms = history.audit.rooms | {room.key: replace(room, log=tuple(log))}
    booked = book_edits(dataclasses.replace(history, audit=dataclasses.replace(history.audit, rooms=rooms)))
    assert booked.lost.tolist() == []
    defects = [(defect.what, defect.key, defect.detail) for defect in booked.defects]
    assert defects == [("version went back", room.key, f"1/{at + 1} follows 1/{at + 2}")]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_reordered_edit(data: st.DataObject, whole: tuple[Recorded, History]) -> None:
    """One arrival of all that comes later than edits of higher numbers, at one receiver."""
    _, history = whole
    arrivals = history.deliveries
    receiver = data.draw(st.integers(0, len(arrivals.receivers) - 1))
    stream = np.flatnonzero(arrivals.receiver == receiver)
    late = data.draw(st.integers(0, len(stream) - 2))
    until = data.draw(st.integers(late + 1, len(stream) - 1))
    number, before = int(arrivals.seq[stream[late]]), int(arrivals.seq[stream[until]])
    rows = np.arange(len(arrivals))
    rows[stream[late : until + 1]] = np.roll(stream[late : until + 1], -1)
    spoilt = dataclasses.replace(arrivals, seq=arrivals.seq[rows], edit=arrivals.edit[rows])
    (finding,) = order(scenario(), dataclasses.replace(history, deliveries=spoilt))
    told = [(item["what"], item["receiver"], item["number"], item["detail"]) for item in finding.evidence]
    assert told == [("reordered", arrivals.receivers[receiver], f"1/{number}", f"after {before}")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, History]:
    return session_history(tmp_path_factory.mktemp("whole"))
