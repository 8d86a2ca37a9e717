"""gRPC between services, over real connections: instances that answer, are silent, are not there, and come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from services.metric import PeerMetrics, RequestMetrics
from services.rpc import Call, Method, Peers, RpcServer
from services.web import Refusal
from tests.component.service_process import free_port

pytestmark = pytest.mark.component


class Question(Struct, frozen=True):
    key: str


class Answer(Struct, frozen=True):
    value: str


READ = Method(service="test.Store", name="Get", question=Question, answer=Answer, reads=True)
WRITE = Method(service="test.Store", name="Put", question=Question, answer=Answer, reads=False)


class Instance:
    """One instance of a service; while it is silent it takes questions and answers none."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.silent = False
        self.calls: list[Call] = []

    async def answer(self, question: Question, call: Call) -> Answer:
        self.calls.append(call)
        if question.key == "missing":
            raise Refusal(404, "missing")
        if self.silent:
            await asyncio.Event().wait()
        return Answer(f"{self.name}/{question.key}")

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        metrics = RequestMetrics(CollectorRegistry(), ("rpc-get", "rpc-put"))
        server = RpcServer("127.0.0.1", self.port, timeout_s=2.0, metrics=metrics)
        for method in (READ, WRITE):
            server.serve(method, self.answer)
        assert await server.start() == self.port
        try:
            yield
        finally:
            await server.stop()


@asynccontextmanager
async def asked(*instances: Instance) -> AsyncIterator[Peers]:
    addresses = [f"127.0.0.1:{instance.port}" for instance in instances]
    peers = Peers("store", addresses, PeerMetrics(CollectorRegistry(), "store"))
    try:
        yield peers
    finally:
        await peers.close()


async def ask(peers: Peers, key: str = "k", method: Method[Question, Answer] = READ, within_s: float = 2.0) -> str:
    deadline = asyncio.get_running_loop().time() + within_s
    return (await peers.ask(method, Question(key), deadline=deadline, request_id=f"request-{key}")).value


async def test_a_call_takes_its_request_id_and_its_deadline_along():
    one, two = Instance("one"), Instance("two")
    async with one.up(), asked(one, two) as peers:
        now = asyncio.get_running_loop().time()
        assert await ask(peers) == "one/k"
        (call,) = one.calls
        assert call.request_id == "request-k"
        assert 0 < call.deadline - now <= 1.1, "half of the caller's two seconds: another instance could be asked"
        with pytest.raises(Refusal) as caught:
            await ask(peers, "missing")
        assert (caught.value.status, caught.value.error) == (404, "missing")


async def test_a_read_is_asked_of_another_instance_where_one_is_gone_or_silent_and_a_write_is_not():
    one, two = Instance("one"), Instance("two")
    async with AsyncExitStack() as ups, asked(one, two) as peers:
        await ups.enter_async_context(two.up())
        with pytest.raises(Refusal) as caught:
            await ask(peers, method=WRITE)  # the first is not there, and nothing says that it was not asked
        assert caught.value.outcome == "unknown"
        assert await ask(peers) == "two/k"
        await ups.enter_async_context(one.up())
        two.silent = True
        assert await ask(peers, within_s=1.0) == "one/k"
        one.silent = True
        with pytest.raises(Refusal) as caught:
            await ask(peers, within_s=0.3)
        assert (caught.value.status, caught.value.outcome) == (503, "fail")


async def test_an_instance_that_comes_back_is_found_again():
    one = Instance("one")
    async with asked(one) as peers:
        for _ in range(2):
            async with one.up(), asyncio.timeout(5):
                while True:
                    try:
                        assert await ask(peers, within_s=1.0) == "one/k"
                        break
                    except Refusal:
                        await asyncio.sleep(0.05)


async def test_a_port_that_is_taken_is_an_error_that_says_so():
    one = Instance("one")
    async with one.up():
        with pytest.raises(OSError, match=f"gRPC cannot listen on 127.0.0.1:{one.port}"):
            async with one.up():
                pass


async def test_whoever_speaks_another_language_is_understood():
    """The frames are plain gRPC, and what is in them plain JSON."""
    one = Instance("one")
    async with one.up(), grpc.aio.insecure_channel(f"127.0.0.1:{one.port}") as channel:
        assert await channel.unary_unary("/test.Store/Get")(b'{"key": "k"}', timeout=2) == b'{"value":"one/k"}'
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Store/Gte")(b"{}", timeout=2)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
