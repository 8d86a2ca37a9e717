"""What publishes end as, and what consumers book, with channels that do what a test tells them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pika
import pytest
from pika.exceptions import AMQPConnectionError

from loadgen.rabbitmq_link import Consumer, Line, Publish, Publisher, connection_for, parameters, unreached_class
from loadgen.recorder import Op
from resilience.history.record import Attached, Consumed, Detached
from resilience.spec.plan import RabbitmqPlan

PLAN = RabbitmqPlan(
    members={"rabbitmq-0": "a:1", "rabbitmq-1": "b:2"},
    queues=("q",),
    vhost="v",
    user="u",
    password_file="",
    rate_ops_per_s=10,
    backlog_messages=3,
)
ACK, NACK = pika.spec.Basic.Ack, pika.spec.Basic.Nack


class FakeChannel:
    """Keeps what it was told, and hands back the callbacks that a server would call."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, pika.BasicProperties, bool]] = []
        self.acked: list[int] = []
        self.rejected: list[int] = []
        self.callbacks: dict[str, Any] = {}

    def add_on_close_callback(self, callback: Any) -> None:
        self.callbacks["close"] = callback

    def add_on_return_callback(self, callback: Any) -> None:
        self.callbacks["return"] = callback

    def confirm_delivery(self, callback: Any) -> None:
        self.callbacks["confirm"] = callback

    def basic_publish(self, exchange: str, queue: str, body: bytes, properties: Any, *, mandatory: bool) -> None:
        assert exchange == ""
        self.published.append((queue, body, properties, mandatory))

    def basic_qos(self, *, prefetch_count: int) -> None:
        self.prefetch = prefetch_count

    def add_on_cancel_callback(self, callback: Any) -> None:
        self.callbacks["cancel"] = callback

    def basic_consume(self, queue: str, on_message: Any, *, auto_ack: bool, callback: Any) -> None:
        self.automatic = auto_ack
        self.callbacks |= {"message": on_message, "consuming": callback}

    def hand_over(self, tag: int, value: str, *, redelivered: bool = False) -> None:
        method = SimpleNamespace(delivery_tag=tag, redelivered=redelivered)
        self.callbacks["message"](self, method, None, value.encode())

    def basic_ack(self, tag: int) -> None:
        assert not self.automatic
        self.acked.append(tag)

    def basic_reject(self, tag: int, *, requeue: bool) -> None:
        assert requeue
        self.rejected.append(tag)


class FakeConnection:
    def __init__(self, channel: FakeChannel) -> None:
        self.is_open = True
        self._channel = channel

    def channel(self, *, on_open_callback: Any) -> None:
        on_open_callback(self._channel)

    def close(self) -> None:
        self.is_open = False


