"""Order and delivery of edits: each way in which a room can go wrong, alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from resilience.check.collaboration.delivery import delivery
from resilience.check.collaboration.order import order
from resilience.check.collaboration.view import views
from resilience.check.compose import judge
from resilience.history.record import Delivered, Joined, Left, RoomRead
from tests.histories import APPLIED, END, Recorded, S, recorded, scenario

RECEIVER = "m-room-1-0"


def at(run: Recorded, number: int, receiver: str = RECEIVER) -> int:
    """Where the arrival of an edit at a receiver stands."""
    return next(i for i, line in enumerate(run.deliveries) if (line.receiver, line.seq) == (receiver, number))


def change(run: Recorded, number: int, **fields: object) -> None:
    run.deliveries[at(run, number)] = msgspec.structs.replace(run.deliveries[at(run, number)], **fields)


def swap(run: Recorded) -> None:
    """Number 21 reaches the receiver before number 20."""
    first, second = at(run, 20), at(run, 21)
    run.deliveries[first], run.deliveries[second] = run.deliveries[second], run.deliveries[first]


def again(run: Recorded, how: str) -> None:
    run.deliveries.append(msgspec.structs.replace(run.deliveries[at(run, 20)], how=how, at=40 * S))


def ask(run: Recorded) -> None:
    """Number 20 is missed at first and comes on request, after number 22."""
    line = run.deliveries.pop(at(run, 20))
    run.deliveries.insert(at(run, 22) + 1, msgspec.structs.replace(line, how="replay"))


def refused(run: Recorded) -> None:
    edit = run.deliveries[at(run, 20)].edit
    next(op for op in run.ops if op.value == edit).outcome = "fail"


def test_what_came_by_asking_alone_says_nothing_of_the_order(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.deliveries = [msgspec.structs.replace(line, how="replay") for line in run.deliveries]
    (finding,) = order(about, run.history(tmp_path, about))
    assert (finding.verdict, finding.reason) == ("inconclusive", "no edit arrived anywhere but by asking")


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], object]
    what: str = ""  # "" if nothing is wrong
    number: int = 1


ORDER = (
    Case(name="as it should be", change=lambda run: run),
    Case(name="reordered", change=swap, what="reordered"),
    Case(name="came on request", change=ask),
    Case(name="came once more on request", change=lambda run: again(run, "replay")),
    Case(name="fanned out twice", change=lambda run: again(run, "live"), what="duplicate"),
    Case(name="under two numbers", change=lambda run: run.deliveries.append(
        Delivered(RECEIVER, "room-1", 1, 900, run.deliveries[at(run, 20)].edit, 60 * S, "live")), what="duplicate"),
    Case(name="of nobody", change=lambda run: run.deliveries.append(
        Delivered(RECEIVER, "room-1", 1, 900, "who-1", 60 * S, "live")), what="unexpected"),
    Case(name="refused but there", change=refused, what="refused but there", number=2),
    Case(name="a new epoch begins lower", change=lambda run: change(run, 155, epoch=2, seq=3)),
)  # fmt: skip


@pytest.mark.parametrize("case", ORDER, ids=lambda case: case.name)
def test_order(case: Case, tmp_path: Path) -> None:
    run = recorded()
    case.change(run)
    if case.name == "a new epoch begins lower":  # at both receivers alike
        index = at(run, 155, "m-room-1-1")
        run.deliveries[index] = msgspec.structs.replace(run.deliveries[index], epoch=2, seq=3)
    (finding,) = order(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == ("fail" if case.what else "pass")
    assert [item["what"] for item in finding.evidence] == [case.what] * (case.number if case.what else 0)


def test_one_number_two_edits(tmp_path: Path) -> None:
    run = recorded()
    other = run.deliveries[at(run, 21)].edit
    change(run, 20, edit=other)
    (finding,) = order(scenario(), run.history(tmp_path, scenario()))
    assert "ambiguous number" in finding.reason


def test_no_arrival_is_no_order(tmp_path: Path) -> None:
    run = recorded()
    run.deliveries = []
    (finding,) = order(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == "inconclusive"


def miss(run: Recorded, *numbers: int) -> None:
    for number in numbers:
        del run.deliveries[at(run, number)]


def doubt(run: Recorded) -> None:
    """Nobody knows whether number 20 was stored; it was, and the receiver never got it."""
    edit = run.deliveries[at(run, 20)].edit
    miss(run, 20)
    op = next(op for op in run.ops if op.value == edit)
    op.outcome, op.returned = "unknown", None


def reconnect(run: Recorded, *, replayed: bool) -> None:
    """The receiver is away from 30 s to 32 s, and is told what it missed or not."""
    gone = [line for line in run.deliveries if line.receiver == RECEIVER and 30 * S <= line.at < 32 * S]
    run.deliveries = [line for line in run.deliveries if line not in gone]
    run.leaves.append(Left(RECEIVER, "room-1", 30 * S, "lost"))
    run.joins.append(Joined(RECEIVER, "room-1", 1, gone[0].seq - 1, 32 * S))
    if replayed:
        run.deliveries += [msgspec.structs.replace(line, how="replay", at=32 * S) for line in gone]


def leave(run: Recorded, *, early_us: int) -> None:
    """The receiver's connection is lost for good at 50 s; its last edits before did not arrive."""
    run.leaves = [line for line in run.leaves if line.receiver != RECEIVER]
    run.leaves.append(Left(RECEIVER, "room-1", 50 * S, "lost"))
    run.deliveries = [line for line in run.deliveries if line.receiver != RECEIVER or line.at < 50 * S - early_us]


