"""The load while it runs, with clients that are only files and fake processes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.errors import LoadError, StackError
from resilience.history.clock import RunClock
from resilience.history.record import Event
from resilience.load.client import Client
from resilience.load.plan import DEFAULT_BOUNDS_S, latency_bounds_s
from resilience.load.running import LAST_SCRAPES, POLL_S, LoadRunning, load_running
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan
from resilience.spec.scenario import Scenario, Timeline
from resilience.spec.slo import RatioSource, Slo
from resilience.spec.stack import Async, Component, Member, Redis, Shard, Stack

SHARDS = (ShardPlan(group=1, primary="198.18.1.1:6379", replicas=(), slots=((0, 16383),)),)
MEMBERS: tuple[tuple[str, Component, str], ...] = (
    ("redis-cluster-0", "redis", "node-1"),
    ("edge-0", "edge", "outside"),
    ("edge-1", "edge", "outside"),
    ("loadgen", "loadgen", "observer"),
    ("direct-client", "direct-client", "observer"),
)
SCENARIO = Scenario(
    name="noop",
    title="",
    description="",
    stack=Stack(
        name="local",
        durability=Async(),
        nodes=("node-1",),
        restart_delay_s=1.0,
        session_ttl_s=60,
        scrape_interval_s=1.0,
        redis=Redis(),
        shards=(Shard(primary="redis-cluster-0", replicas=()),),
        members=tuple(Member(name=name, component=component, node=node) for name, component, node in MEMBERS),
    ),
    load=Load(direct_rate_ops_per_s_min=20.0),
    timeline=Timeline(warmup_s=0, steady_s=0, fault_s=0, recovery_s=0),
    experiment=None,
    slos=(),
    checks=(),
    seed=7,
)
ALL_OK = {"session": 150, "edit": 50}
DATA = {"sent": 200, "ok": 200, "fail": 0, "unknown": 0, "lag_ms_p99": 1.0}


class FakeProcess:
    """Runs until it is interrupted, or has ended with ``code``."""

    def __init__(self, code: int | None = None) -> None:
        self.code = code
        self.interrupts = 0

    def poll(self):
        return self.code

    def interrupt(self):
        self.interrupts += 1
        self.code = 0

    def wait(self, timeout_s):
        return -9 if self.code is None else self.code


class FakeLauncher:
    """Starts fakes; refuses the names in ``refused``."""

    def __init__(self, refused=()) -> None:
        self.started: dict[str, FakeProcess] = {}
        self.logs: dict[str, Path] = {}
        self.refused = refused

    runner_address = ""

    def run_beside(self, name, argv, log):
        if name in self.refused:
            raise StackError(f"{name}: no room")
        self.started[name] = FakeProcess()
        self.logs[name] = log
        return self.started[name]

    def secret_file(self, name):
        return Path("/secrets") / name


class Naps:
    """Time that passes only when somebody waits; something may happen at one of the waits."""

    def __init__(self, **happenings) -> None:
        self.total_s = 0.0
        self.count = 0
        self.at = {int(number.removeprefix("n")): what for number, what in happenings.items()}

    def __call__(self, seconds: float) -> None:
        self.total_s += seconds
        self.count += 1
        self.at.pop(self.count, lambda: None)()

    def now(self) -> float:
        return self.total_s


def stats(directory: Path, client, ok_by, **changes):
    line = Event("generator", 1, DATA | {"client": client, "ok_by": ok_by} | changes)
    with (directory / f"{client}.stats.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def summary(directory: Path, client):
    (directory / f"{client}.summary.json").write_bytes(b"{}")


class Rig:
    """One client's load on a folder."""

    def __init__(self, directory, naps=None, code=None, warmup_s=8.0) -> None:
        self.process = FakeProcess(code)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.naps = naps or Naps()
        client = Client("locust", self.process, directory, {"session": 135.0, "edit": 45.0})
        timeline = msgspec.structs.replace(SCENARIO.timeline, warmup_s=warmup_s)
        scenario = msgspec.structs.replace(SCENARIO, timeline=timeline)
        self.load = LoadRunning([client], scenario, lambda *event: self.events.append(event), self.naps, self.naps.now)


def test_the_rate_is_waited_for(tmp_path):
    rig = Rig(tmp_path, Naps(n3=lambda: stats(tmp_path, "locust", ALL_OK)))
    rig.load.wait_for_rate()
    assert rig.naps.count == 3