class Rig:
    """A publisher whose connections are fakes, and how its publishes ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str, str]] = []
        self.lines: list[Line] = []
        self.publisher = Publisher(self._connect, lambda op, outcome, error: self.ends.append((op.id, outcome, error)))
        self._ids = 0
        self.stand_up()

    def _connect(self, line: Line) -> FakeConnection:
        self.lines.append(line)
        return self.connection

    def stand_up(self) -> None:
        self.channel = FakeChannel()
        self.connection = FakeConnection(self.channel)
        self.publisher.open()
        self.lines[-1].connected(self.connection)

    def submit(self, expires_at: float = 10.0) -> None:
        self._ids += 1
        op = Op(self._ids, "rabbitmq.publish", "steady", "q", 0)
        self.publisher.submit(Publish(op, "q", f"v-{self._ids}", expires_at))

    def confirm(self, kind: Any, tag: int, *, multiple: bool = False) -> None:
        self.channel.callbacks["confirm"](SimpleNamespace(method=kind(delivery_tag=tag, multiple=multiple)))

    def give_back(self, value: str) -> None:
        self.channel.callbacks["return"](self.channel, None, pika.BasicProperties(message_id=value), b"")


def test_a_message_is_persistent_mandatory_and_ok_by_its_own_confirm() -> None:
    rig = Rig()
    rig.submit()
    rig.submit()
    queue, body, properties, mandatory = rig.channel.published[0]
    assert (queue, body, properties.delivery_mode, mandatory) == ("q", b"v-1", 2, True)
    assert rig.ends == []
    rig.confirm(ACK, 2)
    rig.confirm(ACK, 1)
    assert rig.ends == [(2, "ok", ""), (1, "ok", "")]


def test_one_confirm_may_be_of_all_before_it() -> None:
    rig = Rig()
    for _ in range(3):
        rig.submit()
    rig.confirm(ACK, 2, multiple=True)
    assert rig.ends == [(1, "ok", ""), (2, "ok", "")]
    rig.confirm(NACK, 3)
    assert rig.ends[2:] == [(3, "unknown", "nack")]


def test_a_confirm_of_what_was_returned_is_no_success() -> None:
    rig = Rig()
    rig.submit()
    rig.submit()
    rig.give_back("v-2")
    rig.confirm(ACK, 2, multiple=True)
    assert rig.ends == [(1, "ok", ""), (2, "fail", "unroutable")]


def test_what_runs_out_of_time_is_unknown_and_its_late_confirm_says_nothing() -> None:
    rig = Rig()
    rig.submit(expires_at=5.0)
    rig.submit(expires_at=6.0)
    rig.publisher.expire(5.5)
    assert rig.ends == [(1, "unknown", "timeout")]
    rig.confirm(ACK, 2, multiple=True)
    assert rig.ends == [(1, "unknown", "timeout"), (2, "ok", "")]


async def test_a_lost_connection_leaves_what_was_sent_unknown_and_sends_nothing_more() -> None:
    rig = Rig()
    rig.submit()
    rig.lines[-1].closed(rig.connection, AMQPConnectionError())
    rig.submit()
    assert rig.ends == [(1, "unknown", "lost"), (2, "fail", "lost")]
    assert not rig.publisher.stands
    rig.stand_up()
    rig.submit()
    rig.confirm(ACK, 1)  # a new channel counts anew
    assert rig.ends[2:] == [(3, "ok", "")]


async def test_a_channel_that_the_server_ends_is_as_lost_as_a_connection() -> None:
    rig = Rig()
    rig.submit()
    rig.channel.callbacks["close"](rig.channel, RuntimeError())
    assert rig.ends == [(1, "unknown", "lost")]
    assert not rig.connection.is_open, "the whole line is made anew"


async def test_nothing_was_sent_where_no_connection_could_be_made() -> None:
    rig = Rig()
    rig.lines[-1].closed(rig.connection, AMQPConnectionError())
    rig.lines[-1].refused(rig.connection, AMQPConnectionError(ConnectionRefusedError()))
    rig.submit()
    assert rig.ends == [(1, "fail", "refused")]


class ConnectorSocketTimeoutError(Exception):
    pass


class ConnectionWorkflowError(Exception):
    def __init__(self, *exceptions: Exception) -> None:
        super().__init__()
        self.exceptions = exceptions


@pytest.mark.parametrize(
    ("error", "expect"),
    [
        (AMQPConnectionError(ConnectionRefusedError(111, "refused")), "refused"),
        (AMQPConnectionError(ConnectionWorkflowError(ConnectionRefusedError())), "refused"),
        (AMQPConnectionError(ConnectorSocketTimeoutError()), "connect-timeout"),
        (TimeoutError(), "connect-timeout"),
        (AMQPConnectionError(OSError(113, "no route")), "unreachable"),
    ],
)
def test_why_a_connection_could_not_be_made(error: Exception, expect: str) -> None:
    assert unreached_class(error) == expect


def test_nothing_is_tried_twice_unasked() -> None:
    asked = parameters(PLAN, "rabbitmq-1", "secret")
    assert (asked.host, asked.port, asked.virtual_host, asked.connection_attempts) == ("b", 2, "v", 1)
    assert asked.credentials.password == "secret"


class ConsumerRig:
    """A consumer whose connections are fakes, and what it booked, with how much was acknowledged by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plan: RabbitmqPlan = PLAN) -> None:
        self.asked: list[str] = []
        self.channels: list[FakeChannel] = []
        self.connections: list[FakeConnection] = []
        self.booked: list[tuple[str, str, bool, bool, int]] = []
        self.stood: list[tuple[str, ...]] = []
        self.now_us = 7
        monkeypatch.setattr("loadgen.rabbitmq_link.AsyncioConnection", self._connect)
        self.consumer = Consumer(
            plan, "q", "", self._record, lambda: self.now_us, first=1, fit=lambda value: value != "poison"
        )
        self.consumer.open()

    def _connect(self, parameters: Any, *, on_open_callback: Any, **_: Any) -> FakeConnection:
        self.asked.append(parameters.host)
        self.channels.append(FakeChannel())
        self.connections.append(FakeConnection(self.channels[-1]))
        on_open_callback(self.connections[-1])
        return self.connections[-1]

    def _record(self, line: Consumed | Attached | Detached) -> None:
        if isinstance(line, Attached):
            self.stood.append((line.consumer, line.member))
        elif isinstance(line, Detached):
            self.stood.append((line.consumer, line.why))
        else:
            assert line.at == self.now_us
            assert line.queue == "q"
            acks = len(self.channels[-1].acked)
            self.booked.append((line.consumer, line.value, line.redelivered, line.acked, acks))
            self.came = line.came

    async def lose(self) -> None:
        self.consumer._line.closed(None, RuntimeError())
        await asyncio.sleep(0.3)


