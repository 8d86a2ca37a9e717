"""The logs of rooms in PostgreSQL: an edit is acknowledged once its row is committed.

One call of the function in `sql/room.sql` numbers an edit and stores it, as one script does in Redis. Tables and
function are made when they are missed for the first time, also by a database that has lost them. Who is in a room is
kept in Redis as ever: it is forgotten within seconds anyway.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from services.config import Rooms
from services.database import DatabaseError, NotConnectedError, database_of, make_tables, write
from services.redis_cluster import RedisCluster
from services.redis_node import StoreError
from services.room_log import NOTHING, ROWS_PER_ANSWER, Position, Presence, Stored, stored_from_answer

LOCK = 18  # whoever makes the tables has this advisory lock
CALL = "SELECT * FROM room(%s, %s, %s, %s, %s, %s, %s)"
MISSING = frozenset({"42883", "42P01"})  # the function, a table
# what a server says that has done nothing, and the reason that we report
REFUSALS = {"25006": "readonly", "55000": "readonly", "55P03": "busy"}
DOUBTS = {"locally": "not-durable", "timeout": "timeout"}


class RowLog:
    """The logs of all rooms."""

    def __init__(self, rooms: Rooms, cluster: RedisCluster) -> None:
        """Nothing is connected. Raises `ConfigError`."""
        self._database = database_of(rooms)
        self._presence = Presence(cluster)
        self._schema = schema()

    async def close(self) -> None:
        """Closes what is idle."""
        await self._database.close()

    async def append(self, room: str, edit: str, *, seen: Position, deadline: float) -> Stored:
        """Number an edit and commit it, or find it where it is stored already. Raises `StoreError`."""
        return await self._call((room, *seen, *NOTHING, 0, msgspec.json.encode(edit).decode()), deadline)

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
        stored = await self._call((room, *max(seen, since), *since, rows_max, ""), deadline)
        if members:
            with suppress(StoreError):  # the log is what was asked for
                await self._presence.stay(room, members, deadline=deadline)
        return stored

    async def members(self, room: str, *, leaving: str = "", deadline: float) -> list[str]:
        """The members in the room, over all instances. Raises `StoreError`."""
        return await self._presence.members(room, leaving=leaving, deadline=deadline)

    async def _call(self, args: tuple[str | int, ...], deadline: float) -> Stored:
        try:
            try:
                row = await self._row(args, deadline)
            except DatabaseError as error:
                if str(error) not in MISSING:
                    raise
                await make_tables(self._database, LOCK, (self._schema,), deadline)
                row = await self._row(args, deadline)
        except NotConnectedError as error:
            raise StoreError("connect-timeout" if str(error) == "timeout" else "refused", "fail") from error
        except DatabaseError as error:
            raise store_error_from(error) from error
        return stored_from_answer(row)

    async def _row(self, args: tuple[str | int, ...], deadline: float) -> Any:
        async with self._database.connection(deadline) as connection:
            return await (await write(connection, CALL, args, deadline)).fetchone()


def schema() -> str:
    """The statements that make the tables and the function."""
    return (Path(__file__).parent / "sql" / "room.sql").read_text(encoding="utf-8")


def store_error_from(error: DatabaseError) -> StoreError:
    """What an error says about the statement; one that we do not know may come from a server that has done it."""
    text = str(error)
    if text in REFUSALS:
        return StoreError(REFUSALS[text], "fail")
    return StoreError(DOUBTS.get(text, "error"), "unknown")
