"""One service as a process of its own, on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.component.redis_on_loopback import Cluster, wait_until

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Service:
    """A running service."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def metric(self, sample: str) -> float:
        """The value of a sample, written as it is exported."""
        for line in requests.get(f"{self.url}/metrics", timeout=2).text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        raise KeyError(sample)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 5) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def service(folder: Path, module: str, **settings: Any) -> Iterator[Service]:
    """Run `python -m services.MODULE` until the block ends; it is healthy when the block begins."""
    port = settings.pop("port", None) or free_port()
    config = {"name": module, "host": "127.0.0.1", "port": port, "timeout_s": 1.0, **settings}
    path = folder / f"{module}-{port}.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen([sys.executable, "-m", f"services.{module}", str(path)], cwd=ROOT, env={**os.environ})
    running = Service(port=port, process=process)
    try:
        wait_until(lambda: requests.get(f"{running.url}/healthz", timeout=1).ok, f"{module} is healthy")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def redis_settings(cluster: Cluster, mode: str = "async") -> dict[str, Any]:
    """What a service needs to know of the cluster."""
    durability = {"mode": "async"} if mode == "async" else {"mode": "wait", "replicas": 1, "timeout_ms": 1_000}
    return {"redis": cluster.seeds, "redis_password_file": str(cluster.password_file), "durability": durability}
