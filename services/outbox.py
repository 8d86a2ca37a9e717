"""The outbox: an end of a session is a row in PostgreSQL before it is acknowledged, and an event in RabbitMQ after.

::

    end in Redis ─▶ row in `outbox` ─▶ acknowledged to the client
                      │
                      └▶ relay: publish ─▶ confirm ─▶ row marked as published

Each event is published at least once: a relay that ends between a publish and the mark leaves the row to the next one,
which publishes the event again, under the same id. Any instance's relay publishes anybody's rows; a row that one has in
hand is skipped by the others.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from services.broker import Broker, BrokerError
from services.config import Outbox, password_in
from services.database import Connection, Database, DatabaseError, by, make_tables, write_until
from services.metric import OutboxMetrics, Stores
from services.task import end
from services.web import Refusal

BATCH = 200  # rows that one relay has in hand at the same time
STEP_TIMEOUT_S = 3.0  # of each step of a relay
POLL_S = 0.5  # how soon a relay finds what another instance has left
LOCK = 17  # whoever makes the table has this advisory lock
TABLE = """CREATE TABLE IF NOT EXISTS outbox (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    written_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz)"""
INDEX = "CREATE INDEX IF NOT EXISTS outbox_unpublished ON outbox (number) WHERE published_at IS NULL"
# a row that is there is written again, so that its commit waits for standbys once more
INSERT = "INSERT INTO outbox (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET id = excluded.id"
TAKE = """SELECT id FROM outbox WHERE published_at IS NULL ORDER BY number LIMIT %s FOR UPDATE SKIP LOCKED"""
MARK = "UPDATE outbox SET published_at = now() WHERE id = ANY(%s)"
# a relay that stands still, or whose machine is gone, would else keep its rows from all others
BEGIN = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{int(2 * STEP_TIMEOUT_S)}s'"
log = logging.getLogger("services")


def event_of(session: str, op: str) -> str:
    """The id of the event that a session has ended, and of its row: an end that is repeated has the same."""
    return f"session-ended/{session}/{op}"


def end_of(event: str) -> tuple[str, str] | None:
    """The session and the op of such an event; None where it is none."""
    parts = event.split("/")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "session-ended" and all(parts) else None


class SessionEvents:
    """Writes rows, and relays them until it is closed."""

    def __init__(self, outbox: Outbox, registry: CollectorRegistry) -> None:
        """Nothing is connected; see `open`. Raises `ConfigError`."""
        self._queue = outbox.queue
        self._metrics = OutboxMetrics(registry)
        self._database = Database(
            outbox.postgresql, user=outbox.user, password=password_in(outbox.postgresql_password_file)
        )
        self._broker = Broker(outbox.rabbitmq, user=outbox.user, password=password_in(outbox.rabbitmq_password_file))
        self._written = asyncio.Event()
        self._relay: asyncio.Task[None] | None = None
        self._stores = Stores("outbox", self._metrics.errors)

    def open(self) -> None:
        """Begins to connect, and to relay."""
        self._broker.open()
        self._relay = asyncio.create_task(self._relay_on())

    async def close(self) -> None:
        """Stops relaying; what is not published is left to others."""
        if self._relay is not None:
            await end(self._relay)
        self._broker.close()
        await self._database.close()

    async def ended(self, session: str, op: str, deadline: float) -> str:
        """Writes the row of an end; the event's id, once the row is there. Raises `Refusal`.

        It is tried until the deadline: a row is known by its id, so that writing it again adds none.
        """
        event = event_of(session, op)
        try:
            await write_until(
                self._database, INSERT, (event,), deadline, lambda error: self._stores.tell("postgresql", str(error))
            )
        except DatabaseError as error:
            raise Refusal(503, "outbox", "unknown") from error  # the session has ended, and may have its row
        self._metrics.written.inc()
        self._stores.is_well("postgresql")
        self._written.set()
        return event

    async def _relay_on(self) -> None:
        """Moves rows until it is cancelled; whatever goes wrong is tried again."""
        made = False
        while True:
            moved = 0
            self._written.clear()  # before it looks: what is written while it does is not left for `POLL_S`
            try:
                if not made:
                    await make_tables(self._database, LOCK, (TABLE, INDEX), _deadline())
                    made = True
                if self._broker.stands:
                    moved = await self._move()
                else:
                    self._stores.tell("rabbitmq", "not-connected")
            except DatabaseError as error:
                self._stores.tell("postgresql", str(error))
            except Exception:  # the relay's boundary: as long as the service runs, so does its relay
                log.exception("outbox: the relay stumbled")
            if not moved:
                await self._wait()

    async def _wait(self) -> None:
        """Until a row was written here since the last look began, or for as long as others' rows may wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._written.wait()

    async def _move(self) -> int:
        """Publishes rows that nobody else has in hand, and marks those that were confirmed; how many."""
        async with self._database.connection(_deadline()) as connection:
            await _done(connection, BEGIN)
            taken = await _done(connection, TAKE, BATCH)
            confirmed = await self._publish([str(row[0]) for row in await taken.fetchall()])
            if confirmed:
                await _done(connection, MARK, confirmed)
            await _done(connection, "COMMIT")
        self._stores.is_well("postgresql")
        if confirmed:
            self._metrics.published.inc(len(confirmed))
            self._stores.is_well("rabbitmq")
        return len(confirmed)

    async def _publish(self, events: list[str]) -> list[str]:
        """Those that the broker has confirmed in time."""
        confirms = {event: self._broker.publish(self._queue, event) for event in events}
        if confirms:
            await asyncio.wait(confirms.values(), timeout=STEP_TIMEOUT_S)
        return [event for event, confirm in confirms.items() if self._is_confirmed(confirm)]

    def _is_confirmed(self, confirm: asyncio.Future[None]) -> bool:
        if confirm.cancel():  # it would have ended by now
            self._stores.tell("rabbitmq", "timeout")
            return False
        if isinstance(error := confirm.exception(), BrokerError):
            self._stores.tell("rabbitmq", str(error))
        return error is None


async def _done(connection: Connection, statement: str, *values: Any) -> Any:
    """The cursor of a statement of the relay's. Raises `DatabaseError` if its time runs out."""
    return await by(_deadline(), connection.execute(statement.encode(), values or None))


def _deadline() -> float:
    return asyncio.get_running_loop().time() + STEP_TIMEOUT_S
