"""What becomes of messages that are published, by what the server says of them."""

from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelWrongStateError

from services.broker import Broker, BrokerError

ACK, NACK = pika.spec.Basic.Ack, pika.spec.Basic.Nack


class Channel:
    """Counts what is sent on it; everything else is for the server to say."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closing = False

    def basic_publish(self, exchange: str, queue: str, body: bytes, properties: Any, *, mandatory: bool) -> None:
        if self.closing:
            raise ChannelWrongStateError
        assert mandatory
        assert body.decode().startswith(properties.message_id)
        self.sent.append(f"{exchange}{queue}/{body.decode()}")

    def add_on_close_callback(self, _callback: Any) -> None: ...

    def add_on_return_callback(self, _callback: Any) -> None: ...

    def confirm_delivery(self, _callback: Any) -> None: ...


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def broker(channel: Channel) -> Broker:
    found = Broker(["rabbitmq-0:5672"], user="harmonyflow", password="")
    found._opened(channel)
    return found


def say(broker: Broker, word: Any, tag: int, *, multiple: bool = False) -> None:
    broker._confirmed(SimpleNamespace(method=word(delivery_tag=tag, multiple=multiple)))


def became(confirm: Any) -> str:
    """What became of a message: "" while nothing did."""
    if not confirm.done():
        return ""
    return "confirmed" if confirm.exception() is None else str(confirm.exception())


async def test_each_message_has_its_own_confirm(broker: Broker, channel: Channel):
    confirms = [broker.publish("q", name) for name in "abcd"]
    assert channel.sent == ["q/a", "q/b", "q/c", "q/d"]
    say(broker, ACK, 2)
    assert list(map(became, confirms)) == ["", "confirmed", "", ""]
    say(broker, ACK, 3, multiple=True)
    assert list(map(became, confirms)) == ["confirmed", "confirmed", "confirmed", ""]
    say(broker, NACK, 4)
    assert became(confirms[3]) == "nack"


async def test_a_message_that_no_queue_took_is_not_published(broker: Broker):
    confirms = [broker.publish("nowhere", name) for name in "ab"]
    broker._unroutable(None, None, SimpleNamespace(message_id="a"), b"a")
    say(broker, ACK, 2, multiple=True)
    assert list(map(became, confirms)) == ["unroutable", "confirmed"]


async def test_what_was_under_way_is_lost_with_the_connection_and_tags_begin_anew(broker: Broker):
    lost = broker.publish("q", "a")
    broker._forget()
    assert not broker.stands
    assert became(lost) == "lost"
    assert became(broker.publish("q", "b")) == "not-connected"
    broker._opened(Channel())
    again = broker.publish("q", "a")
    say(broker, ACK, 1)
    assert became(again) == "confirmed"


async def test_a_channel_that_is_being_closed_takes_nothing(broker: Broker, channel: Channel):
    channel.closing = True
    assert became(broker.publish("q", "a")) == "closing"


async def test_a_confirm_that_comes_too_late_is_nobodys(broker: Broker):
    confirm = broker.publish("q", "a")
    confirm.cancel()
    say(broker, ACK, 1)
    assert confirm.cancelled()


async def test_a_publish_ends_in_an_error_of_the_brokers(broker: Broker):
    confirm = broker.publish("q", "a")
    say(broker, NACK, 1)
    with pytest.raises(BrokerError, match="nack"):
        await confirm


async def test_a_message_may_have_a_body_and_go_by_an_exchange(broker: Broker, channel: Channel):
    confirm = broker.publish("", "a", exchange="all", body="a [1]")
    assert channel.sent == ["all/a [1]"]
    broker._unroutable(None, None, SimpleNamespace(message_id="a"), b"a [1]")
    say(broker, ACK, 1)
    assert became(confirm) == "unroutable", "it is known by its id"


async def test_whoever_consumes_is_told_of_each_channel():
    opened: list[Any] = []
    broker = Broker(["rabbitmq-0:5672"], user="harmonyflow", password="", opened=opened.append)
    channels = [Channel(), Channel()]
    for channel in channels:
        broker._opened(channel)
        broker._forget()
    assert opened == channels
