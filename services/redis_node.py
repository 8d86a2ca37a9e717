"""Connections to one Redis server, and what became of a command that was sent on one.

The outcome is decided here, next to the bytes: what failed before the first byte was sent has certainly not happened
(`fail`); when a connection breaks or falls silent afterwards, nobody can know (`unknown`).

    acquire ──▶ connect, AUTH ──▶ send ──▶ replies ──▶ release
       └──────── fail ─────────┘   └── unknown ──┘
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis import exceptions
from redis.asyncio.connection import Connection

from services.topology import Address

CONNECT_TIMEOUT_S = 0.3
CONNECTIONS = 256  # per node; under `wait` every write in flight holds one

Outcome = Literal["fail", "unknown"]
Command = tuple[str | int | float | bytes, ...]

# Error replies that a server sends instead of executing anything, and the reason that we report.
REFUSALS = {
    "MOVED": "moved",
    "ASK": "moved",
    "CLUSTERDOWN": "clusterdown",
    "READONLY": "readonly",
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "NOREPLICAS": "noreplicas",
    "TRYAGAIN": "tryagain",
    "NOSCRIPT": "noscript",
    "OOM": "full",
    "MISCONF": "full",
    "BUSY": "busy",
    "NOAUTH": "denied",
    "WRONGPASS": "denied",
    "NOPERM": "denied",
}
REASONS = (
    *dict.fromkeys(REFUSALS.values()),
    "refused",
    "connect-timeout",
    "no-owner",
    "timeout",
    "reset",
    "not-durable",
    "error",
)


class StoreError(Exception):
    """Redis did not do what was asked, or nobody knows whether it did; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, outcome: Outcome) -> None:
        super().__init__(f"{reason} ({outcome})")
        self.reason = reason
        self.outcome: Outcome = outcome


def store_error_from_reply(error: exceptions.RedisError) -> StoreError:
    """What an error reply says about the command that it answers."""
    code = error.status_code or str(error).partition(" ")[0]
    reason = REFUSALS.get(code)
    # An error that we do not know may come out of the middle of a script.
    return StoreError("error", "unknown") if reason is None else StoreError(reason, "fail")


@dataclass(frozen=True, kw_only=True)
class Login:
    """How every connection introduces itself."""

    name: str
    password: str | None


class _Connection(Connection):
    """A connection that says that it is lost in one way, whoever closed it."""

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  the base's signature
    ) -> None:
        """As the base does it. Raises `redis.exceptions.ConnectionError`."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:  # uvloop's, where it has closed the transport already
            raise exceptions.ConnectionError(str(error)) from error


class RedisNode:
    """A pool of connections to one server; the most recently used one is taken first."""

    def __init__(self, address: Address, login: Login) -> None:
        self.address = address
        self._login = login
        self._free: deque[Connection] = deque()
        self._open = 0

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._open

    async def roundtrip(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        """The replies to commands sent together on one connection, in order; an error reply is a value here.

        `deadline` is on the loop's clock. Raises `StoreError`.
        """
        connection = await self._acquire(deadline)
        replies: list[Any] = []
        try:
            async with asyncio.timeout_at(deadline):
                await connection.send_packed_command(connection.pack_commands(commands))
                for _ in commands:
                    replies.append(await _reply(connection))  # noqa: PERF401 - what was read counts if the rest fails
        except BaseException as error:
            self._open -= 1
            await connection.disconnect(nowait=True)
            if replies and isinstance(replies[0], exceptions.RedisError):
                return [*replies, *[replies[0]] * (len(commands) - len(replies))]
            if isinstance(error, TimeoutError):
                raise StoreError("timeout", "unknown") from error
            if isinstance(error, (exceptions.ConnectionError, OSError)):
                raise StoreError("reset", "unknown") from error
            raise
        if connection.is_connected:
            self._free.append(connection)
        else:
            self._open -= 1
        return replies

    async def connect(self, deadline: float) -> Connection:
        """A connection outside the pool, for whoever holds on to it. Raises `StoreError`."""
        loop = asyncio.get_running_loop()
        connection = _Connection(
            host=self.address[0],
            port=self.address[1],
            password=self._login.password,
            client_name=self._login.name,
            socket_timeout=None,  # the deadlines are ours
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            protocol=2,
            decode_responses=True,
            driver_info=None,
        )
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + CONNECT_TIMEOUT_S)):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
                raise StoreError("connect-timeout", "fail") from error
            if isinstance(error, (exceptions.RedisError, OSError)):
                raise StoreError(_connect_reason(error), "fail") from error
            raise
        return connection

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._free:
            self._open -= 1
            await self._free.pop().disconnect(nowait=True)

    async def _acquire(self, deadline: float) -> Connection:
        while self._free:
            connection = self._free.pop()
            # Something to read on an idle connection: the server closed it, or it is not in step with us.
            if connection.is_connected and not await connection.can_read():
                return connection
            self._open -= 1
            await connection.disconnect(nowait=True)
        if self._open >= CONNECTIONS:
            raise StoreError("busy", "fail")
        self._open += 1
        try:
            return await self.connect(deadline)
        except BaseException:
            self._open -= 1
            raise


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except exceptions.ResponseError as error:
        return error
    except (exceptions.BusyLoadingError, exceptions.AuthenticationError) as error:
        return error  # redis-py closes the connection on these, although they are replies


def _connect_reason(error: BaseException) -> str:
    if isinstance(error, (exceptions.AuthenticationError, exceptions.NoPermissionError)):
        return "denied"
    if isinstance(error, exceptions.BusyLoadingError):
        return "loading"
    return "refused"
