"""Connections of the RabbitMQ client: through each member one that publishes, and for each queue one that consumes.

::

    open ─▶ confirms on ─▶ publish ─┬─▶ ack                  ok
      ▲                             ├─▶ return, then ack     fail: no queue took it
      │                             └─▶ nack, time-out, lost unknown
      └── again after a moment, whenever it is lost; what is due meanwhile is not sent: fail

A connection to a member that is silent ends by its heartbeat, or its handshake by a time-out.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

from loadgen.recorder import Op
from resilience.history.record import Attached, Consumed, Detached, Outcome
from resilience.spec.plan import RabbitmqPlan

STEP_TIMEOUT_S = 0.7  # of a TCP connection; twice that for the handshake after it
HEARTBEAT_S = 2  # a peer that was silent for twice as long is gone
AGAIN_S = 0.2
PREFETCH = 50
NEVER = "not-connected"  # why a publish was not sent, before anything is known about its member
UNROUTABLE = "unroutable"

Settle = Callable[[Op, Outcome, str], None]
Record = Callable[[Consumed | Attached | Detached], None]


@dataclass(slots=True)
class Publish:
    """A publish on its way; ``expires_at`` is a value of `time.monotonic`."""

    op: Op
    queue: str
    value: str
    expires_at: float
    returned: bool = False


def parameters(plan: RabbitmqPlan, member: str, password: str) -> pika.ConnectionParameters:
    """How a member is reached: nothing is tried twice unasked."""
    host, _, port = plan.members[member].rpartition(":")
    return pika.ConnectionParameters(
        host=host,
        port=int(port),
        virtual_host=plan.vhost,
        credentials=pika.PlainCredentials(plan.user, password),
        heartbeat=HEARTBEAT_S,
        connection_attempts=1,
        socket_timeout=STEP_TIMEOUT_S,
        stack_timeout=2 * STEP_TIMEOUT_S,
    )


def unreached_class(error: BaseException) -> str:
    """A short class for a connection that could not be made."""
    reasons = list(_reasons(error))
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons):
        return "refused"
    if any("timeout" in type(reason).__name__.lower() for reason in reasons):
        return "connect-timeout"
    return "unreachable"


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made from."""
    yield error
    for inner in (*error.args, getattr(error, "exception", None), *getattr(error, "exceptions", ())):
        if isinstance(inner, BaseException):
            yield from _reasons(inner)


