"""Doors into a sandbox: sockets that listen on the machine's 127.0.0.1, each leading to one member.

A socket that was made before the sandbox was entered still accepts from outside, while the process that accepts
connects inside: so a browser reaches a member, and no route or rule is needed.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from resilience.errors import HostError

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 65_536
_JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket and where it leads."""

    listener: socket.socket
    host: str
    port: int


def listen_on_loopback(port: int, option: str) -> socket.socket:
    """A socket for a door; port 0: a free one. Raises `HostError`, which names the option to choose another by."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise HostError(f"port {port} of {LOOPBACK}: {error.strerror}; name another by {option}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """What a browser is told."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


class Forwarder:
    """While it is entered, everything that arrives at a door is passed on, and back."""

    def __init__(self, doors: Sequence[Door]) -> None:
        """Accepts nothing yet."""
        self._doors = doors
        self._started: Future[Callable[[], object]] = Future()  # what ends it
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="forwarder", daemon=True)

    async def _serve(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        servers = [await asyncio.start_server(partial(_pass_on, door), sock=door.listener) for door in self._doors]
        self._started.set_result(partial(loop.call_soon_threadsafe, ended.set))
        await ended.wait()
        for server in servers:
            server.close()
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed meanwhile is closed by now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.result(_JOIN_TIMEOUT_S)()
        self._thread.join(_JOIN_TIMEOUT_S)


async def _pass_on(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            back, forth = await asyncio.open_connection(door.host, door.port)
    except OSError:  # a time-out too: the member is not there, and the caller hears the end
        writer.close()
        return
    try:
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))
    except OSError:  # either side broke it off
        pass
    finally:
        forth.close()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):  # the other end may be gone already
        writer.write_eof()
