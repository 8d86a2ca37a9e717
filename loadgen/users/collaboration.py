"""Collaboration journeys: members join rooms and stay, edits arrive on a schedule, everybody receives.

A member that loses its connection comes back through the other edge and names the last edit that it has. An edit is
sent by any member of the room who is connected; if nobody is, it is a failure: people could not edit.
"""

import random
import time
from collections.abc import Sequence

import gevent

from loadgen.deliveries import Deliveries
from loadgen.generator import Generator
from loadgen.recorder import Op
from loadgen.shards import ShardMap
from loadgen.users.connection import ConnectionLostError, RoomConnection
from loadgen.users.inbox import NOTHING, Delivery, Inbox, Row
from loadgen.users.message import Ack, Edit, Head, Joined, Missed, Refused, Resync, ServerMessage
from resilience.history.record import Delivered, Left
from resilience.history.record import Joined as JoinedLine
from resilience.spec.load import numbered

STREAM = "edit"
JOIN_STREAM = "join"
OPS = ("collaboration.join", "collaboration.edit")
BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)  # before a member tries again; at most a quarter more, by chance
SILENCE_S = 1.5  # the room's head comes every second: a member that hears nothing for so long asks who is there
ASK_AGAIN_S = 0.2  # after a question about missed edits was refused
CONNECT_SHARE = 0.5  # of an op's time: a silent edge must not take all of it


class Member:
    """One member of one room: its connection, and what it has of the room's edits."""

    def __init__(self, users: "CollaborationUsers", room: str, number: int) -> None:
        """Nothing is connected; `live` does all."""
        self.name = f"m-{room}-{number}"
        self.room = room
        self.connected = False
        self._users = users
        self._edge = number  # the members of a room are spread over the edges
        self._inbox = Inbox()
        self._connection = RoomConnection()
        self._asked_at = 0.0  # instants of `time.monotonic`; 0: no question is open
        self._ask_after = 0.0
        self._heard_at = 0.0
        self._probed = False

    def live(self) -> None:
        """Joins, receives, and joins again when the connection is lost, until the load is over."""
        failures = 0
        while not self._users.over:
            if self._join():
                failures = 0
                self._receive()
            self._edge += 1
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            gevent.sleep(pause_s * self._users.random.uniform(1.0, 1.25))
            failures += 1

    def leave(self) -> None:
        """Closes the connection on purpose."""
        self._lost("stop")

    def edit(self, op: Op, edit: str) -> None:
        """Sends an edit over the member's connection and books its answer."""
        users = self._users
        answer = self._connection.edit(edit, users.timeout_s)
        if answer.outcome == "ok":
            users.deliveries.acked(edit, users.now_us())
        users.generator.recorder.returned(op, answer.outcome, answer.seq, answer.epoch, answer.error)

    def _join(self) -> bool:
        users = self._users
        op = users.join_op(self.room)
        try:
            with gevent.Timeout(users.timeout_s, ConnectionLostError("timeout")):
                self._connection.open(users.edge(self._edge), self.room, self.name, users.timeout_s * CONNECT_SHARE)
                epoch, seq = self._inbox.position
                self._connection.send({"type": "join", "member": self.name, "epoch": epoch, "seq": seq})
                while not self.connected:
                    self._take(self._connection.read())
        except ConnectionLostError as error:
            self._lost("lost")
            users.generator.recorder.returned(op, "fail", error=str(error))  # joining writes nothing
            return False
        epoch, seq = self._inbox.position
        users.generator.recorder.returned(op, "ok", seq, epoch)
        return True

    def _receive(self) -> None:
        self._heard_at, self._probed = time.monotonic(), False
        try:
            while True:
                message = self._connection.read()
                now = time.monotonic()
                self._take(message)
                self._listen(now, heard=message is not None)
                self._ask(now)
        except ConnectionLostError:
            self._lost("lost")

    def _take(self, message: ServerMessage | None) -> None:
        match message:
            case Edit(epoch, seq, edit):
                self._deliver(self._inbox.live(Row(epoch, seq, edit)))
            case Refused(None, error):
                self._refused(error)
            case Ack() | Refused():
                self._connection.answered(message)
            case Head(epoch, seq):
                self._inbox.head((epoch, seq))
            case Missed(epoch, seq, edits):
                self._asked_at = 0.0
                self._deliver(self._inbox.missed((epoch, seq), (Row(*row) for row in edits)))
            case Resync(epoch, seq):
                self._resync(epoch, seq)
            case Joined():
                self._arrive(message)
            case _:
                return

    def _arrive(self, message: Joined) -> None:
        """On record as a member, with what it had before the replay; then the replay."""
        had = self._inbox.position
        deliveries = self._inbox.joined((message.epoch, message.seq), (Row(*row) for row in message.edits))
        if not self.connected:  # it is by now if the room told it to resynchronise first
            epoch, seq = self._inbox.position if had == NOTHING else had
            self._users.write(JoinedLine(self.name, self.room, epoch, seq, self._users.now_us()))
            self.connected = True
        self._deliver(deliveries)

    def _resync(self, epoch: int, seq: int) -> None:
        users = self._users
        self._asked_at = 0.0
        self._inbox.resync((epoch, seq))
        if self.connected:
            users.write(Left(self.name, self.room, users.now_us(), "resync"))
        users.write(JoinedLine(self.name, self.room, epoch, seq, users.now_us()))
        self.connected = True

    def _refused(self, error: str) -> None:
        """A question was refused: joining is over, missed edits are asked for again in a while."""
        if not self.connected:
            raise ConnectionLostError(error[:60] or "refused")
        self._asked_at = 0.0
        self._ask_after = time.monotonic() + ASK_AGAIN_S

    def _listen(self, now: float, *, heard: bool) -> None:
        """Finds out whether a silent connection still stands: by asking, since a room without Redis has no head."""
        if heard:
            self._heard_at, self._probed = now, False
        elif now > self._heard_at + SILENCE_S + self._users.timeout_s:
            raise ConnectionLostError("timeout")
        elif now > self._heard_at + SILENCE_S and not self._probed:
            self._probed = True
            self._connection.send({"type": "presence"})

    def _ask(self, now: float) -> None:
        """Asks for what is missing, once; a question without an answer means a dead connection."""
        if not self._inbox.asking:
            self._asked_at = 0.0
        elif not self._asked_at and now >= self._ask_after:
            self._asked_at = now
            epoch, seq = self._inbox.position
            self._connection.send({"type": "missed", "epoch": epoch, "seq": seq})
        elif self._asked_at and now > self._asked_at + self._users.timeout_s:
            raise ConnectionLostError("timeout")

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for row, how in deliveries:
            at = self._users.now_us()
            self._users.write(Delivered(self.name, self.room, row.epoch, row.seq, row.edit, at, how))
            self._users.deliveries.arrived(row.edit, self.name, at)

    def _lost(self, why: str) -> None:
        users = self._users
        self._connection.close(why)
        self._connection = RoomConnection()
        self._asked_at = 0.0
        if self.connected:
            self.connected = False
            users.write(Left(self.name, self.room, users.now_us(), "stop" if why == "stop" else "lost"))


