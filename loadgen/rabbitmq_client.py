"""The RabbitMQ client: unique messages to every queue, on a schedule that never waits for confirms, and consumers.

Each queue is published to through each member in turn, so that a member that is cut off shows beside those that are
not. Consumers stay behind: so many messages as the plan's backlog are confirmed and not dealt with, and a fault can
lose them. What a consumer was handed is on record as it deals with it, before its acknowledgement is sent, or as it
drops it with its connection. A loss is a message that was confirmed, that no consumer has dealt with, and that is in no
queue at the end (`resilience.check.durability.rabbitmq`). Where services publish to these queues, too, their messages
are consumed and put on record like its own; how far a consumer stays behind is counted in its own.

Where acknowledgement is automatic the server forgets a message as it sends it: what was still on its way at the end
would be lost by its reader. So consumers read on until what was confirmed has come, or nothing has come for a while;
where others publish, too, until the latter.

Run as ``python -m loadgen.rabbitmq_client PLAN``.
"""

import asyncio
import sys
import time
from pathlib import Path

from loadgen.generator import TICK_S
from loadgen.rabbitmq_link import Consumer, Publish, Publisher, connection_for
from loadgen.rabbitmq_unread import Unread
from loadgen.recorder import Op
from loadgen.scheduled import ScheduledClient, main
from resilience.history.record import Attached, Consumed, Detached, Outcome
from resilience.spec.plan import LoadPlan

CLIENT = "rabbitmq"
KIND = "rabbitmq.publish"
LAST_S = 5.0  # what is on its way to a consumer at the end is waited for so long at most


class RabbitmqClient(ScheduledClient):
    """A publisher for each member, and a consumer for each queue."""

    def __init__(self, plan: LoadPlan) -> None:
        """See `ScheduledClient`. Raises `ValueError` for a plan without RabbitMQ."""
        super().__init__(CLIENT, (KIND,), plan)
        if plan.rabbitmq is None:
            raise ValueError("the plan has no RabbitMQ")
        rabbitmq = self._rabbitmq = plan.rabbitmq
        password = Path(rabbitmq.password_file).read_text().strip()
        self._publishers = [
            Publisher(
                connection_for(rabbitmq, lambda name=member: name, password),  # type: ignore[misc]
                self._settle,
                persistent=rabbitmq.persistent,
            )
            for member in rabbitmq.members
        ]
        self._consumers = {
            queue: Consumer(
                rabbitmq, queue, password, self._record, self.generator.clock.now_us, first=first, fit=self._fit
            )
            for first, queue in enumerate(rabbitmq.queues)
        }
        self._lines: tuple[Publisher | Consumer, ...] = (*self._publishers, *self._consumers.values())
        self._behind = dict.fromkeys(rabbitmq.queues, 0)  # how many were confirmed more than were dealt with
        self._poison: set[str] = set()
        self._mark = f"{CLIENT}-{plan.seed}-"  # what its own messages begin with
        self._unread = Unread() if rabbitmq.automatic_ack else None

    @property
    def _rate_ops_per_s(self) -> float:
        return self._rabbitmq.rate_ops_per_s * len(self._rabbitmq.queues)

    @property
    def _standing(self) -> int:
        return sum(line.stands for line in self._lines)

    async def _prepare(self) -> None:
        for line in self._lines:
            line.open()

    def _tick(self) -> None:
        for publisher in self._publishers:
            publisher.expire(time.monotonic())
        for queue, consumer in self._consumers.items():
            consumer.work(self._behind[queue] - self._rabbitmq.backlog_messages)

    async def _close(self) -> None:
        """What is unacknowledged stays with the server; what it takes for acknowledged is dealt with, all of it."""
        read_out = self._unread is None or await self._read_out(self._unread)
        for publisher in self._publishers:
            publisher.close()
        for consumer in self._consumers.values():
            consumer.close(read_out=read_out)

    async def _read_out(self, unread: Unread) -> bool:
        """Deals with all that comes until nothing is on its way any more; False if something was to the last. It ends
        right after it has looked, so that nothing comes in between.
        """
        began = time.monotonic()
        while True:
            for consumer in self._consumers.values():
                consumer.work(sys.maxsize)
            now = time.monotonic()
            if unread.over(now, began):
                return True
            if now >= began + LAST_S:
                return False
            await asyncio.sleep(TICK_S)

    def _send(self, n: int, due: int) -> None:
        queues, publishers = self._rabbitmq.queues, self._publishers
        publisher = publishers[n // len(queues) % len(publishers)]  # each queue through each member in turn
        self._publish(publisher, queues[n % len(queues)], n, due)

    def _publish(self, publisher: Publisher, queue: str, n: int, due: int) -> None:
        value = f"{self._mark}{n}"
        every = self._rabbitmq.poison_every
        if every and n // len(self._rabbitmq.queues) % every == 0:
            self._poison.add(value)
        op = self.generator.recorder.invoked(
            stream=queue, kind=KIND, key=queue, value=value, group=0, phase=self.generator.phase_at(due), due=due
        )
        if self._unread is not None:
            self._unread.sent(op.id, value)
        publisher.submit(Publish(op, queue, value, time.monotonic() + self._plan.load.timeout_s))

    def _fit(self, value: str) -> bool:
        return value not in self._poison

    def _settle(self, op: Op, outcome: Outcome, error: str) -> None:
        self._behind[op.stream] += outcome == "ok"
        if self._unread is not None:
            self._unread.ended(op.id, outcome)
        self.generator.recorder.returned(op, outcome, error=error)

    def _record(self, line: Consumed | Attached | Detached) -> None:
        """On record before an acknowledgement is sent: one that is handed over again is then known to be."""
        if isinstance(line, Consumed):
            # what is rejected is dealt with, once
            dealt_with = line.acked or not (line.redelivered or self._fit(line.value))
            self._behind[line.queue] -= dealt_with and line.value.startswith(self._mark)
            if self._unread is not None:
                self._unread.handed(line.value, time.monotonic())
        self.generator.recorder.write(line)


if __name__ == "__main__":
    sys.exit(main(RabbitmqClient))