@pytest.fixture
async def consuming(monkeypatch: pytest.MonkeyPatch) -> ConsumerRig:
    return ConsumerRig(monkeypatch)


async def test_a_consumer_holds_what_it_has_until_it_is_told_to_work(consuming: ConsumerRig) -> None:
    channel = consuming.channels[0]
    for tag in (4, 5, 6):
        channel.hand_over(tag, f"v-{tag}")
    assert (consuming.booked, channel.acked) == ([], [])
    consuming.consumer.work(2)
    assert consuming.booked == [("q/1", "v-4", False, True, 0), ("q/1", "v-5", False, True, 1)], "each before its ack"
    assert channel.acked == [4, 5]
    consuming.consumer.work(0)
    consuming.consumer.work(-7)
    assert channel.acked == [4, 5]
    assert channel.prefetch > 0


async def test_what_a_consumer_holds_as_its_connection_is_lost_was_never_acknowledged(consuming: ConsumerRig) -> None:
    consuming.channels[0].hand_over(1, "v-1")
    consuming.channels[0].hand_over(2, "v-2")
    consuming.consumer.work(1)
    await consuming.lose()
    consuming.consumer.work(9)
    assert consuming.booked[1:] == [("q/1", "v-2", False, False, 1)]
    assert consuming.asked == ["b", "a"], "it goes on through the next member"

    consuming.channels[1].hand_over(1, "v-2", redelivered=True)
    consuming.consumer.work(9)
    assert consuming.booked[2:] == [("q/2", "v-2", True, True, 0)]
    consuming.channels[1].hand_over(2, "v-3")
    consuming.consumer.close()
    consuming.channels[1].hand_over(3, "v-4")
    consuming.consumer.work(9)
    assert consuming.booked[3:] == [("q/2", "v-3", False, False, 1)], "what comes when all is over is nobody's"


