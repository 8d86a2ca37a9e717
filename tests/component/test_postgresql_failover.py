"""PostgreSQL's failover by hand, for real: faults hit whom the servers name, and the runbook makes another primary."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import msgspec
import pytest

from resilience.backend.base import MemberState
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.errors import StackError
from resilience.fault.base import NoTarget
from resilience.fault.injector import new_injection_id
from resilience.history.clock import RunClock
from resilience.history.event import flaw
from resilience.history.record import Event
from resilience.spec.fault import (
    CutReplication,
    FastRestart,
    Freeze,
    Isolate,
    Kill,
    Partition,
    Pause,
    PowerOff,
    Prelude,
    Target,
)
from resilience.spec.postgresql import AnyStandbys, Runbook
from resilience.stack import postgresql_cancel, postgresql_failover, postgresql_fence, postgresql_strays
from resilience.stack.postgresql import unled
from resilience.stack.postgresql_failover import Promotion, promote, proof, turn_back
from resilience.stack.postgresql_link import PostgresqlLinks
from resilience.stack.postgresql_strays import fence_strays
from resilience.stack.postgresql_watch import PostgresqlWatch
from tests.component.postgresql_tier import (
    OTHER,
    PRIMARY,
    STANDBY,
    amiss,
    archive_of,
    asked,
    injected,
    injector_on,
    log_of,
    long_checkpoint,
    ready_tier,
    roles,
    together,
    wait_for,
)

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("members")


@pytest.fixture(scope="module")
def tier(image: Path, logs: Path) -> Iterator[OwnedLocalPlatform]:
    with ready_tier(AnyStandbys(standbys=1), image, logs) as owned:
        yield owned


@contextmanager
def acknowledging(tier: OwnedLocalPlatform, primary: str, timeout_s: float = 2.0) -> Iterator[None]:
    """Rows are written to a member all the time, as long as it takes them."""
    ended = Flag()

    def write() -> None:
        with suppress(StackError), PostgresqlLinks(tier, timeout_s) as links:
            while not ended.wait(0.02):
                with suppress(StackError):
                    links.link(primary).ask("INSERT INTO rows VALUES ('x') RETURNING value")

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def primary_of(tier: OwnedLocalPlatform) -> str:
    return next(name for name, role in roles(tier).items() if role.role == "primary")


def on(tier: OwnedLocalPlatform, member: str, other: MemberState) -> bool:
    return tier.state(member).node == other.node


def seen_to_be_untrue(tier: OwnedLocalPlatform, promotion: Promotion) -> None:
    """What is not true will not become true: it is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgresql_failover, "PROVED_WITHIN_S", 0.0)
        assert not proof(tier, promotion).holds


def seen_to_be_true(tier: OwnedLocalPlatform, promotion: Promotion) -> None:
    seen = proof(tier, promotion)
    assert seen.holds, seen
    assert unled(tier) == []


def told(events: list[Event], member: str) -> list[tuple[str, int]]:
    roles = (event.data for event in events if event.name == "role")
    return [(data["role"], data["epoch"]) for data in roles if data["member"] == member]


def came(logs: Path, member: str) -> str:
    """How a member came by what it has, as its last start told."""
    told: list[str] = re.findall(r"^start: follows .*, by (.*)$", log_of(logs, member), re.MULTILINE)
    return told[-1] if told else ""


def test_a_standby_takes_over_from_a_primary_that_was_killed_and_is_followed_by_it(tier, logs):
    events: list[Event] = []
    watch = PostgresqlWatch(tier, RunClock.starting_now(), events.append).start()
    with injected(tier, logs, Kill(restart=False)) as injection:
        assert injection.members == (PRIMARY,)
        promotion = promote(tier)
        assert (promotion.former, promotion.fenced, promotion.lag_bytes) == (PRIMARY, False, None)
        assert (promotion.timeline_before, promotion.timeline) == (1, 2)
        assert {promotion.member, *promotion.following} == {STANDBY, OTHER}
        assert promotion.led == ("pgbouncer-0", "pgbouncer-1", "pgbouncer-2")
        assert promotion.unreached == (PRIMARY,)
        seen_to_be_true(tier, promotion)
        wait_for("the other follows", lambda: roles(tier)[promotion.following[0]].upstream == promotion.member)
    wait_for("all are together", lambda: together(tier))
    assert came(logs, PRIMARY) == "pg_rewind"
    wait_for("the watch has seen it", lambda: told(events, PRIMARY)[-1] == ("replica", 2))
    watch.stop()  # ends the round, too, that has seen it come back
    assert told(events, PRIMARY)[:2] == [("primary", 1), ("unreachable", 0)]
    back = [event.data for event in events if event.name == "came-back"]
    assert back == [{"member": PRIMARY, "by": "pg_rewind"}]
    assert [flaw(event) for event in events] == [""] * len(events)
    assert told(events, promotion.member) == [("replica", 1), ("primary", 2)]
    assert {event.data["group"] for event in events if event.name == "role"} == {0}


