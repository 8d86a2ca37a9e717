"""Rooms whose logs are in PostgreSQL: what is lost is found there, what is read back counts as the primary had it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.collaboration.delivery import delivery
from resilience.check.compose import ASSUMPTIONS, judge
from resilience.check.durability.collaboration import NAME, collaboration
from resilience.check.finding import Finding
from resilience.check.weakness import with_weaknesses
from resilience.history.outbox import edit_in, event_of_edit, is_event
from resilience.history.record import Consumed, Event, RoomRead
from resilience.spec.postgresql import AnyStandbys
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import VALUE, KnownWeakness
from tests.histories import (
    APPLIED,
    END,
    POSTGRESQL,
    TIERS,
    Op,
    Recorded,
    S,
    moved_to_postgresql,
    published_by_rabbitmq,
    recorded,
    scenario,
    taken_over,
    under,
    with_rooms_in_postgresql,
)

ABOUT = with_rooms_in_postgresql(scenario(tiers=("postgresql",)))
EARLY, BEFORE, LATE = APPLIED - 5 * S, APPLIED - S // 2, APPLIED + 3 * S
AUDITED = "assumption.rooms-audited"
Change = Callable[[Recorded], object]


def in_postgresql() -> Recorded:
    run = recorded(tiers=("postgresql",))
    moved_to_postgresql(run)
    return run


def edit(run: Recorded, instant: int) -> Op:
    return next(op for op in run.good("collaboration.edit") if (op.returned or 0) >= instant)


def failed_over(run: Recorded) -> None:
    """See `taken_over`: rooms were read from that one."""
    taken_over(run, APPLIED + S)
    moved_to_postgresql(run, POSTGRESQL[1], 2)


def found(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Finding:
    """The only finding: where a room would be in Redis makes no difference."""
    (finding,) = collaboration(about, run.history(folder, about))
    return finding


def test_a_sound_run_passes_by_the_logs_in_postgresql(tmp_path: Path) -> None:
    run = in_postgresql()
    finding = found(run, tmp_path)
    assert (finding.where.group, finding.verdict, finding.value) == ("postgresql", "pass", 0)
    assert finding.measures[f"{NAME}.acked_ops"] == len(run.of("collaboration.edit"))
    judgement = judge(ABOUT, run.history(tmp_path, ABOUT))
    assert judgement.verdict == "pass", judgement.headline
    assert AUDITED in {finding.check for finding in judgement.findings}


def lose(run: Recorded, instant: int) -> None:
    run.lose(edit(run, instant))


def strange(run: Recorded) -> None:
    room = run.rooms["room-1"]
    run.rooms["room-1"] = replace(room, log=(*room.log, (1, 999, "who")))


def renumber(run: Recorded) -> None:
    edit(run, EARLY).version += 40


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: lose(run, EARLY), "1 acknowledged edit lost"),
        (lambda run: lose(run, LATE), "1 acknowledged edit lost"),
        (strange, "1 unexpected"),
        (renumber, "1 version went back"),
    ],
    ids=["lost early", "lost late", "of nobody", "renumbered"],
)
def test_each_defect_alone_is_found(change: Change, says: str, tmp_path: Path) -> None:
    run = in_postgresql()
    change(run)
    finding = found(run, tmp_path)
    assert (finding.where.group, finding.verdict) == ("postgresql", "fail")
    assert says in finding.title


@pytest.mark.parametrize(
    ("about", "instant", "verdict"),
    [
        (ABOUT, BEFORE, "pass"),
        (ABOUT, EARLY, "fail"),
        (with_rooms_in_postgresql(under(AnyStandbys())), BEFORE, "fail"),
    ],
    ids=["just before it", "long before it", "a standby had it"],
)
def test_what_a_failover_of_postgresql_may_lose(about: Scenario, instant: int, verdict: str, tmp_path: Path) -> None:
    run = in_postgresql()
    failed_over(run)
    lose(run, instant)
    finding = found(run, tmp_path, about)
    assert (finding.verdict, finding.value) == (verdict, 1)


def test_what_a_failover_of_redis_takes_is_none_of_it(tmp_path: Path) -> None:
    """The same loss as one that is allowed where the room's log is on the shard that was hit."""
    run = in_postgresql()
    run.change("injected", members=["redis-cluster-1"])
    lose(run, BEFORE)
    assert found(run, tmp_path).verdict == "fail"


def other_primary(run: Recorded) -> None:
    moved_to_postgresql(run, POSTGRESQL[1])


def two_places(run: Recorded) -> None:
    run.rooms["room-2"] = replace(run.rooms["room-2"], timeline=2)


