"""Reads back the logs of rooms where they are in PostgreSQL, after healing: all rows of all rooms.

As those of the load's own table, they count only as the primary on the latest timeline has them.
"""

from collections.abc import Iterable

import msgspec

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, RoomRead
from resilience.history.writer import Writer
from resilience.stack.audit import NO_EPOCH
from resilience.stack.postgresql_audit import read_until
from resilience.stack.postgresql_link import PostgresqlLink
from resilience.stack.postgresql_role import GROUP

Row = tuple[int, int, str]  # epoch, sequence, value of the edit
Log = tuple[int, tuple[Row, ...]]  # the room's epoch, and its rows


def audit_rooms(
    platform: Platform,
    writer: Writer,
    rooms: Iterable[str],
    *,
    clock: RunClock,
    deadline: float,
    timeline_min: int = 0,
) -> None:
    """Writes a `RoomRead` for each room that there is and for each of these, and an `AuditDone`.

    ``deadline`` is a value of `time.monotonic`; until then it is tried again. ``timeline_min`` is the latest timeline
    that anybody was seen on. Raises `StackError`; nothing has been written then.
    """
    member, timeline, logs = read_until(
        platform, "reading the logs of rooms", _logs, deadline=deadline, timeline_min=timeline_min
    )
    asked = dict.fromkeys((*rooms, *logs))
    for room in asked:
        epoch, rows = logs.get(room, (NO_EPOCH, ()))
        writer.append(RoomRead(room, GROUP, epoch, rows, member, timeline))
    writer.write(AuditDone("room", len(asked), clock.now_us()))
    writer.flush()


def _logs(link: PostgresqlLink) -> dict[str, Log]:
    """By room; none of a database without the tables, for no edit was ever acknowledged."""
    if link.ask("SELECT to_regclass('room_edits')") == [(None,)]:
        return {}
    rows: dict[str, list[Row]] = {}
    for room, epoch, seq, edit in link.ask("SELECT room, epoch, seq, edit FROM room_edits ORDER BY room, seq"):
        rows.setdefault(str(room), []).append((int(str(epoch)), int(str(seq)), _edit(str(edit))))
    epochs = link.ask("SELECT room, max(epoch) FROM room_epochs GROUP BY room")
    named = {str(room): int(str(epoch)) for room, epoch in epochs}
    return {room: (named.get(room, NO_EPOCH), tuple(rows.get(room, ()))) for room in {**named, **rows}}


def _edit(text: str) -> str:
    """Raises `StackError`: a row that cannot be read must not pass for a lost one."""
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError as error:
        raise StackError(f"the edit {text!r} in a room's log cannot be read: {error}") from error