def test_a_primary_that_nobody_reaches_but_the_operator_is_fenced_and_waits_for_the_other(tier, logs):
    former = primary_of(tier)
    with injected(tier, logs, Partition(cut_from="all")) as injection:
        assert injection.members == (former,)
        promotion = promote(tier)
        assert (promotion.former, promotion.fenced, promotion.timeline) == (former, True, 3)
        seen_to_be_true(tier, promotion)
        wait_for("it waits", lambda: "fenced: waiting" in log_of(logs, former))
        assert roles(tier)[former].role == "unreachable"
    wait_for("all are together", lambda: together(tier))
    assert roles(tier)[former].role == "replica"


def test_a_primary_that_was_silent_is_stray_when_it_goes_on_until_it_is_fenced(tier, logs, monkeypatch):
    """Silence is no proof: nobody is promoted beside a primary that is silent, and nobody fenced while it is."""
    former = primary_of(tier)
    monkeypatch.setattr(postgresql_fence, "KNOWN_WITHIN_S", 1.0)
    monkeypatch.setattr(postgresql_strays, "KNOWN_WITHIN_S", 1.0)
    long_checkpoint(tier, former, logs)
    with injected(tier, logs, Pause()):
        with pytest.raises(StackError, match=f"nobody was promoted, .* fencing {former} .*neither answers nor refuses"):
            promote(tier)
        promotion = promote(tier, Runbook(fence=False))
        assert (promotion.former, promotion.fenced, promotion.timeline) == (former, False, 4)
    wait_for("it shows", lambda: roles(tier)[former].role == "stray")
    assert any(f"{former} takes writes on timeline 3" in reason for reason in amiss(tier))
    with injected(tier, logs, Pause()) as injection:
        assert injection.members == (promotion.member,)
        with pytest.raises(StackError, match=f"one primary is not known .*{promotion.member}"):
            fence_strays(tier)
        assert asked(tier, former, "SELECT pg_is_in_recovery()") == [("f",)], "it may be the true one"
    asked(tier, promotion.member, "CHECKPOINT")
    for file in archive_of(tier).glob("0000000?" + "?" * 16):
        file.unlink()
    rejoined = fence_strays(tier)
    assert (rejoined.primary, rejoined.members) == (promotion.member, (former,))
    assert rejoined.proof.holds, rejoined
    wait_for("all are together", lambda: together(tier))
    assert fence_strays(tier).members == ()
    assert came(logs, former) == "a copy"  # of what it has to replay to go back, nobody has a part
    assert "pg_rewind: Done!" in log_of(logs, former).split("a copy of")[-2]


def test_a_fault_on_a_replica_hits_one(tier, logs):
    with injected(tier, logs, Pause(), role="replica") as injection:
        assert injection.members != (primary_of(tier),)
        assert asked(tier, primary_of(tier), "INSERT INTO promotion (timeline) VALUES (0) RETURNING timeline") == [
            ("0",)
        ]
    wait_for("all are together", lambda: together(tier))