def later_timeline(run: Recorded) -> None:
    run.events.append(Event("role", END, {"member": POSTGRESQL[0], "group": 0, "role": "primary", "epoch": 2}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.audited.remove("room"), "the room audit did not come to its end"),
        (lambda run: run.audited_at.update(room=END - S), "the room audit ended 1.0 s before the load had"),
        (lambda run: run.events.append(Event("audit-incomplete", END, {"store": "room", "reason": "no"})), "no"),
        (lambda run: run.rooms.pop("room-2"), "1 rooms with acknowledged edits were not read, e.g. room-2"),
        (two_places, "rows were read in more than one place"),
        (other_primary, f"rows were read from {POSTGRESQL[1]}, and {POSTGRESQL[0]} was the primary"),
        (later_timeline, "timeline 2 had been seen"),
    ],
    ids=["not read", "read early", "unreadable", "a room not read", "two places", "a standby's", "a stray's"],
)
def test_what_rests_on_the_audit_of_the_logs_falls_with_it(change: Change, reason: str, tmp_path: Path) -> None:
    run = in_postgresql()
    change(run)
    history = run.history(tmp_path, ABOUT)
    (finding,) = ASSUMPTIONS[AUDITED](ABOUT, history)
    assert finding.verdict != "pass"
    assert reason in finding.reason
    (others,) = ASSUMPTIONS["assumption.audit-complete"](ABOUT, history)
    assert others.verdict == "pass", "of Redis' audit nothing is missing"
    judged = {finding.check: finding for finding in judge(ABOUT, history).findings}
    for name in (NAME, "collaboration.delivery", "convergence.views"):
        assert judged[name].verdict == "inconclusive"
    assert judged["durability.direct"].verdict == "pass"


def test_a_log_in_redis_is_not_one_in_postgresql(tmp_path: Path) -> None:
    """Rooms that were read from shards say nothing of PostgreSQL's, and those without a log were not read at all."""
    run = recorded(tiers=("postgresql",))
    (finding,) = ASSUMPTIONS[AUDITED](ABOUT, run.history(tmp_path, ABOUT))
    assert "was the primary" in finding.reason
    run.rooms = {"room-1": RoomRead("room-1", 0, -1, (), POSTGRESQL[0], 1)}
    assert found(run, tmp_path).verdict == "fail"


def test_replicas_of_redis_are_not_asked_for_rooms(tmp_path: Path) -> None:
    """Each was compared by exactly the sessions and direct keys of its shard."""
    run = in_postgresql()
    writes = [op for op in run.ops if op.outcome == "ok" and op.kind in {"direct.write", *SESSION_WRITES}]
    keys = {group: len({op.key for op in writes if op.group == group}) for group in (1, 2, 3)}
    run.change("replicas", compared={f"redis-cluster-{2 + group}": number for group, number in keys.items()})
    judged = {finding.check: finding for finding in judge(ABOUT, run.history(tmp_path, ABOUT)).findings}
    assert judged["convergence.replicas"].verdict == "pass"
    in_redis = scenario(tiers=("postgresql",))
    judged = {finding.check: finding for finding in judge(in_redis, run.history(tmp_path, in_redis)).findings}
    assert judged["convergence.replicas"].verdict == "inconclusive"


BY_EVENTS = with_rooms_in_postgresql(scenario(tiers=TIERS), "rabbitmq")
PLACES = ("postgresql", "rooms", "queue collaboration-sync")


def by_events() -> Recorded:
    """Edits are events of RabbitMQ, too."""
    run = recorded(tiers=TIERS)
    moved_to_postgresql(run)
    published_by_rabbitmq(run)
    return run


def hops(run: Recorded, folder: Path, about: Scenario = BY_EVENTS) -> dict[str, Finding]:
    return {finding.where.group: finding for finding in collaboration(about, run.history(folder, about))}


def named(run: Recorded, instant: int = EARLY) -> str:
    op = edit(run, instant)
    return event_of_edit(op.key, op.epoch, op.version)


def never_seen(run: Recorded, instant: int = EARLY) -> None:
    """The event of an edit did not come to anybody."""
    event = named(run, instant)
    run.consumed = [line for line in run.consumed if line.value.partition(" ")[0] != event]


def unpublished(run: Recorded) -> None:
    op = edit(run, EARLY)
    run.rooms[op.key] = replace(run.rooms[op.key], unpublished=(op.version,))


def never_published(run: Recorded) -> None:
    unpublished(run)
    never_seen(run)


def lose_row(run: Recorded, instant: int = EARLY) -> None:
    """Its event came all the same."""
    op = edit(run, instant)
    room = run.rooms[op.key]
    run.rooms[op.key] = replace(room, log=tuple(row for row in room.log if row[2] != op.value))


def lose_row_and_event(run: Recorded) -> None:
    never_seen(run)
    lose_row(run)


def not_acknowledged(run: Recorded) -> None:
    event = named(run)
    run.consumed = [replace(line, acked=line.acked and line.value.partition(" ")[0] != event) for line in run.consumed]


def strange_event(run: Recorded) -> None:
    message = event_of_edit("room-1", 1, 999) + ' [1,999,0,"who"]'
    run.consumed.append(Consumed("consumer-collaboration-sync", "collaboration-sync", message, EARLY, False, True))