def test_a_rate_that_is_never_reached_is_an_error_with_its_numbers(tmp_path):
    stats(tmp_path, "locust", {"session": 12, "edit": 50})
    rig = Rig(tmp_path)
    with pytest.raises(LoadError, match=r"within 30 s: locust session: 12 of 135 ops/s; .* used 0\.\d of \d+ cores$"):
        rig.load.wait_for_rate()
    assert rig.naps.total_s == pytest.approx(30, abs=POLL_S)


def test_a_long_warm_up_is_as_long_as_it_may_take(tmp_path):
    stats(tmp_path, "locust", {"session": 12, "edit": 50})
    rig = Rig(tmp_path, warmup_s=60.0)
    with pytest.raises(LoadError, match="within 60 s"):
        rig.load.wait_for_rate()


def test_looks_that_take_long_are_part_of_the_time(tmp_path):
    def slow() -> None:
        rig.naps.total_s += 40

    rig = Rig(tmp_path, Naps(n1=slow))
    with pytest.raises(LoadError, match="within 30 s"):
        rig.load.wait_for_rate()
    assert rig.naps.count == 1


def test_a_client_that_died_is_an_error_with_its_last_words(tmp_path):
    (tmp_path / "locust.log").write_text("Traceback\nOSError: no space left\n")
    with pytest.raises(LoadError, match=r"locust ended with 1: OSError: no space left$"):
        Rig(tmp_path, code=1).load.wait_for_rate()


def test_the_last_second_of_all_clients(tmp_path):
    rig = Rig(tmp_path)
    assert rig.load.now() == {"rate_ops_per_s": None, "error_ratio": None, "lag_ms": None}
    stats(tmp_path, "locust", ALL_OK, ok=150, fail=40, unknown=10, lag_ms_p99=2.5)
    assert rig.load.now() == {"rate_ops_per_s": 200.0, "error_ratio": 0.25, "lag_ms": 2.5}


def test_stop_waits_for_the_summary_and_the_last_scrapes(tmp_path):
    rig = Rig(tmp_path, Naps(n5=lambda: summary(tmp_path, "locust")))
    rig.load.stop()
    assert rig.naps.total_s == pytest.approx(0.5 + LAST_SCRAPES)
    assert rig.load.drained_at == pytest.approx(0.5)
    assert rig.process.interrupts == 1
    assert rig.events == [("load-stopped", {"clients": {"locust": {"exit": 0, "torn": False}}})]
    rig.load.end()
    assert len(rig.events) == 1


def test_a_client_that_says_nothing_is_given_up(tmp_path):
    rig = Rig(tmp_path)
    rig.load.stop()
    assert rig.naps.total_s == pytest.approx(SCENARIO.load.stop_timeout_s + 3 + LAST_SCRAPES, abs=POLL_S)
    assert rig.load.drained_at is None
    assert [name for name, _ in rig.events] == ["load-stopped"]


def test_a_client_that_died_in_the_middle_is_on_record(tmp_path):
    rig = Rig(tmp_path, code=-9)
    rig.load.stop()
    assert rig.process.interrupts == 0
    assert rig.events[0][1]["clients"]["locust"] == {"exit": -9, "torn": False}
    assert rig.load.drained_at is None, "what it had open is closed by nobody knows when"


def unheard(_name: str, _data: dict[str, Any]) -> None:
    """Where nobody looks at what is said."""