@pytest.mark.parametrize(
    ("fault", "role", "scope"),
    [
        (PowerOff(), "primary", "node"),
        (Freeze(), "primary", "node"),
        (Isolate(), "replica", "node"),
        (Kill(restart=True), "primary", "member"),
        (Kill(restart=False, signal="TERM"), "primary", "member"),
        (FastRestart(), "primary", "member"),
        (FastRestart(data="gone"), "replica", "member"),
        (Partition(cut_from="peers"), "replica", "member"),
        (Partition(cut_from="clients", direction="in"), "primary", "member"),
        (CutReplication(), "replica", "component"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__.lower(),
)
def test_every_fault_is_proved_and_members_come_back_as_what_they_were(tier, logs, fault, role: str, scope: str):
    before = {name: (one.role, one.timeline) for name, one in roles(tier).items()}
    with injected(tier, logs, fault, role=role, scope=scope):
        pass
    wait_for("all are together", lambda: together(tier))
    assert {name: (one.role, one.timeline) for name, one in roles(tier).items()} == before


def test_the_wrong_standby_is_promoted_and_the_other_turns_back(tier, logs):
    """One is cut off, the other acknowledges rows, and who is promoted has not got them."""
    former = primary_of(tier)
    asked(tier, former, "CREATE TABLE rows (value text)")
    target = Target(component="postgresql", role="replica", standby="least-lag")
    cut = Prelude(fault=CutReplication(), target=target, for_s=2.0, ends="healed")
    with acknowledging(tier, former), injected(tier, logs, Kill(restart=False), prelude=cut) as injection:
        victim = injection.members[1]
        promotion = promote(tier, Runbook(standby="most-lag"))
        assert (promotion.former, promotion.member) == (former, victim)
        promotion = turn_back(tier, promotion)
        (other,) = promotion.following
        assert promotion.turned_back == (other,)
        assert came(logs, other) == "pg_rewind"
        assert roles(tier)[other].upstream == victim
        seen_to_be_true(tier, promotion)
    wait_for("all are together", lambda: together(tier))


def test_a_primary_that_nobody_fences_takes_writes_beside_the_new_one_until_it_is(tier, logs):
    former = primary_of(tier)
    beside = next(state.name for state in tier.states() if state.component == "pgbouncer" and on(tier, former, state))
    with injected(tier, logs, CutReplication(), role="replica", scope="component"):
        promotion = promote(tier, Runbook(fence=False))
        assert (promotion.former, promotion.fenced) == (former, False)
        assert beside not in promotion.led
        assert {former, beside} <= set(promotion.unreached)
        assert proof(tier, promotion, fence=False).holds
        seen_to_be_untrue(tier, promotion)
        assert roles(tier)[former].role == "stray"
    assert fence_strays(tier).members == (former,)
    assert unled(tier) == []
    wait_for("all are together", lambda: together(tier))


@pytest.mark.parametrize("works", [True, False], ids=["cancelled", "only told so"])
def test_what_waits_for_a_standby_is_cancelled_and_is_seen_to_wait_no_more(tier, logs, monkeypatch, works: bool):
    former = primary_of(tier)
    asked(tier, former, "CREATE TABLE IF NOT EXISTS rows (value text)")
    if not works:
        monkeypatch.setattr(
            postgresql_cancel, "CANCEL", postgresql_cancel.CANCEL.replace("pg_cancel_backend(pid)", "true")
        )
    with (
        injected(tier, logs, CutReplication(), role="replica", scope="component"),
        acknowledging(tier, former, timeout_s=4.0),  # longer than is looked at what waits
    ):
        cancelled = postgresql_cancel.cancel_waiting(tier, 1.0)
        assert cancelled.member == former
        seen = postgresql_cancel.cancellation_proof(tier, cancelled)
        assert [item.ok for item in seen.evidence] == [True, works], seen
    wait_for("all are together", lambda: together(tier))


def test_a_cut_that_does_nothing_is_not_proved(tier, logs):
    target = Target(component="postgresql", role="replica", scope="component")
    injector = injector_on(tier, logs)
    planned = injector.plan(new_injection_id("test"), CutReplication(), target, 60.0)
    assert not isinstance(planned, NoTarget)
    nothing = msgspec.structs.replace(planned, steps=())
    injector.inject(nothing)
    seen = injector.probe(nothing.id)
    injector.heal(nothing.id, "request")
    failed = [item.what for item in seen.evidence if not item.ok]
    assert len(failed) == 2 * 4 + 2, seen  # of each a connection and a datagram, both ways, and its counter


@pytest.mark.parametrize(
    "spoil",
    [
        lambda promotion, primary: msgspec.structs.replace(promotion, member=promotion.following[0]),
        lambda promotion, primary: msgspec.structs.replace(promotion, timeline_before=promotion.timeline),
        lambda promotion, primary: msgspec.structs.replace(promotion, led=()),
    ],
    ids=["another member", "no new timeline", "no PgBouncer"],
)
def test_a_promotion_that_did_not_happen_is_not_proved(tier, spoil: Callable[[Promotion, str], Promotion]):
    primary = primary_of(tier)
    others = tuple(name for name in roles(tier) if name != primary)
    true = Promotion(
        member=primary,
        former=others[0],
        fenced=True,
        timeline_before=roles(tier)[primary].timeline - 1,
        timeline=roles(tier)[primary].timeline,
        lag_bytes=None,
        following=others,
        led=("pgbouncer-0",),
        unreached=(),
    )
    assert proof(tier, true).holds
    seen_to_be_untrue(tier, spoil(true, primary))
