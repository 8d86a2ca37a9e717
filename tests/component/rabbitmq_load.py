"""The RabbitMQ client on three real members, as a process of its own, and what became of its messages."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.phase import STOP, PhaseBoard
from resilience.history.record import Attached, AuditLine, Consumed, Detached, Invoked, OpLine, QueueRead, Returned
from resilience.history.writer import Writer
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, RabbitmqPlan
from resilience.spec.rabbitmq import QUEUES, USER, VHOST
from resilience.spec.stack import PORTS, Async
from resilience.stack.rabbitmq import PASSWORD
from resilience.stack.rabbitmq_drain import drain
from tests.component.rabbitmq_members import NAMES, eventually, within

RATE_OPS_PER_S = 20.0
BACKLOG = 10


@dataclass
class Client:
    """The client, its folder, and the clock by which it records."""

    process: subprocess.Popen[bytes]
    folder: Path
    clock: RunClock

    def lines(self) -> list[OpLine]:
        path = self.folder / "rabbitmq.ops.jsonl"
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        return msgspec.json.Decoder(OpLine).decode_lines(whole)

    def count(self, outcome: str) -> int:
        return sum(isinstance(line, Returned) and line.outcome == outcome for line in self.lines())

    def publish_more(self, number: int) -> None:
        """Returns when so many more have been confirmed."""
        least = self.count("ok") + number

        def confirmed() -> int:
            if self.process.poll() is not None:
                pytest.fail((self.folder / "rabbitmq.log").read_text())
            return self.count("ok")

        eventually(confirmed, lambda found: found > least)

    def stop(self) -> None:
        PhaseBoard(self.folder / "phases.jsonl").announce(STOP, self.clock.now_us())
        eventually((self.folder / "rabbitmq.summary.json").exists, bool)

    def confirmed(self, queue: str) -> set[str]:
        lines = self.lines()
        ok = {line.id for line in lines if isinstance(line, Returned) and line.outcome == "ok"}
        return {line.value for line in lines if isinstance(line, Invoked) and line.key == queue and line.id in ok}

    def consumed(self) -> list[Consumed]:
        return [line for line in self.lines() if isinstance(line, Consumed)]

    def attached(self) -> list[Attached]:
        return [line for line in self.lines() if isinstance(line, Attached)]

    def detached(self) -> list[Detached]:
        return [line for line in self.lines() if isinstance(line, Detached)]

    def taken(self) -> set[str]:
        """What a consumer acknowledged."""
        return {line.value for line in self.consumed() if line.acked}


@contextmanager
def client_on(up: OwnedLocalPlatform, folder: Path, **changed: Any) -> Iterator[Client]:
    """The client while it runs; ``changed`` are fields of its plan."""
    clock = RunClock.starting_now()
    plan = LoadPlan(
        base_ns=clock.base_ns,
        boot_id=kernel_boot_id(),
        seed=7,
        load=Load(),
        directory=str(folder),
        edges=(),
        shards=(),
        redis_password_file="",
        durability=Async(),
        session_ttl_s=600,
        latency_bounds_s=(0.1, 1.0),
        metrics_port=PORTS["rabbitmq-client"],
        rabbitmq=RabbitmqPlan(
            members={name: f"{up.state(name).address}:{PORTS['rabbitmq']}" for name in NAMES},
            queues=QUEUES,
            vhost=VHOST,
            user=USER,
            password_file=str(up.secret_file(PASSWORD)),
            rate_ops_per_s=RATE_OPS_PER_S,
            **({"backlog_messages": BACKLOG} | changed),
        ),
    )
    path = folder / "rabbitmq.plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    PhaseBoard(folder / "phases.jsonl").announce("warmup", 0)
    with (folder / "rabbitmq.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.rabbitmq_client", str(path)],
            cwd=PROJECT_ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
    try:
        yield Client(process, folder, clock)
    finally:
        process.kill()
        process.wait()


def drained(up: OwnedLocalPlatform, folder: Path, clock: RunClock) -> list[AuditLine]:
    path = folder / "audit.jsonl"
    path.unlink(missing_ok=True)
    with Writer(path) as writer:
        drain(up, writer, hit={"rabbitmq-0"}, clock=clock, deadline=within())
    return msgspec.json.Decoder(AuditLine).decode_lines(path.read_bytes())


def left_in(audit: list[AuditLine], *queues: str) -> set[str]:
    """What was left in these queues, in all if none is named."""
    reads = [line for line in audit if isinstance(line, QueueRead) and (not queues or line.queue in queues)]
    return {message.value for line in reads for message in line.messages}
