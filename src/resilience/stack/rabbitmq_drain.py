"""Takes everything out of every queue once the load has ended and all is healed: what is left is written down as it is.

A queue counts as read when it is empty and nobody holds a message of it unacknowledged: what a consumer held comes back
as soon as the server knows that its connection is gone.
"""

from collections.abc import Iterator
from typing import Any

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
from resilience.stack.rabbitmq import PASSWORD, ask
from resilience.stack.wait import wait_until

BATCH = 500  # messages in one line
TIMEOUT_S = 3.0
RETRY_S = 0.2
_TOTALS = f"/api/queues/{VHOST}?disable_stats=true&enable_queue_totals=true"


def drain(platform: Platform, writer: Writer, *, clock: RunClock, deadline: float) -> int:
    """Empties every queue and writes down what was in it; how many messages.

    ``deadline`` is a value of `time.monotonic`. Raises `StackError` that says what could not be read until then; what
    was read has been written, without an `AuditDone`.
    """
    assert platform.stack.rabbitmq is not None
    emptying = _Emptying(platform, writer)
    queues = all_queues(platform.stack.rabbitmq)
    try:
        wait_until("draining the queues", lambda: emptying.unfinished(queues), deadline=deadline, every_s=RETRY_S)
    finally:
        writer.flush()
    writer.write(AuditDone("rabbitmq", emptying.count, clock.now_us()))
    return emptying.count


class _Emptying:
    """Queues on their way to being empty."""

    def __init__(self, platform: Platform, writer: Writer) -> None:
        self.count = 0
        self._platform = platform
        self._writer = writer
        self._told: set[str] = set()  # queues that there is a line of

    def unfinished(self, queues: tuple[str, ...]) -> str:
        """Empties them as far as that can be done now; why that is not all."""
        states = [state for state in self._platform.states() if state.component == "rabbitmq"]
        password = self._platform.secret(PASSWORD)
        reasons: list[str] = []
        for state in states:
            try:
                self._through(state, password, queues)
                return "; ".join(_left(ask(state, password, _TOTALS, TIMEOUT_S), queues))
            except (AMQPError, OSError) as error:
                reasons.append(f"{state.name} does not hand out messages: {error!r}")
            except StackError as error:
                reasons.append(str(error))
        return "; ".join(reasons) or "there is no member"

    def _through(self, state: MemberState, password: str, queues: tuple[str, ...]) -> None:
        connection = BlockingConnection(_parameters(state, password))
        try:
            channel = connection.channel()
            for queue in queues:
                for messages in _batches(channel, queue):
                    self._write(queue, messages)
                if queue not in self._told:
                    self._write(queue, ())
        finally:
            if connection.is_open:
                connection.close()

    def _write(self, queue: str, messages: tuple[Drained, ...]) -> None:
        self._told.add(queue)
        self.count += len(messages)
        self._writer.append(QueueRead(queue, messages))


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
    """What comes out of a queue until nothing does; acknowledged once it has been written down."""
    while True:
        messages: list[Drained] = []
        last = 0
        while len(messages) < BATCH:
            method, properties, body = channel.basic_get(queue)
            if method is None:
                break
            last = method.delivery_tag
            messages.append(_drained(body, method.redelivered, properties.headers or {}))
        if not messages:
            return
        yield tuple(messages)
        channel.basic_ack(last, multiple=True)


def _drained(body: bytes, redelivered: bool, headers: dict[str, Any]) -> Drained:  # noqa: FBT001  as the server flags it
    return Drained(
        value=body.decode(errors="replace"),
        redelivered=redelivered,
        died_in=str(headers.get("x-first-death-queue", "")),
        died_of=str(headers.get("x-first-death-reason", "")),
    )


def _left(totals: Any, queues: tuple[str, ...]) -> Iterator[str]:
    """Why a queue is not empty by the server's own count."""
    known = {queue.get("name"): queue for queue in totals}
    for name in queues:
        queue = known.get(name)
        if queue is None or "messages" not in queue:
            yield f"nobody knows how much is in {name}"
        elif queue["messages"]:
            held = queue.get("messages_unacknowledged", 0)
            yield f"{name} holds {queue['messages']} messages, {held} of them unacknowledged"
