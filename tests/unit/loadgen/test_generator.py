"""A generator's files and phases, on a folder of its own."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen.generator import Generator, load_plan
from resilience.history.clock import kernel_boot_id
from resilience.history.phase import STOP, PhaseBoard
from resilience.history.record import Event, OpLine
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan
from resilience.spec.stack import Async

OPS = ("direct.write",)


@pytest.fixture
def plan(tmp_path):
    shard = ShardPlan(group=1, primary="10.0.0.1:6379", replicas=(), slots=((0, 16383),))
    return LoadPlan(
        base_ns=0,
        boot_id=kernel_boot_id(),
        seed=7,
        load=Load(),
        directory=str(tmp_path),
        edges=("http://edge-0:8080",),
        shards=(shard,),
        redis_password_file="",
        durability=Async(),
        session_ttl_s=60,
        latency_bounds_s=(0.1,),
        metrics_port=9646,
    )


def lines(path: Path, kind: Any) -> list[Any]:
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


def send(generator: Generator):
    return generator.recorder.invoked(
        stream="shard-1", kind=OPS[0], key="k", value="v", group=1, phase="warmup", due=generator.clock.now_us()
    )


def test_a_plan_reads_as_it_was_written(plan, tmp_path):
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    assert load_plan(tmp_path / "plan.json") == plan


def test_the_phase_of_an_op_is_that_of_its_intended_start(plan, tmp_path):
    board = PhaseBoard(tmp_path / "phases.jsonl")
    generator = Generator("direct", plan, OPS)
    assert generator.phase_at(5) == "warmup"  # nothing was announced yet
    for phase, starts_at in (("warmup", 0), ("steady", 100), ("fault", 200), (STOP, 300)):
        board.announce(phase, starts_at)
    generator.tick()
    assert [generator.phase_at(at) for at in (0, 99, 100, 199, 200)] == [
        "warmup",
        "warmup",
        "steady",
        "steady",
        "fault",
    ]
    assert [generator.over_at(at) for at in (299, 300)] == [False, True]
    generator.finish(0)


def test_a_tick_brings_the_records_to_the_file(plan, tmp_path):
    generator = Generator("direct", plan, OPS)
    send(generator)
    assert (tmp_path / "direct.ops.jsonl").read_bytes() == b""
    generator.tick()
    assert len(lines(tmp_path / "direct.ops.jsonl", OpLine)) == 1
    generator.finish(0)


def test_the_end_books_flushes_and_sums_up(plan, tmp_path):
    generator = Generator("direct", plan, OPS)
    generator.recorder.returned(send(generator), "ok")
    send(generator)
    generator.second(members=6)
    generator.finish(130)
    generator.finish(0)  # too late to change anything
    summary = msgspec.json.decode((tmp_path / "direct.summary.json").read_bytes())
    assert summary == {
        "client": "direct", "sent": 2, "ok": 1, "fail": 0, "unknown": 1, "unfinished": 1, "dropped": 0,
        "exit": 130,
    }  # fmt: skip
    *_, last = lines(tmp_path / "direct.ops.jsonl", OpLine)
    assert (last.outcome, last.error) == ("unknown", "unfinished")
    (event,) = lines(tmp_path / "direct.stats.jsonl", Event)
    assert event.name == "generator"
    assert {k: event.data[k] for k in ("client", "sent", "ok", "members", "inflight")} == {
        "client": "direct", "sent": 2, "ok": 1, "members": 6, "inflight": 1,
    }  # fmt: skip


def test_for_the_benchmark_every_other_second_is_recorded(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("RESILIENCE_RECORD", "alternate")
    generator = Generator("direct", plan, OPS)
    for _ in range(3):
        generator.recorder.returned(send(generator), "ok")
        generator.second(members=6)
    generator.finish(0)
    assert [event.data["recorded"] for event in lines(tmp_path / "direct.stats.jsonl", Event)] == [True, False, True]
    assert [op.id for op in lines(tmp_path / "direct.ops.jsonl", OpLine)] == [1, 1, 3, 3]
    assert msgspec.json.decode((tmp_path / "direct.summary.json").read_bytes())["ok"] == 3