def test_edits_that_are_events_are_followed_through_all_hops(tmp_path: Path) -> None:
    run = by_events()
    found = hops(run, tmp_path)
    assert {place: (finding.verdict, finding.value) for place, finding in found.items()} == dict.fromkeys(
        PLACES, ("pass", 0)
    )
    assert found["rooms"].measures[f"{NAME}.row_ops"] == len(run.of("collaboration.edit"))
    judgement = judge(BY_EVENTS, run.history(tmp_path, BY_EVENTS))
    assert judgement.verdict == "pass", judgement.headline


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        (lose_row_and_event, "postgresql", "1 lost in PostgreSQL, the event of 0 of them came"),
        (never_published, "rooms", "1 row not marked as confirmed after healing"),
        (never_seen, PLACES[2], "1 lost in RabbitMQ"),
        (not_acknowledged, PLACES[2], "1 lost in RabbitMQ"),
        (strange_event, PLACES[2], "1 without a row"),
    ],
    ids=["row", "event", "message", "message that nobody acknowledged", "event of nobody"],
)
def test_each_loss_is_named_with_its_hop(change: Change, place: str, says: str, tmp_path: Path) -> None:
    run = by_events()
    change(run)
    found = hops(run, tmp_path)
    assert {name for name, finding in found.items() if finding.verdict != "pass"} == {place}
    assert found[place].verdict == "fail"
    assert says in found[place].reason
    assert found[place].evidence


def test_an_event_whose_row_is_lost_is_without_it(tmp_path: Path) -> None:
    run = by_events()
    lose_row(run)
    found = hops(run, tmp_path)
    assert {place: finding.verdict for place, finding in found.items()} == dict(
        zip(PLACES, ("fail", "pass", "fail"), strict=True)
    )
    assert "the event of 1 of them came" in found["postgresql"].reason


def test_around_a_failover_an_event_may_be_without_its_row(tmp_path: Path) -> None:
    run = by_events()
    failed_over(run)
    lose_row(run, BEFORE)
    found = hops(run, tmp_path)
    assert {finding.verdict for finding in found.values()} == {"pass"}
    assert "1 without a row" in found[PLACES[2]].reason


def test_an_edit_that_its_client_knows_nothing_of_has_its_event(tmp_path: Path) -> None:
    run = by_events()
    op = edit(run, EARLY)
    op.outcome, op.returned, op.epoch, op.version = "unknown", None, 0, 0
    found = hops(run, tmp_path)
    assert {finding.verdict for finding in found.values()} == {"pass"}
    assert found["postgresql"].measures["durability.recovered_ops"] == 1


@pytest.mark.parametrize(
    ("change", "hop"),
    [(lambda _: None, "delivery"), (never_seen, "event"), (never_published, "event")],
    ids=["its event came", "its event was lost", "it was never published"],
)
def test_what_a_member_never_got_is_named_with_its_hop(change: Change, hop: str, tmp_path: Path) -> None:
    run = by_events()
    change(run)
    op = edit(run, EARLY)
    run.deliveries = [line for line in run.deliveries if line.edit != op.value]
    (finding,) = delivery(BY_EVENTS, run.history(tmp_path, BY_EVENTS))
    assert finding.verdict == "fail"
    assert {item["hop"] for item in finding.evidence} == {hop}
    assert f"2 for want of the {hop}" in finding.reason


def test_an_edit_that_cannot_be_read_is_nobodys() -> None:
    assert edit_in('room-edited/r/1/2 [1,2,0,"a"]') == ("room-edited/r/1/2", "r", "a")
    assert edit_in("room-edited/r/1/2 [1,") == ("room-edited/r/1/2", "r", "")
    assert is_event("room-edited/r/1/2")


@pytest.mark.parametrize("with_row", [True, False])
def test_an_edit_that_nobody_wrote_down_is_unknown(with_row: bool, tmp_path: Path) -> None:
    """A generator that was killed took the last line of its record with it; the event is there, its row or not."""
    run = by_events()
    op = run.good("collaboration.edit")[-1]
    run.ops.remove(op)
    del run.summaries["locust"]
    if not with_row:
        room = run.rooms[op.key]
        run.rooms[op.key] = replace(room, log=tuple(row for row in room.log if row[2] != op.value))
    found = hops(run, tmp_path)
    assert {finding.verdict for finding in found.values()} == {"pass"}
    assert found["postgresql"].measures["durability.recovered_ops"] == float(with_row)


def test_a_known_weakness_goes_by_how_the_database_acknowledges_edits() -> None:
    weakness = KnownWeakness(finding=NAME, within={VALUE: (0, 1)}, seen="sometimes", why="known", durability="async")
    lost = Finding(check=NAME, verdict="fail", title="an edit is lost", value=1.0)
    assert ABOUT.stack.postgresql is not None
    for durability, known in ((ABOUT.stack.postgresql.durability, "known"), (AnyStandbys(), "")):
        tier = replace(ABOUT.stack.postgresql, durability=durability)
        about = replace(ABOUT, stack=replace(ABOUT.stack, postgresql=tier), known_weaknesses=(weakness,))
        assert with_weaknesses(about, (lost,))[0].known == known
