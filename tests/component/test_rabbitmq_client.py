"""The RabbitMQ client against three real members, one of which is killed: what was confirmed is seen again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.phase import STOP, PhaseBoard
from resilience.history.record import AuditDone, AuditLine, Consumed, Invoked, OpLine, QueueRead, Returned
from resilience.history.writer import Writer
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, RabbitmqPlan
from resilience.spec.rabbitmq import QUEUES, USER, VHOST
from resilience.spec.stack import PORTS, Async
from resilience.stack.rabbitmq import PASSWORD
from resilience.stack.rabbitmq_drain import drain
from tests.component.local_stack import brought_up
from tests.component.rabbitmq_members import NAMES, STACK, eventually, leader_of, publish, ready, within

pytestmark = pytest.mark.component
RATE_OPS_PER_S = 20.0
BACKLOG = 10


@pytest.fixture(scope="module")
def up(image: Path, folder: Path) -> Iterator[OwnedLocalPlatform]:
    with brought_up(STACK, image, folder) as owned:
        ready(owned)
        yield owned


@dataclass
class Client:
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

    def log(self) -> str:
        return (self.folder / "rabbitmq.log").read_text()


@pytest.fixture
def client(up: OwnedLocalPlatform, tmp_path: Path) -> Iterator[Client]:
    clock = RunClock.starting_now()
    plan = LoadPlan(
        base_ns=clock.base_ns,
        boot_id=kernel_boot_id(),
        seed=7,
        load=Load(),
        directory=str(tmp_path),
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
            backlog_messages=BACKLOG,
        ),
    )
    path = tmp_path / "rabbitmq.plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    PhaseBoard(tmp_path / "phases.jsonl").announce("warmup", 0)
    with (tmp_path / "rabbitmq.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadgen.rabbitmq_client", str(path)],
            cwd=PROJECT_ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
    try:
        yield Client(process, tmp_path, clock)
    finally:
        process.kill()
        process.wait()


def drained(up: OwnedLocalPlatform, folder: Path, clock: RunClock) -> list[AuditLine]:
    path = folder / "audit.jsonl"
    with Writer(path) as writer:
        drain(up, writer, clock=clock, deadline=within())
    return msgspec.json.Decoder(AuditLine).decode_lines(path.read_bytes())


def test_a_killed_leader_loses_nothing_that_was_confirmed(up: OwnedLocalPlatform, client: Client) -> None:
    eventually(
        lambda: client.count("ok") if client.process.poll() is None else pytest.fail(client.log()), lambda n: n > 60
    )
    victim = leader_of(up, QUEUES[0])
    os.kill(up.state(victim).handle["server_pid"], signal.SIGKILL)
    time.sleep(8)
    ready(up)
    after = client.count("ok")
    eventually(lambda: client.count("ok"), lambda n: n > after + 60)
    PhaseBoard(client.folder / "phases.jsonl").announce(STOP, client.clock.now_us())
    eventually((client.folder / "rabbitmq.summary.json").exists, bool)

    summary = json.loads((client.folder / "rabbitmq.summary.json").read_text())
    assert (summary["exit"], summary["unfinished"], summary["dropped"]) == (0, 0, 0)
    lines = client.lines()
    invoked = {line.id: line for line in lines if isinstance(line, Invoked)}
    ends = {line.id: line for line in lines if isinstance(line, Returned)}
    assert set(ends) == set(invoked)
    assert {line.kind for line in invoked.values()} == {"rabbitmq.publish"}
    assert {line.key for line in invoked.values()} == set(QUEUES)
    assert len({line.value for line in invoked.values()}) == len(invoked)
    confirmed = {invoked[line.id].value for line in ends.values() if line.outcome == "ok"}
    assert len(confirmed) < len(invoked), "some were to be published through a member that was dead"

    taken = {line.value for line in lines if isinstance(line, Consumed) and line.acked}
    dropped = {line.value for line in lines if isinstance(line, Consumed) and not line.acked}
    assert dropped, "what the consumer of the killed member held"
    audit = drained(up, client.folder, client.clock)
    left = {message.value for line in audit if isinstance(line, QueueRead) for message in line.messages}
    assert confirmed <= taken | left
    assert dropped <= taken | left, "it was handed out again"
    fresh = [line.value for line in lines if isinstance(line, Consumed) and not line.redelivered]
    assert len(fresh) == len(set(fresh)), "with the server's flag"
    behind = Counter(invoked[line.id].key for line in ends.values() if line.outcome == "ok")
    behind.subtract(line.queue for line in lines if isinstance(line, Consumed) and line.acked)
    assert all(number >= BACKLOG for number in behind.values()), behind
    done = audit[-1]
    assert isinstance(done, AuditDone)
    assert done.kind == "rabbitmq"
    client.process.send_signal(signal.SIGINT)
    assert client.process.wait(10) == 0


def test_a_drain_tells_what_was_left_and_of_what_it_died(up: OwnedLocalPlatform, tmp_path: Path) -> None:
    ready(up)
    drained(up, tmp_path, RunClock.starting_now())
    publish(up, "rabbitmq-0", QUEUES[1], "left")
    publish(up, "rabbitmq-0", QUEUES[2], "dead", expiration="1")
    time.sleep(1)
    (tmp_path / "audit.jsonl").unlink()
    audit = drained(up, tmp_path, RunClock.starting_now())
    found = {line.queue: line.messages for line in audit if isinstance(line, QueueRead)}
    assert set(found) == {*QUEUES, *(f"{queue}.dead" for queue in QUEUES)}, "an empty queue has a line, too"
    assert [(one.value, one.redelivered, one.died_of) for one in found[QUEUES[1]]] == [("left", False, "")]
    dead = found[f"{QUEUES[2]}.dead"]
    assert [(one.value, one.died_in, one.died_of) for one in dead] == [("dead", QUEUES[2], "expired")]
    assert isinstance(audit[-1], AuditDone)
    assert audit[-1].count == 2
