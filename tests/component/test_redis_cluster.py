"""The stack's questions against six real Redis servers, each with an address of its own on the loopback interface."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

import msgspec
import pytest
from redis import Redis
from redis.exceptions import RedisError

from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, AuditLine, DirectRead, Event, RoomRead, SessionRead
from resilience.history.writer import Writer
from resilience.spec.stack import PORTS, Async, Member, Shard, Stack
from resilience.spec.stack import Redis as RedisSpec
from resilience.stack.audit import audit
from resilience.stack.converge import wait_converged
from resilience.stack.redis_cluster import form, live_roles, shard_layout, wait_ready
from resilience.stack.redis_role import RedisRole
from resilience.stack.replicas import compare_replicas
from resilience.stack.versions import redis_servers
from resilience.stack.watch import RoleWatch
from tests.fakes import FakePlatform

pytestmark = pytest.mark.component

PASSWORD = "a-secret-of-this-test"
NODE_TIMEOUT_MS = 1_000
NAMES = tuple(f"redis-cluster-{number}" for number in range(6))
STACK = Stack(
    name="six",
    durability=Async(),
    nodes=("node-0", "node-1", "node-2"),
    restart_delay_s=2,
    session_ttl_s=604_800,
    scrape_interval_s=1,
    redis=RedisSpec(cluster_node_timeout_ms=NODE_TIMEOUT_MS),
    # Crossed on purpose: a placement that `redis-cli --cluster create` would not choose.
    shards=(
        Shard(primary=NAMES[0], replicas=(NAMES[4],)),
        Shard(primary=NAMES[1], replicas=(NAMES[5],)),
        Shard(primary=NAMES[2], replicas=(NAMES[3],)),
    ),
    members=tuple(Member(name=name, component="redis", node=f"node-{at % 3}") for at, name in enumerate(NAMES)),
)
SLOTS = (((0, 5460),), ((5461, 10922),), ((10923, 16383),))
# The server's own mount namespace gives it a data folder that ends with it.
START = 'mount -t tmpfs tmpfs "$1/tmp" && exec chroot "$1" redis-server -'


@dataclass(frozen=True)
class Servers:
    """Six running servers and the platform that knows their addresses."""

    platform: FakePlatform
    processes: dict[str, subprocess.Popen[bytes]]

    def signal(self, member: str, number: signal.Signals) -> None:
        self.processes[member].send_signal(number)

    def client(self, member: str) -> Redis:
        return Redis(self.platform.addresses[member], PORTS["redis"], password=PASSWORD, socket_timeout=1)

    def tell(self, member: str, *command: str | int) -> Any:
        return self.client(member).execute_command(*command)  # type: ignore[no-untyped-call]


def config(address: str) -> bytes:
    lines = (
        f"bind {address}",
        f"bind-source-addr {address}",
        f"port {PORTS['redis']}",
        f"requirepass {PASSWORD}",
        f"masterauth {PASSWORD}",
        "dir /tmp",
        "cluster-enabled yes",
        f"cluster-announce-ip {address}",
        f"cluster-node-timeout {NODE_TIMEOUT_MS}",
        "repl-diskless-sync-delay 0",
        'save ""',
    )
    return "\n".join(lines).encode()


@contextmanager
def six_servers() -> Iterator[Servers]:
    image = os.environ.get("RESILIENCE_IMAGE")
    if not image:
        pytest.fail("RESILIENCE_IMAGE has to name the root of the stack image")
    subnet = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"
    addresses = {name: f"{subnet}.{number}" for number, name in enumerate(NAMES, 1)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, address in addresses.items():
            command = ["unshare", "--mount", "sh", "-c", START, "sh", image]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            processes[name] = process
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(config(address))
        yield Servers(FakePlatform(STACK, addresses, {"redis-password": PASSWORD}), processes)
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            process.wait()


@pytest.fixture
def servers() -> Iterator[Servers]:
    with six_servers() as started:
        yield started


def formed(servers: Servers) -> Servers:
    form(servers.platform, within(20))
    wait_ready(servers.platform, within(20))
    return servers


@pytest.fixture
def cluster(servers: Servers) -> Servers:
    """The servers, formed and ready, for a test that breaks them."""
    return formed(servers)


@pytest.fixture(scope="module")
def formed_once() -> Iterator[Servers]:
    with six_servers() as started:
        yield formed(started)


@pytest.fixture
def whole(formed_once: Servers) -> Servers:
    """Servers for a test that leaves them as they were formed."""
    wait_ready(formed_once.platform, within(10))
    roles = live_roles(formed_once.platform)
    assert [role.member for role in roles if role.role == "primary"] == [shard.primary for shard in STACK.shards]
    return formed_once


def within(seconds: float) -> float:
    return time.monotonic() + seconds


def eventually[Seen](look: Callable[[], Seen], holds: Callable[[Seen], bool], seconds: float) -> Seen:
    ends_at = within(seconds)
    seen = look()
    while not holds(seen) and time.monotonic() < ends_at:
        time.sleep(0.05)
        seen = look()
    assert holds(seen), seen
    return seen


def role_of(roles: tuple[RedisRole, ...], member: str) -> RedisRole:
    return next(role for role in roles if role.member == member)


def test_forms_with_the_stack_files_placement_and_leaves_a_formed_cluster_alone(servers: Servers) -> None:
    began = time.monotonic()
    form(servers.platform, within(20))
    wait_ready(servers.platform, within(20))
    assert time.monotonic() - began < 10  # 2 s of it are the servers' own pause before a primary accepts writes

    layout = shard_layout(servers.platform)
    hosts = {name: f"{address}:6379" for name, address in servers.platform.addresses.items()}
    assert [plan.group for plan in layout] == [1, 2, 3]
    assert [plan.slots for plan in layout] == list(SLOTS)
    assert [plan.primary for plan in layout] == [hosts[shard.primary] for shard in STACK.shards]
    assert [plan.replicas for plan in layout] == [(hosts[shard.replicas[0]],) for shard in STACK.shards]
    roles = live_roles(servers.platform)
    assert [(role.member, role.group, role.role) for role in roles] == [
        (NAMES[0], 1, "primary"),
        (NAMES[1], 2, "primary"),
        (NAMES[2], 3, "primary"),
        (NAMES[3], 3, "replica"),
        (NAMES[4], 1, "replica"),
        (NAMES[5], 2, "replica"),
    ]
    assert [role.epoch for role in roles] == [1, 2, 3, 3, 1, 2]

    form(servers.platform, within(5))
    assert live_roles(servers.platform) == roles


def test_a_cluster_that_was_broken_off_half_formed_is_finished(servers: Servers) -> None:
    eventually(lambda: answers(servers, NAMES[0]), bool, 5)
    address = servers.platform.addresses
    servers.tell(NAMES[0], "CLUSTER ADDSLOTSRANGE", 0, 5460)
    servers.tell(NAMES[0], "CLUSTER MEET", address[NAMES[3]], 6379)
    form(servers.platform, within(20))
    wait_ready(servers.platform, within(20))
    assert [plan.slots for plan in shard_layout(servers.platform)] == list(SLOTS)


def test_slots_of_another_cluster_are_refused_at_once(servers: Servers) -> None:
    eventually(lambda: answers(servers, NAMES[3]), bool, 5)
    servers.tell(NAMES[3], "CLUSTER ADDSLOTSRANGE", 0, 99)
    began = time.monotonic()
    with pytest.raises(StackError, match=r"redis-cluster-3 belongs to a cluster that was formed otherwise.*\(0, 99\)"):
        form(servers.platform, within(20))
    assert time.monotonic() - began < 5


def answers(servers: Servers, member: str) -> bool:
    try:
        return bool(servers.client(member).ping())
    except RedisError:
        return False


def test_a_cluster_that_calls_itself_ok_is_not_ready_without_its_replicas(servers: Servers) -> None:
    eventually(lambda: [answers(servers, name) for name in NAMES], all, 5)
    # The replica's link is refused (wrong password), all else works.
    servers.client(NAMES[4]).config_set("masterauth", "wrong")
    form(servers.platform, within(20))
    with pytest.raises(StackError, match=r"redis-cluster-0: 0 of 1 replicas online") as refusal:
        wait_ready(servers.platform, within(5))
    assert "cluster_state" not in str(refusal.value)
    assert servers.tell(NAMES[0], "CLUSTER INFO")["cluster_state"] == "ok"
    servers.client(NAMES[4]).config_set("masterauth", PASSWORD)
    wait_ready(servers.platform, within(10))


def test_readiness_says_which_member_does_not_answer(servers: Servers) -> None:
    eventually(lambda: [answers(servers, name) for name in NAMES], all, 5)
    servers.signal(NAMES[5], signal.SIGKILL)
    with pytest.raises(StackError, match=r"forming the Redis Cluster took more than .* redis-cluster-5: .*refused"):
        form(servers.platform, within(0.5))


def test_after_a_primary_was_killed_its_replica_is_the_primary_of_the_same_shard(cluster: Servers) -> None:
    cluster.signal(NAMES[1], signal.SIGKILL)
    roles = eventually(lambda: live_roles(cluster.platform), lambda seen: role_of(seen, NAMES[5]).role == "primary", 10)
    assert role_of(roles, NAMES[1]).role == "unreachable"
    assert role_of(roles, NAMES[1]).group == role_of(roles, NAMES[5]).group == 2
    assert role_of(roles, NAMES[5]).epoch > 3
    layout = shard_layout(cluster.platform)
    assert layout[1].primary == f"{cluster.platform.addresses[NAMES[5]]}:6379"
    assert layout[1].replicas == ()


def test_forming_leaves_a_cluster_alone_in_which_a_replica_has_become_primary(cluster: Servers) -> None:
    cluster.tell(NAMES[5], "CLUSTER FAILOVER")
    roles = eventually(lambda: live_roles(cluster.platform), lambda seen: role_of(seen, NAMES[1]).role == "replica", 10)
    form(cluster.platform, within(5))
    assert live_roles(cluster.platform) == roles
    assert role_of(roles, NAMES[5]).role == "primary"


def test_a_shard_without_primary_has_no_layout(cluster: Servers) -> None:
    cluster.signal(NAMES[0], signal.SIGKILL)
    with pytest.raises(StackError, match="shard 1 has no primary: redis-cluster-0 is unreachable"):
        shard_layout(cluster.platform)


def test_the_watch_reports_failing_and_roles_as_they_change(cluster: Servers) -> None:
    events: list[Event] = []
    lock = Lock()

    def emit(event: Event) -> None:
        assert lock.acquire(blocking=False), "emit was called by two threads at once"
        events.append(event)
        lock.release()

    def seen(name: str, **data: Any) -> list[Event]:
        return [event for event in events if event.name == name and data.items() <= event.data.items()]

    clock = RunClock.starting_now()
    watch = RoleWatch(cluster.platform, clock, emit).start()
    try:
        eventually(lambda: len(seen("role")), lambda count: count == 6, 3)
        assert seen("failing") == []
        killed_at = clock.now_us()
        cluster.signal(NAMES[1], signal.SIGKILL)
        promoted = eventually(lambda: seen("role", member=NAMES[5], role="primary"), bool, 10)[0]
        eventually(lambda: seen("role", member=NAMES[4], role="replica"), bool, 3)
        assert role_of(watch.roles(), NAMES[5]).role == "primary"
        assert role_of(watch.roles(), NAMES[1]).role == "unreachable"
    finally:
        watch.stop()
    gone = seen("role", member=NAMES[1], role="unreachable")[0]
    failed = seen("failing", member=NAMES[1], flag="fail")[0]
    assert killed_at < gone.at < failed.at <= promoted.at
    assert gone.at - killed_at < 400_000
    assert failed.at - killed_at >= NODE_TIMEOUT_MS * 1_000 * 0.5
    assert promoted.data["group"] == 2
    assert promoted.data["epoch"] > 3
    assert all(event.data["by"] != NAMES[1] for event in seen("failing"))


def test_a_silent_member_holds_back_nobody_elses_news(whole: Servers) -> None:
    events: list[Event] = []
    watch = RoleWatch(whole.platform, RunClock.starting_now(), events.append).start()
    try:
        eventually(lambda: len(events), lambda count: count >= 6, 3)
        whole.signal(NAMES[4], signal.SIGSTOP)
        eventually(lambda: {e.data["by"] for e in events if e.name == "failing"}, lambda by: len(by) >= 3, 10)
        whole.signal(NAMES[4], signal.SIGCONT)
        back = {"member": NAMES[4], "flag": "ok"}
        eventually(lambda: [e for e in events if back.items() <= e.data.items()], bool, 10)
    finally:
        watch.stop()


def test_the_watch_raises_what_went_wrong_behind_it(whole: Servers) -> None:
    def refuse(_event: Event) -> None:
        raise OSError("no space left")

    watch = RoleWatch(whole.platform, RunClock.starting_now(), refuse).start()
    time.sleep(0.5)
    with pytest.raises(ExceptionGroup) as group:
        watch.stop()
    assert len(group.value.exceptions) == 6


def test_convergence_says_why_not_while_a_replica_is_stopped(whole: Servers) -> None:
    converged = wait_converged(whole.platform, within(10))
    assert converged.ok, converged
    assert converged.reason == ""

    whole.signal(NAMES[4], signal.SIGSTOP)
    stopped = wait_converged(whole.platform, within(3))
    assert not stopped.ok
    assert "redis-cluster-4" in stopped.reason
    assert stopped.took_s >= 3

    whole.signal(NAMES[4], signal.SIGCONT)
    assert wait_converged(whole.platform, within(20)).ok


def test_convergence_waits_for_a_replica_that_lags_behind(whole: Servers) -> None:
    whole.client(NAMES[4]).config_set("masterauth", "wrong")
    whole.tell(NAMES[0], "CLIENT KILL TYPE replica")
    detached = wait_converged(whole.platform, within(2))
    assert not detached.ok
    assert "redis-cluster-0: 0 of 1 replicas online" in detached.reason
    whole.client(NAMES[4]).config_set("masterauth", PASSWORD)
    assert wait_converged(whole.platform, within(20)).ok


def test_convergence_is_not_put_off_by_somebody_who_goes_on_writing(whole: Servers) -> None:
    done = Flag()

    def write() -> None:
        client, key = whole.client(NAMES[0]), slot_key(whole, 1, "k")
        while not done.wait(0.002):
            client.incr(key)

    writer = Thread(target=write)
    writer.start()
    try:
        assert wait_converged(whole.platform, within(10)).ok
    finally:
        done.set()
        writer.join()


def test_convergence_names_a_member_that_does_not_run(whole: Servers) -> None:
    whole.platform.stopped.add(NAMES[2])
    assert "redis-cluster-2 does not run" in wait_converged(whole.platform, within(0.2)).reason
    whole.platform.stopped.discard(NAMES[2])


def slot_key(cluster: Servers, group: int, prefix: str) -> str:
    """A key of that shard."""
    (first, last), number = SLOTS[group - 1][0], 0
    while not first <= cluster.tell(NAMES[0], "CLUSTER KEYSLOT", f"{prefix}-{number}") <= last:
        number += 1
    return f"{prefix}-{number}"


def audited(cluster: Servers, path: Path, **asked: Any) -> list[AuditLine]:
    with Writer(path) as writer:
        audit(
            cluster.platform,
            writer,
            **({"sessions": (), "rooms": (), "direct": ()} | asked),
            clock=RunClock.starting_now(),
            deadline=within(10),
        )
    return read_back(path)


def read_back(path: Path) -> list[AuditLine]:
    return [msgspec.json.decode(line, type=AuditLine) for line in path.read_bytes().splitlines()]


def test_the_audit_finds_what_is_there_and_what_is_not(whole: Servers, tmp_path: Path) -> None:
    tags = {group: slot_key(whole, group, "tag") for group in (1, 2, 3)}
    written = {f"direct:{{{tag}}}:{n}": group for group, tag in tags.items() for n in range(700)}
    for group, shard in enumerate(STACK.shards, 1):
        pipeline = whole.client(shard.primary).pipeline(transaction=False)
        for key in (key for key, owner in written.items() if owner == group):
            pipeline.set(key, f"value of {key}")
        pipeline.execute()
    missing = f"direct:{{{tags[3]}}}:lost"
    session, room = slot_key(whole, 2, "s"), slot_key(whole, 3, "room")
    owner = whole.client(STACK.shards[1].primary)
    owner.hset(f"session:{{{session}}}", mapping={"state": "ended", "version": 2, "data": "x"})
    owner.expire(f"session:{{{session}}}", 1_000)
    owner.rpush(f"session-log:{{{session}}}", json.dumps([1, "op-1", ""]), json.dumps([2, "op-2", "abc"]))
    owner = whole.client(STACK.shards[2].primary)
    owner.hset(f"room:{{{room}}}", mapping={"epoch": 4, "seq": 2})
    owner.rpush(f"room-log:{{{room}}}", json.dumps([3, 9, "e-1"]), json.dumps([4, 1, "e-2"]))

    lines = audited(
        whole,
        tmp_path / "audit.jsonl",
        sessions=[session, "s-never", session],
        rooms=[room, "room-never"],
        direct=[*written.items(), (missing, 3)],
    )

    direct = {line.key: line for line in lines if isinstance(line, DirectRead)}
    assert {key: line.group for key, line in direct.items()} == written | {missing: 3}
    assert all(direct[key].value == f"value of {key}" for key in written)
    assert direct[missing].value is None
    sessions = {line.key: line for line in lines if isinstance(line, SessionRead)}
    found = sessions[session]
    assert (found.group, found.exists, found.state, found.version) == (2, True, "ended", 2)
    assert 990 <= found.ttl_s <= 1_000
    assert found.log == ((1, "op-1", ""), (2, "op-2", "abc"))
    assert not sessions["s-never"].exists
    rooms = {line.key: line for line in lines if isinstance(line, RoomRead)}
    assert (rooms[room].group, rooms[room].epoch) == (3, 4)
    assert rooms[room].log == ((3, 9, "e-1"), (4, 1, "e-2"))
    assert (rooms["room-never"].epoch, rooms["room-never"].log) == (-1, ())
    done = {line.kind: line.count for line in lines if isinstance(line, AuditDone)}
    assert done == {"direct": 2_101, "session": 2, "room": 2}


def test_the_audit_reads_from_the_promoted_primary(cluster: Servers, tmp_path: Path) -> None:
    key = f"direct:{{{slot_key(cluster, 2, 'tag')}}}:1"
    client = cluster.client(NAMES[1])
    client.set(key, "kept")
    assert client.wait(1, 1_000) == 1
    cluster.signal(NAMES[1], signal.SIGKILL)
    lines = audited(cluster, tmp_path / "audit.jsonl", direct=[(key, 2)])  # retried until the promotion
    assert lines[0] == DirectRead(key, "kept", 2)


def test_an_audit_that_cannot_read_everything_never_calls_itself_done(whole: Servers, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    session = slot_key(whole, 1, "s")
    whole.client(NAMES[0]).rpush(f"session-log:{{{session}}}", "no row")
    tag = slot_key(whole, 3, "tag")
    with (
        Writer(path) as writer,
        pytest.raises(
            StackError, match=r"not complete: direct: .*MovedError.*; session: a row of the log of .* cannot"
        ),
    ):
        audit(
            whole.platform,
            writer,
            sessions=[session],
            rooms=["room-1"],
            direct=[(f"direct:{{{tag}}}:1", 1)],
            clock=RunClock.starting_now(),
            deadline=within(1),
        )
    assert {line.kind for line in read_back(path) if isinstance(line, AuditDone)} == {"room"}


def test_a_replica_that_holds_something_else_is_found(whole: Servers) -> None:
    tag = slot_key(whole, 1, "tag")
    keys = [(f"direct:{{{tag}}}:{number}", 1) for number in range(700)]
    pipeline = whole.client(NAMES[0]).pipeline(transaction=False)
    for key, _ in keys:
        pipeline.set(key, "whole", ex=1_000)
    pipeline.hset(f"session:{{{tag}}}", mapping={"state": "live", "version": 1})
    pipeline.expire(f"session:{{{tag}}}", 1_000)
    pipeline.execute()
    asked: dict[str, Any] = {"sessions": [tag], "rooms": [], "direct": keys}
    same = compare_replicas(whole.platform, **asked, deadline=within(10))
    replicas = [name for shard in STACK.shards for name in shard.replicas]
    assert (same.differing, same.reasons) == (0, ())
    assert same.compared == dict.fromkeys(replicas, 0) | {STACK.shards[0].replicas[0]: 701}
    assert same.evicted == dict.fromkeys(NAMES, 0)

    whole.client(STACK.shards[0].replicas[0]).config_set("masterauth", "wrong")
    whole.tell(NAMES[0], "CLIENT KILL TYPE replica")
    whole.client(NAMES[0]).set(keys[7][0], "changed behind its back")
    whole.client(NAMES[0]).expire(f"session:{{{tag}}}", 500)  # of a time to live a second is the same, not more
    found = compare_replicas(whole.platform, **asked, deadline=within(1))
    assert (found.differing, found.reasons) == (2, ())
    replica = STACK.shards[0].replicas[0]
    assert found.examples == ({"member": replica, "key": keys[7][0]}, {"member": replica, "key": tag})
    whole.client(replica).config_set("masterauth", PASSWORD)
    assert wait_converged(whole.platform, within(20)).ok


def test_a_replica_that_does_not_answer_is_named(cluster: Servers) -> None:
    cluster.signal(NAMES[4], signal.SIGKILL)
    tag = slot_key(cluster, 2, "tag")
    found = compare_replicas(cluster.platform, sessions=[], rooms=[], direct=[(f"{{{tag}}}", 2)], deadline=within(1))
    assert NAMES[4] not in found.compared


def test_the_servers_tell_their_configuration_without_the_password(cluster: Servers) -> None:
    cluster.signal(NAMES[5], signal.SIGKILL)
    described = redis_servers(cluster.platform)
    assert described[NAMES[0]]["version"].startswith("8.")
    assert described[NAMES[0]]["config"]["cluster-node-timeout"] == str(NODE_TIMEOUT_MS)
    assert "redis-cluster-5" in described[NAMES[5]]["error"]
    text = json.dumps(described)
    assert PASSWORD not in text
    assert "requirepass" not in text
    assert "masterauth" not in text
