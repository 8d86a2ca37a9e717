"""The generators' own processes: Locust against a platform in one process, the direct client against a real cluster."""

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.phase import AHEAD_US, STOP, PhaseBoard
from resilience.history.record import Delivered, Event, Invoked, Left, OpLine, Returned
from resilience.load.clock import told_at
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan
from resilience.spec.stack import Async, Durability, Wait
from tests.component.redis_on_loopback import Cluster, Server

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]
PLATFORM_PORT = 18_080
REDIS_PORT = 17_100
METRICS_PORT = 19_646
SLOTS = ((0, 5_461), (5_462, 10_922), (10_923, 16_383))  # as the cluster on loopback is formed
STALL_S = 3.0
TIMEOUT_S = 2.0
S = 1_000_000


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


@dataclass
class Run:
    """One generator on a folder of its own."""

    client: str
    folder: Path
    clock: RunClock
    process: subprocess.Popen[bytes]

    def announce(self, phase: str) -> int:
        starts_at = self.clock.now_us() + AHEAD_US
        PhaseBoard(self.folder / "phases.jsonl").announce(phase, starts_at)
        return starts_at

    def stats(self) -> list[dict[str, Any]]:
        path = self.folder / f"{self.client}.stats.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=Event).data for line in lines]

    def wait_rate(self, **least: int) -> None:
        def reached() -> bool:
            last = (self.stats() or [{"ok_by": {}}])[-1]["ok_by"]
            return all(last.get(stream.replace("_", "-"), 0) >= rate for stream, rate in least.items())

        wait_until(reached, f"{least}")

    def summary(self) -> dict[str, Any]:
        path = self.folder / f"{self.client}.summary.json"
        wait_until(path.exists, "summary")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])

    def lines(self) -> list[Any]:
        decoder = msgspec.json.Decoder(OpLine)
        return [decoder.decode(line) for line in (self.folder / f"{self.client}.ops.jsonl").read_bytes().splitlines()]

    def ops(self) -> list[tuple[Invoked, Returned]]:
        """Every op with its end; each must have one."""
        lines = self.lines()
        ends = {line.id: line for line in lines if isinstance(line, Returned)}
        return [(line, ends[line.id]) for line in lines if isinstance(line, Invoked)]

    def metric(self, name: str, **labels: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def interrupt(self) -> tuple[int, float]:
        """Its exit code, and how long it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10), time.monotonic() - began


@contextmanager
def generator(
    client: str,
    folder: Path,
    shards: tuple[ShardPlan, ...],
    *,
    durability: Durability | None = None,
    password: str = "",
    boot_id: str | None = None,
    clock_address: str = "",
    suggestions_per_s: float | None = None,
) -> Iterator[Run]:
    """``boot_id`` of the kernel that the runner is under; None: the generator's own."""
    clock = RunClock.starting_now()
    plan = LoadPlan(
        base_ns=clock.base_ns,
        boot_id=kernel_boot_id() if boot_id is None else boot_id,
        clock_address=clock_address,
        seed=7,
        load=Load(timeout_s=TIMEOUT_S),
        directory=str(folder),
        edges=(f"http://127.0.0.1:{PLATFORM_PORT}",) * 2,
        shards=shards,
        redis_password_file=password,
        durability=durability or Async(),
        session_ttl_s=604_800,
        latency_bounds_s=(0.05, 0.1, 0.25, 1.0),
        metrics_port=METRICS_PORT,
        personalization_rate_ops_per_s=suggestions_per_s,
    )
    path = folder / f"{client}.plan.json"
    path.write_bytes(msgspec.json.encode(plan))
    PhaseBoard(folder / "phases.jsonl").announce("warmup", 0)
    locust = ["-m", "locust", "-f", "loadgen/locustfile.py", "--headless", "-u", "3", "-r", "10", "--only-summary"]
    command = [*locust, "--exit-code-on-error", "0"] if client == "locust" else ["-m", "loadgen.direct", str(path)]
    environment = {"PATH": os.environ["PATH"], "RESILIENCE_LOAD_PLAN": str(path)}
    with (folder / f"{client}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield Run(client, folder, clock, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def platform_process() -> Iterator[subprocess.Popen[bytes]]:
    script = Path(__file__).with_name("fake_platform.py")
    process = subprocess.Popen([sys.executable, str(script), str(PLATFORM_PORT)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


SHARDS = tuple(
    ShardPlan(group=group, primary=f"127.0.0.1:{group}", replicas=(), slots=(slots,))
    for group, slots in enumerate(SLOTS, 1)
)


def test_a_stalled_platform_is_late_and_unknown_and_nothing_is_missing(tmp_path, platform_process):
    """Coordinated omission: what was due in the stall is on record, with its latency from when it was due."""
    with generator("locust", tmp_path, SHARDS) as run:
        run.wait_rate(session=140, edit=45)
        run.announce("steady")
        time.sleep(1.0)
        stalled_at = run.clock.now_us()
        platform_process.send_signal(signal.SIGSTOP)
        time.sleep(STALL_S)
        resumed_at = run.clock.now_us()
        platform_process.send_signal(signal.SIGCONT)
        time.sleep(2.0)
        stop_at = run.announce(STOP)
        summary = run.summary()
        deliveries = [
            run.metric("load_deliveries_total", phase="steady", outcome=what) for what in ("expected", "delivered")
        ]
        counted = run.metric("load_ops_total", client="locust")
        code, took_s = run.interrupt()

    assert (code, took_s < 2.0) == (0, True)
    ops = run.ops()
    assert summary == {
        "client": "locust", "sent": len(ops), **{k: summary[k] for k in ("ok", "fail", "unknown")},
        "unfinished": 0, "dropped": 0, "exit": 0,
    }  # fmt: skip
    assert counted == len(ops) == sum(summary[outcome] for outcome in ("ok", "fail", "unknown"))
    scheduled = [(op, end) for op, end in ops if op.kind.startswith("session.")]
    assert max(op.due for op, _ in scheduled) < stop_at
    for start in range(stalled_at, resumed_at - S, S):
        due = [(op, end) for op, end in scheduled if start <= op.due < start + S]
        assert 147 <= len(due) <= 153  # the schedule went on
    early = [end for op, end in scheduled if stalled_at + 50_000 < op.due < stalled_at + S // 2]
    assert all(end.outcome != "ok" for end in early)
    assert {end.error for end in early} <= {"timeout", "connect-timeout"}
    late = [(op, end) for op, end in scheduled if resumed_at - 3 * S // 4 < op.due < resumed_at - S // 4]
    answered = [end.returned - op.due for op, end in late if end.outcome == "ok"]
    assert len(answered) > 50
    assert min(answered) >= S // 4  # from when it was due, not from when the server woke up
    assert deliveries[0] == deliveries[1] > 200


def test_under_another_kernel_it_asks_for_the_runners_clock_and_goes_by_it(tmp_path, platform_process):
    """At its start and at its end; here both are the same clock, and what is told is no further off than is said."""
    asked = tmp_path / "locust.clock.jsonl"
    with (
        told_at("127.0.0.1") as address,
        generator("locust", tmp_path, SHARDS, boot_id="another", clock_address=address) as run,
    ):
        run.wait_rate(session=140, edit=45)
        stop_at = run.announce(STOP)
        run.summary()
        wait_until(lambda: asked.read_bytes().count(b"\n") == 2, "the comparison at the end")
        assert run.interrupt()[0] == 0
    first, last = (msgspec.json.decode(line, type=Event) for line in asked.read_bytes().splitlines())
    assert first.data["boot_id"] == last.data["boot_id"] == kernel_boot_id()
    assert first.data["offset_us"] == 0
    assert 0 < first.data["error_us"] < 100_000
    assert abs(last.data["offset_us"]) <= first.data["error_us"] + last.data["error_us"] + 2
    assert first.at < stop_at < last.at
    assert max(op.due for op, _ in run.ops()) < stop_at


def test_people_ask_by_their_sessions_beside_all_else(tmp_path, platform_process):
    with generator("locust", tmp_path, SHARDS, suggestions_per_s=40.0) as run:
        run.wait_rate(session=140, edit=45, personalization=35)
        run.announce("steady")
        time.sleep(1.5)
        stop_at = run.announce(STOP)
        assert run.summary()["dropped"] == 0
        counted = run.metric("load_ops_total", client="locust", op="suggestion.read", outcome="ok")
        assert run.interrupt()[0] == 0
    asked = [(op, end) for op, end in run.ops() if op.kind in {"suggestion.read", "profile.write"}]
    assert {(end.outcome, end.error) for _, end in asked} == {("ok", "")}, "each is about whom it was asked of"
    assert max(op.due for op, _ in asked) < stop_at
    assert counted == sum(op.kind == "suggestion.read" for op, _ in asked) > 40
    versions = [end.version for op, end in asked if op.kind == "profile.write" and op.key == asked[0][0].key]
    assert sorted(versions) == list(range(1, len(versions) + 1))


@pytest.mark.skipif(os.geteuid() != 0, reason="real-time priority needs root")
def test_a_busy_machine_does_not_delay_the_schedule(tmp_path, platform_process):
    with generator("locust", tmp_path, SHARDS) as run:
        run.wait_rate(session=140, edit=45)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            seconds = len(run.stats())
            wait_until(lambda: len(run.stats()) >= seconds + 4, "four seconds")
        finally:
            for process in busy:
                process.kill()
                process.wait()
        lags = [second["lag_ms_p99"] for second in run.stats()[seconds + 1 :]]
    assert sorted(lags)[len(lags) // 2] < 10


def test_who_is_interrupted_books_what_is_unfinished(tmp_path, platform_process):
    with generator("locust", tmp_path, SHARDS) as run:
        run.wait_rate(session=140, edit=45)
        platform_process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        code, took_s = run.interrupt()
    assert (code, took_s < 2.0) == (130, True)
    unfinished = [op.kind.partition(".")[0] for op, end in run.ops() if end.error == "unfinished"]
    assert set(unfinished) == {"session", "collaboration"}
    assert len(unfinished) == run.summary()["unfinished"] > 50
    assert run.summary()["exit"] == 130


def test_members_come_back_and_get_what_they_missed(tmp_path, platform_process):
    """Every member has every acknowledged edit once, in order, although all connections were cut."""
    with generator("locust", tmp_path, SHARDS) as run:
        run.wait_rate(session=140, edit=45)
        platform_process.send_signal(signal.SIGUSR1)  # cuts all WebSockets
        wait_until(lambda: sum(isinstance(line, Left) for line in run.lines()) >= 100, "all were cut")
        wait_until(lambda: run.stats()[-1]["members"] == 100, "all are back")
        run.wait_rate(session=140, edit=45)
        run.announce(STOP)
        run.summary()
        run.interrupt()
    acked = Counter(op.key for op, end in run.ops() if op.kind == "collaboration.edit" and end.outcome == "ok")
    got: dict[str, list[tuple[int, int]]] = {}
    for line in run.lines():
        if isinstance(line, Delivered):
            got.setdefault(line.receiver, []).append((line.epoch, line.seq))
    assert len(got) == 100
    for receiver, numbers in got.items():
        assert numbers == sorted(set(numbers))
        room = receiver.removeprefix("m-").rpartition("-")[0]
        assert len(numbers) >= acked[room]


def shards_of(cluster: Cluster) -> tuple[ShardPlan, ...]:
    """The shards as they are now: the primaries move from test to test."""
    plans = []
    for group, slots in enumerate(SLOTS, 1):
        pair = [cluster.servers[group - 1], cluster.servers[group + 2]]
        pair.sort(key=lambda server: server.client().role()[0] != "master")
        plans.append(ShardPlan(group=group, primary=pair[0].address, replicas=(pair[1].address,), slots=(slots,)))
    return tuple(plans)


@contextmanager
def paused(server: Server) -> Iterator[None]:
    server.send(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send(signal.SIGCONT)


def server_at(cluster: Cluster, address: str) -> Server:
    return next(server for server in cluster.servers if server.address == address)


def test_the_direct_client_finds_the_new_primary(tmp_path, cluster):
    shards = shards_of(cluster)
    with generator("direct", tmp_path, shards, password=str(cluster.password_file)) as run:
        run.wait_rate(shard_1=95, shard_2=95, shard_3=95)
        with paused(server_at(cluster, shards[0].primary)):
            stalled_at = run.clock.now_us()
            wait_until(lambda: run.stats()[-1]["ok_by"].get("shard-1", 0) == 0, "outage")
            run.wait_rate(shard_1=95, shard_2=95, shard_3=95)
        run.announce(STOP)
        summary = run.summary()
        code, took_s = run.interrupt()
    assert (code, took_s < 2.0, summary["unfinished"], summary["dropped"]) == (0, True, 0, 0)
    ops = [(op, end) for op, end in run.ops() if op.group == 1]
    good = sorted(op.due for op, end in ops if end.outcome == "ok")
    outage, began = max((after - before, before) for before, after in itertools.pairwise(good))
    assert abs(began - stalled_at) < S // 10  # the clock of outages: 10 ms a write, and what was on its way
    assert S < outage < 10 * S
    in_outage = [op.due for op, _ in ops if began < op.due < began + outage]
    assert len(in_outage) == pytest.approx(outage / 10_000, abs=2)  # the schedule went on
    errors = Counter((end.outcome, end.error) for _, end in ops if end.outcome != "ok")
    assert {outcome for outcome, error in errors if error == "timeout"} <= {"unknown"}
    keys = {op.key: op.value for op, end in ops if end.outcome == "ok"}
    assert len(set(keys.values())) == len(keys)
    wait_until(cluster.whole, "cluster whole again")


def test_a_write_that_too_few_replicas_have_is_unknown(tmp_path, cluster):
    shards = shards_of(cluster)
    wait = Wait(replicas=1, timeout_ms=500)
    with generator("direct", tmp_path, shards, durability=wait, password=str(cluster.password_file)) as run:
        run.wait_rate(shard_1=95, shard_2=95, shard_3=95)
        with paused(server_at(cluster, shards[1].replicas[0])):
            stalled_at = run.clock.now_us()
            time.sleep(1.5)
            resumed_at = run.clock.now_us()
        run.announce(STOP)
        run.summary()
        run.interrupt()
    ops = [(op, end) for op, end in run.ops() if stalled_at + 50_000 < op.due < resumed_at - 600_000]
    by_group = {group: Counter(end.error for op, end in ops if op.group == group) for group in (1, 2, 3)}
    assert set(by_group[2]) == {"not-durable"}
    assert by_group[2]["not-durable"] == pytest.approx((resumed_at - stalled_at - 650_000) / 10_000, abs=3)
    assert set(by_group[1]) == set(by_group[3]) == {""}
    wait_until(cluster.whole, "cluster whole again")


def test_a_node_that_is_gone_failed_for_certain(tmp_path, cluster):
    shards = shards_of(cluster)
    victim = server_at(cluster, shards[2].primary)
    with generator("direct", tmp_path, shards, password=str(cluster.password_file)) as run:
        run.wait_rate(shard_1=95, shard_2=95, shard_3=95)
        victim.kill()
        wait_until(lambda: run.stats()[-1]["ok_by"].get("shard-3", 0) == 0, "outage")
        run.announce(STOP)
        run.summary()
        run.interrupt()
    victim.start()
    errors = Counter((end.outcome, end.error) for op, end in run.ops() if op.group == 3 and end.outcome != "ok")
    assert errors["fail", "refused"] > 50
    assert {error for outcome, error in errors if outcome == "unknown"} <= {"lost"}
