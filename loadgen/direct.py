"""The direct client: unique values to every Redis shard, on a schedule that never waits for answers.

It is the clock of outages: 100 writes a second and shard say to 10 ms when a shard took writes and when it did not.
It follows the owners of the slots by asking every node, ten times a second.

Run as ``python -m loadgen.direct PLAN``.
"""

import asyncio
import math
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from loadgen.direct_link import Node, connection_to, reply_of
from loadgen.direct_topology import Topology
from loadgen.direct_write import Write, WriteForm
from loadgen.scheduled import ScheduledClient, main
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


class DirectClient(ScheduledClient):
    """The nodes, and the watch over the topology."""

    def __init__(self, plan: LoadPlan) -> None:
        """Opens the generator's files; nothing is connected. Raises `OSError`."""
        super().__init__(CLIENT, (KIND,), plan)
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

    @property
    def _rate_ops_per_s(self) -> float:
        return self._plan.load.direct_rate_ops_per_s * len(self._groups)

    @property
    def _standing(self) -> int:
        return len(self._answering)

    def _watches(self) -> list[Coroutine[Any, Any, None]]:
        addresses = [address for shard in self._plan.shards for address in (shard.primary, *shard.replicas)]
        return [self._watch(address) for address in addresses]

    def _tick(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            node.expire(now)
            if node.problem is not None:
                raise node.problem

    async def _close(self) -> None:
        for node in self._nodes.values():
            await node.close()

    def _send(self, n: int, due: int) -> None:
        self._write(self._groups[n % len(self._groups)], n, due)

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


if __name__ == "__main__":
    sys.exit(main(DirectClient))
