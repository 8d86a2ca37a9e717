"""The agent on real namespaces: four bare members on a bridge, each with a server that answers one line.

Runs in any sandbox of its own (``unshare --net --pid --mount --uts --ipc --fork --kill-child --mount-proc``).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.agent import nftables
from resilience.agent.process import STOPPED, Place, look_up, servers
from resilience.backend.base import MemberState, Proof
from resilience.backend.local import injector as local_injector
from resilience.errors import FaultError
from resilience.fault.base import Aim
from resilience.fault.injector import Injector, heal_all
from resilience.fault.ledger import Ledger
from resilience.fault.registry import fault_from_spec
from resilience.history.clock import RunClock
from resilience.spec.fault import (
    FastRestart,
    FaultSpec,
    Freeze,
    Injection,
    Isolate,
    Kill,
    Noop,
    Partition,
    Pause,
    PowerOff,
    Prelude,
    Target,
)
from resilience.spec.stack import PORTS, Member, Redis, Shard, Stack, Wait
from tests.waiting import until

pytestmark = pytest.mark.component

BRIDGE = "hftest0"
SERVER = """
import socket, sys, threading
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
def serve(conn):
    while conn.recv(4096):
        conn.sendall(b"+PONG\\r\\n")
while True:
    conn, _ = listener.accept()
    threading.Thread(target=serve, args=(conn,), daemon=True).start()
