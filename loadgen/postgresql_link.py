"""Connections of the PostgreSQL client to one address: a write at a time on each, as many as are needed, up to a bound.

A write is one statement that commits by itself, a question that changes nothing, or a transaction of several statements
(`list_transaction`). What became of it is read off the
server's answer: see `outcome_of`. Nothing here waits for longer than a write may take; a connection whose write ran out
of time is closed, and what its server makes of the write is not known.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from psycopg import OperationalError, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from loadgen.direct_write import Write
from resilience.history.record import ACKED_LOCALLY, Outcome

CONNECT_TIMEOUT_S = 0.3
TABLE = "CREATE TABLE IF NOT EXISTS written (key text PRIMARY KEY, value text NOT NULL)"
INSERT = b"INSERT INTO written (key, value) VALUES ($1, $2)"
REGISTERS = "CREATE TABLE IF NOT EXISTS registers (key text PRIMARY KEY, value text NOT NULL)"
# a standby would tell what it has, too; who is asked is meant to be the primary
READ = b"SELECT pg_is_in_recovery(), (SELECT value FROM registers WHERE key = $1)"
PUT = b"""INSERT INTO registers (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
SWAP = b"UPDATE registers SET value = $2 WHERE key = $1 AND value = $3 RETURNING value"
_LOCALLY = b"canceling wait for synchronous replication"
# PgBouncer's own words for what never came to a server; what else it says may have happened to a write under way
_NEVER_SENT = (b"query_wait_timeout", b"login has been failing", b"cannot connect to server", b"no more connections")
# of a server that refuses before it does anything: it starts, stops, or has no place
_REFUSED = frozenset({"57P03", "53300"})
# what is certain of no write: the end of a session or a server, the connection's own errors, what the server broke in
_UNSURE = ("08", "57P", "58", "XX", "40003")

Row = tuple[str | None, ...]


@dataclass(slots=True)
class Statement(Write):
    """A write with what is said to the server; ``rows`` are what it answered.

    ``sent``: it may have been carried out, as far as its client knows.
    """

    sql: bytes = INSERT
    values: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    sent: bool = False

    async def said(self, connection: PGconn) -> "Ended":
        """Says it over a connection, and what became of it. Raises `OperationalError` where that is lost over it."""
        self.sent = True
        answer = await ask(connection, self.sql, self.values)
        self.rows = answer.rows
        return outcome_of(answer)


Settle = Callable[[Statement, Outcome, str], None]


class Ended(NamedTuple):
    """What became of a write."""

    outcome: Outcome
    error: str


class UnreachedError(Exception):
    """No connection could be made, so nothing was sent; the text is a short class of why."""


class Answer:
    """What a server says to one question: its rows, its error, and whether it warned that no standby has it."""

    def __init__(self) -> None:
        """Nothing has been said."""
        self.rows: list[Row] = []
        self.code = ""  # SQLSTATE of the error; "": there was none
        self.severity = ""
        self.message = b""
        self.done = b""  # what the server says that it did, such as COMMIT
        self.locally = False

    def hear(self, result: PGresult) -> None:
        """Takes one result in."""
        if result.status == pq.ExecStatus.FATAL_ERROR:
            self.code = _field(result, pq.DiagnosticField.SQLSTATE) or "?????"
            self.severity = _field(result, pq.DiagnosticField.SEVERITY_NONLOCALIZED)
            self.message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        else:
            self.done = result.command_status or b""
            self.rows = [
                tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]

    def notice(self, result: PGresult) -> None:
        """Takes a notice in."""
        self.locally |= (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").startswith(_LOCALLY)


def _field(result: PGresult, field: pq.DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def outcome_of(answer: Answer) -> Ended:
    """What an answer to a write means: an error undid it, unless the session ended over it."""
    if not answer.code:
        return Ended("ok", ACKED_LOCALLY if answer.locally else "")
    if answer.code in _REFUSED or any(words in answer.message for words in _NEVER_SENT):
        return Ended("fail", answer.code)
    if answer.severity in {"FATAL", "PANIC"} or answer.code.startswith(_UNSURE):
        return Ended("unknown", answer.code)
    return Ended("fail", answer.code)


def conninfo_of(address: str, user: str, password: str, database: str) -> bytes:
    """How an address (host:port) is connected to."""
    host, _, port = address.rpartition(":")
    return make_conninfo(
        host=host, port=port, user=user, password=password, dbname=database, sslmode="disable", gssencmode="disable"
    ).encode()


async def connected(conninfo: bytes) -> PGconn:
    """A connection that stands. Raises `UnreachedError`."""
    connection = pq.PGconn.connect_start(conninfo)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while (state := connection.connect_poll()) != pq.PollingStatus.OK:
                await _polled(connection, state)
    except TimeoutError:
        connection.finish()
        raise UnreachedError("connect-timeout") from None
    except BaseException:
        connection.finish()
        raise
    connection.nonblocking = 1
    return connection


async def _polled(connection: PGconn, state: int) -> None:
    """Waits for what a connection on its way waits for. Raises `UnreachedError`."""
    if state == pq.PollingStatus.FAILED:
        raise UnreachedError(unreached_class(connection.error_message))
    await _ready(connection, reading=state == pq.PollingStatus.READING)


def unreached_class(said: bytes) -> str:
    """A short class for a connection that could not be made."""
    known = {
        b"Connection refused": "refused",
        b"starting up": "57P03",
        b"shutting down": "57P03",
        b"not yet accepting": "57P03",
        b"too many": "53300",
    }
    return next((word for words, word in known.items() if words in said), "unreachable")


async def ask(connection: PGconn, sql: bytes, values: tuple[str, ...] = ()) -> Answer:
    """The answer to a statement. Raises `OperationalError` where the connection is lost over it."""
    answer = Answer()
    connection.notice_handler = answer.notice
    connection.send_query_params(sql, [value.encode() for value in values])
    while connection.flush():
        await _ready(connection, reading=False)
    while True:
        while connection.is_busy():
            await _ready(connection, reading=True)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            return answer
        answer.hear(result)


async def _ready(connection: PGconn, *, reading: bool) -> None:
    """Returns when the connection's socket can be read from, or written to."""
    loop, socket = asyncio.get_running_loop(), connection.socket
    ready = loop.create_future()
    add, remove = (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
    add(socket, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(socket)


class Link:
    """One connection, which carries one write at a time."""

    def __init__(self, conninfo: bytes, settle: Settle) -> None:
        """Nothing is connected; see `run`."""
        self.retired = False
        self.reached = True  # False: it could not be connected
        self._conninfo = conninfo
        self._settle = settle
        self._write: Statement | None = None
        self._work = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether it carries a write."""
        return self._write is not None

    def submit(self, write: Statement) -> None:
        """Takes a write; it is sent as soon as the link stands."""
        self._write = write
        self._work.set()

    def expired(self, now: float) -> bool:
        """Whether its write's time is over; that is settled, then, and the link is of no more use."""
        if self._write is None or self._write.expires_at > now:
            return False
        self.retired = True
        self._end(Ended("unknown" if self._write.sent else "fail", "timeout"))
        return True

    async def run(self) -> None:
        """Connects and serves until the connection is lost."""
        try:
            connection = await connected(self._conninfo)
        except UnreachedError as error:
            self.retired, self.reached = True, False
            self._end(Ended("fail", str(error)))
            return
        try:
            while True:
                await self._serve(connection)
        except OperationalError:
            self._end(Ended("unknown" if self._write is not None and self._write.sent else "fail", "lost"))
        finally:
            self.retired = True
            connection.finish()

    async def _serve(self, connection: PGconn) -> None:
        """Carries the next write. Raises `OperationalError` when the connection is lost."""
        await self._work.wait()
        self._work.clear()
        if self._write is None:
            return
        self._end(await self._write.said(connection))
        if connection.status != pq.ConnStatus.OK:
            raise OperationalError("it ended with its answer")

    def _end(self, ended: Ended) -> None:
        write, self._write = self._write, None
        if write is not None and not write.settled:
            write.settled = True
            self._settle(write, ended.outcome, ended.error)


class Node:
    """All links to one address."""

    def __init__(self, conninfo: bytes, settle: Settle, *, links_max: int) -> None:
        """``links_max``: how many writes may be without an answer at the same time."""
        self._conninfo = conninfo
        self._settle = settle
        self._links_max = links_max
        self._links: dict[asyncio.Task[None], Link] = {}
        self.unreached = False  # whether the last connection that was tried could not be made
        self.problem: BaseException | None = None

    @property
    def has_room(self) -> bool:
        """Whether another write finds a place."""
        return self._idle() is not None or len(self._links) < self._links_max

    @property
    def stands(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def submit(self, write: Statement) -> None:
        """Sends a write over an idle link, or a new one; asked only while there `has_room`."""
        (self._idle() or self._open()).submit(write)

    def expire(self, now: float) -> None:
        """Settles the writes whose time is over, and closes their links."""
        for task, link in list(self._links.items()):
            if link.expired(now):
                task.cancel()

    async def close(self) -> None:
        """Ends all links; what is not settled stays so."""
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _idle(self) -> Link | None:
        return next((link for link in self._links.values() if not link.busy and not link.retired), None)

    def _open(self) -> Link:
        link = Link(self._conninfo, self._settle)
        task = asyncio.create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._ended)
        return link

    def _ended(self, task: asyncio.Task[None]) -> None:
        link = self._links.pop(task)
        self.unreached = not link.reached
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.problem = problem
