"""Calls between services: gRPC, with deadlines, retries of what only reads, and the request's id on its way.

::

    caller ── method, deadline, x-request-id ──▶ an instance ── not beyond the caller's deadline ──▶ its handler
           ◀────────── answer, or a status with x-outcome ──────────

Questions and answers are msgspec structures, as JSON in gRPC's frames (decision 19 says why). A method that reads is
asked again, of the next instance, where one was not reached, did not answer within its share of the time, or could not
find out; whatever else is asked once, since it may have been done.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import grpc
import grpc.aio
import msgspec
from msgspec import Struct

from services.metric import PeerMetrics, RequestMetrics
from services.web import STOP_TIMEOUT_S, Refusal, matches_id

REQUEST_ID, OUTCOME = "x-request-id", "x-outcome"
BYTES_MAX = 65_536  # of a question, and of an answer
ATTEMPT_LEAST_S = 0.02  # with less time than this left, nobody is asked any more
# of what is refused, by its status over HTTP; what is not here is UNKNOWN there, and 503 here
CODES: dict[int, Any] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# an answer about the question itself, which another instance would give, too
FINAL: dict[Any, int] = {CODES[status]: status for status in (400, 404, 409)}
_SERVER = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", BYTES_MAX))
_CHANNEL = (
    ("grpc.enable_retries", 0),  # what is asked again is decided here
    ("grpc.enable_http_proxy", 0),  # instances are near, whatever the machine's settings say of proxies
    ("grpc.max_receive_message_length", BYTES_MAX),
    ("grpc.min_reconnect_backoff_ms", 500),  # one that comes back is found at once
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
log = logging.getLogger("services")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method[Question: Struct, Answer: Struct]:
    """What can be asked of a service; both sides have it."""

    service: str  # e.g. harmonyflow.Session
    name: str
    question: type[Question]
    answer: type[Answer]
    reads: bool  # it has no effect, so that it may be asked again

    @property
    def path(self) -> str:
        """As gRPC writes it."""
        return f"/{self.service}/{self.name}"


class Call(NamedTuple):
    """What came with a question: until when it has to be answered (the event loop's time), and the request it is of."""

    deadline: float
    request_id: str


Handler = Callable[[Any, Call], Awaitable[Any]]


class RpcServer:
    """The methods of a service, on a port of their own."""

    def __init__(self, host: str, port: int, *, timeout_s: float, metrics: RequestMetrics) -> None:
        """Nothing is listened to; see `start`. ``timeout_s`` is the longest that anybody may ask for."""
        self._address = f"{host}:{port}"
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._server = grpc.aio.server(options=_SERVER)

    def serve[Question: Struct, Answer: Struct](
        self, method: Method[Question, Answer], handler: Callable[[Question, Call], Awaitable[Answer]]
    ) -> None:
        """Answers a method by a handler, which may raise `Refusal`; it is booked as the route `rpc-NAME`."""
        answered = grpc.unary_unary_rpc_method_handler(self._answered_by(method, handler))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(method.service, {method.name: answered}),)
        )

    async def start(self) -> int:
        """Listen; the port that was taken. Raises `OSError`."""
        try:
            port = int(self._server.add_insecure_port(self._address))
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self._address}") from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Take no more calls, and let those that are under way finish."""
        await self._server.stop(STOP_TIMEOUT_S - 1)

    def _answered_by(self, method: Method[Any, Any], handler: Handler) -> Callable[[bytes, Any], Awaitable[bytes]]:
        decoder, route = msgspec.json.Decoder(method.question), f"rpc-{method.name.lower()}"

        async def answered(raw: bytes, context: Any) -> bytes:
            loop = asyncio.get_running_loop()
            started = loop.time()
            call = Call(started + self._left_s(context), request_id_of(context.invocation_metadata()))
            try:
                async with asyncio.timeout_at(call.deadline):
                    answer = msgspec.json.encode(await handler(decoder.decode(raw), call))
            except Refusal as refusal:
                refused = refusal
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                refused = Refusal(400, f"bad-request: {error}")
            except TimeoutError:
                refused = Refusal(504, "timeout", "fail" if method.reads else "unknown")
            except Exception:  # the server's boundary: who asks gets an answer, the log the cause
                log.exception("%s for request %s", method.path, call.request_id)
                refused = Refusal(500, "internal", "unknown")
            else:
                self._metrics.observe(route, "ok", loop.time() - started)
                return answer
            outcome = "rejected" if 400 <= refused.status < 500 else refused.outcome
            self._metrics.observe(route, outcome, loop.time() - started)
            code = CODES.get(refused.status, grpc.StatusCode.UNKNOWN)
            trailing = ((OUTCOME, refused.outcome), (REQUEST_ID, call.request_id))
            await context.abort(code, refused.error, trailing)
            raise AssertionError  # abort always raises

        return answered

    def _left_s(self, context: Any) -> float:
        left_s = context.time_remaining()
        return self._timeout_s if left_s is None else min(float(left_s), self._timeout_s)


def request_id_of(metadata: Any) -> str:
    """The id that came with a call, or a new one."""
    given = next((value for name, value in metadata or () if name == REQUEST_ID), "")
    return given if isinstance(given, str) and matches_id(given) else uuid.uuid4().hex


class Peers:
    """The instances of another service."""

    def __init__(self, name: str, addresses: Sequence[str], metrics: PeerMetrics) -> None:
        """``name`` is the service's, for people. Nothing is connected before the first question."""
        self._name = name
        self._addresses = tuple(addresses)
        self._metrics = metrics
        self._channels: dict[str, Any] = {}
        self._next = 0  # the instance that is asked first: the last that answered

    async def ask[Question: Struct, Answer: Struct](
        self, method: Method[Question, Answer], question: Question, *, deadline: float, request_id: str
    ) -> Answer:
        """What an instance answers. Raises `Refusal`: its own, or 503 if none answered in time.

        ``deadline`` is the event loop's time. Each instance has an equal share of what is left until then.
        """
        raw = msgspec.json.encode(question)
        tries = len(self._addresses) if method.reads else 1
        problem = "timeout"
        for number in range(tries):
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s < ATTEMPT_LEAST_S:
                break
            if number:
                self._metrics.retries.inc()
            address = self._addresses[self._next]
            call = self._unary(address, method)
            try:
                answer = await call(raw, timeout=left_s / (tries - number), metadata=((REQUEST_ID, request_id),))
            except grpc.aio.AioRpcError as error:
                if (status := FINAL.get(error.code())) is not None:
                    self._metrics.outcomes["rejected"].inc()
                    raise Refusal(status, error.details() or "", "fail") from error
                problem = error.code().name.lower().replace("_", "-")
                self._next = (self._next + 1) % len(self._addresses)
            else:
                self._metrics.outcomes["ok"].inc()
                return msgspec.json.decode(answer, type=method.answer)
        outcome: Literal["fail", "unknown"] = "fail" if method.reads else "unknown"
        self._metrics.outcomes[outcome].inc()
        log.warning("request %s: %s of %s: %s", request_id, method.name, self._name, problem)
        raise Refusal(503, self._name, outcome, detail=problem)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def _unary(self, address: str, method: Method[Any, Any]) -> Any:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=_CHANNEL)
        return self._channels[address].unary_unary(method.path)