"""
MEMBERS = (
    Member(name="redis-0", component="redis", node="node-a"),
    Member(name="redis-1", component="redis", node="node-b"),
    Member(name="session-0", component="session", node="node-b"),
    Member(name="prometheus-0", component="prometheus", node="observer"),
)


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=10)


@dataclass
class Bare:
    """A member: an init with its one child, a link to the bridge, and a server that a thread keeps running."""

    member: Member
    number: int
    holds: Path
    data: Path
    init_pid: int = 0
    wrapper: "subprocess.Popen[bytes] | None" = None
    server: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"198.19.7.{self.number}"

    def open(self) -> None:
        # a first process that ends with its oldest child, as a reaping init does
        self.wrapper = subprocess.Popen(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "sleep 1000 & wait $!"],
            stdin=subprocess.DEVNULL,
        )
        self.init_pid = until(lambda: first(children(self.wrapper.pid)))  # type: ignore[union-attr]
        until(lambda: children(self.init_pid))
        run(
            "ip",
            "link",
            "add",
            f"hft{self.number}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(self.init_pid),
        )
        run("ip", "link", "set", f"hft{self.number}", "master", BRIDGE, "up")
        for command in ("link set lo up", f"addr add {self.address}/16 dev eth0", "link set eth0 up"):
            run("nsenter", "--target", str(self.init_pid), "--net", "ip", *command.split())
        self.holds.mkdir(parents=True)
        self.data.mkdir(parents=True)
        for name in ("nodes.conf", "dump.rdb"):
            (self.data / name).write_text("before")

    def tend(self) -> None:
        """Starts the server if none runs and none holds it back."""
        if self.server and not any(look_up(pid) for pid in children(self.server.pid)):
            self.server.send_signal(signal.SIGCONT)  # nsenter stops itself when its child is stopped
        ended = self.server is None or self.server.poll() is not None
        if ended and not list(self.holds.iterdir()):
            argv = [sys.executable, "-S", "-c", SERVER, self.address, str(PORTS[self.member.component])]
            namespaces = ["nsenter", "--target", str(self.init_pid), "--net", "--pid", "--"]
            self.server = subprocess.Popen([*namespaces, *argv], stdin=subprocess.DEVNULL)

    def server_pid(self) -> int | None:
        running = self.server is not None and self.server.poll() is None
        return first(children(self.server.pid)) if running and self.server else None

    def state(self) -> MemberState:
        init, pid = look_up(self.init_pid), self.server_pid()
        server = look_up(pid) if pid else None
        return MemberState(
            name=self.member.name,
            component=self.member.component,
            node=self.member.node,
            address=self.address,
            running=server is not None,
            identity=f"{server.pid}:{server.start}" if server else "",
            restarts=0,
            handle={
                "init_pid": self.init_pid,
                "init_start": init.start if init else 0,
                "veth": f"hft{self.number}",
                "server_pid": server.pid if server else None,
                "server_start": server.start if server else None,
                "hold_dir": str(self.holds),
                "data_dir": str(self.data),
                "data_keep": ["nodes.conf"],
            },
        )

    def close(self) -> None:
        if self.server:  # stopped with a server that was paused, it would not collect it, and the init waits for that
            self.server.send_signal(signal.SIGCONT)
        if look_up(self.init_pid):
            os.kill(self.init_pid, signal.SIGKILL)
        if self.wrapper:
            self.wrapper.wait(5)
        if self.server:
            self.server.wait(5)


class BarePlatform(local_injector.Injector):
    """The local injector over bare members, with what a `FaultPlatform` adds to it."""

    def __init__(self, folder: Path, clock: RunClock) -> None:
        self.members = {
            member.name: Bare(member, number, folder / "holds" / member.name, folder / "data" / member.name)
            for number, member in enumerate(MEMBERS, start=1)
        }
        self.folder = folder
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.stack = Stack(
            name="bare", durability=Wait(), nodes=("node-a", "node-b"), restart_delay_s=1, session_ttl_s=1,
            scrape_interval_s=1, redis=Redis(), shards=(Shard(primary="redis-0", replicas=("redis-1",)),),
            members=MEMBERS,
        )  # fmt: skip
        super().__init__(folder, self.ledger.path, clock.base_ns, self.states)

    def states(self) -> tuple[MemberState, ...]:
        return tuple(bare.state() for bare in self.members.values())

    def state(self, name: str) -> MemberState:
        return self.members[name].state()

    def secret(self, name: str) -> str:
        raise KeyError(name)


@dataclass
class Field:
    """A platform of bare members and what injects into it."""

    platform: BarePlatform
    injector: Injector
    tending: threading.Event = field(default_factory=threading.Event)

    def place(self, name: str) -> dict[str, Any]:
        state = self.platform.state(name)
        return {"name": name, "address": state.address, **state.handle}

    def plan(self, fault: FaultSpec, target: Target, prelude: Prelude | None = None, **changes: Any) -> Injection:
        planned = self.injector.plan(
            f"test-{len(self.injector.ledger.injections())}-{time.monotonic_ns()}", fault, target, 20, prelude
        )
        assert isinstance(planned, Injection)
        return msgspec.structs.replace(planned, **changes)

    def bare(self, steps: Sequence[Mapping[str, Any]], watch: Sequence[Mapping[str, Any]], ttl_s: float = 30) -> str:
        """Applies an injection of these steps and probes; its id."""
        injection = Injection(
            id=f"test-{time.monotonic_ns()}", fault=Noop(), target=Target(component="redis"), members=(), nodes=(),
            ttl_s=ttl_s, steps=tuple(map(dict, steps)), watch=tuple(map(dict, watch)),
        )  # fmt: skip
        self.injector.inject(injection)
        return injection.id

    def tables(self) -> str:
        return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout

    def daemon_pid(self, injection: str) -> int:
        """The agent's daemon of an injection, found by the log that it holds open."""
        log = str(self.platform.folder / "agent" / injection / "agent.log")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (entry / "fd" / "2").exists() and os.readlink(entry / "fd" / "2") == log:
                return int(entry.name)
        raise AssertionError(f"no daemon of {injection}")


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def first(pids: list[int]) -> int | None:
    return pids[0] if pids else None


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", "198.19.0.1/16", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    clock = RunClock.starting_now()
    platform = BarePlatform(tmp_path_factory.mktemp("state"), clock)
    ending, tending = threading.Event(), threading.Event()
    tending.set()

    def tend() -> None:
        while not ending.wait(0.05):
            for bare in platform.members.values() if tending.is_set() else ():
                bare.tend()

    keeper = threading.Thread(target=tend)
    try:
        for bare in platform.members.values():
            bare.open()
        keeper.start()
        injector = Injector(platform=platform, roles=tuple, ledger=platform.ledger, clock=clock)
        yield Field(platform, injector, tending)
    finally:
        ending.set()
        if keeper.ident:
            keeper.join(5)
        for bare in platform.members.values():
            bare.close()
        run("ip", "link", "del", BRIDGE)