async def test_a_consumer_stands_from_when_the_server_says_so_until_it_cancels_it(consuming: ConsumerRig) -> None:
    """With which member it did is on record, and when it did no more."""
    stood = [consuming.consumer.stands]
    consuming.channels[0].callbacks["consuming"](None)
    stood.append(consuming.consumer.stands)
    consuming.channels[0].hand_over(1, "v-1")
    consuming.channels[0].callbacks["cancel"](None)
    stood.append(consuming.consumer.stands)
    assert not consuming.connections[0].is_open, "it begins anew"
    assert consuming.booked == [("q/1", "v-1", False, False, 0)]
    await consuming.lose()
    consuming.channels[1].callbacks["consuming"](None)
    stood.append(consuming.consumer.stands)
    consuming.consumer.close()
    stood.append(consuming.consumer.stands)
    assert stood == [False, True, False, True, False]
    assert consuming.stood == [("q/1", "rabbitmq-1"), ("q/1", "lost"), ("q/2", "rabbitmq-0"), ("q/2", "stop")]


async def test_when_a_message_came_is_told_as_it_is_dealt_with(consuming: ConsumerRig) -> None:
    consuming.channels[0].hand_over(1, "v-1")
    consuming.now_us = 900
    consuming.consumer.work(1)
    assert consuming.came == 7


@pytest.mark.parametrize(("read_out", "why"), [(True, "stop"), (False, "lost")])
async def test_a_consumer_whose_messages_were_not_all_read_says_so(
    consuming: ConsumerRig, read_out: bool, why: str
) -> None:
    consuming.channels[0].callbacks["consuming"](None)
    consuming.consumer.close(read_out=read_out)
    assert consuming.stood[1:] == [("q/1", why)]


async def test_a_poison_message_is_rejected_as_it_comes(consuming: ConsumerRig) -> None:
    channel = consuming.channels[0]
    channel.hand_over(1, "v-1")
    channel.hand_over(2, "poison")
    channel.hand_over(3, "poison", redelivered=True)
    assert channel.rejected == [2, 3]
    assert consuming.booked == [("q/1", "poison", False, False, 0), ("q/1", "poison", True, False, 0)]
    consuming.consumer.work(9)
    assert channel.acked == [1]


async def test_what_was_acknowledged_automatically_dies_with_its_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    consuming = ConsumerRig(monkeypatch, msgspec.structs.replace(PLAN, automatic_ack=True))
    channel = consuming.channels[0]
    assert channel.automatic
    for tag in (1, 2):
        channel.hand_over(tag, f"v-{tag}")
    consuming.consumer.work(1)
    await consuming.lose()
    assert consuming.booked == [("q/1", "v-1", False, True, 0), ("q/1", "v-2", False, False, 0)]
    assert (channel.acked, channel.rejected) == ([], [])


@pytest.mark.parametrize(("persistent", "mode"), [(True, 2), (False, 1)])
def test_the_delivery_mode_is_the_plans(persistent: bool, mode: int) -> None:
    channel = FakeChannel()
    publisher = Publisher(lambda _line: FakeConnection(channel), lambda *_: None, persistent=persistent)
    publisher.open()
    publisher._line.connected(FakeConnection(channel))
    publisher.submit(Publish(Op(1, "rabbitmq.publish", "steady", "q", 0), "q", "v", 10.0))
    ((_, _, properties, _),) = channel.published
    assert properties.delivery_mode == mode


async def test_a_line_that_was_closed_is_not_opened_again() -> None:
    opened: list[Line] = []
    line = Line(opened.append, lambda _channel: None, lambda: None)
    line.open()
    line.close()
    line.closed(None, RuntimeError())
    await asyncio.sleep(0.3)
    assert len(opened) == 1
    assert callable(connection_for(PLAN, lambda: "rabbitmq-0", ""))


async def test_a_connection_that_stands_when_all_is_over_is_of_no_use() -> None:
    """What a consumer took on it would be in nobody's record."""
    channels: list[Any] = []
    line = Line(lambda _line: None, channels.append, lambda: None)
    line.open()
    line.close()
    connection = FakeConnection(FakeChannel())
    line.connected(connection)
    assert (channels, connection.is_open) == ([], False)
