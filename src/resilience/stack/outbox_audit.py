"""Reads back the outbox of the session service, after healing: each row, and whether its event was confirmed.

It is read until nothing in it waits for RabbitMQ any more, or until time is up: what is unpublished then stays so, as
far as anybody can tell. As of the load's own table, it counts only as the primary on the latest timeline has it.
"""

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, OutboxRead
from resilience.history.writer import Writer
from resilience.stack.postgresql_audit import as_primary
from resilience.stack.postgresql_link import PostgresqlLink, Rows
from resilience.stack.wait import wait_until

RETRY_S = 0.2


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
    found: list[tuple[str, int, Rows]] = []

    def unsettled() -> str:
        try:
            found[:] = [as_primary(platform, timeline_min, _rows)]
        except StackError as error:
            found.clear()  # what was there before says nothing of what is there now
            return str(error)
        waiting = len(_unpublished(found[0][2]))
        return f"{waiting} rows of the outbox wait to be published" if waiting else ""

    try:
        wait_until("reading the outbox", unsettled, deadline=deadline, every_s=RETRY_S)
    except StackError:
        if not found:
            raise
    member, timeline, rows = found[0]
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
