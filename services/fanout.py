"""Edits on their way to all instances: Redis pub/sub, sharded.

A room's channel has the room's hash tag, so edits are published to, and heard from, the same primary that numbers
them: a room that can be written to can be heard, and a failure stays in its own shard. (Cluster-wide `PUBLISH` would
also reach the other nodes, but an edit that a cut-off primary still acknowledges would reach nobody, and the loss of
the one node that an instance listens to would silence all rooms.) The slot map decides where we listen; when it changes
we move. Pub/sub loses messages whenever a connection breaks: the receivers find the gap and ask for what they missed.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from redis import exceptions
from redis.asyncio.connection import Connection

from services.metric import FanoutMetrics
from services.order import Edit, payload_from_edit
from services.redis_cluster import RedisCluster
from services.redis_node import Command, RedisNode, StoreError
from services.slot import slot_from_key
from services.task import end
from services.topology import Address

PING_INTERVAL_S = 1.0  # of silence; a second one means that the node is gone
RECONNECT_S = 0.25
PUBLISH_TIMEOUT_S = 0.5
QUEUE_MAX = 10_000
BATCH_MAX = 256

Deliver = Callable[[str, str], None]  # a room, and an edit as `order.edit_from_payload` reads it


class Fan(Protocol):
    """Publishes edits, and hears those of all instances, whatever brings them; see `Fanout`."""

    def open(self) -> None:
        """Begin, as far as nobody has to ask for it."""
        ...

    async def subscribe(self, room: str, timeout_s: float) -> bool:
        """Listen to a room from now on; whether that was confirmed in time (if not, it goes on being tried)."""
        ...

    def unsubscribe(self, room: str) -> None:
        """Listen to a room no more."""
        ...

    def publish(self, room: str, edit: Edit) -> None:
        """Send to all instances, in the order of the calls; nobody waits for that."""
        ...

    async def close(self) -> None:
        """Stop listening and publishing."""
        ...


def channel_from_room(room: str) -> str:
    """The channel of a room; in the slot of the room's keys."""
    return f"room-live:{{{room}}}"


def room_from_channel(channel: str) -> str:
    """The room that a channel is of."""
    return channel.removeprefix("room-live:{").removesuffix("}")


class Fanout:
    """Publishes edits, and hears those of all instances; `deliver` is called for each."""

    def __init__(self, cluster: RedisCluster, deliver: Deliver, metrics: FanoutMetrics) -> None:
        self._cluster = cluster
        self._deliver = deliver
        self._metrics = metrics
        self._wanted: set[str] = set()
        self._listeners: dict[Address, Listener] = {}
        self._publishers: dict[Address, Publisher] = {}
        cluster.on_change(self._arrange)

    def open(self) -> None:
        """Nothing to do: it listens to what it is asked for."""

    async def subscribe(self, room: str, timeout_s: float) -> bool:
        """Listen to a room from now on; whether that was confirmed in time (if not, it goes on being tried)."""
        channel = channel_from_room(room)
        self._wanted.add(channel)
        self._arrange()
        node = self._cluster.owner(slot_from_key(channel))
        if node is None:
            return False
        return await self._listeners[node.address].confirmed(channel, timeout_s)

    def unsubscribe(self, room: str) -> None:
        """Listen to a room no more."""
        self._wanted.discard(channel_from_room(room))
        self._arrange()

    def publish(self, room: str, edit: Edit) -> None:
        """Send to all instances, in the order of the calls; what cannot be sent is counted and forgotten."""
        channel = channel_from_room(room)
        node = self._cluster.owner(slot_from_key(channel))
        if node is None:
            self._metrics.lost.inc()
            return
        if node.address not in self._publishers:
            self._publishers[node.address] = Publisher(node, self._cluster.suspect, self._metrics)
        self._publishers[node.address].send(("SPUBLISH", channel, payload_from_edit(edit)))

    async def close(self) -> None:
        """Stop listening and publishing."""
        for listener in self._listeners.values():
            await listener.close()
        for publisher in self._publishers.values():
            await publisher.close()

    def _arrange(self) -> None:
        by_node: dict[Address, set[str]] = {address: set() for address in self._listeners}
        for channel in self._wanted:
            node = self._cluster.owner(slot_from_key(channel))
            if node is None:
                continue
            if node.address not in self._listeners:
                self._listeners[node.address] = Listener(node, self._heard, self._cluster.suspect)
            by_node.setdefault(node.address, set()).add(channel)
        for address, channels in by_node.items():
            self._listeners[address].want(channels)

    def _heard(self, channel: str, payload: str) -> None:
        self._metrics.received.inc()
        self._deliver(room_from_channel(channel), payload)


