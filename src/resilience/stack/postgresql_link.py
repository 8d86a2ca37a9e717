"""Connections to PostgreSQL members for the harness's own questions: a time-out on all, no hidden retry.

The time-outs are kept here, not by the server, which may have been stopped, nor by the library, which waits for an
answer to its own request to break off.
"""

import select
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from psycopg import OperationalError, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.spec.stack import PORTS

PASSWORD = "postgresql-password"  # noqa: S105  the name of a secret
SUPERUSER = "postgres"
APPLICATION = "harmonyflow"  # the application's user and its database
_ANSWERED = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY)

Rows = list[tuple[str | None, ...]]  # values as text, as the server sends them


class PostgresqlLink:
    """One member's connection; it is opened by the first question, and again after an error by the next."""

    def __init__(
        self,
        member: str,
        address: str,
        password: str,
        timeout_s: float,
        *,
        component: str = "postgresql",
        user: str = SUPERUSER,
        database: str = APPLICATION,
    ) -> None:
        """``timeout_s`` holds for connecting and for each answer; nothing is opened here."""
        self.member = member
        self._timeout_s = timeout_s
        self._address = (address, PORTS[component])
        self._conninfo = make_conninfo(
            hostaddr=address,
            port=PORTS[component],
            user=user,
            password=password,
            dbname=database,
            sslmode="disable",
            gssencmode="disable",
            application_name="resilience",
        ).encode()
        self._connection: PGconn | None = None

    def ask(self, sql: str) -> Rows:
        """The rows of the last statement. Raises `StackError` if the member cannot be asked, or refuses."""
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._connection is None:
                self._connection = _connected(self._conninfo, deadline)
            return _answer(self._connection, sql.encode(), deadline)
        except (OperationalError, OSError, TimeoutError) as error:
            self.close()
            raise StackError(f"{self.member}: {_one_line(str(error)) or type(error).__name__}") from error

    def is_refused(self) -> bool:
        """Whether the member's host answers that nobody listens there: no server runs. Silence says nothing."""
        try:
            socket.create_connection(self._address, self._timeout_s).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Closes the connection; a later question would open it again."""
        if self._connection is not None:
            self._connection.finish()
            self._connection = None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _connected(conninfo: bytes, deadline: float) -> PGconn:
    connection = pq.PGconn.connect_start(conninfo)
    try:
        while (state := connection.connect_poll()) != pq.PollingStatus.OK:
            _wait_connecting(connection, state, deadline)
    except BaseException:
        connection.finish()
        raise
    connection.nonblocking = 1
    return connection


def _wait_connecting(connection: PGconn, state: int, deadline: float) -> None:
    if state == pq.PollingStatus.FAILED:
        raise OperationalError(connection.error_message.decode(errors="replace"))
    _wait(connection, deadline, "connecting", reading=state == pq.PollingStatus.READING)


def _answer(connection: PGconn, sql: bytes, deadline: float) -> Rows:
    connection.send_query(sql)
    while connection.flush():
        _wait(connection, deadline, "sending a question", reading=False)
    rows: Rows = []
    refusal = ""
    while (result := _result(connection, deadline)) is not None:
        if result.status in _ANSWERED:
            rows = _rows(result)
        else:
            refusal = refusal or result.error_message.decode(errors="replace")
    if refusal:
        raise OperationalError(refusal)
    return rows


def _result(connection: PGconn, deadline: float) -> PGresult | None:
    """The next part of an answer; None: that was all of it."""
    while connection.is_busy():
        _wait(connection, deadline, "an answer", reading=True)
        connection.consume_input()
    return connection.get_result()


def _rows(result: PGresult) -> Rows:
    return [
        tuple(_text(result.get_value(row, column)) for column in range(result.nfields)) for row in range(result.ntuples)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _wait(connection: PGconn, deadline: float, what: str, *, reading: bool) -> None:
    """Waits until the socket is ready. Raises `TimeoutError` after the deadline."""
    sockets = [connection.socket]
    left_s = max(0.0, deadline - time.monotonic())
    ready = select.select(sockets if reading else [], [] if reading else sockets, [], left_s)
    if not any(ready):
        raise TimeoutError(f"{what} took too long")


class PostgresqlLinks:
    """Links to all PostgreSQL members of a platform, which are asked at the same time."""

    def __init__(self, platform: Platform, timeout_s: float = 1.0) -> None:
        """Takes the members' addresses from the platform now; connects when it first asks."""
        self.stack = platform.stack
        self.hosts = {state.name: state.address for state in platform.states() if state.component == "postgresql"}
        password = platform.secret(PASSWORD)
        self._links = {name: PostgresqlLink(name, host, password, timeout_s) for name, host in self.hosts.items()}
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._links)), thread_name_prefix="postgresql-link")

    def link(self, member: str) -> PostgresqlLink:
        """The link to one member. Raises `KeyError` if there is no such PostgreSQL member."""
        return self._links[member]

    def ask_each(self, sql: str) -> Mapping[str, Rows | StackError]:
        """Asks every member the same; one that cannot answer costs no more than a time-out."""
        futures = {name: self._pool.submit(self._answer, name, sql) for name in self._links}
        return {name: future.result() for name, future in futures.items()}

    def _answer(self, member: str, sql: str) -> Rows | StackError:
        try:
            return self._links[member].ask(sql)
        except StackError as error:
            return error

    def close(self) -> None:
        """Closes all connections."""
        self._pool.shutdown()
        for link in self._links.values():
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
