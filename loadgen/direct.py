"""The direct client: unique values to every Redis shard, on a schedule that never waits for answers.

It is the clock of outages: 100 writes a second and shard say to 10 ms when a shard took writes and when it did not.
It follows the owners of the slots by asking every node, ten times a second.

Run as ``python -m loadgen.direct PLAN``.
"""

import asyncio
import math
import signal
import sys
import time
from pathlib import Path

import uvloop
from prometheus_client import disable_created_metrics, start_http_server
from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from loadgen.arrivals import Schedule
from loadgen.direct_link import Node, connection_to, reply_of
from loadgen.direct_topology import Topology
from loadgen.direct_write import Write, WriteForm
from loadgen.generator import EXIT_INTERRUPTED, EXIT_STOPPED, TICK_S, Generator, be_punctual, load_plan
from loadgen.shards import ShardMap, slot_of
from resilience.history.record import Outcome
from resilience.spec.plan import LoadPlan

CLIENT = "direct"
KIND = "direct.write"
TTL_S = 86_400
POLL_S = 0.1
POLL_TIMEOUT_S = 0.3
OUTSTANDING_SHARE = 1.5  # places for writes on their way, as a multiple of what a silent node fills
OUTSTANDING_MIN = 16
_NAP_S = 0.5


class DirectClient:
    """All of it: the schedule, the nodes, the watch over the topology, and the end."""

    def __init__(self, plan: LoadPlan) -> None:
        """Opens the generator's files; nothing is connected. Raises `OSError`."""
        self.generator = Generator(CLIENT, plan, (KIND,))
        self._plan = plan
        self._password = Path(plan.redis_password_file).read_text().strip()
        self._form = WriteForm(plan.durability, TTL_S)
        shards = ShardMap(plan.shards)
        self._groups = shards.groups
        self._tags = {group: shards.tag_for(group, f"d{group}") for group in self._groups}
        slots = {group: slot_of(tag) for group, tag in self._tags.items()}
        self._topology = Topology(slots, {shard.group: shard.primary for shard in plan.shards})
        rate = plan.load.direct_rate_ops_per_s
        self._outstanding_max = max(OUTSTANDING_MIN, math.ceil(rate * plan.load.timeout_s * OUTSTANDING_SHARE))
        self._nodes: dict[str, Node] = {}
        self._answering: set[str] = set()
        self._interrupted = asyncio.Event()

    async def run(self) -> int:
        """Everything from the first write to the signal that ends the process; its exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted.set)
        addresses = [address for shard in self._plan.shards for address in (shard.primary, *shard.replicas)]
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(self._watch(address)) for address in addresses]
            arrivals = group.create_task(self._arrive())
            await self._keep_time()
            for task in (*watches, arrivals):
                task.cancel()
        exit_code = EXIT_STOPPED if self.generator.over else EXIT_INTERRUPTED
        for node in self._nodes.values():
            await node.close()
        self.generator.finish(exit_code)
        await self._interrupted.wait()  # the metrics are still to be scraped
        return exit_code

    async def _keep_time(self) -> None:
        """Ticks until the load is over and drained, or the process is interrupted. Raises what a link raised."""
        second_at, end_at = time.monotonic() + 1.0, math.inf
        while not self._interrupted.is_set() and time.monotonic() < end_at:
            await asyncio.sleep(TICK_S)
            self.generator.tick()
            self._tick_nodes()
            if time.monotonic() >= second_at:
                self.generator.second(len(self._answering))
                second_at += 1.0
            if self.generator.over:
                drained = self.generator.recorder.inflight == 0
                end_at = 0.0 if drained else min(end_at, time.monotonic() + self._plan.load.stop_timeout_s)

    def _tick_nodes(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            node.expire(now)
            if node.problem is not None:
                raise node.problem

    async def _arrive(self) -> None:
        rate = self._plan.load.direct_rate_ops_per_s * len(self._groups)
        start_us = self.generator.clock.now_us()
        schedule = Schedule(rate_ops_per_s=rate, start_us=start_us, seed=self._plan.seed, jitter=False)
        for n, due in enumerate(schedule):
            await self._sleep_until(due)
            if self.generator.over_at(due) or self.generator.over:
                return
            self._write(self._groups[n % len(self._groups)], n, due)

    async def _sleep_until(self, due: int) -> None:
        while (left_us := due - self.generator.clock.now_us()) > 0 and not self.generator.over:  # noqa: ASYNC110  the clock ends it
            await asyncio.sleep(min(_NAP_S, left_us / 1e6))

    def _write(self, group: int, n: int, due: int) -> None:
        recorder, phase = self.generator.recorder, self.generator.phase_at(due)
        node = self._node(self._topology.owner(group))
        if not node.has_room:
            recorder.dropped(KIND, phase, due)
            return
        key, value = f"direct:{{{self._tags[group]}}}:{n}", f"{CLIENT}-{self._plan.seed}-{n}"
        op = recorder.invoked(
            stream=f"shard-{group}", kind=KIND, key=key, value=value, group=group, phase=phase, due=due
        )
        node.submit(Write(op, key, value, time.monotonic() + self._plan.load.timeout_s))

    def _node(self, address: str) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(
                lambda: connection_to(address, self._password),
                self._form,
                self._settle,
                outstanding_max=self._outstanding_max,
            )
        return self._nodes[address]

    def _settle(self, write: Write, outcome: Outcome, error: str) -> None:
        self.generator.recorder.returned(write.op, outcome, error=error)

    async def _watch(self, address: str) -> None:
        """Asks one node for its view, again and again; a node that does not answer has none."""
        connection = connection_to(address, self._password)
        try:
            while True:
                begun = time.monotonic()
                await self._look(connection, address)
                await asyncio.sleep(max(0.0, begun + POLL_S - time.monotonic()))
        finally:
            await connection.disconnect(nowait=True)

    async def _look(self, connection: Connection, address: str) -> None:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("CLUSTER NODES", check_health=False)
                view = await reply_of(connection)
        except (RedisError, OSError):
            self._answering.discard(address)
            await connection.disconnect(nowait=True)
            return
        if isinstance(view, bytes):
            self._answering.add(address)
            self._topology.learn(view.decode(), address)


async def serve(plan: LoadPlan) -> int:
    """Serves the metrics and runs the client; the exit code."""
    client = DirectClient(plan)
    start_http_server(plan.metrics_port, registry=client.generator.metrics.registry)
    return await client.run()


def main() -> int:
    """Reads the plan that the first argument names, and runs."""
    be_punctual()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # their lines would be half of every scrape
    return uvloop.run(serve(load_plan(Path(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