def answering(bare: Bare) -> bool:
    probe = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.3).close()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", probe, bare.address, str(PORTS[bare.member.component])],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.fixture
def plot(ground: Field) -> Iterator[Field]:
    """The field with all servers answering; every injection of the test is ended after it."""
    ground.tending.set()
    until(lambda: all(answering(bare) for bare in ground.platform.members.values()))
    yield ground
    ground.tending.set()
    heal_all(ground.injector, lambda _injection, _undone: None)
    assert "hf_" not in ground.tables()


def words(proof: Proof, *, ok: bool) -> list[str]:
    return [f"{item.what}: {item.observed}" for item in proof.evidence if item.ok is ok]


REDIS_0 = Target(component="redis")
REDIS_0_NODE = Target(component="redis", scope="node")


@dataclass(frozen=True)
class Case:
    name: str
    fault: FaultSpec
    target: Target = REDIS_0


WORKING = (
    Case("kill, restarted", Kill(restart=True)),
    Case("kill, held back", Kill(restart=False)),
    Case("asked to end, held back", Kill(restart=False, signal="TERM")),
    Case("pause", Pause()),
    Case("fast restart", FastRestart()),
    Case("fast restart, data gone", FastRestart(data="gone")),
    Case("power off", PowerOff(), REDIS_0_NODE),
    Case("a node stands still", Freeze(), REDIS_0_NODE),
    Case("a node without its network", Isolate(), REDIS_0_NODE),
    Case("partition from peers", Partition(cut_from="peers")),
    Case("partition from peers, nothing gets in", Partition(cut_from="peers", direction="in")),
    Case("partition from peers, nothing gets out", Partition(cut_from="peers", direction="out")),
    Case("partition from clients", Partition(cut_from="clients")),
    Case("partition from all", Partition(cut_from="all")),
)


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.name)
def test_a_fault_is_proved_and_healed(plot: Field, case: Case) -> None:
    injection = plot.plan(case.fault, case.target)
    before = plot.platform.state(injection.members[0]).identity
    injected = plot.injector.inject(injection)
    assert injected.began_ns <= injected.applied_ns
    asked = time.monotonic()
    proof = plot.injector.probe(injection.id)
    assert time.monotonic() - asked < 2.5
    assert proof.holds, words(proof, ok=False)
    assert plot.injector.probe(injection.id).holds  # and still, when asked again

    undone = plot.injector.heal(injection.id, "request")
    assert undone.proof.holds, words(undone.proof, ok=False)
    assert undone.by == "request"
    assert plot.injector.ledger.open_injections() == ()
    assert not plot.injector.probe(injection.id).holds  # what has ended is not in effect
    killed = isinstance(case.fault, Kill | FastRestart | PowerOff)
    assert (until(lambda: plot.platform.state(injection.members[0]).identity) != before) is killed


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.name)
def test_a_fault_that_does_nothing_is_not_proved(plot: Field, case: Case) -> None:
    injection = plot.plan(case.fault, case.target, steps=())
    plot.injector.inject(injection)
    proof = plot.injector.probe(injection.id)
    assert not proof.holds
    assert words(proof, ok=False)


def test_noop_is_never_in_effect(plot: Field) -> None:
    injection = plot.plan(Noop(), REDIS_0)
    plot.injector.inject(injection)
    assert not plot.injector.probe(injection.id).holds
    assert plot.injector.heal(injection.id, "request").proof.holds


