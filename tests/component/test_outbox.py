"""What services keep in PostgreSQL, with real servers: an event follows each acknowledged end of a session, by the
outbox, and a job each change of an article; and an edit of a room is acknowledged by its row.

As few members as a tier can have are enough: what is tried is the way between them.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.check.durability.collaboration import collaboration
from resilience.check.durability.content import content
from resilience.check.durability.events import events
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.read import read_history
from resilience.history.record import AuditDone, AuditLine, Invoked, OutboxRead, Returned, RoomRead
from resilience.history.writer import Writer
from resilience.spec.read import read_stack
from resilience.spec.stack import PORTS, Collaboration, Shard, Stack
from resilience.stack import postgresql, rabbitmq, redis_cluster, service
from resilience.stack.content_audit import audit_content
from resilience.stack.http_link import HttpAnswer, http_ask
from resilience.stack.outbox_audit import audit_outbox
from resilience.stack.postgresql_cancel import cancel_waiting
from resilience.stack.rabbitmq_drain import drain
from resilience.stack.room_audit import audit_rooms
from tests.component.local_stack import brought_up
from tests.component.postgresql_tier import PRIMARY, STANDBY, asked, killed, wait_for
from tests.component.rabbitmq_members import eventually, take, texts, within
from tests.component.room_client import RoomClient, member
from tests.histories import TIERS, WITH_CONTENT, scenario, with_rooms_in_postgresql

pytestmark = pytest.mark.component
QUEUE, BROKER = "session-events", "rabbitmq-0"
SESSIONS = ("session-0", "session-1")
CONTENT = ("content-0", "content-1")
JOBS = "content-processing"
REDIS = ("redis-cluster-0", "redis-cluster-1", "redis-cluster-2")
INSTANCES = ("collaboration-0", "collaboration-1")
NEEDED = {*REDIS, PRIMARY, STANDBY, "pgbouncer-0", BROKER, *SESSIONS, *CONTENT, *INSTANCES}


def small_stack() -> Stack:
    """The shipped stack, with all services and few members."""
    stack = read_stack(PROJECT_ROOT, "stacks/local/content.yaml")
    assert stack.postgresql is not None
    return replace(
        stack,
        members=tuple(member for member in stack.members if member.name in NEEDED),
        shards=tuple(Shard(primary=shard.primary, replicas=()) for shard in stack.shards),
        postgresql=replace(stack.postgresql, replicas=(STANDBY,)),
        restart_delay_s=0.2,
        collaboration=Collaboration(log="postgresql", fanout="rabbitmq"),
    )


@pytest.fixture(scope="module")
def platform(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnedLocalPlatform]:
    with brought_up(small_stack(), image, tmp_path_factory.mktemp("members")) as owned:
        redis_cluster.form(owned, within())
        postgresql.wait_ready(owned, within())
        rabbitmq.form(owned, within())
        service.wait_ready(owned, within())
        yield owned


def tell(platform: OwnedLocalPlatform, member: str, path: str, **payload: Any) -> HttpAnswer:
    return http_ask(platform.state(member), path, method="POST", payload=payload, timeout_s=5.0, port=PORTS["session"])


def ended(platform: OwnedLocalPlatform, session: str, member: str = "session-0") -> str:
    """The event of a session that was created and has ended."""
    assert tell(platform, member, "/sessions", session=session, op=f"{session}-create", data="").status == 201
    answer = tell(platform, member, f"/sessions/{session}/end", op=f"{session}-end")
    assert answer.status == 200, answer
    return str(answer.json()["event"])


def rows(platform: OwnedLocalPlatform, where: str = "true") -> set[str | None]:
    return {row[0] for row in asked(platform, PRIMARY, f"SELECT id FROM outbox WHERE {where}")}


def published(platform: OwnedLocalPlatform, *events: str) -> None:
    """Returns when no row is left unpublished; the events are in the queue then, each once, and in their order."""
    wait_for("every row is published", lambda: not rows(platform, "published_at IS NULL"))
    assert texts(take(platform, BROKER, QUEUE)) == list(events)


def test_an_event_follows_each_end_and_none_anything_else(platform: OwnedLocalPlatform) -> None:
    events = [ended(platform, f"s-{number}", SESSIONS[number % 2]) for number in range(6)]
    assert events[0] == "session-ended/s-0/s-0-end"
    assert rows(platform) == set(events)
    wait_for("every row is published", lambda: not rows(platform, "published_at IS NULL"))
    assert sorted(texts(take(platform, BROKER, QUEUE))) == sorted(events)  # two relays, so in no order


def test_an_end_that_is_repeated_has_the_same_event(platform: OwnedLocalPlatform) -> None:
    event = ended(platform, "s-again")
    published(platform, event)
    again = tell(platform, "session-1", "/sessions/s-again/end", op="s-again-end")
    assert (again.status, again.json()["event"]) == (200, event)
    other = tell(platform, "session-1", "/sessions/s-again/end", op="s-another-end")
    assert (other.status, other.json()["error"]) == (410, "ended")
    published(platform)  # nothing more


def test_what_a_killed_member_had_not_published_another_publishes(platform: OwnedLocalPlatform) -> None:
    """RabbitMQ takes nothing while it stands still, so the rows are there and their events are not."""
    broker = platform.state(BROKER).handle["server_pid"]
    os.kill(broker, signal.SIGSTOP)
    try:
        events = [ended(platform, f"s-killed-{number}") for number in range(3)]
        assert rows(platform, "published_at IS NULL") == set(events)
        before = platform.state("session-0")
        os.kill(before.handle["server_pid"], signal.SIGKILL)
    finally:
        os.kill(broker, signal.SIGCONT)
    wait_for("every row is published", lambda: not rows(platform, "published_at IS NULL"))
    # a publish that was under way as RabbitMQ stood still came, too, and nobody heard of it: at least once
    taken = texts(eventually(lambda: take(platform, BROKER, QUEUE), bool))
    assert set(taken) == set(events)
    wait_for("session-0 runs again", lambda: platform.state("session-0").restarts == before.restarts + 1)
    service.wait_ready(platform, within())


def test_no_end_is_acknowledged_without_its_row(platform: OwnedLocalPlatform) -> None:
    """A database that stands still: the session has ended, and whether its event comes is not known to the client."""
    assert tell(platform, "session-1", "/sessions", session="s-row", op="s-row-create", data="").status == 201
    servers = postgresql_pids(platform)
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = tell(platform, "session-1", "/sessions/s-row/end", op="s-row-end")
        assert (answer.status, answer.json()) == (503, {"error": "outbox", "outcome": "unknown"})
        assert time.monotonic() - began < 3  # a request's second, on a busy machine
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
    event = end_until_acknowledged(platform, "s-row")
    wait_for("the row is published", lambda: event in rows(platform, "published_at IS NOT NULL"))
    assert set(texts(take(platform, BROKER, QUEUE))) == {event}


def end_until_acknowledged(platform: OwnedLocalPlatform, session: str) -> str:
    answer = eventually(
        lambda: tell(platform, "session-1", f"/sessions/{session}/end", op=f"{session}-end"),
        lambda answer: answer.status == 200,
    )
    return str(answer.json()["event"])


def test_a_row_that_no_standby_has_is_no_acknowledged_end(platform: OwnedLocalPlatform) -> None:
    """The standby that commits wait for stands still, and somebody cancels that: the primary alone has the row."""
    wait_for_standbys(platform, "*")
    pids = postgresql_pids(platform, STANDBY)
    try:
        assert tell(platform, "session-0", "/sessions", session="s-alone", op="s-alone-create", data="").status == 201
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(tell, platform, "session-0", "/sessions/s-alone/end", op="s-alone-end")
            assert cancel_waiting(platform, 0.8).backends
            assert (answer.result().status, answer.result().json()["error"]) == (503, "outbox")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    event = end_until_acknowledged(platform, "s-alone")
    wait_for_standbys(platform, "")
    published(platform, event)


def wait_for_standbys(platform: OwnedLocalPlatform, names: str) -> None:
    """Which standbys commits wait for from here on."""
    asked(platform, PRIMARY, f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    asked(platform, PRIMARY, "SELECT pg_reload_conf()")
    wait_for("it is in effect", lambda: asked(platform, PRIMARY, "SHOW synchronous_standby_names") == [(names,)])


def postgresql_pids(platform: OwnedLocalPlatform, member: str = PRIMARY) -> list[int]:
    """The server and all its processes."""
    server = platform.state(member).handle["server_pid"]
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [server, *map(int, children)]


def test_a_database_that_was_restarted_is_found_again(platform: OwnedLocalPlatform) -> None:
    killed(platform, PRIMARY)
    postgresql.wait_ready(platform, within())
    assert tell(platform, "session-0", "/sessions", session="s-back", op="s-back-create", data="").status == 201
    answer = eventually(
        lambda: tell(platform, "session-0", "/sessions/s-back/end", op="s-back-end"),
        lambda answer: answer.status == 200,
    )
    published(platform, answer.json()["event"])


def test_a_publish_that_nobody_marked_is_repeated_under_the_same_id(platform: OwnedLocalPlatform) -> None:
    """What a relay leaves that ends between a confirm and its mark."""
    event = ended(platform, "s-first")
    published(platform, event)
    asked(platform, PRIMARY, f"UPDATE outbox SET published_at = NULL WHERE id = '{event}'")
    assert texts(eventually(lambda: take(platform, BROKER, QUEUE), bool)) == [event]


def recorded_ends(folder: Path, *sessions: str) -> None:
    """What a generator would have on record of these ends, each of them acknowledged."""
    (folder / "load").mkdir()
    with Writer(folder / "load" / "locust.ops.jsonl") as writer:
        for number, session in enumerate(sessions, 1):
            writer.append(Invoked(number, "session.end", session, f"{session}-end", 1, "steady", number, number))
            writer.append(Returned(number, "ok", number + 1))


def read_back(platform: OwnedLocalPlatform, folder: Path, timeout_s: float) -> int:
    clock = RunClock.starting_now()
    with Writer(folder / "audit.jsonl") as writer:
        left = audit_outbox(platform, writer, clock=clock, deadline=time.monotonic() + timeout_s)
        if not left:
            drain(platform, writer, hit=(), clock=clock, deadline=within())
    return left


def verdicts(folder: Path) -> dict[str, tuple[str, float | None]]:
    found = events(scenario(tiers=TIERS), read_history(folder))
    return {finding.where.group: (finding.verdict, finding.value) for finding in found}


def test_each_end_is_followed_through_all_hops(platform: OwnedLocalPlatform, tmp_path: Path) -> None:
    """By what is read back: rows once they are published, then the queue. A loss is found at its hop."""
    asked(platform, PRIMARY, "TRUNCATE outbox")
    sessions = [f"s-way-{number}" for number in range(4)]
    events_of = [ended(platform, session) for session in sessions]
    recorded_ends(tmp_path, *sessions)
    assert read_back(platform, tmp_path, within() - time.monotonic()) == 0
    lines = msgspec.json.Decoder(AuditLine).decode_lines((tmp_path / "audit.jsonl").read_bytes())
    assert [line for line in lines if isinstance(line, OutboxRead)] == [
        OutboxRead(event, True, PRIMARY, 1) for event in events_of
    ]
    assert {line.kind: line.count for line in lines if isinstance(line, AuditDone)} == {"outbox": 4, "rabbitmq": 4}
    hops = ("postgresql", "outbox", "queue session-events")
    assert verdicts(tmp_path) == dict.fromkeys(hops, ("pass", 0.0))

    asked(platform, PRIMARY, f"DELETE FROM outbox WHERE id = '{events_of[0]}'")
    (tmp_path / "audit.jsonl").unlink()
    assert read_back(platform, tmp_path, within() - time.monotonic()) == 0  # nothing comes out of the queue any more
    assert verdicts(tmp_path) == {hops[0]: ("fail", 1.0), hops[1]: ("pass", 0.0), hops[2]: ("fail", 3.0)}


def test_an_outbox_that_does_not_settle_is_read_as_it_is(platform: OwnedLocalPlatform, tmp_path: Path) -> None:
    broker = platform.state(BROKER).handle["server_pid"]
    os.kill(broker, signal.SIGSTOP)
    try:
        ended(platform, "s-unsettled")
        recorded_ends(tmp_path, "s-unsettled")
        assert read_back(platform, tmp_path, 0.5) == 1
        assert verdicts(tmp_path)["outbox"] == ("fail", 1.0)
        with pytest.raises(StackError, match=f"{PRIMARY} takes writes on timeline 1, and timeline 2 has been seen"):
            audit_outbox(
                platform, Writer(tmp_path / "stray"), clock=RunClock.starting_now(), deadline=0.0, timeline_min=2
            )
    finally:
        os.kill(broker, signal.SIGCONT)


def in_room(
    platform: OwnedLocalPlatform, instance: str, room: str, name: str, since: tuple[int, int] = (-1, -1)
) -> AbstractAsyncContextManager[RoomClient]:
    return member(f"{platform.state(instance).address}:{PORTS['collaboration']}", room, name, *since)


def log_of(platform: OwnedLocalPlatform, room: str) -> list[tuple[Any, ...]]:
    return asked(platform, PRIMARY, f"SELECT seq, edit FROM room_edits WHERE room = '{room}' ORDER BY seq")


async def test_an_edit_is_a_row_before_it_is_acknowledged_and_reaches_every_instance(
    platform: OwnedLocalPlatform,
) -> None:
    async with (
        in_room(platform, "collaboration-0", "r", "ann") as ann,
        in_room(platform, "collaboration-1", "r", "bob") as bob,
    ):
        joined = [await one.read("joined") for one in (ann, bob)]
        assert [(one["seq"], one["edits"]) for one in joined] == [(0, []), (0, [])]
        acks = []
        for number, (who, text) in enumerate(((ann, "a"), (bob, "b\0"), (ann, "c" * 16_384)), 1):
            acks.append(await who.edit(text))
            assert acks[-1]["type"] == "ack", acks[-1]
            assert log_of(platform, "r")[-1] == (str(number), msgspec.json.encode(text).decode())
        assert [(ack["epoch"], ack["seq"]) for ack in acks] == [(joined[0]["epoch"], seq) for seq in (1, 2, 3)]
        for one in (ann, bob):
            assert [(await one.read("edit"))["seq"] for _ in acks] == [1, 2, 3]
        again = await bob.edit("a")
        assert (again["epoch"], again["seq"]) == (acks[0]["epoch"], 1), "it is the same edit"
        await bob.send("presence")
        assert (await bob.read("presence"))["members"] == ["ann", "bob"]
    async with in_room(platform, "collaboration-0", "r", "cid", (joined[0]["epoch"], 1)) as cid:
        assert [row[1:] for row in (await cid.read("joined"))["edits"]] == [[2, "b\0"], [3, "c" * 16_384]]


def edit_events(platform: OwnedLocalPlatform) -> list[str]:
    """The ids of events that are in the queue, once every row has had its event confirmed."""
    unpublished = "SELECT count(*) FROM room_edits WHERE published_at IS NULL"
    wait_for("every edit is published", lambda: asked(platform, PRIMARY, unpublished) == [("0",)])
    return [text.partition(" ")[0] for text in texts(take(platform, BROKER, "collaboration-sync"))]


async def test_an_event_follows_each_edit_and_reaches_every_instance(platform: OwnedLocalPlatform) -> None:
    edit_events(platform)
    async with (
        in_room(platform, "collaboration-0", "event", "ann") as ann,
        in_room(platform, "collaboration-1", "event", "bob") as bob,
    ):
        await bob.read("joined")
        await ann.read("joined")
        acks = [await ann.edit(text) for text in ("a", "b", "c")]
        assert [(await bob.read("edit"))["edit"] for _ in acks] == ["a", "b", "c"]
    assert edit_events(platform) == [f"room-edited/event/{ack['epoch']}/{ack['seq']}" for ack in acks]


async def test_edits_go_on_without_rabbitmq_and_others_publish_what_a_killed_member_left(
    platform: OwnedLocalPlatform,
) -> None:
    """RabbitMQ stands still: edits are acknowledged by their rows, and who misses them finds them in the log."""
    edit_events(platform)
    broker = platform.state(BROKER).handle["server_pid"]
    before = platform.state("collaboration-0")
    async with in_room(platform, "collaboration-1", "left", "bob") as bob:
        await bob.read("joined")
        os.kill(broker, signal.SIGSTOP)
        try:
            async with in_room(platform, "collaboration-0", "left", "ann") as ann:
                await ann.read("joined")
                acks = [await ann.edit(text) for text in ("a", "b")]
            head = await bob.read("head", seq=2)
            await bob.send("missed", epoch=head["epoch"], seq=0)
            assert [row[2] for row in (await bob.read("missed"))["edits"]] == ["a", "b"]
            os.kill(before.handle["server_pid"], signal.SIGKILL)
        finally:
            os.kill(broker, signal.SIGCONT)
        published = edit_events(platform)
        assert set(published) == {f"room-edited/left/{ack['epoch']}/{ack['seq']}" for ack in acks}
    wait_for("it runs again", lambda: platform.state("collaboration-0").restarts == before.restarts + 1)
    service.wait_ready(platform, within())


async def test_edits_that_were_rolled_back_are_taken_from_members_in_a_new_epoch(platform: OwnedLocalPlatform) -> None:
    """What a failover to a standby that was behind does to the log: its newest rows were never there."""
    async with in_room(platform, "collaboration-0", "back", "ann") as ann:
        epoch = (await ann.read("joined"))["epoch"]
        for text in ("a", "b", "c"):
            await ann.edit(text)
        asked(platform, PRIMARY, "DELETE FROM room_edits WHERE room = 'back' AND seq > 1")
        resync = await ann.read("resync")
        assert (resync["epoch"], resync["seq"]) == (epoch + 1, 1)
        ack = await ann.edit("d")
        assert (ack["epoch"], ack["seq"]) == (epoch + 1, 2)
        asked(platform, PRIMARY, "UPDATE room_epochs SET owner = '000000FF' WHERE room = 'back'")
        ack = await ann.edit("e")
        assert (ack["epoch"], ack["seq"]) == (epoch + 2, 3), "another timeline, another epoch"


async def test_an_edit_whose_row_is_not_known_to_be_committed_is_not_acknowledged(
    platform: OwnedLocalPlatform,
) -> None:
    async with in_room(platform, "collaboration-1", "still", "ann") as ann:
        await ann.read("joined")
        assert (await ann.edit("before"))["type"] == "ack"
        servers = postgresql_pids(platform)
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        try:
            refused = await ann.edit("meanwhile")
            assert (refused["type"], refused["outcome"]) == ("refused", "unknown")
        finally:
            for pid in servers:
                os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(within() - time.monotonic()):
            while refused["type"] != "ack":
                refused = await ann.edit("meanwhile")
    assert [row[1] for row in log_of(platform, "still")] == ['"before"', '"meanwhile"'], "once"


async def test_each_edit_is_followed_through_all_hops(platform: OwnedLocalPlatform, tmp_path: Path) -> None:
    """By what is read back: rows once they are published, then the queue. A loss is found at its hop."""
    edit_events(platform)
    asked(platform, PRIMARY, "TRUNCATE room_edits, room_epochs")
    (tmp_path / "load").mkdir()
    async with in_room(platform, "collaboration-0", "way", "ann") as ann:
        await ann.read("joined")
        with Writer(tmp_path / "load" / "locust.ops.jsonl") as writer:
            for number, text in enumerate(("a", "b", "c"), 1):
                ack = await ann.edit(text)
                writer.append(Invoked(number, "collaboration.edit", "way", text, 1, "steady", number, number))
                writer.append(Returned(number, "ok", number + 1, ack["seq"], ack["epoch"]))
    about = with_rooms_in_postgresql(scenario(tiers=TIERS), "rabbitmq")
    clock = RunClock.starting_now()

    def verdicts_of() -> dict[str, tuple[str, float | None]]:
        with Writer(tmp_path / "audit.jsonl") as writer:
            audit_rooms(platform, writer, ["way", "never"], clock=clock, deadline=within())
            drain(platform, writer, hit=(), clock=clock, deadline=within())
        found = collaboration(about, read_history(tmp_path))
        return {finding.where.group: (finding.verdict, finding.value) for finding in found}

    hops = ("postgresql", "rooms", "queue collaboration-sync")
    assert verdicts_of() == dict.fromkeys(hops, ("pass", 0.0))
    lines = msgspec.json.Decoder(AuditLine).decode_lines((tmp_path / "audit.jsonl").read_bytes())
    epoch = ack["epoch"]
    assert [line for line in lines if isinstance(line, RoomRead)] == [
        RoomRead("way", 0, epoch, ((epoch, 1, "a"), (epoch, 2, "b"), (epoch, 3, "c")), PRIMARY, 1),
        RoomRead("never", 0, -1, (), PRIMARY, 1),
    ]
    asked(platform, PRIMARY, "DELETE FROM room_edits WHERE seq = 2")
    (tmp_path / "audit.jsonl").unlink()  # nothing comes out of the queue any more
    assert verdicts_of() == {hops[0]: ("fail", 1.0), hops[1]: ("pass", 0.0), hops[2]: ("fail", 2.0)}


async def test_edits_that_are_not_published_in_time_are_read_as_they_are(
    platform: OwnedLocalPlatform, tmp_path: Path
) -> None:
    broker = platform.state(BROKER).handle["server_pid"]
    os.kill(broker, signal.SIGSTOP)
    try:
        async with in_room(platform, "collaboration-1", "unsettled", "ann") as ann:
            await ann.read("joined")
            assert (await ann.edit("a"))["type"] == "ack"
        with Writer(tmp_path / "audit.jsonl") as writer:
            audit_rooms(platform, writer, (), clock=RunClock.starting_now(), deadline=time.monotonic() + 0.5)
        lines = msgspec.json.Decoder(AuditLine).decode_lines((tmp_path / "audit.jsonl").read_bytes())
        rooms = {line.key: line.unpublished for line in lines if isinstance(line, RoomRead)}
        assert rooms["unsettled"] == (1,)
    finally:
        os.kill(broker, signal.SIGCONT)
    edit_events(platform)


def answered(
    platform: OwnedLocalPlatform, path: str, member: str = "content-0", method: str = "GET", **payload: Any
) -> HttpAnswer:
    state = platform.state(member)
    return http_ask(state, path, method=method, payload=payload or None, timeout_s=5.0, port=PORTS["content"])


def written(platform: OwnedLocalPlatform, article: str, member: str = "content-0") -> str:
    """The job of an article that was created."""
    answer = tell(platform, member, "/articles", article=article, op=f"{article}-create", body="two words")
    assert answer.status == 201, answer
    assert answer.json()["version"] == 1
    return str(answer.json()["job"])


def renditions(platform: OwnedLocalPlatform) -> dict[str | None, tuple[str | None, ...]]:
    return {row[0]: row[1:] for row in asked(platform, PRIMARY, "SELECT job, words, times FROM rendition")}


def worked_off(platform: OwnedLocalPlatform, *jobs: str) -> None:
    """Returns when each of these jobs has had its effect, once."""
    wait_for("every job is worked off", lambda: set(jobs) <= renditions(platform).keys())
    assert {renditions(platform)[job] for job in jobs} == {("2", "1")}


def test_a_job_follows_each_change_and_a_reader_sees_it(platform: OwnedLocalPlatform) -> None:
    job = written(platform, "a-first")
    assert job == "article-changed/a-first/a-first-create"
    first, again = (answered(platform, "/articles/a-first", "content-1").json() for _ in range(2))
    assert (first["source"], again["source"]) == ("database", "cache")
    assert (again["version"], again["op"], again["body"]) == (1, "a-first-create", "two words")
    change: dict[str, Any] = {"op": "a-first-2", "version": 1, "body": "more words"}
    for _ in range(2):  # a change that is repeated is the same change
        answer = answered(platform, "/articles/a-first", method="PUT", **change)
        assert (answer.status, answer.json()) == (200, {"version": 2, "job": "article-changed/a-first/a-first-2"})
    assert answered(platform, "/articles/a-first", "content-1").json()["version"] == 2  # at once: the copy was dropped
    worked_off(platform, job, "article-changed/a-first/a-first-2")
    assert take(platform, BROKER, JOBS) == []
    listed = answered(platform, "/articles").json()["articles"]
    assert listed[0] == {"article": "a-first", "version": 2}


def test_what_cannot_be_done_to_an_article(platform: OwnedLocalPlatform) -> None:
    written(platform, "a-odd")
    other = answered(platform, "/articles/a-odd", method="PUT", op="a-odd-2", version=7, body="")
    assert (other.status, other.json()) == (409, {"error": "conflict", "outcome": "fail", "version": 1})
    missing = answered(platform, "/articles/a-none", method="PUT", op="a-none-2", version=1, body="")
    assert (missing.status, answered(platform, "/articles/a-none").status) == (404, 404)
    twice = tell(platform, "content-1", "/articles", article="a-odd", op="a-odd-again", body="")
    assert (twice.status, twice.json()["error"]) == (409, "conflict")


def test_a_cached_copy_is_over_in_time_whoever_failed_to_drop_it(platform: OwnedLocalPlatform) -> None:
    """Written behind the service's back, which drops nothing then; a reader sees it after the stated time."""
    written(platform, "a-cached")
    assert answered(platform, "/articles/a-cached").json()["source"] == "database"
    began = time.monotonic()
    asked(platform, PRIMARY, "UPDATE article SET version = 2 WHERE id = 'a-cached'")
    content = platform.stack.content
    assert content is not None
    eventually(lambda: answered(platform, "/articles/a-cached").json()["version"], lambda version: version == 2)
    assert time.monotonic() - began < content.cache_ttl_s + 2  # a busy machine's


