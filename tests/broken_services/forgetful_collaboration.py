"""A collaboration service that forgets edits: one row in `EVERY` is gone once it was acknowledged.

For rooms whose logs are in PostgreSQL. Everybody in the room is told of the edit, and whoever comes later is not.
"""

import asyncio
import itertools
import sys
from typing import ClassVar
from unittest import mock

from services import collaboration, room_rows
from services.database import write
from services.room_log import NOTHING, Position, Stored
from services.web import main

EVERY = 50
LATER_S = 0.5
FORGET = "DELETE FROM room_edits WHERE room = %s AND epoch = %s AND seq = %s"


class ForgetfulLog(room_rows.RowLog):
    """The log, with the defect."""

    _edits = itertools.count(1)
    _later: ClassVar[set[asyncio.Task[None]]] = set()

    async def append(self, room: str, edit: str, *, seen: Position, deadline: float) -> Stored:
        """As it should be; some of them for a moment."""
        stored = await super().append(room, edit, seen=seen, deadline=deadline)
        if not next(self._edits) % EVERY and stored.edit != NOTHING:
            task = asyncio.create_task(self._forget(room, stored.edit))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        return stored

    async def _forget(self, room: str, position: Position) -> None:
        await asyncio.sleep(LATER_S)
        deadline = asyncio.get_running_loop().time() + 1.0
        async with self._database.connection(deadline) as connection:
            await write(connection, FORGET, (room, *position), deadline)


if __name__ == "__main__":
    with mock.patch.object(room_rows, "RowLog", ForgetfulLog):
        sys.exit(main(collaboration.serve))