class Line:
    """A connection with one channel that is opened again and again; what is done on it is its owner's."""

    def __init__(
        self, connect: Callable[["Line"], Any], opened: Callable[[Any], None], lost: Callable[[], None]
    ) -> None:
        """``opened`` is given each channel that stands, ``lost`` is called when one that stood does not any more."""
        self.why = NEVER  # it does not stand
        self.channel: Any = None
        self._connect = connect
        self._opened = opened
        self._lost = lost
        self._connection: Any = None
        self._closing = False

    def open(self) -> None:
        """Begins to connect."""
        self._connection = None if self._closing else self._connect(self)

    def close(self) -> None:
        """Ends it for good: whatever is unacknowledged is the server's again."""
        self._closing = True
        self.channel = None
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def drop(self) -> None:
        """Gives up the channel and its connection; both are made anew."""
        self._forget_channel()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def connected(self, connection: Any) -> None:
        """The connection stands; a channel is asked for, unless all was over by then: what a consumer took now would be
        on nobody's record.
        """
        if self._closing:
            connection.close()
            return
        connection.channel(on_open_callback=self._channel_opened)

    def refused(self, _connection: Any, error: BaseException) -> None:
        """It could not be made."""
        self.why = unreached_class(error)
        self._again()

    def closed(self, _connection: Any, _error: BaseException) -> None:
        """A connection that stood is lost."""
        self._forget_channel()
        self._again()

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self.channel = channel
        self._opened(channel)

    def _channel_closed(self, _channel: Any, _error: BaseException) -> None:
        """The server has ended the channel alone (a queue is gone, say): the connection goes with it."""
        self.drop()

    def _forget_channel(self) -> None:
        if self.channel is not None:
            self.channel, self.why = None, "lost"
            self._lost()

    def _again(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().call_later(AGAIN_S, self.open)


def connection_for(plan: RabbitmqPlan, member: Callable[[], str], password: str) -> Callable[[Line], Any]:
    """What connects a line to the member that is named at that moment."""

    def connect(line: Line) -> Any:
        return AsyncioConnection(
            parameters(plan, member(), password),
            on_open_callback=line.connected,
            on_open_error_callback=line.refused,
            on_close_callback=line.closed,
            custom_ioloop=asyncio.get_running_loop(),
        )

    return connect


class Publisher:
    """Publishes through one member, each message mandatory, and waits for the server's confirms."""

    def __init__(self, connect: Callable[[Line], Any], settle: Settle, *, persistent: bool = True) -> None:
        """``persistent`` is the messages' delivery mode. Nothing is connected; see `open`."""
        self._settle = settle
        self._mode = pika.DeliveryMode.Persistent if persistent else pika.DeliveryMode.Transient
        self._pending: dict[int, Publish] = {}  # by delivery tag, oldest first
        self._tag = 0
        self._line = Line(connect, self._opened, self._lost)
        self.open, self.close = self._line.open, self._line.close

    @property
    def stands(self) -> bool:
        """Whether it can publish now."""
        return self._line.channel is not None

    def submit(self, publish: Publish) -> None:
        """Sends a publish, or books why it could not be sent."""
        channel = self._line.channel
        if channel is None:
            self._settle(publish.op, "fail", self._line.why)
            return
        self._tag += 1
        self._pending[self._tag] = publish
        properties = pika.BasicProperties(delivery_mode=self._mode, message_id=publish.value)
        channel.basic_publish("", publish.queue, publish.value.encode(), properties, mandatory=True)

    def expire(self, now: float) -> None:
        """Books the publishes whose time is over; a confirm that still comes says nothing any more."""
        for tag, publish in list(self._pending.items()):
            if publish.expires_at > now:
                break
            del self._pending[tag]
            self._settle(publish.op, "unknown", "timeout")

    def _opened(self, channel: Any) -> None:
        self._tag = 0
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed)

    def _returned(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        for publish in self._pending.values():
            if publish.value == properties.message_id:
                publish.returned = True
                return

    def _confirmed(self, frame: Any) -> None:
        """An ack or a nack, of one publish or of all up to it."""
        method = frame.method
        tags = (
            [tag for tag in self._pending if tag <= method.delivery_tag] if method.multiple else [method.delivery_tag]
        )
        for tag in tags:
            publish = self._pending.pop(tag, None)
            if publish is not None:
                self._settle(publish.op, *_outcome(publish, acked=isinstance(method, pika.spec.Basic.Ack)))

    def _lost(self) -> None:
        pending = list(self._pending.values())
        self._pending.clear()
        for publish in pending:
            self._settle(publish.op, "unknown", "lost")


def _outcome(publish: Publish, *, acked: bool) -> tuple[Outcome, str]:
    if not acked:
        return "unknown", "nack"
    return ("fail", UNROUTABLE) if publish.returned else ("ok", "")


@dataclass(frozen=True, slots=True)
class Held:
    """A message that the server has handed over and that has not been dealt with; ``tag`` is that of its channel."""

    tag: int
    value: str
    redelivered: bool
    came: int  # us on the run's clock


class Consumer:
    """Consumes one queue, through the next member each time that a connection is lost.

    It deals with its messages one after the other, and only when it is told to (`work`): until then it holds them, as
    a consumer does that is behind. It dies with its connection, and what it holds then is dropped: that is the server's
    again, and will be handed over once more, unless the server took it for acknowledged as it was sent. A message that
    it is not ``fit`` for it rejects as it comes, so that the server hands it over again.
    """

    def __init__(
        self,
        plan: RabbitmqPlan,
        queue: str,
        password: str,
        record: Record,
        now_us: Callable[[], int],
        *,
        first: int = 0,
        fit: Callable[[str], bool] = lambda _value: True,
    ) -> None:
        """``record`` books what was dealt with, or dropped, and with which member the consumer stands; ``now_us`` is
        the run's clock. ``first`` is the place of the member that it begins with.
        """
        self._queue = queue
        self._record = record
        self._now_us = now_us
        self._fit = fit
        self._automatic = plan.automatic_ack
        self._members = list(plan.members)
        self._next = first
        self._at = ""  # the member that it is, or was, connected to
        self._channels = 0
        self._consuming = False
        self._held: deque[Held] = deque()
        self._line = Line(connection_for(plan, self._member, password), self._opened, self._lost)
        self.open = self._line.open

    @property
    def stands(self) -> bool:
        """Whether it consumes now; one that the server has cancelled does not, though its connection may stand."""
        return self._consuming

    def work(self, most: int) -> None:
        """Deals with so many of the messages that it holds, the oldest first, each booked before it is acknowledged."""
        channel = self._line.channel
        while channel is not None and self._held and most > 0:
            held = self._held.popleft()
            self._book(held, acked=True)
            if not self._automatic:
                channel.basic_ack(held.tag)
            most -= 1

    def close(self, *, read_out: bool = True) -> None:
        """Ends it for good: whatever is unacknowledged is the server's again. ``read_out``: nothing is on its way to it
        that the server takes for acknowledged.
        """
        self._line.close()
        self._detach("stop" if read_out else "lost")

    @property
    def _name(self) -> str:
        return f"{self._queue}/{self._channels}"

    def _member(self) -> str:
        self._at = self._members[self._next % len(self._members)]
        self._next += 1
        return self._at

    def _opened(self, channel: Any) -> None:
        self._channels += 1
        channel.add_on_cancel_callback(self._cancelled)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self._queue, self._delivered, auto_ack=self._automatic, callback=self._begun)

    def _begun(self, _frame: Any) -> None:
        """The server has taken it for a consumer."""
        if self._line.channel is not None:
            self._consuming = True
            self._record(Attached(self._name, self._queue, self._at, self._now_us()))

    def _cancelled(self, _frame: Any) -> None:
        """The server has taken the queue from it, whose member is away, say: another channel may get it again."""
        self._line.drop()

    def _delivered(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        if self._line.channel is None:  # all is over: nobody is left to deal with it
            return
        held = Held(method.delivery_tag, body.decode(errors="replace"), method.redelivered, self._now_us())
        if self._fit(held.value):
            self._held.append(held)
        else:
            self._book(held, acked=False)
            channel.basic_reject(held.tag, requeue=True)

    def _lost(self) -> None:
        self._detach("lost")

    def _detach(self, why: Literal["stop", "lost"]) -> None:
        while self._held:
            self._book(self._held.popleft(), acked=False)
        if self._consuming:
            self._consuming = False
            self._record(Detached(self._name, self._now_us(), why))

    def _book(self, held: Held, *, acked: bool) -> None:
        line = Consumed(
            self._name, self._queue, held.value, self._now_us(), held.redelivered, acked=acked, came=held.came
        )
        self._record(line)
