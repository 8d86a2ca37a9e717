"""Redis Cluster as the services use it: scripts sent to the primary of a key, and a slot map that follows a failover.

redis-py gives the connections and the protocol; the map is ours. Its cluster client takes the map from the first node
that answers (which may be one that is cut off from its peers), repeats what failed, and cannot put `WAIT` behind a
write on the same connection without giving up its routing. Here nothing is repeated, except where a server said that
it did nothing and named another one (`MOVED`, `ASK`, `NOSCRIPT`).

The map follows errors, never guesses: as long as a primary acknowledges, it is written to. After an error the map is
taken from all nodes that answer, again each half second until no more errors come.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from redis import exceptions

from services.config import Config, Durability, address_from_text
from services.metric import StoreMetrics
from services.redis_node import REASONS, Command, Login, RedisNode, StoreError, store_error_from_reply
from services.script import Script
from services.slot import slot_from_key
from services.task import end
from services.topology import Address, Topology, View, merged, view_from_text

REFRESH_INTERVAL_S = 0.5
REFRESH_TIMEOUT_S = 0.3
SUSPICION_S = 1.0  # how long after the last error the map is still refreshed
# WAIT has to answer before our own deadline, or its answer is lost; an idle Redis looks at its clock each 0.1 s.
WAIT_MARGIN_S = 0.2
# The map may be wrong, or about to change.
SUSPICIOUS = frozenset(
    {
        "moved",
        "clusterdown",
        "readonly",
        "masterdown",
        "loading",
        "refused",
        "connect-timeout",
        "no-owner",
        "timeout",
        "reset",
    }
)

log = logging.getLogger("services")


class RedisCluster:
    """The primaries of a Redis Cluster, addressed by key."""

    def __init__(
        self, seeds: Iterable[Address], *, login: Login, durability: Durability, metrics: StoreMetrics
    ) -> None:
        self._seeds = tuple(seeds)
        self._login = login
        self._durability = durability
        self._metrics = metrics
        self._nodes: dict[Address, RedisNode] = {}
        self._topology: Topology | None = None
        self._suspected = asyncio.Event()
        self._suspected_until = 0.0
        self._follower: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []
        metrics.connections.set_function(lambda: sum(node.connections for node in self._nodes.values()))

    @property
    def ready(self) -> bool:
        """Whether a slot map was ever had in which somebody owns something: before that, nothing can be done here."""
        return self._topology is not None and self._topology.has_owners

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the topology changed."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Take the first map if any node gives one, and follow the cluster from then on."""
        await self.refresh()
        if not self.ready:
            self.suspect()
        self._follower = asyncio.create_task(self._follow(), name="follow-topology")

    async def close(self) -> None:
        """Stop following and close all idle connections."""
        if self._follower is not None:
            await end(self._follower)
        for node in self._nodes.values():
            await node.close()

    async def run(self, script: Script, keys: tuple[str, ...], args: Command, *, durable: bool, deadline: float) -> Any:
        """The script's answer, from the primary of its keys; `durable`: acknowledged as the stack asks for.

        `deadline` is on the loop's clock. Raises `StoreError`.
        """
        try:
            return await self._run(script, keys, args, durable=durable, deadline=deadline)
        except StoreError as error:
            self._metrics.errors[error.reason].inc()
            if error.reason in SUSPICIOUS:
                self.suspect()
            raise

    def owner(self, slot: int) -> RedisNode | None:
        """The primary that serves the slot, as far as is known."""
        address = self._topology.owner(slot) if self._topology else None
        return self._node(address) if address else None

    def suspect(self) -> None:
        """Something failed: the map may be wrong."""
        self._suspected_until = asyncio.get_running_loop().time() + SUSPICION_S
        self._suspected.set()

    async def refresh(self) -> None:
        """Take the map from all nodes that answer, from the seeds if none of them does; keep it if nobody answers."""
        known = self._topology.nodes if self._topology else frozenset()
        views = await self._views(known) or await self._views(self._seeds)
        self._metrics.refreshes["ok" if views else "fail"].inc()
        topology = merged(views)
        if not views or topology == self._topology:
            return
        self._topology = topology
        log.info("primaries: %s; %d nodes", topology.primaries, len(topology.nodes))
        for address in self._nodes.keys() - topology.nodes:
            await self._nodes.pop(address).close()
        for listener in self._listeners:
            listener()

    async def _run(
        self, script: Script, keys: tuple[str, ...], args: Command, *, durable: bool, deadline: float
    ) -> Any:
        node = self.owner(slot_from_key(keys[0]))
        if node is None:
            raise StoreError("no-owner", "fail")
        call, asking, redirected = script.by_digest(keys, args), False, False
        for _ in range(4):  # at most: by digest, redirected, in full, redirected
            replies = await node.roundtrip(
                self._commands(call, durable=durable, asking=asking, deadline=deadline), deadline
            )
            first = replies[1] if asking else replies[0]
            if isinstance(first, exceptions.NoScriptError) and call[0] == "EVALSHA":
                call = script.in_full(keys, args)
            elif isinstance(first, exceptions.AskError) and not redirected:  # MOVED is a kind of ASK in redis-py
                redirected, asking = True, not isinstance(first, exceptions.MovedError)
                node = self._node((first.host or node.address[0], first.port))
                self._metrics.redirects.inc()
                self.suspect()
            else:
                break
        if isinstance(first, exceptions.RedisError):
            raise store_error_from_reply(first)
        if durable and self._durability.mode == "wait":
            self._require_replicas(replies[-1])
        return first

    def _commands(self, call: Command, *, durable: bool, asking: bool, deadline: float) -> list[Command]:
        commands: list[Command] = [("ASKING",), call] if asking else [call]
        if durable and self._durability.mode == "wait":
            left_s = deadline - asyncio.get_running_loop().time() - WAIT_MARGIN_S
            timeout_ms = max(1, min(self._durability.timeout_ms, int(left_s * 1_000)))  # 0 would be for ever
            commands.append(("WAIT", self._durability.replicas, timeout_ms))
        return commands

    def _require_replicas(self, reply: Any) -> None:
        if not isinstance(reply, int) or reply < self._durability.replicas:
            raise StoreError("not-durable", "unknown")

    def _node(self, address: Address) -> RedisNode:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = RedisNode(address, self._login)
        return node

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            await self.refresh()
            await asyncio.sleep(REFRESH_INTERVAL_S)
            if loop.time() < self._suspected_until or not self.ready:
                self._suspected.set()

    async def _views(self, addresses: Iterable[Address]) -> list[View]:
        answers = await asyncio.gather(*(self._view(address) for address in addresses))
        return [view for view in answers if view is not None]

    async def _view(self, address: Address) -> View | None:
        deadline = asyncio.get_running_loop().time() + REFRESH_TIMEOUT_S
        try:
            (text,) = await self._node(address).roundtrip([("CLUSTER", "NODES")], deadline)
            return view_from_text(text, address) if isinstance(text, str) else None
        except (StoreError, ValueError):
            return None


def cluster_of(config: Config, registry: CollectorRegistry) -> RedisCluster:
    """The cluster that a service's configuration names; nothing is connected. Raises `ConfigError`."""
    return RedisCluster(
        [address_from_text(text) for text in config.redis],
        login=Login(name=config.name, password=config.redis_password()),
        durability=config.durability,
        metrics=StoreMetrics(registry, REASONS),
    )