def test_a_one_way_partition_is_told_from_a_two_way_one(plot: Field) -> None:
    wanted = plot.plan(Partition(cut_from="peers", direction="in"), REDIS_0)
    done = plot.plan(Partition(cut_from="peers", direction="both"), REDIS_0, watch=wanted.watch)
    plot.injector.inject(done)
    failed = words(plot.injector.probe(done.id), ok=False)
    assert failed == ["datagram from redis-0 to redis-1: lost"]


def test_a_partition_that_cuts_too_much_is_not_proved(plot: Field) -> None:
    wanted = plot.plan(Partition(cut_from="peers"), REDIS_0)
    done = plot.plan(Partition(cut_from="all"), REDIS_0, watch=wanted.watch)
    plot.injector.inject(done)
    failed = words(plot.injector.probe(done.id), ok=False)
    assert failed == [
        "TCP from session-0 to redis-0:6379: timed out",
        "TCP from prometheus-0 to redis-0:6379: timed out",
    ]


def test_a_kill_with_the_link_up_is_no_silence(plot: Field) -> None:
    power_off = plot.plan(PowerOff(), REDIS_0_NODE)
    steps = tuple(step for step in power_off.steps if step["primitive"] != "links")
    plot.injector.inject(msgspec.structs.replace(power_off, steps=steps))
    failed = words(plot.injector.probe(power_off.id), ok=False)
    assert "open connection from prometheus-0 to redis-0:6379: closed by the other side" in failed
    assert "new connection from prometheus-0 to redis-0:6379: refused" in failed


def test_silence_without_a_kill_is_no_power_off(plot: Field) -> None:
    power_off = plot.plan(PowerOff(), REDIS_0_NODE)
    steps = tuple(step for step in power_off.steps if step["primitive"] != "signal")
    plot.injector.inject(msgspec.structs.replace(power_off, steps=steps))
    assert all(text.startswith("server ") for text in words(plot.injector.probe(power_off.id), ok=False))
    assert not plot.injector.probe(power_off.id).holds


def test_what_was_down_before_proves_nothing(plot: Field) -> None:
    plot.tending.clear()
    victim = plot.plan(Kill(restart=False), REDIS_0)
    place = Place.from_json(plot.place("redis-0"))
    for process in servers(place):
        process.signal(signal.SIGKILL)
    until(lambda: not servers(place))
    plot.injector.inject(victim)
    failed = words(plot.injector.probe(victim.id), ok=False)
    assert any("did not run before" in text for text in failed)
    assert any("and before the injection: refused" in text for text in failed)


def test_a_kill_takes_orphans_and_leaves_what_holds_the_member(plot: Field) -> None:
    bare = plot.platform.members["redis-0"]
    orphan = "setsid sh -c 'sleep 999 & sleep 998 & exec sleep 997' >/dev/null 2>&1 & sleep 0.1"
    run("nsenter", "--target", str(bare.init_pid), "--net", "--pid", "--", "sh", "-c", orphan)
    place = Place.from_json(plot.place("redis-0"))
    assert len(servers(place)) == 4
    injection = plot.plan(Kill(restart=False), REDIS_0)
    plot.injector.inject(injection)
    assert servers(place) == ()
    assert place.exists
    assert children(bare.init_pid)


def test_a_reused_pid_is_refused(plot: Field) -> None:
    place = plot.place("redis-0") | {"init_start": plot.place("redis-0")["init_start"] + 1}
    with pytest.raises(FaultError, match="is gone"):
        plot.bare([{"primitive": "signal", "signal": "KILL", "members": [place]}], [])
    assert plot.platform.state("redis-0").running


def test_what_was_done_is_undone_when_a_step_fails(plot: Field) -> None:
    hold = plot.platform.hold_steps(["redis-0"])[0]
    links = plot.platform.node_steps("isolate", ["node-a"], [])[0]
    broken = {"primitive": "signal", "signal": "KILL", "members": [{"name": "x", "init_pid": 1, "init_start": -1}]}
    with pytest.raises(FaultError, match="has been undone"):
        plot.bare([hold, links, broken], [])
    assert "hf_" not in plot.tables()
    assert not list(plot.platform.members["redis-0"].holds.iterdir())
    assert plot.injector.ledger.open_injections() == ()


