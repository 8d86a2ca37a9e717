"""An experiment's activities against a fake platform: phases, events and the ledger, also when things go wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.backend.base import Evidence, Pace, Proof, Say
from resilience.backend.kubernetes.injector import DRAIN, NODES, ROLLOUT
from resilience.chaos import play
from resilience.errors import FaultError, StackError
from resilience.fault.injector import TTL_SPARE_S, ttl_s
from resilience.history.event import NAMES, flaw
from resilience.history.record import Event, PhaseWindow
from resilience.spec.postgresql import Manual, Patroni, Postgresql, Runbook
from resilience.stack import postgresql_cancel, postgresql_failover, postgresql_strays
from resilience.stack.postgresql_cancel import Cancelled
from resilience.stack.postgresql_failover import Promotion
from resilience.stack.postgresql_strays import Rejoined
from tests.unit.chaos.stand import SECOND, Stand, stand_in

KILL = {"kind": "kill", "restart": False}
REPLICA = {"component": "redis", "role": "replica", "shard": 2}
AHEAD = 150_000


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return stand_in(tmp_path)


def method(stand: Stand, *, fault_s: float = 25.0) -> None:
    play.hold(stand.session, "steady", 20.0)
    play.inject(stand.session, KILL, REPLICA)
    play.in_effect(stand.session, "injected")
    play.hold(stand.session, "fault", fault_s)
    play.in_effect(stand.session, "before-heal")
    play.heal(stand.session, "request")
    play.hold(stand.session, "recovery", 30.0)


def test_phases_are_cut_at_the_instants_of_the_injection(stand: Stand) -> None:
    method(stand)
    began = AHEAD + 20 * SECOND + play.PREPARE_US
    healed = began + 25 * SECOND + AHEAD
    assert stand.windows() == [
        PhaseWindow("steady", AHEAD, began),
        PhaseWindow("fault", began, healed),
        PhaseWindow("recovery", healed, healed + 30 * SECOND),
    ]


def test_a_healing_that_takes_a_while_is_part_of_the_recovery(stand: Stand) -> None:
    """Generators were told that the phase changes as it begins: a kind node takes 18 s until it runs."""
    stand.platform.undoing_ns = 18 * SECOND * 1_000
    method(stand)
    began = AHEAD + 20 * SECOND + play.PREPARE_US
    undoing = began + 25 * SECOND + AHEAD
    assert stand.windows()[1:] == [
        PhaseWindow("fault", began, undoing),
        PhaseWindow("recovery", undoing, undoing + 30 * SECOND),
    ]
    healed = stand.events("healed")[0].data
    assert (healed["began_us"], healed["healed_us"]) == (undoing, undoing + 18 * SECOND)
    assert stand.events("phase-announced")[-1].data["starts_at"] == undoing


def test_agents_that_are_far_away_are_asked_so_much_earlier(stand: Stand) -> None:
    """An injection and its end are where their phases begin, however long the orders are under way."""
    stand.platform.paces["kill"] = Pace(lead_s=4.0, look_s=3.0)
    method(stand)
    began = AHEAD + 20 * SECOND + play.PREPARE_US + 4 * SECOND
    healed = began + 25 * SECOND + 4 * SECOND
    assert stand.windows() == [
        PhaseWindow("steady", AHEAD, began),
        PhaseWindow("fault", began, healed),
        PhaseWindow("recovery", healed, healed + 30 * SECOND),
    ]
    assert [event.data["starts_at"] for event in stand.events("phase-announced")] == [AHEAD, began, healed]
    assert stand.events("healing")[0].at == healed - 4 * SECOND
    assert stand.session.ledger.injections()[-1].ttl_s == ttl_s(25.0 + 3.0 + 4.0)


@pytest.mark.parametrize(("fault", "scope"), [("freeze", "node"), ("rolling-restart", "component")])
def test_whoever_breaks_a_node_is_asked_even_earlier(stand: Stand, fault: str, scope: str) -> None:
    stand.platform.paces = {"kill": Pace(lead_s=4.0), fault: Pace(lead_s=12.0)}
    play.hold(stand.session, "steady", 20.0)
    play.inject(stand.session, {"kind": fault}, {"component": "collaboration", "scope": scope})
    play.hold(stand.session, "fault", 25.0)
    play.heal(stand.session, "request")
    began = AHEAD + 20 * SECOND + play.PREPARE_US + 12 * SECOND
    assert stand.windows() == [
        PhaseWindow("steady", AHEAD, began),
        PhaseWindow("fault", began, began + 25 * SECOND + 12 * SECOND),
    ]


@pytest.mark.parametrize(("fault", "scope"), [("drain", "node"), ("rolling-restart", "component"), ("freeze", "node")])
def test_what_takes_its_time_lives_until_it_was_looked_at_twice(stand: Stand, fault: str, scope: str) -> None:
    """A drain was proved 21 s after it had begun, and had ended by its time to live before it was probed again."""
    pace = {"drain": DRAIN, "rolling-restart": ROLLOUT, "freeze": NODES}[fault]
    stand.platform.paces[fault], stand.platform.probing_s = pace, [pace.proof_s, pace.look_s]
    play.hold(stand.session, "steady", 20.0)
    play.inject(stand.session, {"kind": fault}, {"component": "collaboration", "scope": scope})
    play.in_effect(stand.session, "injected")
    play.hold(stand.session, "fault", 25.0)
    play.in_effect(stand.session, "before-heal")
    play.heal(stand.session, "request")
    (injection,) = stand.session.ledger.injections()
    applied = stand.session.ledger.last(injection.id, "applied")
    healed = stand.session.ledger.last(injection.id, "healed")
    assert applied is not None
    assert healed is not None
    assert healed.undoing_us + TTL_SPARE_S * SECOND <= applied.at_us + injection.ttl_s * SECOND


def test_events_are_in_order_and_whole(stand: Stand) -> None:
    method(stand)
    names = [line.name for line in stand.lines() if isinstance(line, Event)]
    assert names == [
        "phase-announced", "injecting", "phase-announced", "injected", "effect-probed", "effect-probed",
        "phase-announced", "healing", "healed",
    ]  # fmt: skip
    assert set(names) <= NAMES
    injected = stand.events("injected")[0].data
    assert injected["members"] == ["redis-cluster-4"]
    assert injected["applied_us"] > injected["began_us"]
    assert [event.data["when"] for event in stand.events("effect-probed")] == ["injected", "before-heal"]
    healed = stand.events("healed")[0].data
    assert (healed["healed"], healed["by"], healed["injection"]) == (True, "request", injected["injection"])
    assert healed["evidence"]


def test_the_injection_begins_as_its_phase_does(stand: Stand) -> None:
    play.inject(stand.session, KILL, REPLICA)
    announced = stand.events("phase-announced")[0].data
    assert stand.events("injected")[0].data["began_us"] == announced["starts_at"]


def test_nothing_stands_between_the_announcement_of_a_fault_and_its_injection(stand: Stand) -> None:
    """A busy machine took over 1.5 s to start the agent, and ops of that time were booked in the next phase."""
    stand.platform.preparing_ns = 4 * SECOND * 1_000
    method(stand)
    announced = stand.events("phase-announced")[1]
    began = AHEAD + 20 * SECOND + 4 * SECOND + AHEAD
    assert (announced.data["phase"], announced.data["starts_at"], announced.at) == ("fault", began, began - AHEAD)
    assert stand.events("injected")[0].data["began_us"] == began
    assert [(window.phase, window.start, window.end) for window in stand.windows()[:2]] == [
        ("steady", AHEAD, began), ("fault", began, began + 25 * SECOND + AHEAD),
    ]  # fmt: skip


def test_agents_that_are_far_away_are_asked_as_early_also_where_preparing_took_long(stand: Stand) -> None:
    stand.platform.paces["kill"], stand.platform.preparing_ns = Pace(lead_s=4.0), 9 * SECOND * 1_000
    play.inject(stand.session, KILL, REPLICA)
    assert stand.events("injected")[0].data["began_us"] == (9 + 4) * SECOND


def test_a_fault_that_cannot_be_prepared_ends_the_steady_state_all_the_same(stand: Stand) -> None:
    stand.platform.refuses = {"apply"}
    play.hold(stand.session, "steady", 20.0)
    with pytest.raises(FaultError, match="refused by the test"):
        play.inject(stand.session, KILL, REPLICA)
    starts_at = stand.events("phase-announced")[-1].data["starts_at"]
    assert stand.windows() == [PhaseWindow("steady", AHEAD, starts_at), PhaseWindow("fault", starts_at, play.NEVER)]


def test_a_late_injection_does_not_shorten_the_fault(stand: Stand) -> None:
    def found_late() -> Any:
        stand.platform.now_ns += 4 * SECOND * 1_000  # a busy machine
        return stand.session.injector.roles()

    late = replace(stand, session=replace(stand.session, injector=replace(stand.session.injector, roles=found_late)))
    method(late)
    steady, fault, _ = stand.windows()
    assert steady.end > AHEAD + 20 * SECOND + play.PREPARE_US
    assert fault.end - fault.start >= 25 * SECOND


def test_an_effect_that_is_not_there_is_recorded_as_such(stand: Stand) -> None:
    stand.platform.works = False
    play.inject(stand.session, KILL, REPLICA)
    assert not play.in_effect(stand.session, "injected")
    event = stand.events("effect-probed")[0]
    assert event.data["in_effect"] is False
    assert event.data["evidence"][0]["ok"] is False


def test_a_probe_that_cannot_be_had_is_no_effect(stand: Stand) -> None:
    play.inject(stand.session, KILL, REPLICA)
    stand.platform.refuses = {"probe"}
    assert not play.in_effect(stand.session, "injected")
    assert "refused by the test" in stand.events("effect-probed")[0].data["evidence"][0]["observed"]


def test_no_target_touches_nothing_and_ends_the_method(stand: Stand) -> None:
    play.hold(stand.session, "steady", 20.0)
    with pytest.raises(FaultError, match="nothing was injected"):
        play.inject(stand.session, KILL, REPLICA | {"shard": 3})
    assert stand.platform.told == []
    assert stand.events("no-target")[0].data["target"] == REPLICA | {
        "shard": 3, "queue": None, "standby": None, "scope": "member"
    }  # fmt: skip
    assert [window.end == play.NEVER for window in stand.windows()] == [False, True]
    with pytest.raises(FaultError, match="nothing to hold"):
        play.hold(stand.session, "fault", 25.0)
    assert not play.in_effect(stand.session, "injected")
    assert stand.events("effect-probed") == []
    assert play.heal(stand.session, "request") == ()
    assert not play.healed(stand.session)
    with pytest.raises(FaultError, match="has not begun"):
        play.hold(stand.session, "recovery", 30.0)


def test_an_injection_that_fails_is_healed_and_not_held(stand: Stand) -> None:
    stand.platform.refuses = {"apply"}
    with pytest.raises(FaultError, match="refused by the test"):
        play.inject(stand.session, KILL, REPLICA)
    assert stand.session.ledger.open_injections() == ()
    with pytest.raises(FaultError, match="nothing to hold"):
        play.hold(stand.session, "fault", 25.0)


@pytest.mark.parametrize(
    ("fault", "target"),
    [({"kind": "kil"}, REPLICA), (KILL | {"x": 1}, REPLICA), (KILL, {"component": "postgres"}), (KILL, {})],
    ids=["kind", "unknown field", "component", "no component"],
)
def test_arguments_that_make_no_sense_announce_nothing(
    stand: Stand, fault: dict[str, Any], target: dict[str, Any]
) -> None:
    with pytest.raises(FaultError, match="experiment"):
        play.inject(stand.session, fault, target)
    assert stand.lines() == []


def test_a_phase_that_outlives_the_time_to_live_is_refused(stand: Stand) -> None:
    with pytest.raises(FaultError, match="plans longer"):
        method(stand, fault_s=36.0)


def test_nor_may_it_live_for_too_short_a_time_to_be_looked_at_again(stand: Stand) -> None:
    stand.platform.paces["kill"] = Pace(look_s=4.0)
    method(stand, fault_s=34.0)
    with pytest.raises(FaultError, match="plans longer"):
        play.hold(stand.session, "fault", 36.0)


def test_rollbacks_after_healing_do_nothing(stand: Stand) -> None:
    method(stand)
    before = stand.lines()
    assert play.heal(stand.session, "rollback") == ()
    assert stand.lines() == before


def test_a_rollback_heals_what_the_method_did_not(stand: Stand) -> None:
    play.inject(stand.session, KILL, REPLICA)
    assert len(play.heal(stand.session, "rollback")) == 1
    assert stand.events("healed")[0].data["by"] == "rollback"
    assert play.healed(stand.session)


def test_what_the_time_to_live_ended_is_said_so(stand: Stand) -> None:
    injection = play.inject(stand.session, KILL, REPLICA).id
    stand.platform.ended_by[injection] = "ttl"
    assert not play.in_effect(stand.session, "before-heal")
    play.heal(stand.session, "request")
    assert stand.events("healed")[0].data["by"] == "ttl"


def test_healing_that_is_not_seen_is_not_healed(stand: Stand) -> None:
    stand.platform.heals = False
    play.inject(stand.session, KILL, REPLICA)
    play.heal(stand.session, "request")
    assert stand.events("healed")[0].data["healed"] is False
    assert not play.healed(stand.session)


def test_what_cannot_be_healed_stays_open_and_is_tried_again(stand: Stand) -> None:
    play.inject(stand.session, KILL, REPLICA)
    stand.platform.refuses = {"undo"}
    with pytest.raises(FaultError, match="refused by the test"):
        play.heal(stand.session, "request")
    assert stand.events("healed")[0].data["healed"] is False
    assert not play.healed(stand.session)
    stand.platform.refuses = set()
    assert len(play.heal(stand.session, "rollback")) == 1
    assert play.healed(stand.session)


@pytest.mark.parametrize(("phase", "booked"), [("steady", True), ("fault", False), ("recovery", True)])
def test_a_phase_that_is_broken_off_never_ended(stand: Stand, phase: str, booked: bool) -> None:
    play.hold(stand.session, "steady", 1.0)
    play.inject(stand.session, KILL, REPLICA)
    if phase == "recovery":
        play.heal(stand.session, "request")
    before = len(stand.windows())

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    object.__setattr__(stand.session, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play.hold(stand.session, phase, 25.0)
    added = stand.windows()[before:]
    assert [(window.phase, window.end) for window in added] == ([(phase, play.NEVER)] if booked else [])


PROMOTION = Promotion(
    member="postgresql-replica-0",
    former="postgresql-primary-0",
    fenced=False,
    timeline_before=1,
    timeline=2,
    lag_bytes=None,
    following=("postgresql-replica-1",),
    led=("pgbouncer-1",),
    unreached=("postgresql-primary-0",),
)


def with_tier(stand: Stand, monkeypatch: pytest.MonkeyPatch, *, seen: bool = True) -> list[int]:
    """The stand's stack with PostgreSQL, whose runbook does nothing but note when it was begun."""
    begun: list[int] = []

    def promote(_platform: object, runbook: Runbook, say: Say) -> Promotion:
        say("promoted", {"member": PROMOTION.member})
        begun.append(stand.session.clock.now_us())
        member = PROMOTION.member if runbook.standby == "least-lag" else PROMOTION.following[0]
        return msgspec.structs.replace(PROMOTION, member=member)

    def turn_back(_platform: object, promotion: Promotion, _say: Say) -> Promotion:
        return msgspec.structs.replace(promotion, turned_back=("postgresql-replica-2",))

    evidence = Evidence(what="timeline", expected="over 1", observed="2" if seen else "1", ok=seen)
    monkeypatch.setattr(postgresql_failover, "promote", promote)
    monkeypatch.setattr(postgresql_failover, "turn_back", turn_back)
    monkeypatch.setattr(
        postgresql_failover, "proof", lambda _platform, _promotion, *, fence: Proof(evidence=(evidence,))
    )
    tier = Postgresql(primary=PROMOTION.former, replicas=(PROMOTION.member,), failover=Manual(operator_delay_s=7.0))
    stand.platform.stack = msgspec.structs.replace(stand.platform.stack, postgresql=tier)
    return begun


