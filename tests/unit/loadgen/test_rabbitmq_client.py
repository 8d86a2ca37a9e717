"""The end of the RabbitMQ client, with consumers that are handed what a test puts on its way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pika
import pytest

from loadgen import rabbitmq_client
from loadgen.rabbitmq_client import RabbitmqClient
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.record import Consumed, OpLine
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, RabbitmqPlan
from resilience.spec.stack import Async

QUEUE = "session-events"


@pytest.fixture
def plan(tmp_path: Path) -> LoadPlan:
    (tmp_path / "password").write_text("secret\n")
    rabbitmq = RabbitmqPlan(
        members={"rabbitmq-0": "127.0.0.1:1"},
        queues=(QUEUE,),
        vhost="v",
        user="u",
        password_file=str(tmp_path / "password"),
        rate_ops_per_s=10,
        backlog_messages=3,
        automatic_ack=True,
    )
    return LoadPlan(
        base_ns=RunClock.starting_now().base_ns,
        boot_id=kernel_boot_id(),
        seed=7,
        load=Load(),
        directory=str(tmp_path),
        edges=(),
        shards=(),
        redis_password_file="",
        durability=Async(),
        session_ttl_s=600,
        latency_bounds_s=(0.1,),
        metrics_port=1,
        rabbitmq=rabbitmq,
    )


class Channel:
    """A channel that takes everything, and confirms nothing by itself."""

    def __init__(self) -> None:
        self.published: list[str] = []

    def basic_publish(self, _exchange: str, _queue: str, body: bytes, _properties: Any, *, mandatory: bool) -> None:
        assert mandatory
        self.published.append(body.decode())


@pytest.fixture
def client(plan: LoadPlan) -> Iterator[RabbitmqClient]:
    client = RabbitmqClient(plan)
    client._publishers[0]._line.channel = Channel()
    client._consumers[QUEUE]._line.channel = Channel()
    yield client
    client.generator.finish(0)


async def test_what_is_on_its_way_at_the_end_is_read(client: RabbitmqClient, tmp_path: Path) -> None:
    for n in range(3):
        client._send(n, client.generator.clock.now_us())
        client._publishers[0]._confirmed(SimpleNamespace(method=pika.spec.Basic.Ack(delivery_tag=n + 1)))
    consumer = client._consumers[QUEUE]

    async def late() -> None:
        for tag in range(3):
            await asyncio.sleep(0.4)
            consumer._delivered(
                None, SimpleNamespace(delivery_tag=tag, redelivered=False), None, f"rabbitmq-7-{tag}".encode()
            )

    async with asyncio.TaskGroup() as group:
        group.create_task(late())
        group.create_task(client._close())
    client.generator.finish(0)
    lines = msgspec.json.Decoder(OpLine).decode_lines((tmp_path / "rabbitmq.ops.jsonl").read_bytes())
    handed = [(line.value, line.acked) for line in lines if isinstance(line, Consumed)]
    assert handed == [(f"rabbitmq-7-{tag}", True) for tag in range(3)]


async def test_what_was_still_coming_to_the_last_is_told(
    client: RabbitmqClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq_client, "LAST_S", 0.1)
    client._send(0, client.generator.clock.now_us())
    client._publishers[0]._confirmed(SimpleNamespace(method=pika.spec.Basic.Ack(delivery_tag=1)))
    unread = client._unread
    assert unread is not None
    assert not await client._read_out(unread)
