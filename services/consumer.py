"""RabbitMQ for a consumer: each message is acknowledged after its effect, and only then.

::

    message ─▶ effect, tried until it is there ─▶ acknowledged
                 └── the connection is lost: the server hands it over again, flagged, perhaps to somebody else
    message that nobody can make anything of ─▶ rejected, to the dead letters

What cannot be done now is held and tried again, not given back: each time that a message is given back counts towards
its delivery limit, and beyond that it would be a dead letter because a store was away for a while.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from pika.exceptions import AMQPError

from services.broker import Line
from services.task import end

PREFETCH = 16  # messages that are in hand at the same time
AGAIN_S = 0.2  # between two attempts at an effect
log = logging.getLogger("services")


class NotNowError(Exception):
    """The effect could not be had now, or nobody knows whether it was; it may be tried again."""


class UnfitError(Exception):
    """A message that nobody can make anything of."""


Effect = Callable[[str, bool], Awaitable[None]]  # of a message, and whether it was handed over before


class Consumer(Line):
    """One queue of a cluster, seen by a consumer."""

    def __init__(self, addresses: Sequence[str], queue: str, effect: Effect, *, user: str, password: str) -> None:
        """Nothing is connected; see `open`."""
        super().__init__(addresses, user=user, password=password)
        self._queue = queue
        self._effect = effect
        self._in_hand: set[asyncio.Task[None]] = set()

    async def finish(self) -> None:
        """Closes it, and returns once nothing is in hand any more: what was is the server's again."""
        self.close()
        for task in tuple(self._in_hand):
            await end(task)

    def _begin(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.add_on_cancel_callback(lambda _frame: self._drop())  # its queue has another leader, or is gone
        channel.basic_consume(self._queue, self._take)

    def _end(self) -> None:
        for task in self._in_hand:
            task.cancel()

    def _take(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        task = asyncio.create_task(self._deal_with(channel, method, body))
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _deal_with(self, channel: Any, method: Any, body: bytes) -> None:
        """Has the effect of one message, however often that has to be tried; ends when its channel does."""
        fit = True
        try:
            await self._effected(body.decode(errors="replace"), redelivered=method.redelivered)
        except UnfitError:
            fit = False
        if channel is not self._channel:
            return  # it is the server's again, which hands it over once more
        with suppress(AMQPError):  # likewise, if the channel is being closed
            if fit:
                channel.basic_ack(method.delivery_tag)
            else:
                channel.basic_reject(method.delivery_tag, requeue=False)

    async def _effected(self, message: str, *, redelivered: bool) -> None:
        while True:
            try:
                await self._effect(message, redelivered)
            except NotNowError:
                pass
            except UnfitError:
                raise
            except Exception:  # the consumer's boundary: it goes on as long as the service does
                log.exception("%s: what a message is to do", self._queue)
            else:
                return
            await asyncio.sleep(AGAIN_S)
