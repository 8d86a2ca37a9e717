"""The links of the direct client, with a connection that does what a test tells it."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from loadgen.direct_link import Node, unreached_class
from loadgen.direct_write import Write, WriteForm
from loadgen.recorder import Op
from resilience.spec.stack import Async, Wait


class FakeConnection:
    """Counts what is sent; replies are put in by the test, an exception of the transport ends it."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self.sent: list[object] = []
        self.replies: asyncio.Queue[object] = asyncio.Queue()
        self.refuses = refuses
        self.closed = False
        self.room = asyncio.Event()
        self.room.set()

    async def connect(self):
        if self.refuses:
            raise self.refuses

    def pack_commands(self, commands):
        return list(commands)

    async def send_packed_command(self, packed, check_health):
        self.sent += packed
        await self.room.wait()

    async def read_response(self, timeout, disconnect_on_error):  # noqa: ASYNC109  the client library's own
        reply = await self.replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, nowait):
        self.closed = True


class Rig:
    """A node whose connections are fakes, and how its writes ended."""

    def __init__(self, form=None, outstanding_max=100, refuses=None) -> None:
        self.connections: list[FakeConnection] = []
        self.ends: list[tuple[int, str, str]] = []
        self.refuses = refuses
        self.node = Node(self.connect, form or WriteForm(Async(), 60), self.settle, outstanding_max=outstanding_max)
        self._count = 0

    def connect(self):
        self.connections.append(FakeConnection(self.refuses))
        return self.connections[-1]

    def settle(self, write, outcome, error):
        self.ends.append((write.op.id, outcome, error))

    async def submit(self, expires_at: float = 1e18):
        self._count += 1
        self.node.submit(Write(Op(self._count, "direct.write", "steady", "shard-1", 0), "k", "v", expires_at))
        await self.run()

    async def run(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def reply(self, *replies: object, link: int = 0) -> None:
        for reply in replies:
            self.connections[link].replies.put_nowait(reply)
        await self.run()


async def test_writes_do_not_wait_for_answers():
    rig = Rig()
    for _ in range(5):
        await rig.submit()
    assert len(rig.connections) == 1
    assert len(rig.connections[0].sent) == 5
    await rig.reply(b"OK", ResponseError("MOVED 1 x:1"), b"OK")
    assert rig.ends == [(1, "ok", ""), (2, "fail", "moved"), (3, "ok", "")]
    await rig.node.close()


async def test_a_write_that_blocks_has_its_own_link():
    rig = Rig(WriteForm(Wait(), 60), outstanding_max=2)
    await rig.submit()
    await rig.submit()
    assert len(rig.connections) == 2
    full = not rig.node.has_room
    assert full
    await rig.reply(b"OK", 1, link=1)
    await rig.reply(b"OK", 0, link=0)
    assert rig.ends == [(2, "ok", ""), (1, "unknown", "not-durable")]
    assert rig.node.has_room
    await rig.node.close()


async def test_no_more_than_the_bound_are_on_their_way():
    rig = Rig(outstanding_max=3)
    for _ in range(3):
        assert rig.node.has_room
        await rig.submit()
    assert not rig.node.has_room
    await rig.node.close()


async def test_what_a_node_that_cannot_be_reached_was_to_get_failed_unsent_and_the_next_write_tries_again():
    rig = Rig(refuses=RedisTimeoutError("connecting"))
    await rig.submit()
    await rig.submit()
    assert rig.ends == [(1, "fail", "connect-timeout"), (2, "fail", "connect-timeout")]
    assert len(rig.connections) == 2


async def test_a_lost_link_leaves_what_was_sent_unknown():
    rig = Rig()
    await rig.submit()
    await rig.submit()
    await rig.reply(b"OK", RedisConnectionError("closed"))
    assert rig.ends == [(1, "ok", ""), (2, "unknown", "lost")]
    assert rig.connections[0].closed
    await rig.submit()
    assert len(rig.connections) == 2
    await rig.node.close()


async def test_a_silent_link_is_retired_but_answers_of_younger_writes_still_count():
    rig = Rig()
    await rig.submit(expires_at=10.0)
    await rig.submit(expires_at=20.0)
    rig.node.expire(now=11.0)
    assert rig.ends == [(1, "unknown", "timeout")]
    await rig.submit()
    assert len(rig.connections) == 2  # the next goes over another link
    await rig.reply(b"OK", b"OK", link=0)
    assert rig.ends[1:] == [(2, "ok", "")]  # the first one's answer came too late to change anything
    rig.node.expire(now=12.0)
    await rig.run()
    assert rig.connections[0].closed
    await rig.node.close()


async def test_a_mistake_of_ours_is_not_swallowed():
    rig = Rig()
    await rig.submit()
    await rig.reply(ZeroDivisionError())
    assert isinstance(rig.node.problem, ZeroDivisionError)


async def test_what_was_never_sent_when_a_link_is_lost_failed():
    rig = Rig()
    await rig.submit()
    rig.connections[0].room.clear()  # the second write fills what the network takes
    await rig.submit()
    await rig.submit()
    await rig.reply(b"OK", RedisConnectionError("closed"))
    assert rig.ends == [(1, "ok", ""), (2, "unknown", "lost"), (3, "fail", "lost")]


@pytest.mark.parametrize(
    ("error", "expect"),
    [
        (TimeoutError(), "connect-timeout"),
        (RedisTimeoutError(), "connect-timeout"),
        (ResponseError("NOAUTH x"), "noauth"),
        (RedisConnectionError("no route"), "unreachable"),
    ],
)
def test_unreached_class(error, expect):
    assert unreached_class(error) == expect


def test_a_refused_connection_is_named_by_its_cause():
    error = RedisConnectionError("x")
    error.__context__ = ConnectionRefusedError()  # as the client library raises it
    assert unreached_class(error) == "refused"
