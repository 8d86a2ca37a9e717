"""One room on one instance: the members that are connected here, and what passes between them and the log.

    edit ──▶ log ──▶ ack to its author ──▶ fan-out ──▶ every instance's Room ──▶ its members

`deliver` takes what the fan-out brings; `tick` tells the members the head of the log once a second, so that a lost tail
is noticed; `repair` answers a member that missed something, or holds edits that were rolled back by a failover.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from services.metric import RoomMetrics
from services.order import Edit, Order
from services.redis_node import StoreError
from services.room_log import NOTHING, ROWS_PER_ANSWER, Log, Position, Stored
from services.task import end

HOLD_S = 0.05
TICK_S = 1.0
RECENT_MAX = 256
OUTBOX_MAX = 1_024  # messages; a member that is this far behind is closed, and asks for what it missed

_encode = msgspec.json.encode


class Member:
    """One connected member: its name, what it was last sent, and its outbox."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.position: Position = NOTHING
        self.repairing = False
        self.outbox: asyncio.Queue[bytes | None] = asyncio.Queue(OUTBOX_MAX)  # None: close the connection
        self.overflowed = False

    def send(self, message: bytes) -> None:
        """Put a message into the outbox; a full one ends the connection."""
        if self.overflowed:
            return
        if self.outbox.qsize() >= OUTBOX_MAX - 1:
            self.overflowed = True
            self.outbox.put_nowait(None)
            return
        self.outbox.put_nowait(message)

    def send_edit(self, edit: Edit, message: bytes) -> None:
        """Send an edit, unless the member has it already."""
        if edit.position > self.position and not self.repairing:
            self.position = edit.position
            self.send(message)


