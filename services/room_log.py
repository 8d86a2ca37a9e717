"""The stored logs of rooms, and who is in them: what Redis knows, by one script each way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


def stored_from_answer(answer: Sequence[Any]) -> Stored:
    """What the script in Redis and the function in PostgreSQL both answer."""
    epoch, seq, base, resume_epoch, resume_seq, rows, edit_epoch, edit_seq = answer
    return Stored(
        head=(epoch, seq),
        base=base,
        resume=(resume_epoch, resume_seq) if resume_epoch >= 0 else None,
        rows=tuple(rows),
        edit=(edit_epoch, edit_seq),
    )


class Log(Protocol):
    """The logs of all rooms, wherever they are kept; each method raises `StoreError`."""

    async def append(self, room: str, edit: str, *, seen: Position, deadline: float) -> Stored:
        """Number an edit and store it, or find it where it is stored already."""
        ...

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
        """The head, and what follows `since`; `members` stay in the room for another while."""
        ...

    async def members(self, room: str, *, leaving: str = "", deadline: float) -> list[str]:
        """The members in the room, over all instances."""
        ...


class Presence:
    """Who is in which room, in Redis."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._members = Script.load("room_members")
        self._stay = Script.load("room_stay")

    async def members(self, room: str, *, leaving: str = "", deadline: float) -> list[str]:
        """The members in the room, over all instances. Raises `StoreError`."""
        keys = (_members_key(room),)
        return list(await self._cluster.run(self._members, keys, (leaving,), durable=False, deadline=deadline))

    async def stay(self, room: str, members: tuple[str, ...], *, deadline: float) -> None:
        """They stay for another while. Raises `StoreError`. A log in Redis does that as it is read."""
        await self._cluster.run(self._stay, (_members_key(room),), members, durable=False, deadline=deadline)


def _members_key(room: str) -> str:
    return f"room-members:{{{room}}}"


class RoomLog:
    """The logs of all rooms, in Redis."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._presence = Presence(cluster)
        self._script = Script.load("room")

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
        return await self._presence.members(room, leaving=leaving, deadline=deadline)

    async def _run(self, room: str, args: Command, *, durable: bool, deadline: float) -> Stored:
        keys = tuple(f"{kind}:{{{room}}}" for kind in ("room", "room-log", "room-edits", "room-members"))
        return stored_from_answer(await self._cluster.run(self._script, keys, args, durable=durable, deadline=deadline))
