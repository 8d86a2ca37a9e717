"""HTTP to the edges: a pool of connections, no redirects, no hidden retries, and the outcome of each op.

Connecting and sending are two steps here, so that it is known whether anything was sent. A connection that cannot be
made is tried at the other edge, which is safe; once a byte may have left, nothing is ever sent again.
"""

import http.client
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import gevent.monkey
import msgspec

from resilience.history.record import Outcome

IDLE_MAX_S = 10.0  # an idle connection is used again no later; well under what servers allow
AVOID_S = 1.0  # an edge that could not be reached is tried last for so long
CONNECT_SHARE = 0.5  # of an op's time, for one edge, so that the other can still be tried

_Poll: Any = gevent.monkey.get_original("select", "poll")  # asks without waiting: no need of the hub


class Answer(NamedTuple):
    """How an op ended. ``status`` is 0 when no answer came; ``error`` is a short class, "" for ok."""

    outcome: Outcome
    status: int = 0
    error: str = ""
    body: Mapping[str, Any] = {}


class OpTimeoutError(Exception):
    """The op's time is over."""


def outcome_of(status: int, x_outcome: str | None) -> Outcome:
    """The outcome that an answer means: a success, or what the server says, or what the status allows to say."""
    if 200 <= status < 300:
        return "ok"
    if x_outcome == "fail":
        return "fail"
    if x_outcome == "unknown" or status >= 500:
        return "unknown"
    return "fail"


def error_class(error: BaseException) -> str:
    """A short name for what ended a connection."""
    names: tuple[tuple[type[BaseException], str], ...] = (
        (OpTimeoutError, "timeout"),
        (http.client.RemoteDisconnected, "closed"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (ConnectionRefusedError, "refused"),
        (TimeoutError, "connect-timeout"),
        (http.client.HTTPException, "protocol"),
        (OSError, "unreachable"),
    )
    return next((name for kind, name in names if isinstance(error, kind)), type(error).__name__)


def _body_of(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


class Edge:
    """One edge: its address and its idle connections, the last used on top."""

    def __init__(self, url: str) -> None:
        """``url`` is its base, e.g. http://edge-0:8080."""
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or 80
        self.avoided_until = 0.0  # 0: it could be reached the last time
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []

    def take(self) -> http.client.HTTPConnection | None:
        """An idle connection that still stands, if there is one."""
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < IDLE_MAX_S and not _readable(connection):
                return connection
            connection.close()
        return None

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """A new connection. Raises `OSError`: the edge is avoided for a while then, and tried by one op at a time until
        one has got in, as a load balancer sends nobody to what fails its checks.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        connection.auto_open = 0  # never reconnects by itself
        if self.avoided_until:
            self.avoided_until = time.monotonic() + timeout_s
        try:
            connection.connect()
        except OSError:
            self.avoided_until = time.monotonic() + AVOID_S
            raise
        self.avoided_until = 0.0
        connection.sock.settimeout(None)  # from here on the op's own time-out rules
        return connection

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """Keeps a connection for later."""
        self._idle.append((time.monotonic(), connection))


def _readable(connection: http.client.HTTPConnection) -> bool:
    """Whether something came on an idle connection: its end, or something that nobody asked for."""
    poll = _Poll()
    poll.register(connection.sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Attempt:
    """One op's way through the edges; remembers whether anything may have been sent."""

    def __init__(self) -> None:
        """Nothing was sent."""
        self.sent = False
        self.connection: http.client.HTTPConnection | None = None


class EdgeClient:
    """Sends ops to the edges, each once."""

    def __init__(self, urls: Sequence[str], timeout_s: float) -> None:
        """``timeout_s`` is for a whole op: connecting, sending and the answer."""
        self._edges = [Edge(url) for url in urls]
        self._timeout_s = timeout_s

    def call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, first: int, reads: bool
    ) -> Answer:
        """One op. ``first`` picks the edge to begin with; an op that only ``reads`` is never unknown."""
        attempt = Attempt()
        try:
            with gevent.Timeout(self._timeout_s, OpTimeoutError):
                return self._exchange(attempt, self._reach(attempt, first), (method, path, body, headers), reads=reads)
        except (OSError, http.client.HTTPException, OpTimeoutError) as error:
            name = error_class(error)
            if not attempt.sent:
                return Answer("fail", error="connect-timeout" if name == "timeout" else name)
            return Answer("fail" if reads else "unknown", error=name)
        finally:
            if attempt.connection is not None:  # still here: it did not go back to its edge
                attempt.connection.close()

    def _reach(self, attempt: Attempt, first: int) -> Edge:
        """Sets the attempt's connection, from whichever edge can be reached. Raises the last edge's `OSError`."""
        now = time.monotonic()
        edges = self._edges[first % len(self._edges) :] + self._edges[: first % len(self._edges)]
        edges.sort(key=lambda edge: edge.avoided_until > now)
        problem: OSError | None = None
        for edge in edges:
            try:
                attempt.connection = edge.take() or edge.connect(self._timeout_s * CONNECT_SHARE)
            except OSError as error:
                problem = error
            else:
                return edge
        raise problem or ConnectionRefusedError("no edge is known")

    @staticmethod
    def _exchange(
        attempt: Attempt, edge: Edge, request: tuple[str, str, bytes | None, Mapping[str, str]], *, reads: bool
    ) -> Answer:
        connection = attempt.connection
        assert connection is not None
        method, path, body, headers = request
        attempt.sent = True
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        answer_body = _body_of(response.read())
        outcome = outcome_of(response.status, response.getheader("X-Outcome"))
        if reads and outcome == "unknown":
            outcome = "fail"
        if not response.will_close:
            attempt.connection = None
            edge.give_back(connection)
        if outcome == "ok":
            return Answer("ok", response.status, "", answer_body)
        said = answer_body.get("error")
        error = f"http-{response.status}" + (f":{said}" if isinstance(said, str) and said else "")
        return Answer(outcome, response.status, error[:60], answer_body)
