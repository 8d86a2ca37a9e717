"""The control socket of a stack that is up: one request a connection, one line of JSON each way.

It is a Unix socket with mode 0600 in a folder of the user's own, made before the sandbox was entered. A request may
carry the caller's standard streams, so that a command inside reads and writes where the person who typed it does. A
caller that goes away ends what it asked for.
"""

import contextlib
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from resilience.errors import HarnessError, StackError

NAME = "control"
NOT_UP = "no stack is up; 'resilience up' brings one up"
_STREAMS = 3
_REQUEST_BYTES_MAX = 4_000_000
_REQUEST_WITHIN_S = 5.0
_ACCEPT_POLL_S = 0.2
_JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request: what is asked, and the streams that came with it."""

    data: Mapping[str, Any]
    streams: tuple[int, ...]
    connection: socket.socket

    def wait(self, seconds: float) -> None:
        """Waits so long. Raises `StackError` as soon as the caller has gone away."""
        if select.select([self.connection], [], [], max(0.0, seconds))[0]:  # nothing but its end can arrive
            raise StackError("the caller went away")


Handler = Callable[[Call], Mapping[str, Any]]


def listen(folder: Path) -> socket.socket:
    """The socket in a folder that is the user's alone; one that an ended stack left behind is replaced."""
    (folder / NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _short(folder) as path:
            listener.bind(path)
    finally:
        os.umask(before)
    listener.listen()
    return listener


def ask(
    folder: Path, request: Mapping[str, Any], streams: Sequence[int] = (), timeout_s: float | None = None
) -> dict[str, Any]:
    """The answer of the stack whose folder this is. Raises `StackError` if there is none, or with what it says."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short(folder) as path:
                connection.connect(path)
            socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], list(streams))
            line = connection.makefile("rb").readline()
        except (FileNotFoundError, ConnectionRefusedError):
            raise StackError(NOT_UP) from None
        except OSError as error:
            raise StackError(
                f"the stack does not answer, it may still be coming up ({error}); 'resilience down' ends it"
            ) from error
    if not line:
        raise StackError("the stack ended before it had answered; 'resilience up' brings another one up")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise StackError(str(answer["error"]))
    return answer


class ControlServer:
    """While it is entered, requests are answered, each in a thread of its own; ``handlers`` by what is asked to do."""

    def __init__(self, listener: socket.socket, handlers: Mapping[str, Handler]) -> None:
        """Answers nobody yet."""
        self._listener = listener
        self._handlers = handlers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def _accept(self) -> None:
        self._listener.settimeout(_ACCEPT_POLL_S)
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        streams: list[int] = []
        with connection, contextlib.suppress(OSError):  # a caller that is gone wants no answer
            connection.settimeout(_REQUEST_WITHIN_S)
            try:
                line, streams = _request(connection)
                answer = self._obey(line, tuple(streams), connection)
            finally:
                for stream in streams:
                    os.close(stream)
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def _obey(self, line: bytes, streams: tuple[int, ...], connection: socket.socket) -> Mapping[str, Any]:
        try:
            data = json.loads(line)
            return self._handlers[data["do"]](Call(data, streams, connection))
        except HarnessError as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"a request that is none: {error!r}"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_JOIN_TIMEOUT_S)


def _request(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One line, and the streams that came with its beginning."""
    line, streams, _, _ = socket.recv_fds(connection, 65_536, _STREAMS)
    while line and not line.endswith(b"\n") and len(line) < _REQUEST_BYTES_MAX:
        part = connection.recv(65_536)
        if not part:
            break
        line += part
    return line, streams


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A path to the socket that is short enough, however long its folder's is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{NAME}"
    finally:
        os.close(handle)
