"""How far consumers stay behind, where others publish to the queues, too."""

from pathlib import Path

import msgspec

from loadgen.rabbitmq_client import RabbitmqClient
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.record import Consumed, OpLine
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, RabbitmqPlan
from resilience.spec.stack import Async


def client_in(folder: Path) -> RabbitmqClient:
    (folder / "password").write_text("secret")
    rabbitmq = RabbitmqPlan(
        members={"rabbitmq-0": "rabbitmq-0:5672"}, queues=("q",), vhost="v", user="u",
        password_file=str(folder / "password"), rate_ops_per_s=1.0, backlog_messages=10,
    )  # fmt: skip
    plan = LoadPlan(
        base_ns=RunClock.starting_now().base_ns, boot_id=kernel_boot_id(), seed=7, load=Load(), directory=str(folder),
        edges=(), shards=(), redis_password_file="", durability=Async(), session_ttl_s=600, latency_bounds_s=(0.1,),
        metrics_port=0, rabbitmq=rabbitmq,
    )  # fmt: skip
    return RabbitmqClient(plan)


def test_what_others_published_is_on_record_and_counts_for_nobody(tmp_path: Path):
    client = client_in(tmp_path)
    client._behind["q"] = 5
    for value in ("session-ended/s-1/o-1", "rabbitmq-8-1", "rabbitmq-7-1"):
        client._record(Consumed("q/1", "q", value, at=1, redelivered=False, acked=True))
    assert client._behind == {"q": 4}, "one was its own"
    client.generator.recorder.close()
    lines = msgspec.json.Decoder(OpLine).decode_lines((tmp_path / "rabbitmq.ops.jsonl").read_bytes())
    assert [line.value for line in lines if isinstance(line, Consumed)] == [
        "session-ended/s-1/o-1", "rabbitmq-8-1", "rabbitmq-7-1",
    ]  # fmt: skip