def test_jobs_of_a_killed_member_are_done_by_another_once(platform: OwnedLocalPlatform) -> None:
    """RabbitMQ takes nothing while it stands still, so the jobs' rows are there and nobody works on them."""
    broker = platform.state(BROKER).handle["server_pid"]
    os.kill(broker, signal.SIGSTOP)
    try:
        jobs = [written(platform, f"a-killed-{number}") for number in range(3)]
        before = platform.state("content-0")
        os.kill(before.handle["server_pid"], signal.SIGKILL)
    finally:
        os.kill(broker, signal.SIGCONT)
    wait_for("every job is worked off", lambda: set(jobs) <= renditions(platform).keys())
    wait_for("content-0 runs again", lambda: platform.state("content-0").restarts == before.restarts + 1)
    service.wait_ready(platform, within())
    asked(platform, PRIMARY, f"UPDATE article_job SET published_at = NULL WHERE id = '{jobs[0]}'")
    # published again, so worked on again, and still one row
    eventually(lambda: int(renditions(platform)[jobs[0]][1] or 0), lambda times: times > 1)


def test_no_change_is_acknowledged_without_its_row(platform: OwnedLocalPlatform) -> None:
    written(platform, "a-row")
    assert answered(platform, "/articles/a-row").status == 200
    servers = postgresql_pids(platform)
    change: dict[str, Any] = {"op": "a-row-2", "version": 1, "body": "two words"}
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    try:
        answer = answered(platform, "/articles/a-row", method="PUT", **change)
        assert (answer.status, answer.json()) == (503, {"error": "database", "outcome": "unknown"})
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
    done = eventually(
        lambda: answered(platform, "/articles/a-row", "content-1", method="PUT", **change),
        lambda answer: answer.status == 200,
    )
    assert done.json()["version"] == 2
    worked_off(platform, done.json()["job"])


