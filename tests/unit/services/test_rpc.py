"""Who is asked again, for how long, and what an answer becomes on its way."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from services.metric import PeerMetrics, RequestMetrics
from services.rpc import OUTCOME, REQUEST_ID, Call, Method, Peers, RpcServer
from services.web import Refusal

UNAVAILABLE, LATE, MISSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.NOT_FOUND,
)
ADDRESSES = ("session-0:1", "session-1:1", "session-2:1")


class Question(Struct, frozen=True):
    key: str


class Answer(Struct, frozen=True):
    value: int


READ = Method(service="test.Store", name="Get", question=Question, answer=Answer, reads=True)
WRITE = Method(service="test.Store", name="Put", question=Question, answer=Answer, reads=False)


class Network:
    """Answers by address: a number, or a status; remembers what it was asked, and for how long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.answers = {f"{name.replace('_', '-')}:1": answer for name, answer in answers.items()}
        self.asked: list[str] = []
        self.timeouts_s: list[float] = []
        self.request_ids: list[str] = []
        self.metrics = PeerMetrics(CollectorRegistry(), "session")
        self.peers = Peers("session", ADDRESSES, self.metrics)
        monkeypatch.setattr(self.peers, "_unary", self.unary)

    def unary(self, address: str, method: Method[Any, Any]) -> Callable[..., Any]:
        async def call(raw: bytes, timeout: float, metadata: Any) -> bytes:  # noqa: ASYNC109  as gRPC has it
            self.asked.append(address)
            self.timeouts_s.append(timeout)
            self.request_ids.append(dict(metadata)[REQUEST_ID])
            assert msgspec.json.decode(raw) == {"key": "k"}
            answer = self.answers[address]
            if isinstance(answer, int):
                return msgspec.json.encode({"value": answer})
            raise grpc.aio.AioRpcError(answer, grpc.aio.Metadata(), grpc.aio.Metadata(), details="said")

        return call

    async def ask(self, method: Method[Question, Answer] = READ, *, within_s: float = 0.9) -> int:
        deadline = asyncio.get_running_loop().time() + within_s
        return (await self.peers.ask(method, Question("k"), deadline=deadline, request_id="r-1")).value


async def test_the_first_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=7)
    assert await network.ask() == 7
    assert (network.asked, network.request_ids) == ([ADDRESSES[0]], ["r-1"])


