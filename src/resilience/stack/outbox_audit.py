"""Reads back the outbox of the session service, after healing: each row, and whether its event was confirmed.

It is read until nothing in it waits for RabbitMQ any more, or until time is up: what is unpublished then stays so, as
far as anybody can tell. As of the load's own table, it counts only as the primary on the latest timeline has it.
"""

from resilience.backend.base import Platform
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, OutboxRead
from resilience.history.writer import Writer
from resilience.stack.postgresql_audit import read_until
from resilience.stack.postgresql_link import PostgresqlLink, Rows


def audit_outbox(
    platform: Platform,
    writer: Writer,
    *,
    clock: RunClock,
    deadline: float,
    timeline_min: int = 0,
) -> int:
    """Writes an `OutboxRead` for each row and an `AuditDone`; how many rows are not published.

    ``deadline`` is a value of `time.monotonic`. Raises `StackError` if the outbox could not be read until then; nothing
    has been written then.
    """

    def unsettled(rows: Rows) -> str:
        waiting = len(_unpublished(rows))
        return f"{waiting} rows of the outbox wait to be published" if waiting else ""

    member, timeline, rows = read_until(
        platform, "reading the outbox", _rows, deadline=deadline, timeline_min=timeline_min, unsettled=unsettled
    )
    for event, published in rows:
        writer.append(OutboxRead(str(event), published == "t", member, timeline))
    writer.write(AuditDone("outbox", len(rows), clock.now_us()))
    writer.flush()
    return len(_unpublished(rows))


def _unpublished(rows: Rows) -> Rows:
    return [row for row in rows if row[1] != "t"]


def _rows(link: PostgresqlLink) -> Rows:
    """Of a database without the table: none, for no end was ever acknowledged."""
    if link.ask("SELECT to_regclass('outbox')") == [(None,)]:
        return []
    return link.ask("SELECT id, published_at IS NOT NULL FROM outbox ORDER BY number")
