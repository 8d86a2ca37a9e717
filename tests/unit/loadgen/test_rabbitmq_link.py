"""What publishes end as, and what consumers book, with channels that do what a test tells them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika.exceptions import AMQPConnectionError

from loadgen.rabbitmq_link import Consumer, Line, Publish, Publisher, connection_for, parameters, unreached_class
from loadgen.recorder import Op
from resilience.spec.plan import RabbitmqPlan

PLAN = RabbitmqPlan(
    members={"rabbitmq-0": "a:1", "rabbitmq-1": "b:2"},
    queues=("q",),
    vhost="v",
    user="u",
    password_file="",
    rate_ops_per_s=10,
)
ACK, NACK = pika.spec.Basic.Ack, pika.spec.Basic.Nack


class FakeChannel:
    """Keeps what it was told, and hands back the callbacks that a server would call."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, pika.BasicProperties, bool]] = []
        self.acked: list[int] = []
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

    def basic_consume(self, queue: str, callback: Any) -> None:
        self.callbacks["message"] = callback

    def basic_ack(self, tag: int) -> None:
        self.acked.append(tag)


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


async def test_a_consumer_books_before_it_acknowledges_and_goes_on_through_the_next_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    channels: list[FakeChannel] = []

    def connect(parameters: Any, *, on_open_callback: Any, **_: Any) -> FakeConnection:
        asked.append(parameters.host)
        channels.append(FakeChannel())
        connection = FakeConnection(channels[-1])
        on_open_callback(connection)
        return connection

    monkeypatch.setattr("loadgen.rabbitmq_link.AsyncioConnection", connect)
    handed: list[tuple[str, str, bool, int]] = []
    consumer = Consumer(PLAN, "q", "", lambda *seen: handed.append((*seen, len(channels[-1].acked))), first=1)
    consumer.open()
    channels[0].callbacks["message"](channels[0], SimpleNamespace(delivery_tag=4, redelivered=False), None, b"v-1")
    assert handed == [("q/1", "v-1", False, 0)], "not acknowledged yet"
    assert channels[0].acked == [4]
    assert channels[0].prefetch > 0

    consumer._line.closed(None, RuntimeError())
    await asyncio.sleep(0.3)
    channels[1].callbacks["message"](channels[1], SimpleNamespace(delivery_tag=1, redelivered=True), None, b"v-1")
    assert asked == ["b", "a"]
    assert handed[1:] == [("q/2", "v-1", True, 0)]
    consumer.close()


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
