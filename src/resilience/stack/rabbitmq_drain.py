"""Takes everything out of every queue once the load has ended and all is healed: what is left is written down as it is.

It is taken through a member that no fault was done to, as long as there is one that answers: one that was hit may know
less of a queue than those that went on without it. If a member cannot be reached, or breaks off, another is gone
through; each line says through whom. All is read once nobody who answers knows of a message any more, ready or
unacknowledged: what a consumer held comes back as soon as the server knows that its connection is gone. Two parts of a
cluster that does not come together again are both emptied in that way.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import pika
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, Drained, QueueRead
from resilience.history.writer import Writer
from resilience.spec.rabbitmq import USER, VHOST, all_queues
from resilience.spec.stack import PORTS
from resilience.stack.rabbitmq import PASSWORD, TOTALS, ask
from resilience.stack.wait import wait_until

BATCH = 500  # messages in one line
TIMEOUT_S = 3.0
RETRY_S = 0.2

Taken = Iterator[tuple[str, tuple[Drained, ...]]]


class Way(Protocol):
    """A member as a way to the queues; both methods raise `StackError` if it is none."""

    member: str

    def taken(self, queues: Sequence[str]) -> Taken:
        """What comes out of each of these queues until nothing does, batch by batch; the last of each is empty.

        A batch is gone from the server once the next is asked for.
        """
        ...

    def left(self, queues: Sequence[str]) -> list[str]:
        """Why these queues are not empty by this member's word; nothing if they are."""
        ...


def drain(platform: Platform, writer: Writer, *, hit: Collection[str], clock: RunClock, deadline: float) -> int:
    """Empties every queue and writes down what was in it; how many messages. ``hit`` are those that suffered a fault.

    ``deadline`` is a value of `time.monotonic`. Raises `StackError` that says what could not be read until then; what
    was read has been written, without an `AuditDone`.
    """
    assert platform.stack.rabbitmq is not None
    password = platform.secret(PASSWORD)
    ways = [_Member(state, password) for state in spared_first(platform.states(), hit)]
    emptying = Emptying(ways, all_queues(platform.stack.rabbitmq), writer)
    try:
        wait_until("draining the queues", emptying.unfinished, deadline=deadline, every_s=RETRY_S)
    finally:
        writer.flush()
    writer.write(AuditDone("rabbitmq", emptying.count, clock.now_us()))
    return emptying.count


def spared_first(states: Sequence[MemberState], hit: Collection[str]) -> list[MemberState]:
    """RabbitMQ's members, those that were hit last."""
    return sorted((state for state in states if state.component == "rabbitmq"), key=lambda state: state.name in hit)


class Emptying:
    """Queues on their way to being empty, and the ways to them, the best first."""

    def __init__(self, ways: Sequence[Way], queues: Sequence[str], writer: Writer) -> None:
        """Asks nobody yet."""
        self.count = 0  # messages that were taken out
        self._ways = list(ways)
        self._queues = queues
        self._writer = writer
        self._read: set[str] = set()  # queues that there is a line of

    def unfinished(self) -> str:
        """Empties them as far as that can be done now; why that is not all, "" if it is."""
        reasons: list[str] = []
        silent: list[str] = []
        for way in tuple(self._ways):
            try:
                reasons += self._through(way)
            except StackError as error:
                silent.append(str(error))
                self._ways.remove(way)
                self._ways.append(way)
        if len(silent) == len(self._ways):
            reasons = silent or ["there is no member"]
        return "; ".join(reasons)

    def _through(self, way: Way) -> list[str]:
        """Takes out what there still is by a member's word; what that leaves. Before anything was read all is taken."""
        if self._read.issuperset(self._queues) and not way.left(self._queues):
            return []
        for queue, messages in way.taken(self._queues):
            if messages or queue not in self._read:
                self._read.add(queue)
                self.count += len(messages)
                self._writer.append(QueueRead(queue, messages, way.member))
        return way.left(self._queues)


class _Member:
    """A real one: its messages over AMQP, its counts over the management API."""

    def __init__(self, state: MemberState, password: str) -> None:
        self.member = state.name
        self._state = state
        self._password = password

    def taken(self, queues: Sequence[str]) -> Taken:
        try:
            connection = BlockingConnection(_parameters(self._state, self._password))
            try:
                channel = connection.channel()
                for queue in queues:
                    for messages in _batches(channel, queue):
                        yield queue, messages
            finally:
                if connection.is_open:
                    connection.close()
        except (AMQPError, OSError) as error:
            raise StackError(f"{self.member} does not hand out messages: {error!r}") from error

    def left(self, queues: Sequence[str]) -> list[str]:
        totals = ask(self._state, self._password, TOTALS, TIMEOUT_S)
        return [f"{self.member}: {reason}" for reason in _left(totals, queues)]


def _parameters(state: MemberState, password: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=state.address,
        port=PORTS["rabbitmq"],
        virtual_host=VHOST,
        credentials=pika.PlainCredentials(USER, password),
        connection_attempts=1,
        socket_timeout=TIMEOUT_S,
        stack_timeout=TIMEOUT_S,
        blocked_connection_timeout=TIMEOUT_S,
        heartbeat=int(TIMEOUT_S),  # a member that falls silent meanwhile
    )


def _batches(channel: BlockingChannel, queue: str) -> Iterator[tuple[Drained, ...]]:
    """What comes out of a queue, in the end nothing; acknowledged once it has been written down."""
    while True:
        messages: list[Drained] = []
        last = 0
        while len(messages) < BATCH:
            method, properties, body = channel.basic_get(queue)
            if method is None:
                break
            last = method.delivery_tag
            messages.append(_drained(body, method.redelivered, properties.headers or {}))
        yield tuple(messages)
        if not messages:
            return
        channel.basic_ack(last, multiple=True)


def _drained(body: bytes, redelivered: bool, headers: dict[str, Any]) -> Drained:  # noqa: FBT001  as the server flags it
    return Drained(
        value=body.decode(errors="replace"),
        redelivered=redelivered,
        died_in=str(headers.get("x-first-death-queue", "")),
        died_of=str(headers.get("x-first-death-reason", "")),
    )


def _left(totals: Any, queues: Sequence[str]) -> Iterator[str]:
    """Why a queue is not empty by the server's own count."""
    known = {queue.get("name"): queue for queue in totals}
    for name in queues:
        queue = known.get(name)
        if queue is None or "messages" not in queue:
            yield f"nobody knows how much is in {name}"
        elif queue["messages"]:
            held = queue.get("messages_unacknowledged", 0)
            yield f"{name} holds {queue['messages']} messages, {held} of them unacknowledged"