def test_the_time_to_live_ends_it_when_the_caller_is_dead(plot: Field) -> None:
    injection = plot.plan(Partition(cut_from="peers"), REDIS_0, ttl_s=1.0)
    caller = (
        "import json, sys; from pathlib import Path; from resilience.backend.local.injector import Injector\n"
        "data = json.load(sys.stdin); folder = Path(data['dir'])\n"
        "Injector(folder, folder / 'ledger.jsonl', data['base_ns'], tuple).apply(data['injection'])\n"
        "import os; os.kill(os.getpid(), 9)"
    )
    request = {
        "dir": str(plot.platform.folder),
        "base_ns": plot.injector.clock.base_ns,
        "injection": msgspec.to_builtins(injection),
    }
    done = subprocess.run([sys.executable, "-c", caller], input=json.dumps(request).encode(), check=False, timeout=20)
    assert done.returncode == -signal.SIGKILL
    assert plot.injector.probe(injection.id).holds
    booked = until(lambda: plot.injector.ledger.last(injection.id, "healed"))
    assert booked.by == "ttl"
    assert abs(booked.at_us - plot.injector.clock.now_us()) < 2_000_000
    assert words(plot.injector.probe(injection.id), ok=False) == [f"injection {injection.id}: ended by ttl"]
    undone = plot.injector.heal(injection.id, "request")
    assert undone.by == "ttl"
    assert undone.proof.holds, words(undone.proof, ok=False)


def stands(plot: Field, name: str) -> bool:
    """Whether the processes of a member are stopped."""
    return any(process.state == STOPPED for process in servers(Place.from_json(plot.place(name))))


def refused(injector: Injector, injection: Injection) -> None:
    with pytest.raises(FaultError):
        injector.inject(injection)


SESSION_STANDS = Prelude(fault=Pause(), target=Target(component="session"), for_s=1.0)


def test_a_prelude_is_proved_while_it_lasts_and_ends_with_the_injection(plot: Field) -> None:
    injection = plot.plan(Kill(restart=False), REDIS_0, SESSION_STANDS)
    injected = plot.injector.inject(injection)
    assert injected.applied_ns - injected.began_ns >= 1_000_000_000
    assert not stands(plot, "session-0"), "it goes on"
    proof = plot.injector.probe(injection.id)
    assert proof.holds, words(proof, ok=False)
    assert [item.observed for item in proof.evidence if "session-0" in item.what] == ["stopped", "no byte"]
    undone = plot.injector.heal(injection.id, "request")
    assert undone.proof.holds, words(undone.proof, ok=False)


def test_a_prelude_that_does_nothing_is_not_proved(plot: Field) -> None:
    planned = plot.plan(Kill(restart=False), REDIS_0, SESSION_STANDS)
    assert planned.prelude
    injection = msgspec.structs.replace(planned, prelude=msgspec.structs.replace(planned.prelude, steps=()))
    plot.injector.inject(injection)
    proof = plot.injector.probe(injection.id)
    assert not proof.holds, "although the kill took effect"
    assert len(failed := words(proof, ok=False)) == 2
    assert all("session-0" in what for what in failed)


def test_a_prelude_whose_agent_is_killed_in_the_middle_of_it_is_ended_from_the_ledger(plot: Field) -> None:
    long = msgspec.structs.replace(SESSION_STANDS, for_s=5.0)
    injection = plot.plan(Kill(restart=False), REDIS_0, long)
    before = plot.platform.state("redis-0").identity
    injecting = threading.Thread(target=refused, args=(plot.injector, injection))
    injecting.start()
    until(lambda: stands(plot, "session-0"))
    os.kill(plot.daemon_pid(injection.id), signal.SIGKILL)
    injecting.join(20)
    assert not stands(plot, "session-0"), "undone by whoever found its agent dead"
    assert plot.platform.state("redis-0").identity == before, "the kill was never reached"
    assert plot.injector.ledger.open_injections() == ()


