"""Reads back the logs of rooms where they are in PostgreSQL, after healing: all rows of all rooms.

As those of the load's own table, they count only as the primary on the latest timeline has them. Where edits are events
of RabbitMQ they are read until none waits to be published any more, or until time is up.
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

ROWS = "SELECT room, epoch, seq, edit, published_at IS NOT NULL FROM room_edits ORDER BY room, seq"

Row = tuple[int, int, str]  # epoch, sequence, value of the edit


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A room's log: its epoch, its rows, and the sequence numbers of those that are not marked as published."""

    epoch: int = NO_EPOCH
    rows: list[Row] = []
    unpublished: list[int] = []


Logs = dict[str, Log]


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
    events = platform.stack.has_room_events

    def unsettled(logs: Logs) -> str:
        waiting = sum(len(log.unpublished) for log in logs.values()) if events else 0
        return f"{waiting} edits wait to be published" if waiting else ""

    member, timeline, logs = read_until(
        platform,
        "reading the logs of rooms",
        _logs,
        deadline=deadline,
        timeline_min=timeline_min,
        unsettled=unsettled,
    )
    asked = dict.fromkeys((*rooms, *logs))
    for room in asked:
        log = logs.get(room, Log())
        unpublished = tuple(log.unpublished) if events else ()
        writer.append(RoomRead(room, GROUP, log.epoch, tuple(log.rows), member, timeline, unpublished))
    writer.write(AuditDone("room", len(asked), clock.now_us()))
    writer.flush()


def _logs(link: PostgresqlLink) -> Logs:
    """By room; none of a database without the tables, for no edit was ever acknowledged."""
    if link.ask("SELECT to_regclass('room_edits')") == [(None,)]:
        return {}
    epochs = link.ask("SELECT room, max(epoch) FROM room_epochs GROUP BY room")
    logs = {str(room): Log(epoch=int(str(epoch))) for room, epoch in epochs}
    for room, epoch, seq, edit, published in link.ask(ROWS):
        log = logs.setdefault(str(room), Log())
        log.rows.append((int(str(epoch)), int(str(seq)), _edit(str(edit))))
        if published != "t":
            log.unpublished.append(int(str(seq)))
    return logs


def _edit(text: str) -> str:
    """Raises `StackError`: a row that cannot be read must not pass for a lost one."""
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError as error:
        raise StackError(f"the edit {text!r} in a room's log cannot be read: {error}") from error
