"""The outbox: an end of a session is a row in PostgreSQL before it is acknowledged, and an event in RabbitMQ after.

::

    end in Redis ─▶ row in `outbox` ─▶ acknowledged to the client
                      │
                      └▶ relay: publish ─▶ confirm ─▶ row marked as published

What moves rows is `services.mover`.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from services.broker import Broker
from services.config import Outbox, password_in
from services.database import DatabaseError, database_of, write_until
from services.metric import OutboxMetrics
from services.mover import Message, Mover, Rows
from services.web import Refusal

TABLE = """CREATE TABLE IF NOT EXISTS {table} (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    written_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz{more})"""
INDEX = "CREATE INDEX IF NOT EXISTS {table}_unpublished ON {table} (number) WHERE published_at IS NULL"
# a row that is there is written again, so that its commit waits for standbys once more
INSERT = "INSERT INTO outbox (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET id = excluded.id"
TAKE = "SELECT id FROM {table} WHERE published_at IS NULL ORDER BY number LIMIT %s FOR UPDATE SKIP LOCKED"
MARK = "UPDATE {table} SET published_at = now() WHERE id = ANY(%s)"


def event_of(session: str, op: str) -> str:
    """The id of the event that a session has ended, and of its row: an end that is repeated has the same."""
    return f"session-ended/{session}/{op}"


def end_of(event: str) -> tuple[str, str] | None:
    """The session and the op of such an event; None where it is none."""
    parts = event.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "session-ended" and all(parts) else None


def rows_of(queue: str, table: str = "outbox", *, columns: str = "", beside: Sequence[str] = ()) -> Rows:
    """The rows of a table, each of which is published to a queue under its own id.

    ``columns`` are the table's own ones, ``beside`` the statements that make what else its owner needs.
    """
    more = f", {columns}" if columns else ""
    return Rows(
        name=table,
        lock=17,
        schema=(TABLE.format(table=table, more=more), INDEX.format(table=table), *beside),
        take=TAKE.format(table=table),
        mark=MARK.format(table=table),
        key=lambda row: row,
        message=lambda row: Message(id=str(row[0]), queue=queue),
    )


class SessionEvents:
    """Writes rows, and has them published until it is closed."""

    def __init__(self, outbox: Outbox, registry: CollectorRegistry) -> None:
        """Nothing is connected; see `open`. Raises `ConfigError`."""
        self._metrics = OutboxMetrics(registry)
        self._database = database_of(outbox)
        broker = Broker(outbox.rabbitmq, user=outbox.user, password=password_in(outbox.rabbitmq_password_file))
        self._mover = Mover(rows_of(outbox.queue), self._database, broker, self._metrics)

    def open(self) -> None:
        """Begins to connect, and to relay."""
        self._mover.open()

    async def close(self) -> None:
        """Stops relaying; what is not published is left to others."""
        await self._mover.close()

    async def ended(self, session: str, op: str, deadline: float) -> str:
        """Writes the row of an end; the event's id, once the row is there. Raises `Refusal`.

        It is tried until the deadline: a row is known by its id, so that writing it again adds none.
        """
        event = event_of(session, op)
        stores = self._mover.stores
        try:
            await write_until(
                self._database, INSERT, (event,), deadline, lambda error: stores.tell("postgresql", str(error))
            )
        except DatabaseError as error:
            raise Refusal(503, "outbox", "unknown") from error  # the session has ended, and may have its row
        self._metrics.written.inc()
        stores.is_well("postgresql")
        self._mover.wake()
        return event
