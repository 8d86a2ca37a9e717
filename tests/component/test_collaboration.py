"""The collaboration service, two instances of it, against a real Redis Cluster."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.component.redis_on_loopback import Cluster, Server, wait_until
from tests.component.room_client import RoomClient, connection, member
from tests.component.service_process import Service, redis_settings, service

pytestmark = pytest.mark.component
REDIS_PORT = 17_710  # of the first of its servers, see `conftest.cluster`


@pytest.fixture(scope="module")
def here(cluster: Cluster, folder: Path) -> Iterator[Service]:
    with service(folder, "collaboration", **redis_settings(cluster)) as running:
        yield running


@pytest.fixture(scope="module")
def there(cluster: Cluster, folder: Path) -> Iterator[Service]:
    with service(folder, "collaboration", **redis_settings(cluster)) as running:
        yield running


@pytest.fixture(scope="module")
def durable(cluster: Cluster, folder: Path) -> Iterator[Service]:
    with service(folder, "collaboration", **redis_settings(cluster, "wait")) as running:
        yield running


def log_of(cluster: Cluster, room: str) -> list[list[Any]]:
    key = f"room-log:{{{room}}}"
    return [json.loads(row) for row in cluster.primary_of(key).client().lrange(key, 0, -1)]


def roll_back(cluster: Cluster, room: str, edits: int) -> None:
    """What a failover to a replica that was behind does: the newest edits were never there."""
    client = cluster.primary_of(f"{{{room}}}").client()
    keys = [f"{kind}:{{{room}}}" for kind in ("room", "room-log", "room-edits")]
    for _ in range(edits):
        _, seq, edit = json.loads(client.rpop(keys[1]))
        client.hset(keys[0], "seq", seq - 1)
        client.hdel(keys[2], edit)


def wake(cluster: Cluster, server: Server) -> None:
    server.send(signal.SIGCONT)
    wait_until(cluster.whole, "cluster is whole again")


async def test_an_edit_reaches_every_member_over_all_instances(cluster: Cluster, here: Service, there: Service):
    async with AsyncExitStack() as stack:
        clients, joined = [], []
        for number in range(4):
            address = (here if number < 2 else there).address
            clients.append(await stack.enter_async_context(member(address, "r-fan", f"m-{number}")))
            joined.append(await clients[-1].read("joined"))
        assert [one["members"] for one in joined] == [1, 2, 3, 4]
        acks = [await client.edit(f"edit-{number}") for number, client in enumerate(clients)]
        seqs = [joined[0]["seq"] + 1 + number for number in range(4)]
        assert [ack["seq"] for ack in acks] == seqs
        for client in clients:
            got = [await client.read("edit") for _ in range(4)]
            assert [(one["seq"], one["edit"]) for one in got] == [(seq, f"edit-{n}") for n, seq in enumerate(seqs)]
            assert await client.nothing("edit", for_s=0.1)
    assert log_of(cluster, "r-fan") == [[ack["epoch"], ack["seq"], ack["edit"]] for ack in acks]


async def test_many_edits_at_once_are_delivered_in_order_and_once(here: Service, there: Service):
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(member(one.address, "r-many", f"m-{one.port}-{number}"))
            for one in (here, there)
            for number in range(2)
        ]
        for client in clients:
            await client.read("joined")
        await asyncio.gather(*(_edits(client, f"by-{number}", 25) for number, client in enumerate(clients)))
        for client in clients:
            seqs = [(await client.read("edit"))["seq"] for _ in range(100)]
            assert seqs == list(range(seqs[0], seqs[0] + 100))


async def _edits(client: RoomClient, prefix: str, count: int) -> None:
    for number in range(count):
        assert (await client.edit(f"{prefix}-{number}"))["type"] == "ack"


async def test_an_edit_is_stored_once(cluster: Cluster, here: Service, there: Service):
    async with member(here.address, "r-once", "a") as first, member(there.address, "r-once", "b") as second:
        await first.read("joined")
        await second.read("joined")
        assert await first.edit("same") == await second.edit("same")
    assert [row[2] for row in log_of(cluster, "r-once")] == ["same"]


async def test_who_missed_something_gets_exactly_that(here: Service):
    async with member(here.address, "r-missed", "a") as client:
        await client.read("joined")
        acks = [await client.edit(f"edit-{number}") for number in range(5)]
        rows = [[ack["epoch"], ack["seq"], ack["edit"]] for ack in acks]
        await client.send("missed", epoch=acks[1]["epoch"], seq=acks[1]["seq"])
        missed = await client.read("missed")
        assert missed["edits"] == rows[2:]
        assert (missed["epoch"], missed["seq"]) == tuple(rows[-1][:2])
        async with member(here.address, "r-missed", "b", acks[3]["epoch"], acks[3]["seq"]) as late:
            assert (await late.read("joined"))["edits"] == rows[4:]
        async with member(here.address, "r-missed", "c") as new:
            joined = await new.read("joined")
            assert (joined["edits"], joined["epoch"], joined["seq"]) == ([], *rows[-1][:2])


async def test_the_head_tells_of_a_tail_that_was_lost_on_the_way(cluster: Cluster, here: Service):
    async with member(here.address, "r-head", "a") as client:
        joined = await client.read("joined")
        key = "{r-head}"
        script = cluster.primary_of(key).client()
        script.rpush(f"room-log:{key}", json.dumps([joined["epoch"], joined["seq"] + 1, "unheard"]))
        script.hset(f"room:{key}", "seq", joined["seq"] + 1)
        head = await client.read("head", seq=joined["seq"] + 1, timeout_s=3)
        await client.send("missed", epoch=joined["epoch"], seq=joined["seq"])
        assert (await client.read("missed"))["edits"] == [[head["epoch"], head["seq"], "unheard"]]


async def test_a_member_that_is_ahead_of_the_log_is_told_to_resynchronise(cluster: Cluster, here: Service):
    async with member(here.address, "r-ahead", "a") as client:
        await client.read("joined")
        acks = [await client.edit(f"edit-{number}") for number in range(5)]
    roll_back(cluster, "r-ahead", 2)
    kept = acks[2]
    async with member(here.address, "r-ahead", "a", acks[4]["epoch"], acks[4]["seq"]) as ahead:
        resync = await ahead.read("resync")
        joined = await ahead.read("joined")
        assert (resync["epoch"], resync["seq"]) > (acks[4]["epoch"], 0)
        assert resync["seq"] == kept["seq"]
        assert (joined["epoch"], joined["seq"], joined["edits"]) == (resync["epoch"], resync["seq"], [])
        async with member(here.address, "r-ahead", "b", kept["epoch"], kept["seq"]) as level:
            await level.read("joined")
            assert await level.nothing("resync", for_s=0.1)
        again = await ahead.edit("edit-4")  # its number is a new one
        assert (again["epoch"], again["seq"]) == (resync["epoch"], kept["seq"] + 1)
        # A second one that is ahead comes later: the epoch has been advanced, and it misses the edit of the new one.
        async with member(here.address, "r-ahead", "c", acks[4]["epoch"], acks[4]["seq"]) as late:
            told = await late.read("resync")
            assert (told["epoch"], told["seq"]) == (resync["epoch"], resync["seq"])
            assert (await late.read("joined"))["edits"] == [[again["epoch"], again["seq"], "edit-4"]]


async def test_members_that_stay_connected_through_a_rollback_are_told(cluster: Cluster, here: Service, there: Service):
    async with member(here.address, "r-live", "a") as author, member(there.address, "r-live", "b") as reader:
        await author.read("joined")
        await reader.read("joined")
        acks = [await author.edit(f"edit-{number}") for number in range(4)]
        for _ in acks:
            await author.read("edit")
            await reader.read("edit")
        roll_back(cluster, "r-live", 3)
        after = await author.edit("after")
        assert after["epoch"] > acks[0]["epoch"]
        assert after["seq"] == acks[0]["seq"] + 1
        for client in (author, reader):
            resync = await client.read("resync")
            assert (resync["epoch"], resync["seq"]) == (after["epoch"], acks[0]["seq"])
            missed = await client.read("missed")
            assert missed["edits"] == [[after["epoch"], after["seq"], "after"]]
            assert await client.nothing("resync", for_s=1.2)  # once
        assert (await author.edit("more"))["seq"] == after["seq"] + 1
        assert (await reader.read("edit"))["edit"] == "more"


async def test_numbers_are_not_reused_when_the_whole_room_was_lost(cluster: Cluster, here: Service):
    async with member(here.address, "r-gone", "a") as client:
        await client.read("joined")
        before = [await client.edit(f"edit-{number}") for number in range(3)][-1]
    client_ = cluster.primary_of("{r-gone}").client()
    client_.delete(*(f"{kind}:{{r-gone}}" for kind in ("room", "room-log", "room-edits", "room-members")))
    await asyncio.sleep(1.1)  # the epoch of a new room is the second in which it begins
    async with member(here.address, "r-gone", "new") as client:
        await client.read("joined")
        first = await client.edit("first")
        assert first["epoch"] > before["epoch"]
        async with member(here.address, "r-gone", "a", before["epoch"], before["seq"]) as ahead:
            assert (await ahead.read("resync"))["seq"] == 0
            assert (await ahead.read("joined"))["edits"] == [[first["epoch"], first["seq"], "first"]]


async def test_presence_is_known_over_all_instances(here: Service, there: Service):
    async with member(here.address, "r-here", "a") as first:
        await first.read("joined")
        async with member(there.address, "r-here", "b") as second:
            await second.read("joined")
            await first.send("presence")
            assert sorted((await first.read("presence"))["members"]) == ["a", "b"]
        deadline = time.monotonic() + 3
        members = ["a", "b"]
        while members != ["a"] and time.monotonic() < deadline:
            await first.send("presence")
            members = (await first.read("presence"))["members"]
        assert members == ["a"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"type":"what"}',
        '{"type":"edit"}',
        '{"type":"edit","edit":""}',
        '{"type":"edit","edit":7}',
        '{"type":"missed","epoch":"1","seq":2}',
        '{"type":"missed","epoch":1e99,"seq":2}',
        '{"type":"edit","edit":"' + "x" * 20_000 + '"}',
    ],
    ids=lambda text: text[:24],
)
async def test_a_bad_message_is_refused_and_the_connection_lives(here: Service, text: str):
    async with member(here.address, "r-bad", "a") as client:
        await client.read("joined")
        await client.send_text(text)
        assert await client.read("refused") == {
            "type": "refused",
            "edit": None,
            "error": "bad-request",
            "outcome": "fail",
        }
        assert (await client.edit(f"still-{hash(text)}"))["type"] == "ack"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"edit","edit":"x"}', 1008),
        ('{"type":"join","member":"a\\nb","epoch":-1,"seq":-1}', 1008),
        ('{"type":"join","member":"' + "x" * 70_000 + '"}', 1009),
    ],
    ids=["edit first", "control character", "too large"],
)
async def test_who_does_not_join_properly_is_closed(here: Service, text: str, code: int):
    async with connection(here.address, "r-rude") as client:
        await client.send_text(text)
        assert await client.closed() == code


async def test_an_edit_that_no_replica_has_is_refused_as_unknown(cluster: Cluster, here: Service, durable: Service):
    async with member(durable.address, "r-wait", "a") as client, member(here.address, "r-wait", "b") as relaxed:
        await client.read("joined")
        await relaxed.read("joined")
        assert (await client.edit("fine"))["type"] == "ack"
        replica = cluster.replica_of("{r-wait}")
        replica.send(signal.SIGSTOP)
        try:
            refused = await client.edit("not yet")
            acked = await relaxed.edit("async")
        finally:
            wake(cluster, replica)
        assert refused == {"type": "refused", "edit": "not yet", "error": "not-durable", "outcome": "unknown"}
        assert acked["type"] == "ack"
        assert (await client.edit("not yet"))["type"] == "ack"  # it was stored, and now it is durable
    assert [row[2] for row in log_of(cluster, "r-wait")] == ["fine", "not yet", "async"]


async def test_rooms_work_again_after_a_failover(cluster: Cluster, here: Service, there: Service):
    async with member(here.address, "r-over", "a") as author, member(there.address, "r-over", "b") as reader:
        await author.read("joined")
        await reader.read("joined")
        before = await author.edit("before")
        victim = cluster.primary_of("{r-over}")
        victim.kill()
        answers = [await author.edit("during-0")]
        deadline = time.monotonic() + 15
        while answers[-1]["type"] != "ack" and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            answers.append(await author.edit(f"during-{len(answers)}"))
        assert answers[0]["type"] == "refused"
        after = answers[-1]
        assert after["type"] == "ack"
        assert (after["epoch"], after["seq"]) == (before["epoch"] + 1, before["seq"] + 1)
        await asyncio.sleep(1)  # subscriptions have moved
        last = await author.edit("last")
        for client in (author, reader):
            assert (await client.read("edit", edit="last"))["seq"] == last["seq"]
            assert await client.nothing("resync", for_s=0.1)  # nothing was lost
        victim.start()
        wait_until(cluster.whole, "cluster is whole again")
    assert [row[2] for row in log_of(cluster, "r-over")] == ["before", after["edit"], "last"]


async def test_a_stop_closes_the_connections(cluster: Cluster, folder: Path):
    with service(folder, "collaboration", **redis_settings(cluster)) as running:
        async with member(running.address, "r-stop", "a") as client:
            await client.read("joined")
            assert running.metric("ws_members") == 1
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            assert await client.closed() == 1001
            assert await stopping == 0