class CollaborationUsers:
    """All rooms of this process and their members; `act` is one edit in one of them.

    A room is one process's alone: it alone knows whom of the members an edit has reached.
    """

    def __init__(self, generator: Generator, shards: ShardMap) -> None:
        """Nothing is connected; see `join_all`."""
        self.generator = generator
        plan = generator.plan
        self.timeout_s = plan.load.timeout_s
        self._mark = plan.part.mark
        seed = numbered(str(plan.seed), plan.part.index)
        self.random = random.Random(f"collaboration-{seed}")  # noqa: S311  not for secrets
        self.deliveries = Deliveries(generator.metrics, plan.load.room_members)
        self.write = generator.recorder.write
        self.now_us = generator.clock.now_us
        self._groups = {name: shards.group_of(name) for name in plan.part.of_all(room_names(plan.load.rooms))}
        self._members = {
            room: [Member(self, room, number) for number in range(plan.load.room_members)] for room in self._groups
        }
        self._edits = 0

    @property
    def over(self) -> bool:
        """Whether the load has been told to stop, and the instant has passed."""
        return self.generator.over

    @property
    def members(self) -> Sequence[Member]:
        """All members of all rooms."""
        return [member for room in self._members.values() for member in room]

    @property
    def connected(self) -> int:
        """How many members are in their rooms now."""
        return sum(member.connected for member in self.members)

    def edge(self, number: int) -> str:
        """The base URL of an edge; any number will do."""
        edges = self.generator.plan.edges
        return edges[number % len(edges)]

    def join_op(self, room: str) -> Op:
        """Books a member's attempt to join."""
        now = self.now_us()
        phase = self.generator.phase_at(now)
        return self.generator.recorder.invoked(
            stream=JOIN_STREAM,
            kind="collaboration.join",
            key=room,
            value="",
            group=self._groups[room],
            phase=phase,
            due=now,
        )

    def act(self, due: int) -> None:
        """The edit that is due at an instant."""
        generator = self.generator
        phase = generator.phase_at(due)
        room = self.random.choice(tuple(self._groups))
        self._edits += 1
        edit = f"e{self._mark}-{phase}-{self._edits}"
        op = generator.recorder.invoked(
            stream=STREAM,
            kind="collaboration.edit",
            key=room,
            value=edit,
            group=self._groups[room],
            phase=phase,
            due=due,
        )
        senders = [member for member in self._members[room] if member.connected]
        if not senders:
            generator.recorder.returned(op, "fail", error="not-connected")
            return
        self.deliveries.sent(edit, phase, self.now_us())
        self.random.choice(senders).edit(op, edit)


def room_names(count: int) -> list[str]:
    """The names of the rooms."""
    return [f"room-{number}" for number in range(1, count + 1)]
