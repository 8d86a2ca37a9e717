"""One WebSocket to a room, through one edge: the messages, and the edits of this connection that wait for an answer."""

import socket
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import msgspec
import websocket
from gevent.event import AsyncResult

from loadgen.users.message import Ack, Refused, ServerMessage
from resilience.history.record import Outcome

READ_S = 1.0  # the longest that `read` waits


class ConnectionLostError(Exception):
    """The connection cannot be used any more; the message is a short class of error."""


class EditAnswer(NamedTuple):
    """How an edit ended."""

    outcome: Outcome
    epoch: int = -1
    seq: int = -1
    error: str = ""


class RoomConnection:
    """A connection that one greenlet reads and any number write to."""

    def __init__(self) -> None:
        """Nothing is connected; see `open`."""
        self._socket: websocket.WebSocket | None = None
        self._decoder = msgspec.json.Decoder[ServerMessage](ServerMessage)
        self._waiting: dict[str, AsyncResult] = {}

    def open(self, edge: str, room: str, member: str, timeout_s: float) -> None:
        """Connects through an edge (its base URL). Raises `ConnectionLostError`."""
        parts = urlsplit(edge)
        host, port = parts.hostname or "", parts.port or 80
        raw = None
        try:
            raw = socket.create_connection((host, port), timeout_s)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = websocket.create_connection(
                f"ws://{host}:{port}/rooms/{room}/ws",
                timeout=timeout_s,
                socket=raw,
                header={"X-Client": member, "X-Visitor": member},
                skip_utf8_validation=True,
                suppress_origin=True,
                redirect_limit=0,
            )
            self._socket.settimeout(READ_S)
        except (OSError, websocket.WebSocketException) as error:
            if raw is not None:
                raw.close()
            raise ConnectionLostError(_error_class(error)) from error

    def read(self) -> ServerMessage | None:
        """The next message, or None if there is none for a while. Raises `ConnectionLostError`."""
        if self._socket is None:
            raise ConnectionLostError("closed")
        try:
            text: str | bytes = self._socket.recv()
            message: ServerMessage = self._decoder.decode(text)
        except websocket.WebSocketTimeoutException:
            return None  # what came of a message by now is kept for the next call
        except (OSError, websocket.WebSocketException) as error:
            raise ConnectionLostError(_error_class(error)) from error
        except msgspec.MsgspecError as error:  # a close frame reads as an empty text
            raise ConnectionLostError("protocol") from error
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message. Raises `ConnectionLostError`; some of it may have gone out."""
        if self._socket is None:
            raise ConnectionLostError("closed")
        try:
            self._socket.send(msgspec.json.encode(message).decode())
        except (OSError, websocket.WebSocketException) as error:
            raise ConnectionLostError(_error_class(error)) from error

    def edit(self, edit: str, timeout_s: float) -> EditAnswer:
        """Sends an edit and waits for its answer; unknown once the connection is lost or the time is over."""
        waiter = self._waiting[edit] = AsyncResult()
        deadline = time.monotonic() + timeout_s
        try:
            self.send({"type": "edit", "edit": edit})
            answer: EditAnswer = waiter.get(timeout=max(0.0, deadline - time.monotonic()))
        except ConnectionLostError as error:
            return EditAnswer("unknown", error=str(error))
        except gevent.Timeout:
            return EditAnswer("unknown", error="timeout")
        else:
            return answer
        finally:
            self._waiting.pop(edit, None)

    def answered(self, message: Ack | Refused) -> None:
        """Hands an answer to the edit that waits for it; one that came too late is nobody's."""
        waiter = self._waiting.get(message.edit or "")
        if waiter is None:
            return
        if isinstance(message, Ack):
            waiter.set(EditAnswer("ok", message.epoch, message.seq))
        else:
            outcome: Outcome = "fail" if message.outcome == "fail" else "unknown"
            waiter.set(EditAnswer(outcome, error=message.error[:60] or "refused"))

    def close(self, why: str) -> None:
        """Closes; the edits that wait are unknown."""
        if self._socket is not None:
            self._socket.shutdown()  # type: ignore[no-untyped-call]
            self._socket = None
        for waiter in self._waiting.values():
            waiter.set(EditAnswer("unknown", error=why))


def _error_class(error: Exception) -> str:
    if isinstance(error, websocket.WebSocketBadStatusException):
        return f"http-{error.status_code}"
    names: tuple[tuple[type[BaseException], str], ...] = (
        (websocket.WebSocketTimeoutException, "timeout"),
        (websocket.WebSocketConnectionClosedException, "closed"),
        (TimeoutError, "timeout"),
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (OSError, "unreachable"),
    )
    return next((name for kind, name in names if isinstance(error, kind)), "protocol")
