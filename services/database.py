"""PostgreSQL through the PgBouncers: a few connections to the first that can be reached, each step with a deadline.

There is a bound to connections, and a lower one to those that are being made: a login costs a slow machine more than
most statements do. Without it, time-outs made each request log in anew, and logins that nobody waited for any more left
PgBouncers no time for the others, for as long as there was load. Who is not given a connection in time waits no longer.

A deadline is the event loop's time. psycopg's own way out of a statement is to ask the server to break off, which a
server that is silent never does: so a step that ran out of time is left to end by itself, in the background, and its
connection is of no more use.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, Error
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus

from services.config import Outbox, Rooms, address_from_text, password_in

LOCALLY = "canceling wait for synchronous replication"  # a warning: it is done, and no standby may have it
CONNECTIONS_MAX = 8  # open at the same time, all of them kept: well below a PgBouncer's pool, which others need, too
# a server that is well says so: what is not there, that somebody else has a lock for too long
OF_THE_STATEMENT = frozenset({"42883", "42P01", "55P03"})
LOGINS_MAX = 2  # connections that are being made at the same time
AGAIN_S = 0.1  # between two attempts to write
CONNECT_TIMEOUT_S = 0.5  # of one PgBouncer, so that there is time for the next

Connection = AsyncConnection[tuple[Any, ...]]
Cursor = AsyncCursor[tuple[Any, ...]]
Values = Sequence[Any] | Mapping[str, Any]


class DatabaseError(Exception):
    """A statement that was not answered, or refused; the text says why. Whether it was done is not known."""


class NotConnectedError(DatabaseError):
    """No PgBouncer could be reached, so nothing was asked of the database."""


class Database:
    """One database, and the PgBouncers that lead to it."""

    def __init__(self, addresses: Sequence[str], *, user: str, password: str, name: str = "") -> None:
        """``name`` is what PgBouncers call the database, "": as its user. Nothing is connected."""
        self._addresses = [address_from_text(address) for address in addresses]
        self._user = user
        self._password = password
        self._name = name or user
        self._next = 0  # the PgBouncer whose turn it is
        self._idle: list[Connection] = []
        self._in_use = 0
        self._logins: set[asyncio.Task[Connection]] = set()
        self._waiting: deque[asyncio.Future[Connection]] = deque()  # who is given the next connection
        self._left: set[asyncio.Task[None]] = set()  # connections that are being given up
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each statement that is broken off

    @asynccontextmanager
    async def connection(self, deadline: float) -> AsyncIterator[Connection]:
        """A connection of one's own, each statement a commit of its own. Raises `DatabaseError`."""
        connection = await self._take(deadline)
        try:
            yield connection
        except Error as error:
            if error.sqlstate in OF_THE_STATEMENT and is_idle(connection):
                self._idle.append(connection)
            else:
                self._turn_away(connection)
            raise DatabaseError(reason_of(error)) from error
        except DatabaseError:
            self._turn_away(connection)
            raise
        except BaseException:
            self._give_up(connection)
            raise
        else:
            if is_idle(connection):
                self._idle.append(connection)
            else:
                self._give_up(connection)
        finally:
            self._in_use -= 1
            self._serve()

    async def close(self) -> None:
        """Closes what is idle, and waits for nobody."""
        for login in self._logins:
            login.cancel()
        for connection in self._idle:
            await connection.close()
        self._idle.clear()

    async def _take(self, deadline: float) -> Connection:
        """The next connection that is free. Raises `NotConnectedError`."""
        turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._serve()
        try:
            await asyncio.wait({turn}, timeout=max(0.0, deadline - _now()))
        except asyncio.CancelledError:
            if not turn.cancel() and turn.exception() is None:
                self._in_use -= 1
                self._idle.append(turn.result())
                self._serve()
            raise
        if turn.cancel():
            raise NotConnectedError("timeout")
        return turn.result()

    def _serve(self) -> None:
        """Gives what is idle to who waits, and makes more as long as some wait and it may."""
        self._waiting = deque(turn for turn in self._waiting if not turn.done())
        while self._idle and self._waiting:
            self._in_use += 1
            self._waiting.popleft().set_result(self._idle.pop())
        while len(self._logins) < min(LOGINS_MAX, len(self._waiting), CONNECTIONS_MAX - self._in_use):
            login = asyncio.create_task(self._log_in())
            self._logins.add(login)
            login.add_done_callback(self._logged_in)

    def _logged_in(self, login: asyncio.Task[Connection]) -> None:
        self._logins.discard(login)
        if login.cancelled():
            return
        try:
            self._idle.append(login.result())
        except NotConnectedError as error:
            for turn in self._waiting:
                if not turn.done():
                    turn.set_exception(NotConnectedError(str(error)))
        self._serve()

    async def _log_in(self) -> Connection:
        """Tries each PgBouncer once, beginning with the last that could be reached. Raises `NotConnectedError`.

        It has time of its own: it is of use to the next request, too, where the one that it was begun for gives up.
        """
        reason, first = "timeout", self._next
        for number in range(first, first + len(self._addresses)):
            turn = number % len(self._addresses)
            host, port = self._addresses[turn]
            connecting = AsyncConnection.connect(
                host=host,
                port=port,
                user=self._user,
                dbname=self._name,
                password=self._password,
                sslmode="disable",
                gssencmode="disable",
                autocommit=True,
                prepare_threshold=None,  # the next transaction may be another server connection's
            )
            try:
                return await by(_now() + CONNECT_TIMEOUT_S, connecting)
            except DatabaseError as error:
                reason = str(error)
            except Error as error:
                reason = reason_of(error)
            if self._next == turn:  # another login may have seen it, too
                self._next = (turn + 1) % len(self._addresses)
        raise NotConnectedError(reason)

    def _turn_away(self, connection: Connection) -> None:
        """It failed, so those that were made when it was may fail, too: the next ones are another PgBouncer's."""
        self._next = (self._next + 1) % len(self._addresses)
        idle, self._idle = self._idle, []
        for one in (connection, *idle):
            self._give_up(one)

    def _give_up(self, connection: Connection) -> None:
        """Closes it in the background: that may have to wait for a statement that is still under way."""
        closing = asyncio.create_task(connection.close())
        self._left.add(closing)
        closing.add_done_callback(self._left.discard)


