"""The stored log of rooms: what Redis knows of them, by one script each way."""

from dataclasses import dataclass

import msgspec

from services.redis_cluster import RedisCluster
from services.redis_node import Command
from services.script import Script

Position = tuple[int, int]  # (epoch, seq); compared in this order
NOTHING: Position = (-1, -1)
ROWS_KEPT = 20_000
ROWS_PER_ANSWER = 1_000
TTL_S = 604_800  # 7 days


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the log said.

    `base`: the seq at which the head's epoch began. `resume`: where whoever asked has to take up again because what it
    has beyond that was rolled back (`None`: nothing was). `rows`: what follows, as JSON arrays [epoch,seq,"edit"].
    `edit`: the position of the edit that was given (`NOTHING` if none was).
    """

    head: Position
    base: int
    resume: Position | None
    rows: tuple[str, ...]
    edit: Position


class RoomLog:
    """The logs of all rooms."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._script = Script.load("room")
        self._members_script = Script.load("room_members")

    async def append(self, room: str, edit: str, *, seen: Position, deadline: float) -> Stored:
        """Number an edit and store it, or find it where it is stored already. Raises `StoreError`."""
        edit_json = msgspec.json.encode(edit).decode()
        args: Command = (*seen, *NOTHING, 0, TTL_S, edit, edit_json, ROWS_KEPT)
        return await self._run(room, args, durable=True, deadline=deadline)

    async def read(
        self,
        room: str,
        *,
        seen: Position,
        since: Position,
        members: tuple[str, ...] = (),
        rows_max: int = ROWS_PER_ANSWER,
        deadline: float,
    ) -> Stored:
        """The head, and what follows `since`; `members` stay in the room for another while. Raises `StoreError`."""
        args: Command = (*max(seen, since), *since, rows_max, TTL_S, "", "", ROWS_KEPT, *members)
        return await self._run(room, args, durable=False, deadline=deadline)

    async def members(self, room: str, *, leaving: str = "", deadline: float) -> list[str]:
        """The members in the room, over all instances. Raises `StoreError`."""
        keys = (f"room-members:{{{room}}}",)
        return list(await self._cluster.run(self._members_script, keys, (leaving,), durable=False, deadline=deadline))

    async def _run(self, room: str, args: Command, *, durable: bool, deadline: float) -> Stored:
        keys = tuple(f"{kind}:{{{room}}}" for kind in ("room", "room-log", "room-edits", "room-members"))
        answer = await self._cluster.run(self._script, keys, args, durable=durable, deadline=deadline)
        epoch, seq, base, resume_epoch, resume_seq, rows, edit_epoch, edit_seq = answer
        return Stored(
            head=(epoch, seq),
            base=base,
            resume=(resume_epoch, resume_seq) if resume_epoch >= 0 else None,
            rows=tuple(rows),
            edit=(edit_epoch, edit_seq),
        )
