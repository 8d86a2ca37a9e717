"""Rooms whose logs are in PostgreSQL: what is lost is found there, what is read back counts as the primary had it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.compose import ASSUMPTIONS, judge
from resilience.check.durability.collaboration import NAME, collaboration
from resilience.check.finding import Finding
from resilience.history.record import Event, RoomRead
from resilience.spec.postgresql import AnyStandbys
from resilience.spec.scenario import Scenario
from tests.histories import (
    APPLIED,
    END,
    POSTGRESQL,
    Op,
    Recorded,
    S,
    moved_to_postgresql,
    recorded,
    scenario,
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
    """PostgreSQL's primary was among those that the fault was done to, and another took over."""
    run.change("injected", members=["redis-cluster-0", POSTGRESQL[0]])
    promoted = replace(run.event("role"), at=APPLIED + S)
    run.events.append(replace(promoted, data={"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2}))
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
        (lambda run: run.events.append(Event("audit-incomplete", END, {"store": "rooms", "reason": "no"})), "no"),
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