def test_each_change_is_followed_through_all_hops(platform: OwnedLocalPlatform, tmp_path: Path) -> None:
    """By what is read back: articles and jobs once they are worked off, then the queue. A loss is found at its hop."""
    asked(platform, PRIMARY, "TRUNCATE article, article_job, rendition")
    articles = [f"a-way-{number}" for number in range(4)]
    jobs = [written(platform, article) for article in articles]
    (tmp_path / "load").mkdir()
    with Writer(tmp_path / "load" / "locust.ops.jsonl") as writer:
        for number, article in enumerate(articles, 1):
            kind, value = "content.create", f"{article}-create"
            writer.append(Invoked(number, kind, article, value, 0, "steady", number, number))
            writer.append(Returned(number, "ok", number + 1, version=1))

    def found() -> dict[str, tuple[str, float | None]]:
        clock = RunClock.starting_now()
        with Writer(tmp_path / "audit.jsonl") as writer:
            assert audit_content(platform, writer, clock=clock, deadline=within()) == 0
            drain(platform, writer, hit=(), clock=clock, deadline=within())
        seen = content(scenario(tiers=WITH_CONTENT), read_history(tmp_path))
        (tmp_path / "audit.jsonl").unlink()
        return {finding.where.group: (finding.verdict, finding.value) for finding in seen}

    hops = ("postgresql", "cache", "jobs", f"queue {JOBS}", "renditions")
    unread = {"cache": ("inconclusive", 0.0)}  # nobody has read any
    assert found() == dict.fromkeys(hops, ("pass", 0.0)) | unread
    asked(platform, PRIMARY, f"DELETE FROM article_job WHERE id = '{jobs[0]}'")
    assert found() == dict.fromkeys(hops, ("pass", 0.0)) | unread | {
        "postgresql": ("fail", 1.0), "renditions": ("fail", 1.0),
    }  # fmt: skip
