"""Round trips to a clock that another process tells, over a real socket."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from loadgen.runner_clock import RunnerClock, trips
from resilience.history.clock import RunClock
from resilience.history.offset import shift_of
from resilience.history.record import Event
from resilience.spec.clock import TRIPS, offset_from_trips
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan
from resilience.spec.stack import Async

pytestmark = pytest.mark.component
MS = 1_000_000
# the runner's clock, 250 ms behind this process's, so that this one is so far ahead of it
RUNNER = """
import sys, time
from resilience.load import clock
real = time.monotonic_ns
class Behind:
    behind_ns = int(sys.argv[1])
    def monotonic_ns(self):
        return real() - self.behind_ns
clock.time = Behind()
with clock.told_at("127.0.0.1") as address:
    print(address, flush=True)
    for line in sys.stdin:
        clock.time.behind_ns = int(line)
        print("moved", flush=True)
"""


class Runner:
    """A process that tells a clock, and may change it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._said()

    def is_behind(self, by_ns: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{by_ns}\n")
        self._process.stdin.flush()
        assert self._said() == "moved"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def runner(behind_ns: int) -> Iterator[Runner]:
    argv = [sys.executable, "-c", RUNNER, str(behind_ns)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Runner(process)
        finally:
            process.kill()


def plan(folder: Path, base_ns: int, address: str) -> LoadPlan:
    shard = ShardPlan(group=1, primary="10.0.0.1:6379", replicas=(), slots=((0, 16383),))
    return LoadPlan(
        base_ns=base_ns, boot_id="7f", seed=7, load=Load(), directory=str(folder), edges=(), shards=(shard,),
        redis_password_file="", durability=Async(), session_ttl_s=60, latency_bounds_s=(0.1,), metrics_port=9646,
        clock_address=address,
    )  # fmt: skip


def events(folder: Path) -> list[Event]:
    lines = (folder / "direct.clock.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Event) for line in lines]


def test_twenty_trips_tell_how_far_it_is_behind() -> None:
    with runner(250 * MS) as other:
        found = list(trips(other.address))
    offset = offset_from_trips(found)
    assert len(found) == TRIPS
    assert offset is not None
    assert 0 < offset.error_ns < 50 * MS
    assert abs(offset.offset_ns + 250 * MS) <= offset.error_ns  # the truth lies within the error that is told


def test_under_another_kernel_the_runs_clock_is_the_runners(tmp_path: Path) -> None:
    """Compared at the start, each (short) minute, and at the end, by when it has come off by 40 ms."""
    with runner(250 * MS) as other:
        base_ns = time.monotonic_ns() - 250 * MS  # now, by the runner's clock
        clock = RunnerClock("direct", plan(tmp_path, base_ns, other.address), boot_id="90", every_s=0.05)
        ours = clock.start()
        truth = RunClock(base_ns + 250 * MS)
        assert abs(ours.now_us() - truth.now_us()) < 50_000
        deadline = time.monotonic() + 10
        while len(events(tmp_path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        other.is_behind(290 * MS)
        clock.end()
    first, *_, last = events(tmp_path)
    assert len(events(tmp_path)) >= 4
    assert {event.data["boot_id"] for event in events(tmp_path)} == {"90"}
    assert first.data["offset_us"] == 0
    assert abs(last.data["offset_us"] - 40_000) <= first.data["error_us"] + last.data["error_us"] + 2
    shift = shift_of("direct", events(tmp_path))
    assert shift is not None
    assert shift.instant(last.at) == last.at - last.data["offset_us"]


def test_a_runner_that_does_not_answer_ends_it(tmp_path: Path) -> None:
    with runner(0) as other:
        address = other.address
    with pytest.raises(OSError, match=f"and {address} tells the runner's clock"):
        RunnerClock("direct", plan(tmp_path, 0, address), boot_id="90").start()
    (event,) = events(tmp_path)
    assert "offset_us" not in event.data


def test_a_comparison_that_fails_later_leaves_a_gap(tmp_path: Path) -> None:
    with runner(0) as other:
        clock = RunnerClock("direct", plan(tmp_path, 0, other.address), boot_id="90")
        clock.start()
    clock.end()
    assert len(events(tmp_path)) == 1