def leave_at_the_end(run: Recorded) -> None:
    """The last edit was acknowledged 1.8 s before the receiver left of its own accord."""
    miss(run, 155)
    run.leaves = [Left(line.receiver, line.room, END + S * 3 // 2, "stop") for line in run.leaves]


def join_late(run: Recorded) -> None:
    """The receiver joins at 30 s and begins at the head."""
    had = [line for line in run.deliveries if line.receiver == RECEIVER and line.at < 30 * S]
    run.deliveries = [line for line in run.deliveries if line not in had]
    run.joins = [line for line in run.joins if line.receiver != RECEIVER]
    run.joins.append(Joined(RECEIVER, "room-1", 1, had[-1].seq, 30 * S))


def stick(run: Recorded, *, acked: bool, since: int = END - 10 * S) -> None:
    """From an instant on no edit in room 1 is acknowledged, or arrives anywhere."""
    late = {op.value for op in run.ops if op.key == "room-1" and op.due >= since}
    run.deliveries = [line for line in run.deliveries if line.edit not in late]
    if acked:
        return
    for op in run.ops:
        if op.value in late:
            op.end("fail", 900_000, "http-503")
    room = run.rooms["room-1"]
    run.rooms["room-1"] = RoomRead(room.key, room.group, 1, tuple(row for row in room.log if row[2] not in late))


DELIVERY = (
    Case(name="as it should be", change=lambda run: run),
    Case(name="one gap", change=lambda run: miss(run, 20), what="gap"),
    Case(name="the last one missing", change=lambda run: miss(run, 155), what="missing"),
    Case(name="the last one within the grace", change=leave_at_the_end),
    Case(name="a stored one of unknown outcome", change=doubt, what="gap"),
    Case(name="away, and told what it missed", change=lambda run: reconnect(run, replayed=True)),
    Case(name="away, and not told", change=lambda run: reconnect(run, replayed=False), what="gap", number=5),
    Case(name="gone for good", change=lambda run: leave(run, early_us=0)),
    Case(name="gone, its last 2 s on the way", change=lambda run: leave(run, early_us=1_900_000)),
    Case(name="silent before it was gone", change=lambda run: leave(run, early_us=2_900_000), what="missing",
         number=2),
    Case(name="joined late", change=join_late),
    Case(name="stuck: nothing acknowledged", change=lambda run: stick(run, acked=False), what="stuck room"),
    Case(name="not stuck: it works again", change=lambda run: stick(run, acked=False, since=END - S)),
)  # fmt: skip


@pytest.mark.parametrize("case", DELIVERY, ids=lambda case: case.name)
def test_delivery(case: Case, tmp_path: Path) -> None:
    run = recorded()
    case.change(run)
    (finding,) = delivery(scenario(), run.history(tmp_path, scenario()))
    assert [item["what"] for item in finding.evidence] == [case.what] * (case.number if case.what else 0)
    assert finding.verdict == ("fail" if case.what else "pass")


def roll_back(run: Recorded, *, told: bool = False, why: Literal["", "resync"] = "") -> None:
    """Number 20 was fanned out, and is not in the log; both members may be told: where they are, or on joining."""
    room = run.rooms["room-1"]
    run.rooms["room-1"] = RoomRead(room.key, room.group, 2, tuple(row for row in room.log if row[1] != 20))
    told_at = run.deliveries[at(run, 20)].at + 1000
    for receiver in (RECEIVER, "m-room-1-1") if told else ():
        if why:
            run.leaves.append(Left(receiver, "room-1", told_at, why))
        run.joins.append(Joined(receiver, "room-1", 2, 19, told_at))


def roll_back_beside_one(run: Recorded) -> None:
    """One of the two has lost its connection, and was not there to be told."""
    roll_back(run)
    (end,) = [line for line in run.leaves if line.receiver == RECEIVER]
    run.leaves[run.leaves.index(end)] = msgspec.structs.replace(end, why="lost")


def renamed(run: Recorded) -> None:
    """The log has another edit under number 20."""
    room = run.rooms["room-1"]
    log = tuple((epoch, seq, "other" if seq == 20 else text) for epoch, seq, text in room.log)
    run.rooms["room-1"] = RoomRead(room.key, room.group, 1, log)


VIEWS = (
    Case(name="as it should be", change=lambda run: run),
    Case(name="a gap is no matter of views", change=lambda run: miss(run, 20)),
    Case(name="rolled back, nobody told", change=roll_back, what="not stored", number=2),
    Case(name="rolled back, both told", change=lambda run: roll_back(run, told=True, why="resync")),
    Case(name="rolled back, told as they came back", change=lambda run: roll_back(run, told=True)),
    Case(name="another edit under that number", change=renamed, what="not stored", number=2),
    Case(name="rolled back, one away at the end", change=roll_back_beside_one, what="not stored"),
)  # fmt: skip


@pytest.mark.parametrize("case", VIEWS, ids=lambda case: case.name)
def test_views(case: Case, tmp_path: Path) -> None:
    run = recorded()
    case.change(run)
    finding = views(scenario(), run.history(tmp_path, scenario()))
    assert [item["what"] for item in finding.evidence] == [case.what] * (case.number if case.what else 0)
    assert finding.verdict == ("fail" if case.what else "pass")


def test_without_members_no_view_is_judged(tmp_path: Path) -> None:
    run = recorded()
    run.joins, run.leaves = [], []
    assert views(scenario(), run.history(tmp_path, scenario())).verdict == "inconclusive"


def test_a_member_that_is_not_on_record_might_have_missed_anything(tmp_path: Path) -> None:
    run = recorded()
    run.joins = [line for line in run.joins if line.receiver != RECEIVER]
    run.deliveries = [line for line in run.deliveries if line.receiver != RECEIVER]
    run.leaves = [line for line in run.leaves if line.receiver != RECEIVER]
    (finding,) = delivery(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == "inconclusive"
    assert finding.reason == "1 member of rooms never joined, or what they got is not on record"


def test_a_room_whose_edits_reach_nobody_is_stuck(tmp_path: Path) -> None:
    run = recorded()
    stick(run, acked=True)
    (finding,) = delivery(scenario(), run.history(tmp_path, scenario()))
    assert finding.evidence[0]["what"] == "stuck room"
    assert "1 rooms stuck" in finding.reason
    assert finding.measures["collaboration.stuck_rooms"] == 1


def test_a_lost_edit_is_booked_once(tmp_path: Path) -> None:
    """It reached a receiver, was lost with the primary, and is booked as lost; the rooms did nothing wrong, since the
    receiver was told.
    """
    run, about = recorded(), scenario()
    edit = next(op for op in run.good("collaboration.edit") if op.due > APPLIED + 2 * S)
    arrived = list(run.deliveries)
    run.lose(edit)
    run.deliveries = [line for line in arrived if line.edit != edit.value or line.receiver.endswith("0")]
    (had,) = [line for line in run.deliveries if line.edit == edit.value]
    run.joins.append(Joined(had.receiver, had.room, 2, had.seq - 1, had.at))
    judgement = judge(about, run.history(tmp_path, about))
    failed = {finding.check for finding in judgement.findings if finding.verdict == "fail"}
    assert failed == {"durability.collaboration", "slo.durability"}


def test_nobody_was_owed_anything(tmp_path: Path) -> None:
    run = recorded()
    run.joins, run.leaves, run.deliveries = [], [], []
    run.ops = [op for op in run.ops if op.kind != "collaboration.edit"]
    (finding,) = delivery(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == "inconclusive"
