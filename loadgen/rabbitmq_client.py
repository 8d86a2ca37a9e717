"""The RabbitMQ client: unique messages to every queue, on a schedule that never waits for confirms, and consumers.

Each queue is published to through each member in turn, so that a member that is cut off shows beside those that are
not. What consumers are handed is on record as it is acknowledged: a loss is a message that was confirmed, and neither
handed to anybody nor left in its queue at the end.

Run as ``python -m loadgen.rabbitmq_client PLAN``.
"""

import asyncio
import math
import signal
import sys
import time
from pathlib import Path

import uvloop
from prometheus_client import disable_created_metrics, start_http_server

from loadgen.arrivals import Schedule
from loadgen.generator import EXIT_INTERRUPTED, EXIT_STOPPED, TICK_S, Generator, be_punctual, load_plan
from loadgen.rabbitmq_link import Consumer, Publish, Publisher, connection_for
from loadgen.recorder import Op
from resilience.history.record import Consumed, Outcome
from resilience.spec.plan import LoadPlan, RabbitmqPlan

CLIENT = "rabbitmq"
KIND = "rabbitmq.publish"
_NAP_S = 0.5


class RabbitmqClient:
    """All of it: the schedule, a publisher for each member, a consumer for each queue, and the end."""

    def __init__(self, plan: LoadPlan, rabbitmq: RabbitmqPlan) -> None:
        """Opens the generator's files; nothing is connected. Raises `OSError`."""
        self.generator = Generator(CLIENT, plan, (KIND,))
        self._plan = plan
        self._rabbitmq = rabbitmq
        password = Path(rabbitmq.password_file).read_text().strip()
        self._publishers = [
            Publisher(connection_for(rabbitmq, lambda name=member: name, password), self._settle)  # type: ignore[misc]
            for member in rabbitmq.members
        ]
        self._consumers = [
            Consumer(rabbitmq, queue, password, self._hand, first) for first, queue in enumerate(rabbitmq.queues)
        ]
        self._lines: tuple[Publisher | Consumer, ...] = (*self._publishers, *self._consumers)
        self._interrupted = asyncio.Event()

    async def run(self) -> int:
        """Everything from the first publish to the signal that ends the process; its exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted.set)
        for line in self._lines:
            line.open()
        async with asyncio.TaskGroup() as group:
            arrivals = group.create_task(self._arrive())
            await self._keep_time()
            arrivals.cancel()
        for line in self._lines:
            line.close()
        exit_code = EXIT_STOPPED if self.generator.over else EXIT_INTERRUPTED
        self.generator.finish(exit_code)
        await self._interrupted.wait()  # the metrics are still to be scraped
        return exit_code

    async def _keep_time(self) -> None:
        """Ticks until the load is over and drained, or the process is interrupted."""
        second_at, end_at = time.monotonic() + 1.0, math.inf
        while not self._interrupted.is_set() and time.monotonic() < end_at:
            await asyncio.sleep(TICK_S)
            self.generator.tick()
            for publisher in self._publishers:
                publisher.expire(time.monotonic())
            if time.monotonic() >= second_at:
                self.generator.second(sum(line.stands for line in self._lines))
                second_at += 1.0
            if self.generator.over:
                drained = self.generator.recorder.inflight == 0
                end_at = 0.0 if drained else min(end_at, time.monotonic() + self._plan.load.stop_timeout_s)

    async def _arrive(self) -> None:
        queues, publishers = self._rabbitmq.queues, self._publishers
        rate = self._rabbitmq.rate_ops_per_s * len(queues)
        start_us = self.generator.clock.now_us()
        schedule = Schedule(rate_ops_per_s=rate, start_us=start_us, seed=self._plan.seed, jitter=False)
        for n, due in enumerate(schedule):
            await self._sleep_until(due)
            if self.generator.over_at(due) or self.generator.over:
                return
            publisher = publishers[n // len(queues) % len(publishers)]  # each queue through each member in turn
            self._publish(publisher, queues[n % len(queues)], n, due)

    async def _sleep_until(self, due: int) -> None:
        while (left_us := due - self.generator.clock.now_us()) > 0 and not self.generator.over:  # noqa: ASYNC110  the clock ends it
            await asyncio.sleep(min(_NAP_S, left_us / 1e6))

    def _publish(self, publisher: Publisher, queue: str, n: int, due: int) -> None:
        value = f"{CLIENT}-{self._plan.seed}-{n}"
        op = self.generator.recorder.invoked(
            stream=queue, kind=KIND, key=queue, value=value, group=0, phase=self.generator.phase_at(due), due=due
        )
        publisher.submit(Publish(op, queue, value, time.monotonic() + self._plan.load.timeout_s))

    def _settle(self, op: Op, outcome: Outcome, error: str) -> None:
        self.generator.recorder.returned(op, outcome, error=error)

    def _hand(self, consumer: str, value: str, redelivered: bool) -> None:  # noqa: FBT001  as the server flags it
        """On record before its acknowledgement is sent: one that is handed over again is then known to be."""
        queue = consumer.partition("/")[0]
        at = self.generator.clock.now_us()
        self.generator.recorder.write(Consumed(consumer, queue, value, at, redelivered, acked=True))


async def serve(plan: LoadPlan) -> int:
    """Serves the metrics and runs the client; the exit code. Raises `ValueError` for a plan without RabbitMQ."""
    if plan.rabbitmq is None:
        raise ValueError("the plan has no RabbitMQ")
    client = RabbitmqClient(plan, plan.rabbitmq)
    start_http_server(plan.metrics_port, registry=client.generator.metrics.registry)
    return await client.run()


def main() -> int:
    """Reads the plan that the first argument names, and runs."""
    be_punctual()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # their lines would be half of every scrape
    return uvloop.run(serve(load_plan(Path(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