@pytest.mark.parametrize("problem", [UNAVAILABLE, LATE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
async def test_a_read_goes_to_the_next_which_is_asked_first_from_then_on(
    monkeypatch: pytest.MonkeyPatch, problem: grpc.StatusCode
):
    network = Network(monkeypatch, session_0=problem, session_1=8)
    assert await network.ask() == 8
    assert await network.ask() == 8
    assert network.asked == [ADDRESSES[0], ADDRESSES[1], ADDRESSES[1]]
    assert network.request_ids == ["r-1"] * 3, "each attempt is of the same request"


async def test_each_attempt_leaves_the_others_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=LATE, session_1=LATE, session_2=9)
    assert await network.ask(within_s=0.9) == 9
    assert network.timeouts_s == pytest.approx([0.3, 0.45, 0.9], abs=0.1)  # nothing took any time here


async def test_a_write_is_asked_once_and_nobody_knows_of_it_then(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=UNAVAILABLE, session_1=8)
    with pytest.raises(Refusal) as caught:
        await network.ask(WRITE)
    assert (caught.value.status, caught.value.error, caught.value.outcome) == (503, "session", "unknown")
    assert network.asked == [ADDRESSES[0]]


async def test_nobody_answers_a_read(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=UNAVAILABLE, session_1=LATE, session_2=UNAVAILABLE)
    with pytest.raises(Refusal) as caught:
        await network.ask()
    assert (caught.value.status, caught.value.outcome, caught.value.details) == (503, "fail", {"detail": "unavailable"})
    assert network.asked == list(ADDRESSES)


async def test_what_is_wrong_with_the_question_no_other_instance_is_asked(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=MISSING, session_1=8)
    with pytest.raises(Refusal) as caught:
        await network.ask()
    assert (caught.value.status, caught.value.error, caught.value.outcome) == (404, "said", "fail")
    assert network.asked == [ADDRESSES[0]]


async def test_when_time_is_over_nobody_is_asked(monkeypatch: pytest.MonkeyPatch):
    network = Network(monkeypatch, session_0=7)
    with pytest.raises(Refusal):
        await network.ask(within_s=0.0)
    assert network.asked == []


class Aborted(Exception):  # noqa: N818  what gRPC raises where a call was aborted
    pass


class Context:
    """A call as the server sees it."""

    def __init__(self, left_s: float | None, request_id: str = "") -> None:
        self.left_s, self.request_id = left_s, request_id
        self.aborted: tuple[Any, str, dict[str, str]] | None = None

    def time_remaining(self) -> float | None:
        return self.left_s

    def invocation_metadata(self) -> Any:
        return ((REQUEST_ID, self.request_id),) if self.request_id else ()

    async def abort(self, code: Any, details: str, trailing: Any) -> None:
        self.aborted = (code, details, dict(trailing))
        raise Aborted


def metrics() -> RequestMetrics:
    return RequestMetrics(CollectorRegistry(), ("rpc-get", "rpc-put"))


async def answered(handler: Any, context: Context, method: Method[Any, Any] = READ, raw: bytes = b'{"key":"k"}') -> Any:
    server = RpcServer.__new__(RpcServer)  # nothing of gRPC is opened
    server._timeout_s, server._metrics = 1.0, metrics()
    try:
        return await server._answered_by(method, handler)(raw, context)
    except Aborted:
        return context.aborted


async def test_a_handler_has_the_callers_deadline_and_request_id_and_no_more_time_than_the_server_gives():
    calls: list[Call] = []

    async def handler(_question: Question, call: Call) -> Answer:
        calls.append(call)
        return Answer(3)

    now = asyncio.get_running_loop().time()
    assert await answered(handler, Context(0.4, "r-9")) == b'{"value":3}'
    for left_s in (30.0, None):
        assert await answered(handler, Context(left_s, "not an id")) == b'{"value":3}'
    assert [call.deadline - now for call in calls] == pytest.approx([0.4, 1.0, 1.0], abs=0.2)
    assert calls[0].request_id == "r-9"
    assert calls[1].request_id not in {"", "not an id", calls[2].request_id}, "one of its own"


@pytest.mark.parametrize(
    ("method", "problem", "code", "outcome"),
    [
        (READ, Refusal(404, "missing"), MISSING, "fail"),
        (READ, Refusal(503, "timeout", "fail"), UNAVAILABLE, "fail"),
        (WRITE, Refusal(503, "timeout", "unknown"), UNAVAILABLE, "unknown"),
        (READ, TimeoutError(), LATE, "fail"),
        (WRITE, TimeoutError(), LATE, "unknown"),
        (READ, ValueError("odd"), grpc.StatusCode.UNKNOWN, "unknown"),
    ],
)
async def test_what_goes_wrong_is_a_status_and_an_outcome(
    method: Method[Any, Any], problem: Exception, code: Any, outcome: str
):
    async def handler(_question: Question, _call: Call) -> Answer:
        raise problem

    found = await answered(handler, Context(1.0, "r-1"), method)
    assert found[0] is code
    assert found[2] == {OUTCOME: outcome, REQUEST_ID: "r-1"}


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"key": 1}', b"\xff\xfe"])
async def test_a_question_that_is_none_is_the_callers_fault(raw: bytes):
    async def handler(_question: Question, _call: Call) -> Answer:
        raise AssertionError

    found = await answered(handler, Context(1.0), raw=raw)
    assert found[0] is grpc.StatusCode.INVALID_ARGUMENT
