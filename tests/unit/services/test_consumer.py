"""When a message is acknowledged: after its effect, on the channel that it came by, and not at all without it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services import consumer as module
from services.consumer import PREFETCH, Consumer, NotNowError, UnfitError


class Channel:
    """Remembers what is said on it."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def add_on_close_callback(self, _callback: Any) -> None: ...

    def add_on_cancel_callback(self, _callback: Any) -> None: ...

    def basic_qos(self, *, prefetch_count: int) -> None:
        self.said.append(("qos", prefetch_count))

    def basic_consume(self, queue: str, _callback: Any) -> None:
        self.said.append(("consume", queue))

    def basic_ack(self, tag: int) -> None:
        self.said.append(("ack", tag))

    def basic_reject(self, tag: int, *, requeue: bool) -> None:
        self.said.append(("reject", tag, requeue))


class Store:
    """Has effects, or cannot: a number of times, or for good."""

    def __init__(self, **problems: list[Exception]) -> None:
        self.problems = problems
        self.effects: list[tuple[str, bool]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def __call__(self, message: str, redelivered: bool) -> None:
        await self.goes_on.wait()
        if self.problems.get(message):
            raise self.problems[message].pop()
        self.effects.append((message, redelivered))


class Table:
    """A consumer of one queue, with its channel."""

    def __init__(self, store: Store) -> None:
        self.consumer = Consumer(["rabbitmq-0:5672"], "q", store, user="harmonyflow", password="")
        self.channel = Channel()
        self.consumer._opened(self.channel)

    def hand(self, message: str, tag: int, *, redelivered: bool = False) -> None:
        method = SimpleNamespace(delivery_tag=tag, redelivered=redelivered)
        self.consumer._take(self.channel, method, None, message.encode())

    async def idle(self) -> None:
        while tasks := tuple(self.consumer._in_hand):
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # it forgets them then

    @property
    def said(self) -> list[tuple[Any, ...]]:
        return self.channel.said[2:]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "AGAIN_S", 0)


async def test_it_asks_for_a_few_messages_of_its_queue():
    assert Table(Store()).channel.said == [("qos", PREFETCH), ("consume", "q")]


async def test_a_message_is_acknowledged_after_its_effect():
    store = Store()
    store.goes_on.clear()
    table = Table(store)
    table.hand("a", 1, redelivered=True)
    await asyncio.sleep(0)
    assert table.said == []
    store.goes_on.set()
    await table.idle()
    assert (store.effects, table.said) == ([("a", True)], [("ack", 1)])


async def test_what_cannot_be_done_now_is_held_and_tried_again_and_never_given_back(caplog: pytest.LogCaptureFixture):
    store = Store(a=[NotNowError(), NotNowError(), ValueError("a mistake of ours")])
    table = Table(store)
    table.hand("a", 1)
    table.hand("b", 2)
    await table.idle()
    assert sorted(store.effects) == [("a", False), ("b", False)]
    assert sorted(table.said) == [("ack", 1), ("ack", 2)]
    assert "a mistake of ours" in caplog.text


async def test_what_nobody_can_make_anything_of_goes_to_the_dead_letters():
    table = Table(Store(a=[UnfitError()]))
    table.hand("a", 1)
    await table.idle()
    assert table.said == [("reject", 1, False)]


async def test_what_came_by_a_lost_channel_is_not_acknowledged_by_another():
    """Its effect may be there, or not: the server hands it over again."""
    store = Store()
    store.goes_on.clear()
    table = Table(store)
    table.hand("a", 1)
    await asyncio.sleep(0)
    table.consumer._forget()
    later = Channel()
    table.consumer._opened(later)
    store.goes_on.set()
    await table.idle()
    assert (table.said, later.said[2:], store.effects) == ([], [], [])


async def test_at_its_end_nothing_is_in_hand():
    store = Store()
    store.goes_on.clear()
    table = Table(store)
    table.hand("a", 1)
    await table.consumer.finish()
    assert (table.consumer._in_hand, table.said) == (set(), [])
