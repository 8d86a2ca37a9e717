"""Connections of the direct client to one node.

::

    submit ─▶ a link with room ──▶ sent; its answers come in the order of the writes
           ├▶ else a new link ───▶ the writes wait until it stands (0.3 s at most); if it cannot, they failed unsent
           └▶ else no place ─────▶ the caller drops the write

A link whose oldest write ran out of time takes no more writes. It stays open until all of its own are settled, so
that a server that was only slow can still answer those that are young enough.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable

from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from loadgen.direct_write import Reply, Write, WriteForm, error_class
from resilience.history.record import Outcome

CONNECT_TIMEOUT_S = 0.3

Settle = Callable[[Write, Outcome, str], None]


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
            raise RedisConnectionError(str(error)) from error


def connection_to(address: str, password: str) -> Connection:
    """A connection that does nothing unasked: no retries, no health checks, no introduction."""
    host, _, port = address.rpartition(":")
    return _Connection(
        host=host,
        port=int(port),
        password=password or None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        driver_info=None,
        protocol=2,
    )


async def reply_of(connection: Connection) -> Reply:
    """The next reply; an error reply is returned. Raises `RedisError` or `OSError` when the connection is lost."""
    try:
        return await connection.read_response(timeout=math.inf, disconnect_on_error=False)
    except (ResponseError, BusyLoadingError, AuthenticationError) as error:
        return error


def unreached_class(error: Exception) -> str:
    """A short class for a connection that could not be made."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "connect-timeout"
    if isinstance(error, ResponseError | AuthenticationError):
        return error_class(error)
    return "refused" if isinstance(error.__context__, ConnectionRefusedError) else "unreachable"


class Link:
    """One connection. Writes queue until they are sent, then wait for their answers, oldest first."""

    def __init__(self, connection: Connection, form: WriteForm, settle: Settle) -> None:
        """Nothing is connected; see `run`."""
        self.retired = False
        self.unsettled = 0  # writes that it carries
        self._connection = connection
        self._form = form
        self._settle = settle
        self._queued: deque[Write] = deque()
        self._waiting: deque[Write] = deque()
        self._work = asyncio.Event()

    def submit(self, write: Write) -> None:
        """Takes a write; it is sent as soon as the link stands."""
        self.unsettled += 1
        self._queued.append(write)
        self._work.set()

    def expire(self, now: float) -> None:
        """Settles the writes whose time is over; the link is retired then."""
        for write in self._waiting:
            if write.expires_at > now:
                break
            if not write.settled:
                self.retired = True
                self._end(write, "unknown", "timeout")
        if self.retired:
            self._work.set()

    async def run(self) -> None:
        """Connects and serves until the connection is lost or retired."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            self._end_all(self._queued, "fail", unreached_class(error))
        else:
            await self._serve()
        finally:
            self.retired = True
            await self._connection.disconnect(nowait=True)

    async def _serve(self) -> None:
        halves = {asyncio.create_task(self._read()), asyncio.create_task(self._write())}
        try:
            done, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            for half in done:
                half.result()
        finally:
            for half in halves:
                half.cancel()
            await asyncio.wait(halves)
        self._end_all(self._waiting, "unknown", "lost")
        self._end_all(self._queued, "fail", "lost")  # these were never sent

    async def _write(self) -> None:
        while not (self.retired and self.unsettled == 0):
            self._work.clear()
            batch = list(self._queued)
            self._queued.clear()
            self._waiting.extend(batch)
            commands = [command for write in batch for command in self._form.commands(write.key, write.value)]
            try:
                await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
            except (RedisError, OSError):
                return
            await self._work.wait()

    async def _read(self) -> None:
        while True:
            try:
                replies = [await reply_of(self._connection) for _ in range(self._form.replies)]
            except (RedisError, OSError):
                return
            self._end(self._waiting.popleft(), *self._form.outcome(replies))

    def _end(self, write: Write, outcome: Outcome, error: str) -> None:
        if write.settled:
            return
        write.settled = True
        self.unsettled -= 1
        self._settle(write, outcome, error)

    def _end_all(self, writes: deque[Write], outcome: Outcome, error: str) -> None:
        while writes:
            self._end(writes.popleft(), outcome, error)


class Node:
    """All links to one node: as many as its writes need, up to a bound."""

    def __init__(
        self, connect: Callable[[], Connection], form: WriteForm, settle: Settle, *, outstanding_max: int
    ) -> None:
        """``outstanding_max``: writes without an answer, over all links that take new ones."""
        self._connect = connect
        self._form = form
        self._settle = settle
        self._depth = 1 if form.blocks else outstanding_max
        self._links_max = outstanding_max if form.blocks else 1
        self._links: dict[asyncio.Task[None], Link] = {}
        self.problem: BaseException | None = None

    def submit(self, write: Write) -> None:
        """Sends a write over a link with room, or a new one; asked only while there `has_room`."""
        (self._link_with_room() or self._open()).submit(write)

    @property
    def has_room(self) -> bool:
        """Whether another write finds a place."""
        return self._link_with_room() is not None or len(self._taking()) < self._links_max

    def expire(self, now: float) -> None:
        """Settles the writes whose time is over."""
        for link in self._links.values():
            link.expire(now)

    async def close(self) -> None:
        """Ends all links; what is not settled stays so."""
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _taking(self) -> list[Link]:
        return [link for link in self._links.values() if not link.retired]

    def _link_with_room(self) -> Link | None:
        return next((link for link in self._taking() if link.unsettled < self._depth), None)

    def _open(self) -> Link:
        link = Link(self._connect(), self._form, self._settle)
        task = asyncio.create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._ended)
        return link

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._links[task]
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.problem = problem
