"""Edits on their way to all instances by RabbitMQ: each is an event of its row, published by one exchange.

::

    row committed ─▶ acknowledged ─▶ exchange ─┬─▶ a queue of each instance's own, as long as it is connected
                                               └─▶ queue `collaboration-sync`: the event is confirmed once this has it
    not confirmed after a while: the mover publishes the row again, whoever had written it

Instances hear of an edit before it is confirmed, so a queue that has lost its leader delays nobody who edits. An
instance's own queue goes with its connection; what it misses then it finds in the log, as with Redis. An edit that
comes twice or late is known by its number (`services.order`).
"""

import asyncio
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from services.broker import Broker
from services.config import Rooms, password_in
from services.database import database_of
from services.fanout import Deliver
from services.metric import FanoutMetrics, OutboxMetrics
from services.mover import Key, Message, Mover, Row, Rows
from services.order import Edit, payload_from_edit
from services.room_rows import LOCK, schema

LEFT_AFTER_S = 2  # a row that is not marked by then was left by whoever had written it
PREFIX = "room-edited"
INDEX = "CREATE INDEX IF NOT EXISTS room_edits_unpublished ON room_edits (written_at) WHERE published_at IS NULL"
TAKE = f"""SELECT r.room, r.epoch, r.seq, e.base, r.edit FROM room_edits r JOIN room_epochs e USING (room, epoch)
    WHERE r.published_at IS NULL AND r.written_at < now() - interval '{LEFT_AFTER_S} s'
    ORDER BY r.written_at LIMIT %s FOR UPDATE OF r SKIP LOCKED"""  # noqa: S608  a number of ours
MARK = """UPDATE room_edits SET published_at = now() WHERE (room, epoch, seq) IN
    (SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]))"""


def event_of(room: str, epoch: int, seq: int) -> str:
    """The id of the event of an edit."""
    return f"{PREFIX}/{room}/{epoch}/{seq}"


def rows_of(exchange: str) -> Rows:
    """The rows of edits, each of which is published by an exchange."""

    def message(row: Row) -> Message:
        room, epoch, seq, base, edit = row  # the edit is JSON already
        return _message(exchange, room, epoch, seq, f"[{epoch},{seq},{base},{edit}]")

    return Rows(
        name="edits",
        lock=LOCK,
        schema=(schema(), INDEX),
        take=TAKE,
        mark=MARK,
        key=lambda row: row[:3],
        message=message,
    )


def _message(exchange: str, room: str, epoch: int, seq: int, payload: str) -> Message:
    event = event_of(room, epoch, seq)
    return Message(id=event, exchange=exchange, body=f"{event} {payload}")


class EventFanout:
    """Publishes edits, and hears those of all instances; `deliver` is called for each."""

    def __init__(self, rooms: Rooms, deliver: Deliver, metrics: FanoutMetrics, registry: CollectorRegistry) -> None:
        """Nothing is connected; see `open`. Raises `ConfigError`."""
        self._exchange = rooms.exchange
        self._deliver = deliver
        self._metrics = metrics
        self._broker = Broker(
            rooms.rabbitmq, user=rooms.user, password=password_in(rooms.rabbitmq_password_file), opened=self._listen
        )
        # Connections of its own, beside those that edits are committed by: the mover holds one for as long as RabbitMQ
        # confirms nothing, and a step of its that runs out of time gives up all that are idle, so that those who edit
        # would have to log in anew, two at a time.
        database = database_of(rooms)
        self._mover = Mover(rows_of(rooms.exchange), database, self._broker, OutboxMetrics(registry))

    def open(self) -> None:
        """Begins to listen, and to look for rows that others have left."""
        self._mover.open()

    async def subscribe(self, room: str, timeout_s: float) -> bool:
        """All rooms are listened to as long as there is a connection."""
        del room, timeout_s
        return self._broker.stands

    def unsubscribe(self, room: str) -> None:
        """Nothing to do: an edit of a room that has nobody here is dropped."""

    def publish(self, room: str, edit: Edit) -> None:
        """Send to all instances; what is not confirmed is published again by a mover."""
        epoch, seq = edit.position
        confirm = self._mover.send(_message(self._exchange, room, epoch, seq, payload_from_edit(edit)))
        confirm.add_done_callback(partial(self._settled, (room, epoch, seq)))

    async def close(self) -> None:
        """Stop listening and publishing."""
        await self._mover.close()

    def _settled(self, key: Key, confirm: "asyncio.Future[None]") -> None:
        if confirm.cancelled() or confirm.exception() is not None:
            self._metrics.lost.inc()
            return
        self._metrics.published.inc()
        self._mover.confirmed(key)

    def _listen(self, channel: Any) -> None:
        channel.queue_declare("", exclusive=True, callback=lambda declared: self._bind(channel, declared.method.queue))

    def _bind(self, channel: Any, queue: str) -> None:
        channel.queue_bind(
            queue,
            self._exchange,
            callback=lambda _: channel.basic_consume(queue, self._heard, auto_ack=True),
        )

    def _heard(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        event, _, payload = body.decode(errors="replace").partition(" ")
        prefix, _, rest = event.partition("/")
        if prefix == PREFIX:
            self._metrics.received.inc()
            self._deliver(rest.partition("/")[0], payload)
