"""RabbitMQ: one connection to one member at a time, the next when it is lost; for a publisher, with its confirms.

::

    open ─▶ confirms on ─▶ publish ─┬─▶ ack                   confirmed
      ▲                             ├─▶ return, then ack      refused: no queue took it
      │                             └─▶ nack, or lost         refused: nobody knows
      └── again after a moment, with the next member, whenever it is lost

A member that is silent is noticed by its heartbeats.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from services.config import address_from_text

HEARTBEAT_S = 2  # a member that was silent for twice as long is gone
CONNECT_TIMEOUT_S = 0.7  # twice that for the handshake after it
AGAIN_S = 0.2


class BrokerError(Exception):
    """A message that was not confirmed; the text says why. It may be in its queue all the same."""


class Line(ABC):
    """A channel to one member of a cluster at a time: to the next, after a moment, whenever it is lost."""

    def __init__(self, addresses: Sequence[str], *, user: str, password: str) -> None:
        """The vhost has its user's name. Nothing is connected; see `open`."""
        self._addresses = [address_from_text(address) for address in addresses]
        self._user = user
        self._password = password
        self._next = 0
        self._connection: Any = None
        self._channel: Any = None
        self._closing = False
        logging.getLogger("pika").setLevel(logging.CRITICAL)  # it has six lines for each connection that is not made

    @property
    def stands(self) -> bool:
        """Whether anything can be sent now."""
        return self._channel is not None

    def open(self) -> None:
        """Begins to connect, and goes on with that until `close`."""
        if self._closing:
            return
        host, port = self._addresses[self._next % len(self._addresses)]
        self._next += 1
        self._connection = AsyncioConnection(
            pika.ConnectionParameters(
                host=host,
                port=port,
                virtual_host=self._user,
                credentials=pika.PlainCredentials(self._user, self._password),
                heartbeat=HEARTBEAT_S,
                connection_attempts=1,
                socket_timeout=CONNECT_TIMEOUT_S,
                stack_timeout=2 * CONNECT_TIMEOUT_S,
            ),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened),
            on_open_error_callback=lambda _connection, _error: self._again(),
            on_close_callback=lambda _connection, _error: self._lost(),
            custom_ioloop=asyncio.get_running_loop(),
        )

    def close(self) -> None:
        """Ends it for good."""
        self._closing = True
        self._forget()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _opened(self, channel: Any) -> None:
        if self._closing:
            self._connection.close()
            return
        channel.add_on_close_callback(lambda _channel, _error: self._drop())
        self._channel = channel
        self._begin(channel)

    @abstractmethod
    def _begin(self, channel: Any) -> None:
        """There is a new channel."""

    @abstractmethod
    def _end(self) -> None:
        """There is none any more; what was under way on it is lost."""

    def _drop(self) -> None:
        """The server has ended the channel alone: its connection goes with it."""
        self._forget()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _lost(self) -> None:
        self._forget()
        self._again()

    def _forget(self) -> None:
        self._channel = None
        self._end()

    def _again(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_later(AGAIN_S, self.open)


class Broker(Line):
    """The members of one cluster, seen by a publisher."""

    def __init__(
        self, addresses: Sequence[str], *, user: str, password: str, opened: Callable[[Any], None] = lambda _: None
    ) -> None:
        """The vhost has its user's name. Nothing is connected; see `open`.

        ``opened`` is called with each channel of pika's that is opened, for whoever wants to consume, too.
        """
        super().__init__(addresses, user=user, password=password)
        self._also = opened
        self._tag = 0
        self._pending: dict[int, tuple[str, asyncio.Future[None]]] = {}  # by delivery tag: message id, its confirm
        self._returned: set[str] = set()  # ids of messages that no queue took and that are not confirmed yet

    def publish(self, queue: str, message: str, *, exchange: str = "", body: str = "") -> asyncio.Future[None]:
        """Sends a persistent message by its id, which is its body if it has no other, to a queue or by an exchange.

        Its future ends with the confirm, or a `BrokerError`.
        """
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._channel is None:
            confirm.set_exception(BrokerError("not-connected"))
            return confirm
        properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent, message_id=message)
        try:
            self._channel.basic_publish(exchange, queue, (body or message).encode(), properties, mandatory=True)
        except AMQPError:  # it is being closed
            confirm.set_exception(BrokerError("closing"))
            return confirm
        self._tag += 1
        self._pending[self._tag] = (message, confirm)
        return confirm

    def _begin(self, channel: Any) -> None:
        channel.add_on_return_callback(self._unroutable)
        channel.confirm_delivery(self._confirmed)
        self._tag = 0
        self._also(channel)

    def _end(self) -> None:
        pending, self._pending = self._pending, {}
        self._returned.clear()
        for _, confirm in pending.values():
            if not confirm.done():
                confirm.set_exception(BrokerError("lost"))

    def _unroutable(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        """It comes before the message's confirm, which says no more than that the server has dealt with it."""
        self._returned.add(properties.message_id)

    def _confirmed(self, frame: Any) -> None:
        """An ack or a nack, of one message or of all up to it."""
        method = frame.method
        tags = (
            [tag for tag in self._pending if tag <= method.delivery_tag] if method.multiple else [method.delivery_tag]
        )
        for tag in tags:
            if tag in self._pending:
                self._settle(*self._pending.pop(tag), acked=isinstance(method, pika.spec.Basic.Ack))

    def _settle(self, message: str, confirm: asyncio.Future[None], *, acked: bool) -> None:
        unroutable = message in self._returned
        self._returned.discard(message)
        if confirm.done():  # nobody waits for it any more
            return
        if acked and not unroutable:
            confirm.set_result(None)
        else:
            confirm.set_exception(BrokerError("unroutable" if unroutable else "nack"))