class Listener:
    """Listens at one node, on a connection of its own that is made again whenever it breaks."""

    def __init__(self, node: RedisNode, deliver: Deliver, suspect: Callable[[], None]) -> None:
        self._node = node
        self._deliver = deliver
        self._suspect = suspect
        self._wanted: set[str] = set()
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()
        self._changed = asyncio.Event()
        self._heard = asyncio.Condition()
        self._task = asyncio.create_task(self._run(), name=f"listen-{node.address}")

    def want(self, channels: set[str]) -> None:
        """Listen to exactly these channels."""
        if channels != self._wanted:
            self._wanted = channels
            self._changed.set()

    async def confirmed(self, channel: str, timeout_s: float) -> bool:
        """Whether the node confirmed the channel within the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._heard:
                await self._heard.wait_for(lambda: channel in self._confirmed)
        return channel in self._confirmed

    async def close(self) -> None:
        """Stop listening."""
        await end(self._task)

    async def _run(self) -> None:
        while True:
            while not self._wanted:
                self._changed.clear()
                await self._changed.wait()
            try:
                await self._connected()
            except (StoreError, exceptions.RedisError, OSError, TimeoutError):
                self._suspect()
                await asyncio.sleep(RECONNECT_S)

    async def _connected(self) -> None:
        """One connection's life; returns when nothing is wanted any more."""
        connection = await self._node.connect(asyncio.get_running_loop().time() + RECONNECT_S)
        self._asked.clear()
        self._confirmed.clear()
        self._changed.set()
        asking = asyncio.create_task(self._ask(connection))
        try:
            await self._listen(connection)
        finally:
            self._confirmed.clear()
            await end(asking)
            await connection.disconnect(nowait=True)

    async def _ask(self, connection: Connection) -> None:
        """Keep the node's idea of our channels equal to ours."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._wanted)
            commands: list[Command] = [("SSUBSCRIBE", channel) for channel in wanted - self._asked]
            commands += [("SUNSUBSCRIBE", channel) for channel in self._asked - wanted]
            self._asked = wanted
            if commands:
                await connection.send_packed_command(connection.pack_commands(commands))

    async def _listen(self, connection: Connection) -> None:
        pinged = False
        while self._wanted or self._asked:
            message = await connection.read_response(timeout=PING_INTERVAL_S)
            if message is not None:
                pinged = False
                await self._take(message)
            elif pinged:
                raise TimeoutError
            else:
                pinged = True
                await connection.send_packed_command(connection.pack_commands([("PING",)]))

    async def _take(self, message: Any) -> None:
        match message:
            case ["smessage", str(channel), str(payload)]:
                self._deliver(channel, payload)
            case ["ssubscribe", str(channel), _]:
                async with self._heard:
                    self._confirmed.add(channel)
                    self._heard.notify_all()
            case ["sunsubscribe", str(channel), _]:
                self._confirmed.discard(channel)
                if channel in self._wanted:  # the node lost the slot
                    self._asked.discard(channel)
                    self._changed.set()
                    self._suspect()
            case _:
                pass  # the answer to a ping


class Publisher:
    """Publishes at one node, in order and in batches."""

    def __init__(self, node: RedisNode, suspect: Callable[[], None], metrics: FanoutMetrics) -> None:
        self._node = node
        self._suspect = suspect
        self._metrics = metrics
        self._queue: deque[Command] = deque()
        self._filled = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"publish-{node.address}")

    def send(self, command: Command) -> None:
        """Send after everything that was given before."""
        if len(self._queue) >= QUEUE_MAX:
            self._queue.popleft()
            self._metrics.lost.inc()
        self._queue.append(command)
        self._filled.set()

    async def close(self) -> None:
        """Stop; what is still queued is dropped."""
        await end(self._task)

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                await self._send(batch)

    async def _send(self, batch: list[Command]) -> None:
        lost = len(batch)
        with suppress(StoreError):
            replies = await self._node.roundtrip(batch, asyncio.get_running_loop().time() + PUBLISH_TIMEOUT_S)
            lost = sum(isinstance(reply, exceptions.RedisError) for reply in replies)
        self._metrics.published.inc(len(batch) - lost)
        if lost:
            self._metrics.lost.inc(lost)
            self._suspect()
