"""Moves rows of PostgreSQL to RabbitMQ, whichever table they are of, and marks those that were confirmed.

Each is published at least once: a mover that ends between a publish and the mark leaves the row to the next one, which
publishes it again, under the same id. Any instance's mover publishes anybody's rows; a row that one has in hand is
skipped by the others.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.broker import Broker, BrokerError
from services.database import Connection, Database, DatabaseError, by, make_tables
from services.metric import OutboxMetrics, Stores
from services.task import end

BATCH = 200  # rows that one mover has in hand at the same time
STEP_TIMEOUT_S = 3.0  # of each of its steps
POLL_S = 0.5  # how soon it finds what another instance has left
# a mover that stands still, or whose machine is gone, would else keep its rows from all others
BEGIN = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{int(2 * STEP_TIMEOUT_S)}s'"
log = logging.getLogger("services")

Row = tuple[Any, ...]
Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Message:
    """A row as it is published: to a queue, or by an exchange; without a body its id is that."""

    id: str
    queue: str = ""
    exchange: str = ""
    body: str = ""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table whose rows are published, and the statements for that.

    ``take`` gives at most so many that nobody else has in hand, ``mark`` takes a list for each column of their keys.
    """

    name: str
    lock: int  # whoever makes the table has this advisory lock
    schema: tuple[str, ...]
    take: str
    mark: str
    key: Callable[[Row], Key]
    message: Callable[[Row], Message]


class Mover:
    """Moves the rows of a table until it is closed."""

    def __init__(self, rows: Rows, database: Database, broker: Broker, metrics: OutboxMetrics) -> None:
        """Nothing is connected; see `open`. Both stores are its own from then on."""
        self._rows = rows
        self._database = database
        self._broker = broker
        self._metrics = metrics
        self._woken = asyncio.Event()
        self._confirmed: list[Key] = []  # of rows that somebody else had published, and that are not marked yet
        self._moving: asyncio.Task[None] | None = None
        self.stores = Stores(rows.name, metrics.errors)
        self.made = False  # whether its tables have been seen to be there

    def open(self) -> None:
        """Begins to connect, and to move."""
        self._broker.open()
        self._moving = asyncio.create_task(self._move_on())

    async def close(self) -> None:
        """Stops; what is not published is left to others."""
        if self._moving is not None:
            await end(self._moving)
        self._broker.close()
        await self._database.close()

    def wake(self) -> None:
        """A row was written."""
        self._woken.set()

    def send(self, message: Message) -> asyncio.Future[None]:
        """Publishes a row's message; its future ends with the confirm, or a `BrokerError`."""
        return self._broker.publish(message.queue, message.id, exchange=message.exchange, body=message.body)

    def confirmed(self, key: Key) -> None:
        """A row was published and confirmed already; it is marked with the next ones."""
        self._confirmed.append(key)

    async def _move_on(self) -> None:
        """Moves rows until it is cancelled; whatever goes wrong is tried again."""
        while True:
            moved = 0
            self._woken.clear()  # before it looks: what is written while it does is not left for `POLL_S`
            try:
                if not self.made:
                    await make_tables(self._database, self._rows.lock, self._rows.schema, _deadline())
                    self.made = True
                await self._mark_confirmed()
                if self._broker.stands:
                    moved = await self._move()
                else:
                    self.stores.tell("rabbitmq", "not-connected")
            except DatabaseError as error:
                self.stores.tell("postgresql", str(error))
            except Exception:  # the mover's boundary: as long as the service runs, so does it
                log.exception("%s: the mover stumbled", self._rows.name)
            if not moved:
                await self._wait()

    async def _wait(self) -> None:
        """Until a row was written here since the last look began, or for as long as others' rows may wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()

    async def _mark_confirmed(self) -> None:
        """What cannot be marked is published again, by whoever takes it next."""
        if not self._confirmed:
            return
        keys, self._confirmed = self._confirmed, []
        async with self._database.connection(_deadline()) as connection:
            await _done(connection, self._rows.mark, *_columns(keys))

    async def _move(self) -> int:
        """Publishes rows that nobody else has in hand, and marks those that were confirmed; how many."""
        async with self._database.connection(_deadline()) as connection:
            await _done(connection, BEGIN)
            taken = await (await _done(connection, self._rows.take, BATCH)).fetchall()
            confirmed = await self._publish(taken)
            if confirmed:
                await _done(connection, self._rows.mark, *_columns(confirmed))
            await _done(connection, "COMMIT")
        self.stores.is_well("postgresql")
        if confirmed:
            self._metrics.published.inc(len(confirmed))
            self.stores.is_well("rabbitmq")
        return len(confirmed)

    async def _publish(self, rows: Sequence[Row]) -> list[Key]:
        """The keys of those that the broker has confirmed in time."""
        confirms = [(self._rows.key(row), self.send(self._rows.message(row))) for row in rows]
        if confirms:
            await asyncio.wait([confirm for _, confirm in confirms], timeout=STEP_TIMEOUT_S)
        return [key for key, confirm in confirms if self._is_confirmed(confirm)]

    def _is_confirmed(self, confirm: asyncio.Future[None]) -> bool:
        if confirm.cancel():  # it would have ended by now
            self.stores.tell("rabbitmq", "timeout")
            return False
        if isinstance(error := confirm.exception(), BrokerError):
            self.stores.tell("rabbitmq", str(error))
        return error is None


def _columns(keys: Sequence[Key]) -> list[list[Any]]:
    """In their order: who marks the same rows at the same time waits for the other, and neither for both."""
    return [list(column) for column in zip(*sorted(keys), strict=True)]


async def _done(connection: Connection, statement: str, *values: Any) -> Any:
    """The cursor of a statement of the mover's. Raises `DatabaseError` if its time runs out."""
    return await by(_deadline(), connection.execute(statement.encode(), values or None))


def _deadline() -> float:
    return asyncio.get_running_loop().time() + STEP_TIMEOUT_S