class Room:
    """One room on one instance."""

    def __init__(self, name: str, log: Log, metrics: RoomMetrics, timeout_s: float) -> None:
        self.name = name
        self.users = 0  # connections that use this room, also those that have not joined yet
        self._log = log
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._members: set[Member] = set()
        self._seen: Position = NOTHING  # the highest position that this instance knows to have been stored
        self._order: Order | None = None
        self._recent: deque[Edit] = deque(maxlen=RECENT_MAX)
        self._filling: asyncio.Task[None] | None = None
        self._realigning: asyncio.Task[None] | None = None
        self._ticking = asyncio.create_task(self._tick_forever(), name=f"tick-{name}")

    async def join(self, member: Member, since: Position) -> None:
        """Let a member in, with what it missed since. Raises `StoreError`."""
        names = (*self._names(), member.name)
        stored = await self._read(since=since, members=names)
        self._learn(stored)
        present = await self._log.members(self.name, deadline=self._deadline())
        if stored.resume is not None:
            self._tell_resync(member, stored.resume)
        message = b'{"type":"joined","epoch":%d,"seq":%d,"members":%d,"edits":[%s]}'
        member.send(message % (*stored.head, len(present), ",".join(stored.rows).encode()))
        member.position = stored.head
        self._members.add(member)
        self._catch_up(member)

    async def leave(self, member: Member) -> None:
        """Forget a member, here and (if Redis can be reached) for all instances."""
        self._members.discard(member)
        if member.name not in self._names():
            with suppress(StoreError):
                await self._log.members(self.name, leaving=member.name, deadline=self._deadline())

    async def edit(self, text: str) -> Stored:
        """Number and store an edit. Raises `StoreError`."""
        stored = await self._log.append(self.name, text, seen=self._seen, deadline=self._deadline())
        self._learn(stored)
        return stored

    async def presence(self) -> list[str]:
        """The members over all instances. Raises `StoreError`."""
        return await self._log.members(self.name, deadline=self._deadline())

    def deliver(self, edit: Edit) -> None:
        """An edit that the fan-out brought."""
        if self._order is None:
            return  # nobody has joined yet; who does will read it from the log
        self._see(edit.position)
        self._pass_on(self._order.offer(edit))
        if self._order.holding and (self._filling is None or self._filling.done()):
            self._filling = asyncio.create_task(self._fill(self._order), name=f"fill-{self.name}")

    async def repair(self, member: Member, since: Position) -> None:
        """Tell a member what it missed since a position, or where to take up again. Raises `StoreError`."""
        self._metrics.missed.inc()
        stored = await self._read(since=since)
        self._learn(stored)
        if stored.resume is not None:
            self._tell_resync(member, stored.resume)
        message = b'{"type":"missed","edits":[%s],"epoch":%d,"seq":%d}'
        member.send(message % (",".join(stored.rows).encode(), *stored.head))
        member.position = max(member.position, stored.head)
        self._catch_up(member)

    async def close(self) -> None:
        """Stop everything that goes on in this room."""
        for task in (self._ticking, self._filling, self._realigning):
            if task is not None:
                await end(task)

    def _names(self) -> set[str]:
        return {member.name for member in self._members}

    def _learn(self, stored: Stored) -> None:
        self._see(max(stored.head, stored.edit))
        if self._order is None:
            self._order = Order(stored.head)

    def _see(self, position: Position) -> None:
        self._seen = max(self._seen, position)

    def _pass_on(self, edits: Iterable[Edit]) -> None:
        for edit in edits:
            self._recent.append(edit)
            message = _message_from_edit(edit)
            for member in self._members:
                member.send_edit(edit, message)

    async def _fill(self, order: Order) -> None:
        """An edit came early: wait a moment for those before it, then take them from the log."""
        await asyncio.sleep(HOLD_S)
        while order.holding:
            try:
                stored = await self._read(since=order.last)
            except StoreError:
                self._pass_on(order.release())
                return
            self._learn(stored)
            if stored.resume is not None:
                self._roll_back(order, stored.head)
            elif stored.rows:
                self._pass_on(order.fill([_edit_from_row(row) for row in stored.rows]))
            else:
                self._pass_on(order.release())  # not in the log: whoever published it was rolled back

    def _catch_up(self, member: Member) -> None:
        """What came while the member was waiting for its answer."""
        for edit in self._recent:
            member.send_edit(edit, _message_from_edit(edit))

    def _tell_resync(self, member: Member, resume: Position) -> None:
        self._metrics.resyncs.inc()
        member.position = resume
        member.send(b'{"type":"resync","epoch":%d,"seq":%d}' % resume)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            with suppress(StoreError):  # no head is better than one that may be wrong; the next one comes in a second
                await self._tick()

    async def _tick(self) -> None:
        if self._order is None or not self._members:
            return
        stored = await self._read(since=self._order.last, members=self._names(), rows_max=0)
        self._learn(stored)
        if stored.resume is not None:
            self._roll_back(self._order, stored.head)
        head = b'{"type":"head","epoch":%d,"seq":%d}' % stored.head
        for member in self._members:
            if not member.repairing:
                member.send(head)

    def _roll_back(self, order: Order, last: Position) -> None:
        """Edits that members hold were rolled back: tell each of them where to take up again."""
        self._recent.clear()
        order.restart(last)
        for member in self._members:
            member.repairing = True
        if self._realigning is None or self._realigning.done():
            self._realigning = asyncio.create_task(self._realign_all(), name=f"realign-{self.name}")

    async def _realign_all(self) -> None:
        while waiting := [member for member in self._members if member.repairing]:
            for member in waiting:
                with suppress(StoreError):  # it is told the head, and asks by itself
                    await self.repair(member, member.position)
                member.repairing = False
                self._catch_up(member)

    async def _read(self, *, since: Position, members: Iterable[str] = (), rows_max: int = ROWS_PER_ANSWER) -> Stored:
        return await self._log.read(
            self.name,
            seen=self._seen,
            since=since,
            members=tuple(members),
            rows_max=rows_max,
            deadline=self._deadline(),
        )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


def _message_from_edit(edit: Edit) -> bytes:
    epoch, seq = edit.position
    return b'{"type":"edit","epoch":%d,"seq":%d,"edit":%s}' % (epoch, seq, _encode(edit.text))


def _edit_from_row(row: str) -> Edit:
    epoch, seq, text = msgspec.json.decode(row, type=tuple[int, int, str])
    return Edit(position=(epoch, seq), base=seq - 1, text=text)  # the log has no gaps: it follows the row before it