def test_both_clients_run_while_it_is_entered(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    launcher = FakeLauncher()
    said: list[str] = []
    with load_running(
        SCENARIO, SHARDS, launcher, directory, clock=RunClock.starting_now(), say=lambda name, _data: said.append(name)
    ):
        assert set(launcher.started) == {"loadgen", "direct-client"}
        plans = {
            name: msgspec.json.decode((directory / f"{name}.plan.json").read_bytes(), type=LoadPlan)
            for name in ("locust", "direct")
        }
    assert {name: plan.metrics_port for name, plan in plans.items()} == {"locust": 9646, "direct": 9647}
    assert plans["locust"].edges == ("http://edge-0:8080", "http://edge-1:8080")
    assert plans["locust"].redis_password_file == "/secrets/redis-password"
    assert all(process.interrupts == 1 for process in launcher.started.values())
    assert said == ["load-started", "load-stopped"]


def by_three(scenario: Scenario = SCENARIO) -> Scenario:
    load = msgspec.structs.replace(scenario.load, workers=3)
    return msgspec.structs.replace(scenario, load=load, stack=scenario.stack.with_workers(3))


def test_each_process_of_a_load_has_a_member_a_plan_and_a_log(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    launcher, names, clock = FakeLauncher(), ("locust", "locust-1", "locust-2"), RunClock.starting_now()
    said: list[dict[str, Any]] = []
    before_us = clock.now_us()
    with load_running(by_three(), SHARDS, launcher, directory, clock=clock, say=lambda _name, data: said.append(data)):
        assert list(launcher.started) == ["loadgen", "loadgen-1", "loadgen-2", "direct-client"]
    plans = [msgspec.json.decode((directory / f"{name}.plan.json").read_bytes(), type=LoadPlan) for name in names]
    assert [(plan.part.index, plan.part.of, plan.metrics_port) for plan in plans] == [
        (0, 3, 9646), (1, 3, 9646), (2, 3, 9646),
    ]  # fmt: skip
    (begins_us,) = {plan.part.begins_us for plan in plans}
    assert begins_us is not None
    assert before_us <= begins_us <= clock.now_us()
    assert "share" not in (directory / "direct.plan.json").read_text()
    assert launcher.logs == {name: directory / f"{log}.log" for name, log in zip(
        ("loadgen", "loadgen-1", "loadgen-2", "direct-client"), (*names, "direct"), strict=True)}  # fmt: skip
    assert said[0]["clients"] == [*names, "direct"]
    assert list(said[1]["clients"]) == [*names, "direct"]


def test_a_load_of_one_process_has_the_plan_that_it_had(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    with load_running(SCENARIO, SHARDS, FakeLauncher(), directory, clock=RunClock.starting_now(), say=unheard):
        plan = msgspec.json.decode((directory / "locust.plan.json").read_bytes())
    assert list(plan)[-1] == "clock_address"
    assert list(plan["load"])[-1] == "stop_timeout_s"


def test_a_process_that_died_before_the_rate_was_reached_is_named(tmp_path):
    clients = [Client(name, FakeProcess(), tmp_path, {"session": 135.0}, "locust") for name in ("locust", "locust-1")]
    stats(tmp_path, "locust", {"session": 68})
    clients[1].process = FakeProcess(-9)
    (tmp_path / "locust-1.log").write_text("Killed\n")
    naps = Naps()
    load = LoadRunning(clients, SCENARIO, lambda _name, _data: None, naps, naps.now)
    with pytest.raises(LoadError, match=r"the load client locust-1 ended with -9: Killed"):
        load.wait_for_rate()


def test_a_stack_without_a_member_for_each_process_is_an_error(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    lacking = msgspec.structs.replace(by_three(), stack=SCENARIO.stack.with_workers(2))
    launcher = FakeLauncher()
    with (
        pytest.raises(LoadError, match="no member for the load's loadgen-2"),
        load_running(lacking, SHARDS, launcher, directory, clock=RunClock.starting_now(), say=unheard),
    ):
        pass
    assert [process.interrupts for process in launcher.started.values()] == [1, 1]


def test_what_was_started_is_ended_when_the_rest_cannot_be(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    launcher = FakeLauncher(refused={"direct-client"})
    with (
        pytest.raises(StackError, match="no room"),
        load_running(SCENARIO, SHARDS, launcher, directory, clock=RunClock.starting_now(), say=unheard),
    ):
        pass
    assert launcher.started["loadgen"].interrupts == 1


def test_a_stack_without_a_member_for_a_client_is_an_error(tmp_path):
    directory = tmp_path / "load"
    directory.mkdir()
    members = tuple(member for member in SCENARIO.stack.members if member.component != "direct-client")
    bare = msgspec.structs.replace(SCENARIO, stack=msgspec.structs.replace(SCENARIO.stack, members=members))
    with (
        pytest.raises(LoadError, match="no member for the load's direct-client"),
        load_running(bare, SHARDS, FakeLauncher(), directory, clock=RunClock.starting_now(), say=unheard),
    ):
        pass


def test_thresholds_are_bounds_of_buckets():
    def slo(threshold: float | None):
        source = RatioSource(good="g", total="t", latency_threshold_s=threshold)
        return Slo(name="n", title="", service="", phases=("steady",), source=source, op="gte", target=0.99)

    scenario = msgspec.structs.replace(SCENARIO, slos=(slo(0.3), slo(None), slo(0.25)))
    assert latency_bounds_s(scenario) == tuple(sorted({*DEFAULT_BOUNDS_S, 0.3}))
