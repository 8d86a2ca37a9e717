"""A real Redis Cluster on loopback: six servers out of the stack image, three primaries with a replica each."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from services.slot import SLOTS, slot_from_key

PASSWORD = "a-password-of-this-test"
NODE_TIMEOUT_MS = 1_000


def redis_server() -> list[str]:
    """The command that starts the stack image's Redis, without entering the image: nothing is written into it."""
    root = Path(os.environ.get("RESILIENCE_IMAGE", "/"))
    program = root / "usr/bin/redis-server"
    loaders = list(root.glob("usr/lib/*/ld-linux*.so.*"))
    if not program.exists() or not loaders:
        pytest.fail(f"no redis-server in {root}: RESILIENCE_IMAGE has to name the root of the stack image")
    return [str(loaders[0]), "--library-path", str(loaders[0].parent), str(program)]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(redis.RedisError, OSError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.05)


@dataclass
class Server:
    """One Redis server."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "requirepass": PASSWORD,
            "masterauth": PASSWORD,
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "appendonly": "yes",
            "save": "",
            "repl-diskless-sync-delay": 0,
        }
        args = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen([*redis_server(), *args], stdout=log, stderr=log)

    def client(self) -> Any:  # redis-py's own types mix the answers of its synchronous and asynchronous clients
        return redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=2, protocol=2)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Cluster:
    """The servers; `shards` are (primary, replica) as they were formed, in the order of their slots."""

    servers: list[Server]
    password_file: Path

    @property
    def seeds(self) -> list[str]:
        return [server.address for server in self.servers]

    def shard_of(self, key: str) -> int:
        return slot_from_key(key) * 3 // SLOTS

    def primary_of(self, key: str) -> Server:
        """The server that is the primary of the key's shard now."""
        pair = self.servers[self.shard_of(key)], self.servers[self.shard_of(key) + 3]
        for server in pair:
            with suppress(redis.RedisError):
                if server.process is not None and server.client().role()[0] == "master":
                    return server
        raise LookupError(f"no primary for {key}")

    def replica_of(self, key: str) -> Server:
        pair = {self.shard_of(key), self.shard_of(key) + 3}
        primary = self.primary_of(key)
        return next(self.servers[i] for i in pair if self.servers[i] is not primary)

    def whole(self) -> bool:
        """Every server runs, knows all six, and every primary has its replica online."""
        return all(_is_whole(server) for server in self.servers)


def _is_whole(server: Server) -> bool:
    client = server.client()
    info = client.cluster("INFO")
    if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != "6":
        return False
    replication = client.info("replication")
    if replication["role"] == "master":
        return bool(replication["connected_slaves"] == 1 and replication["slave0"]["state"] == "online")
    return bool(replication["master_link_status"] == "up")


def _form(servers: list[Server]) -> None:
    for shard, server in enumerate(servers[:3]):
        first, last = -(-SLOTS * shard // 3), -(-SLOTS * (shard + 1) // 3) - 1
        server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for epoch, server in enumerate(servers, start=1):
        server.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        server.client().execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    for shard, server in enumerate(servers[3:]):
        primary = str(servers[shard].client().execute_command("CLUSTER", "MYID"))
        wait_until(lambda s=server, p=primary: _replicates(s, p), f"{server.address} replicates")  # type: ignore[misc]
    wait_until(lambda: all(_is_whole(server) for server in servers), "cluster formed")


def _replicates(server: Server, primary: str) -> bool:
    server.client().execute_command("CLUSTER", "REPLICATE", primary)
    return True


@contextmanager
def redis_cluster(ports_from: int) -> Iterator[Cluster]:
    """Six servers on `ports_from` and the five ports above; all of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    servers = [Server(port=ports_from + i, folder=folder / str(i)) for i in range(6)]
    password_file = folder / "password"
    password_file.write_text(PASSWORD + "\n")
    try:
        for server in servers:
            server.folder.mkdir()
            server.start()
        for server in servers:
            wait_until(lambda s=server: bool(s.client().ping()), f"{server.address} answers")  # type: ignore[misc]
        _form(servers)
        yield Cluster(servers=servers, password_file=password_file)
    finally:
        for server in servers:
            server.kill()
        shutil.rmtree(folder)