def test_an_operator_begins_so_long_after_the_injection(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = with_tier(stand, monkeypatch)
    play.hold(stand.session, "steady", 20.0)
    play.inject(stand.session, KILL, REPLICA)
    assert play.promote(stand.session) == PROMOTION.member
    (event,) = stand.events("promotion")
    assert begun == [stand.events("injected")[0].data["applied_us"] + 7 * SECOND]
    assert (event.data["began_us"], event.data["operator_delay_s"], event.data["proved"]) == (begun[0], 7.0, True)
    assert flaw(event) == ""


def test_whom_an_operator_takes_is_said_by_the_experiment(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tier(stand, monkeypatch)
    play.inject(stand.session, KILL, REPLICA)
    assert play.promote(stand.session, {"standby": "most-lag"}) == PROMOTION.following[0]
    assert stand.events("promotion")[0].data["turned_back"] == ["postgresql-replica-2"]
    with pytest.raises(FaultError, match="fenced"):
        play.promote(stand.session, {"fenced": False})


def test_what_the_runbook_leaves_out_is_not_looked_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tier(stand, monkeypatch)
    seen = Evidence(what="both", expected="yes", observed="yes", ok=True)
    asked: list[bool] = []

    def proof(_platform: object, _promotion: Promotion, *, fence: bool) -> Proof:
        asked.append(fence)
        return Proof(evidence=(seen,))

    monkeypatch.setattr(postgresql_failover, "proof", proof)
    play.inject(stand.session, KILL, REPLICA)
    play.promote(stand.session, {"fence": False})
    play.promote(stand.session)
    assert asked == [False, True]


def test_a_promotion_that_is_not_seen_fails_and_is_on_record(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tier(stand, monkeypatch, seen=False)
    play.inject(stand.session, KILL, REPLICA)
    with pytest.raises(FaultError, match="is not seen to be the primary"):
        play.promote(stand.session)
    assert stand.events("promotion")[0].data["proved"] is False


@pytest.mark.parametrize("seen", [True, False])
def test_what_was_cancelled_is_on_record_and_has_to_be_seen(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    with_tier(stand, monkeypatch)
    cancelled = Cancelled(member=PROMOTION.former, backends=frozenset({"7 now", "8 now"}))
    evidence = Evidence(what="still waiting", expected="0", observed="0" if seen else "2", ok=seen)
    monkeypatch.setattr(postgresql_cancel, "cancel_waiting", lambda _platform, _for_s, _say: cancelled)
    monkeypatch.setattr(postgresql_cancel, "cancellation_proof", lambda _platform, _done: Proof(evidence=(evidence,)))
    if seen:
        assert play.cancel_waiting(stand.session, 3.0) == 2
    else:
        with pytest.raises(FaultError, match="it is not seen that they waited"):
            play.cancel_waiting(stand.session, 3.0)
    (event,) = stand.events("cancelled")
    assert (event.data["member"], event.data["backends"], event.data["proved"]) == (PROMOTION.former, 2, seen)
    assert flaw(event) == ""


def test_nobody_is_cancelled_where_there_is_no_postgresql(stand: Stand) -> None:
    with pytest.raises(FaultError, match="has no PostgreSQL"):
        play.cancel_waiting(stand.session, 3.0)


def test_nobody_is_promoted_or_fenced_by_hand_where_patroni_does_it(stand: Stand) -> None:
    tier = Postgresql(primary=PROMOTION.former, replicas=(PROMOTION.member,), failover=Patroni())
    stand.platform.stack = msgspec.structs.replace(stand.platform.stack, postgresql=tier)
    with pytest.raises(FaultError, match="Patroni promotes by itself"):
        play.promote(stand.session)
    with pytest.raises(FaultError, match="Patroni stops a former primary by itself"):
        play.rejoin(stand.session)
    assert stand.events("promotion") == stand.events("fenced") == []


def test_nobody_is_promoted_where_there_is_no_postgresql(stand: Stand) -> None:
    with pytest.raises(FaultError, match="has no PostgreSQL"):
        play.promote(stand.session)
    assert stand.events("promotion") == []


@pytest.mark.parametrize("step", ["promote", "turn_back", "proof"])
def test_what_an_operator_has_done_is_on_record_whatever_fails_then(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with_tier(stand, monkeypatch)
    does = getattr(postgresql_failover, step)

    def fails(*arguments: Any, **more: Any) -> None:
        does(*arguments, **more)
        raise StackError(f"{step}: broken by the test")

    monkeypatch.setattr(postgresql_failover, step, fails)
    play.inject(stand.session, KILL, REPLICA)
    with pytest.raises(FaultError, match="broken by the test"):
        play.promote(stand.session)
    (promoted,), (failed,) = stand.events("promoted"), stand.events("step-failed")
    assert promoted.data == {"member": PROMOTION.member, "began_us": promoted.at}
    assert (failed.data["step"], failed.data["reason"]) == ("promote", f"{step}: broken by the test")
    assert flaw(promoted) == flaw(failed) == ""
    assert {"promoted", "step-failed"} <= NAMES


def rejoined(*, seen: bool = True) -> Rejoined:
    evidence = Evidence(what="members that take writes", expected="b", observed="b" if seen else "a, b", ok=seen)
    return Rejoined(primary="b", members=("a",), proof=Proof(evidence=(evidence,)))


def test_who_was_fenced_is_on_record(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tier(stand, monkeypatch)
    monkeypatch.setattr(postgresql_strays, "fence_strays", lambda _platform, _say: rejoined())
    assert play.rejoin(stand.session) == ("a",)
    (event,) = stand.events("rejoined")
    assert (event.data["members"], event.data["primary"], event.data["proved"]) == (["a"], "b", True)
    assert flaw(event) == ""
    assert event.name in NAMES


def test_a_primary_that_is_not_seen_to_be_the_only_one_fails(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tier(stand, monkeypatch)
    monkeypatch.setattr(postgresql_strays, "fence_strays", lambda _platform, _say: rejoined(seen=False))
    with pytest.raises(
        FaultError, match="not seen that b alone takes writes: members that take writes: a, b, expected b"
    ):
        play.rejoin(stand.session)
    assert stand.events("rejoined")[0].data["proved"] is False


def test_whoever_was_fenced_before_another_could_not_be_is_on_record(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fence_strays(_platform: object, say: Say) -> Rejoined:
        say("stopping", {"member": "a", "why": "fenced", "within_s": 10.0})
        say("fenced", {"members": ("a",), "seen": ("it takes writes",)})
        say("stopping", {"member": "c", "why": "fenced", "within_s": 10.0})
        raise StackError("fencing c took more than 10.0 s: it takes writes")

    with_tier(stand, monkeypatch)
    monkeypatch.setattr(postgresql_strays, "fence_strays", fence_strays)
    with pytest.raises(FaultError, match="fencing c"):
        play.rejoin(stand.session)
    assert [event.data["members"] for event in stand.events("fenced")] == [["a"]]
    assert [event.data["member"] for event in stand.events("stopping")] == ["a", "c"]
    assert stand.events("step-failed")[0].data["reason"] == "fencing c took more than 10.0 s: it takes writes"
    assert [flaw(event) for event in stand.lines() if isinstance(event, Event)] == [""] * 4


def test_nobody_is_fenced_where_there_is_no_postgresql(stand: Stand) -> None:
    with pytest.raises(FaultError, match="has no PostgreSQL"):
        play.rejoin(stand.session)
