"""What clients without Locust share: arrivals by a schedule that never waits for answers, the ticks, and the end."""

import asyncio
import math
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from prometheus_client import disable_created_metrics, start_http_server

from loadgen.arrivals import Schedule
from loadgen.generator import EXIT_INTERRUPTED, EXIT_STOPPED, TICK_S, Generator, be_punctual, load_plan
from resilience.spec.plan import LoadPlan

_NAP_S = 0.5


class Arrivals(NamedTuple):
    """What arrives so often; ``send`` is told how many came before, and the instant that it is due at (µs)."""

    rate_per_s: float
    send: Callable[[int, int], None]


class ScheduledClient(ABC):
    """One client of one process; what it sends, and to whom, is its subclass's."""

    def __init__(self, client: str, kinds: Sequence[str], plan: LoadPlan) -> None:
        """Opens the generator's files; nothing is connected. Raises `OSError`."""
        self.generator = Generator(client, plan, kinds)
        self._plan = plan
        self._interrupted = asyncio.Event()

    @property
    @abstractmethod
    def _rate_ops_per_s(self) -> float:
        """How many arrivals there are."""

    @property
    @abstractmethod
    def _standing(self) -> int:
        """How many connections stand."""

    @abstractmethod
    def _send(self, n: int, due: int) -> None:
        """Sends what is due at an instant (µs); ``n`` counts from 0."""

    @abstractmethod
    def _tick(self) -> None:
        """Every `TICK_S`: gives up what has taken too long. Raises what a connection raised."""

    @abstractmethod
    async def _close(self) -> None:
        """Ends all connections."""

    def _arrivals(self) -> Sequence[Arrivals]:
        """Everything that arrives, each by a schedule of its own."""
        return (Arrivals(self._rate_ops_per_s, self._send),)

    async def _prepare(self) -> None:  # noqa: B027  not all have something to prepare
        """Before anything is due."""

    def _watches(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on beside the arrivals."""
        return ()

    async def run(self) -> int:
        """Everything from the first arrival to the signal that ends the process; its exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted.set)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in (*self._watches(), self._arrive())]
            await self._keep_time()
            for task in tasks:
                task.cancel()
        exit_code = EXIT_STOPPED if self.generator.over else EXIT_INTERRUPTED
        await self._close()
        self.generator.finish(exit_code)
        await self._interrupted.wait()  # the metrics are still to be scraped
        return exit_code

    async def _keep_time(self) -> None:
        """Ticks until the load is over and drained, or the process is interrupted."""
        second_at, end_at = time.monotonic() + 1.0, math.inf
        while not self._interrupted.is_set() and time.monotonic() < end_at:
            await asyncio.sleep(TICK_S)
            self.generator.tick()
            self._tick()
            if time.monotonic() >= second_at:
                self.generator.second(self._standing)
                second_at += 1.0
            if self.generator.over:
                drained = self.generator.recorder.inflight == 0
                end_at = 0.0 if drained else min(end_at, time.monotonic() + self._plan.load.stop_timeout_s)

    async def _arrive(self) -> None:
        await self._prepare()
        start_us = self.generator.clock.now_us()
        async with asyncio.TaskGroup() as group:
            for arrivals in self._arrivals():
                group.create_task(self._follow(arrivals, start_us))

    async def _follow(self, arrivals: Arrivals, start_us: int) -> None:
        rate = arrivals.rate_per_s
        schedule = Schedule(rate_ops_per_s=rate, start_us=start_us, seed=self._plan.seed, jitter=False)
        for n, due in enumerate(schedule):
            await self._sleep_until(due)
            if self.generator.over_at(due) or self.generator.over:
                return
            arrivals.send(n, due)

    async def _sleep_until(self, due: int) -> None:
        while (left_us := due - self.generator.clock.now_us()) > 0 and not self.generator.over:  # noqa: ASYNC110  the clock ends it
            await asyncio.sleep(min(_NAP_S, left_us / 1e6))


async def _serve(client: Callable[[LoadPlan], ScheduledClient], plan: LoadPlan) -> int:
    """Serves the metrics and runs the client; the exit code."""
    made = client(plan)
    start_http_server(plan.metrics_port, registry=made.generator.metrics.registry)
    return await made.run()


def main(client: Callable[[LoadPlan], ScheduledClient]) -> int:
    """Reads the plan that the first argument names, and runs."""
    be_punctual()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # their lines would be half of every scrape
    return uvloop.run(_serve(client, load_plan(Path(sys.argv[1]))))