def test_a_dead_daemon_is_replaced_for_undoing(plot: Field) -> None:
    injection = plot.plan(PowerOff(), REDIS_0_NODE)
    plot.injector.inject(injection)
    os.kill(plot.daemon_pid(injection.id), signal.SIGKILL)
    with pytest.raises(FaultError, match="its agent is gone"):
        plot.injector.probe(injection.id)
    first_time = plot.injector.heal(injection.id, "request")
    assert first_time.proof.holds, words(first_time.proof, ok=False)
    again = plot.injector.heal(injection.id, "rollback")
    assert again == first_time


def test_a_server_that_stays_away_is_not_healed(plot: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_injector, "BACK_WITHIN_S", 0.5)
    injection = plot.plan(Kill(restart=False), REDIS_0)
    plot.injector.inject(injection)
    plot.tending.clear()
    undone = plot.injector.heal(injection.id, "request")
    assert not undone.proof.holds
    assert "server of redis-0: nothing runs" in words(undone.proof, ok=False)


def test_an_injection_that_was_undone_cannot_begin(plot: Field) -> None:
    injection = plot.plan(Partition(cut_from="peers"), REDIS_0)
    plot.injector.inject(injection)
    plot.injector.heal(injection.id, "request")
    folder = plot.platform.folder / "agent" / injection.id
    request = (folder / "request.json").read_bytes()
    (folder / "socket").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "resilience.agent", "apply"], input=request, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "before" in json.loads(done.stdout)["error"]


def test_only_its_own_table_is_touched(plot: Field) -> None:
    nftables.load("table bridge somebody_elses { }\n")
    try:
        injection = plot.plan(PowerOff(), REDIS_0_NODE)
        plot.injector.inject(injection)
        plot.injector.heal(injection.id, "request")
        assert "somebody_elses" in plot.tables()
    finally:
        nftables.delete("bridge", "somebody_elses")


def test_the_socket_and_the_folder_are_private(plot: Field) -> None:
    injection = plot.bare([], [])
    folder = plot.platform.folder / "agent" / injection
    assert (folder / "socket").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_it_begins_at_the_instant_that_was_asked_for(plot: Field) -> None:
    """It is asked for once the agent waits: a short while is enough, however long it took to start that."""
    injection = plot.plan(Partition(cut_from="peers"), REDIS_0)
    asked: list[int] = []

    def at_us() -> int:
        assert (plot.platform.folder / "agent" / injection.id / "socket").exists()
        assert f"hf_{injection.id}" not in plot.tables().replace("-", "_")
        asked.append(plot.injector.clock.now_us() + 150_000)
        return asked[-1]

    injected = plot.injector.inject(injection, at_us)
    (wanted_us,) = asked
    late_us = (injected.began_ns - plot.injector.clock.base_ns) // 1_000 - wanted_us
    assert 0 <= late_us < 100_000


def test_one_that_is_prepared_and_never_ordered_does_nothing_and_is_undone_as_such(plot: Field) -> None:
    injection = plot.plan(Partition(cut_from="peers"), REDIS_0)

    def nobody_says() -> int:
        raise FaultError("the phase could not be announced")

    before = plot.tables()
    with pytest.raises(FaultError, match="could not be announced"):
        plot.injector.inject(injection, nobody_says)
    assert plot.tables() == before
    assert plot.injector.ledger.open_injections() == ()
    assert plot.platform.undo(injection.id).by == "request"


def test_an_aim_at_a_node_kills_all_its_members(plot: Field) -> None:
    aim = Aim(members=("redis-1", "session-0"), nodes=("node-b",))
    fault = fault_from_spec(PowerOff())
    injection = plot.plan(
        PowerOff(), REDIS_0_NODE, steps=fault.inject(aim, plot.platform), watch=fault.effect(aim, plot.platform)
    )
    plot.injector.inject(injection)
    proof = plot.injector.probe(injection.id)
    assert proof.holds, words(proof, ok=False)
    assert plot.injector.heal(injection.id, "request").proof.holds