def database_of(settings: Outbox | Rooms) -> Database:
    """The database that leads to whoever takes writes; nothing is connected. Raises `ConfigError`."""
    return Database(settings.postgresql, user=settings.user, password=password_in(settings.postgresql_password_file))


async def write(connection: Connection, statement: str, values: Values, deadline: float) -> Cursor:
    """The cursor of a statement that is done when this returns, on as many members as the primary waits for.

    Raises `DatabaseError`, also where the primary had it alone when somebody cancelled its wait.
    """
    heard: list[str] = []

    def hear(notice: Diagnostic) -> None:
        heard.append(notice.message_primary or "")

    connection.add_notice_handler(hear)
    try:
        cursor = await by(deadline, connection.execute(statement.encode(), values))
    finally:
        connection.remove_notice_handler(hear)
    if any(words.startswith(LOCALLY) for words in heard):
        raise DatabaseError("locally")
    return cursor


async def write_until(
    database: Database, statement: str, values: Sequence[Any], deadline: float, told: Callable[[DatabaseError], None]
) -> Cursor:
    """The cursor of a `write` that may be repeated, and is until it is done or time is up; each failure is told.

    Raises `DatabaseError`, the last: it may have been done.
    """
    while True:
        try:
            async with database.connection(deadline) as connection:
                return await write(connection, statement, values, deadline)
        except DatabaseError as error:
            told(error)
            if _now() + AGAIN_S >= deadline:
                raise
        await asyncio.sleep(AGAIN_S)


async def make_tables(database: Database, lock: int, statements: Sequence[str], deadline: float) -> None:
    """Makes what is not there yet; whoever does so has the advisory lock. Raises `DatabaseError`."""
    async with database.connection(deadline) as connection:
        for statement in ("BEGIN", f"SELECT pg_advisory_xact_lock({lock})", *statements, "COMMIT"):
            await by(deadline, connection.execute(statement.encode()))


async def by[T](deadline: float, step: Awaitable[T]) -> T:
    """What a step gives, if it does so in time. Raises `DatabaseError`; the step goes on to its own end then."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task}, timeout=max(0.0, deadline - _now()))
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_seen)
    if not task.done():
        raise DatabaseError("timeout")
    return task.result()


def _seen(task: "asyncio.Future[Any]") -> None:
    """What became of a step that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def is_idle(connection: Connection) -> bool:
    """Whether it can be used for the next statement."""
    return connection.info.transaction_status == TransactionStatus.IDLE


def reason_of(error: Error) -> str:
    """Why, in one line."""
    return error.sqlstate or next(iter(str(error).splitlines()), "") or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
