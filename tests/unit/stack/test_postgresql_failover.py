"""Whom a person promotes, what shows that somebody was fenced, and what that a promotion is true."""

import socket
from functools import partial
from typing import Any

import msgspec
import pytest

from resilience.errors import StackError
from resilience.spec.postgresql import Runbook
from resilience.spec.stack import Member
from resilience.stack import postgresql_failover, postgresql_fence
from resilience.stack.postgresql_failover import (
    Promotion,
    ahead_of,
    candidate,
    former_seen,
    lead_all,
    promote,
    writers_of,
    writers_seen,
)
from resilience.stack.postgresql_link import PostgresqlLink
from resilience.stack.postgresql_role import Look, Looks
from resilience.stack.wait import wait_until
from tests.fakes import FakePgbouncer, FakePlatform, FakePostgresqlLink, FakePostgresqlLinks
from tests.histories import stack

A, B, C = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
DEAD = StackError("refused")


def standby(written: int | None, timeline: int = 1) -> Look:
    return Look(recovering=True, timeline=timeline, written=written)


@pytest.mark.parametrize(
    ("looks", "expect"),
    [
        ({A: DEAD, B: standby(10), C: standby(11)}, C),
        ({A: DEAD, B: standby(10), C: standby(10)}, B),
        ({A: DEAD, B: standby(10), C: DEAD}, B),
        ({A: DEAD, B: standby(None), C: standby(1)}, C),
        ({A: DEAD, B: standby(10), C: standby(5, timeline=2)}, C),
        ({A: standby(99), B: standby(10), C: DEAD}, B),
        ({A: Look(recovering=False, timeline=1, written=99), B: standby(10), C: standby(9)}, B),
    ],
    ids=["more", "as much", "the only one", "nothing yet", "a later timeline", "not the former", "no writer"],
)
def test_the_standby_that_has_received_most(looks: Looks, expect: str) -> None:
    assert candidate(looks, A) == expect


@pytest.mark.parametrize(
    ("looks", "expect"),
    [
        ({A: DEAD, B: standby(10), C: standby(11)}, B),
        ({A: DEAD, B: standby(10), C: standby(10)}, C),
        ({A: standby(1), B: standby(10), C: DEAD}, B),
    ],
    ids=["less", "as much", "the only one"],
)
def test_by_mistake_the_standby_that_has_received_least(looks: Looks, expect: str) -> None:
    assert candidate(looks, A, "most-lag") == expect


def test_who_has_replayed_more_than_the_promoted_one_has_to_turn_back() -> None:
    promoted = Look(recovering=False, timeline=2, written=20, replayed=10)
    ahead, even, gone = (Look(recovering=True, timeline=1, written=30, replayed=at) for at in (11, 10, None))
    assert ahead_of(B, (A, C), {A: ahead, B: promoted, C: even}) == (A,)
    assert ahead_of(B, (A, C), {A: DEAD, B: promoted, C: gone}) == ()
    assert ahead_of(B, (A, C), {A: ahead, B: DEAD, C: even}) == ()


@pytest.mark.parametrize("follows", [{"upstream": B}, {"timeline": 2}], ids=["streams from it", "on its timeline"])
def test_who_follows_the_promoted_one_has_not_to_turn_back(follows: dict[str, Any]) -> None:
    promoted = Look(recovering=False, timeline=2, written=20, replayed=10)
    follower = msgspec.structs.replace(Look(recovering=True, timeline=1, written=30, replayed=15), **follows)
    assert ahead_of(B, (A, C), {A: DEAD, B: promoted, C: follower}) == ()


def test_where_no_standby_answers_nobody_is_promoted() -> None:
    with pytest.raises(StackError, match="no standby answers"):
        candidate({A: DEAD, B: DEAD, C: DEAD}, A)


def test_a_host_that_nobody_listens_on_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives(error: OSError) -> Any:
        def connect(*_arguments: object) -> None:
            raise error

        return connect

    link = PostgresqlLink(A, "10.0.0.1", "secret", 1.0)
    monkeypatch.setattr(socket, "create_connection", gives(ConnectionRefusedError()))
    assert link.is_refused()
    for error in (TimeoutError(), ConnectionResetError(), OSError("no route to host")):
        monkeypatch.setattr(socket, "create_connection", gives(error))
        assert not link.is_refused()


def writer(timeline: int) -> Look:
    return Look(recovering=False, timeline=timeline, written=1)


def promotion(*, fenced: bool) -> Promotion:
    return Promotion(
        member=B, former=A, fenced=fenced, timeline_before=1, timeline=2, lag_bytes=None, following=(C,), led=(),
        unreached=(),
    )  # fmt: skip


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "not fenced"])
@pytest.mark.parametrize(
    ("seen", "denied"),
    [
        ({A: DEAD, B: writer(2), C: standby(1)}, ()),
        ({A: standby(5, 2), B: writer(2), C: standby(1)}, ()),
        ({A: writer(1), B: writer(2), C: standby(1)}, ("members that take writes",)),
        ({A: DEAD, B: writer(2), C: writer(2)}, ("members that take writes",)),
        ({A: DEAD, B: DEAD, C: standby(1)}, ("members that take writes", f"timeline of {B}")),
        ({A: DEAD, B: writer(1), C: standby(1)}, (f"timeline of {B}",)),
    ],
    ids=["silent", "follows", "a second writer", "a third writer", "nobody", "no later timeline"],
)
def test_one_writer_is_what_is_seen_whether_anybody_was_fenced_or_not(
    fenced: bool, seen: Looks, denied: tuple[str, ...]
) -> None:
    evidence = writers_seen(promotion(fenced=fenced), seen)
    assert tuple(one.what for one in evidence if not one.ok) == denied


def test_a_former_primary_that_nobody_fences_has_to_be_seen_to_go_on() -> None:
    both: Looks = {A: writer(1), B: writer(2), C: standby(1)}
    assert all(one.ok for one in writers_seen(promotion(fenced=False), both, fence=False))
    assert not all(one.ok for one in writers_seen(promotion(fenced=False), {**both, A: DEAD}, fence=False))


@pytest.mark.parametrize(
    ("fenced", "now", "ok"),
    [
        (True, "unknown", True), (True, "gone", True), (True, "standby", True), (True, "primary", False),
        (False, "unknown", False), (False, "gone", True), (False, "standby", True), (False, "primary", False),
    ],
)  # fmt: skip
def test_a_former_primary_that_is_silent_and_was_not_fenced_may_take_writes(fenced: bool, now: Any, ok: bool) -> None:
    seen = former_seen(promotion(fenced=fenced), now, "so it is")
    assert seen.ok is ok
    assert seen.observed == ("so it is; it was fenced" if fenced else "so it is")


@pytest.mark.parametrize(
    ("seen", "followed", "writers"),
    [
        ({A: writer(1), B: standby(1), C: standby(1)}, (A,), (A,)),
        ({A: DEAD, B: standby(1), C: standby(1)}, (A,), (A,)),
        ({A: writer(1), B: DEAD, C: standby(2)}, (B,), (A, B)),
        ({A: standby(2), B: writer(2), C: standby(2)}, (A, B), (B,)),
    ],
    ids=["one that answers", "one that is silent", "a stray beside one that is silent", "a standby by now"],
)
def test_who_may_take_writes_is_who_says_so_or_is_followed(
    seen: Looks, followed: tuple[str, ...], writers: tuple[str, ...]
) -> None:
    assert writers_of(seen, followed) == writers


class LedPlatform(FakePlatform):
    """Its PgBouncers can be led elsewhere; there is none."""

    def lead_writes(self, pgbouncer: str, primary: str) -> None:
        """See `backend.base.Leading`."""


@pytest.fixture
def tier(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakePostgresqlLink]:
    """A primary and its two standbys."""
    links = FakePostgresqlLinks(
        *(FakePostgresqlLink(name, "primary" if name == A else "standby") for name in (A, B, C))
    )
    for name in (B, C):
        links.servers[name].follows = A
    monkeypatch.setattr(postgresql_failover, "PostgresqlLinks", lambda _platform, _timeout_s: links)
    monkeypatch.setattr(postgresql_failover, "PostgresqlLink", lambda name, *_where: links.servers[name])
    monkeypatch.setattr(postgresql_failover, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(postgresql_fence, "wait_until", partial(wait_until, every_s=0.001))
    return links.servers


def whole_platform() -> LedPlatform:
    about = stack(tiers=("postgresql",))
    return LedPlatform(
        about, dict.fromkeys((member.name for member in about.members), "10.0.0.1"), {"postgresql-password": "secret"}
    )


def gone_through(runbook: Runbook = Runbook()) -> tuple[Promotion, list[str]]:  # noqa: B008  it is frozen
    said: list[str] = []
    return promote(whole_platform(), runbook, lambda name, _data: said.append(name)), said


def test_each_thing_that_cannot_be_taken_back_is_told_before_and_after(tier: dict[str, FakePostgresqlLink]) -> None:
    done, said = gone_through()
    assert said == ["stopping", "fenced", "promoting", "promoted"]
    assert (done.member, done.former, done.fenced, done.timeline) == (B, A, True, 2)
    assert done.former_seen == ("it takes writes", "its host refuses connections")
    assert tier[B].told == ["promote"]


def test_a_slow_primary_is_fenced_before_another_is_promoted(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[A].silent = 2  # its look, and the first one more
    done, _ = gone_through()
    assert (done.fenced, tier[A].told) == (True, ["fence"])


def test_a_primary_that_is_gone_needs_no_fence(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[A].role = "gone"
    done, said = gone_through()
    assert (done.fenced, done.former, said) == (False, A, ["promoting", "promoted"])
    assert done.former_seen == ("its host refuses connections",)


def test_nobody_is_promoted_beside_a_primary_that_stays_silent(
    tier: dict[str, FakePostgresqlLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_fence, "KNOWN_WITHIN_S", 0.01)
    tier[A].silent = -1
    with pytest.raises(StackError, match=f"nobody was promoted, since another may take writes still: fencing {A} took"):
        gone_through()
    assert (tier[B].told, tier[C].told) == ([], [])


def test_where_the_scenario_asks_for_no_fence_nobody_is_asked(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[A].silent = -1
    done, said = gone_through(Runbook(fence=False))
    assert (done.former, done.fenced, done.former_seen) == (A, False, ())
    assert said == ["promoting", "promoted"]


def test_a_standby_that_does_not_answer_at_once_is_looked_at_again(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[B].silent = tier[C].silent = 1
    assert gone_through()[0].member == B


def test_what_was_done_is_told_also_if_a_later_step_fails(
    tier: dict[str, FakePostgresqlLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def told(*_all: object) -> tuple[str, ...]:
        raise StackError("the new primary does not answer")

    monkeypatch.setattr(postgresql_failover, "_told", told)
    with pytest.raises(StackError, match="does not answer"):
        promote(whole_platform(), say=lambda name, _data: said.append(name))
    assert said == ["stopping", "fenced", "promoting", "promoted"]
    assert tier[B].told == ["promote"]


@pytest.mark.parametrize(
    ("pgbouncer", "led", "told"),
    [
        (FakePgbouncer([B]), True, ["RELOAD", "RECONNECT"]),
        (FakePgbouncer([A, A, B]), True, ["RELOAD", "RECONNECT", "RECONNECT", "RECONNECT"]),
        (FakePgbouncer(["", B]), True, ["RELOAD", "RECONNECT", "RECONNECT"]),
        (FakePgbouncer([B], silent=True), False, []),
    ],
    ids=["at once", "its node learns of it late", "whom it led to is gone", "it is silent"],
)
def test_a_pgbouncer_is_led_once_it_is_seen_to_lead(
    monkeypatch: pytest.MonkeyPatch, pgbouncer: FakePgbouncer, led: bool, told: list[str]
) -> None:
    """And what it had connected to before is closed then."""
    assert led_by(monkeypatch, pgbouncer) == (("pgbouncer-0",) if led else ())
    assert pgbouncer.told == told


def test_a_pgbouncer_that_goes_on_leading_elsewhere_is_not_led(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_failover, "LED_WITHIN_S", 0.01)
    assert led_by(monkeypatch, FakePgbouncer([A])) == ()


def led_by(monkeypatch: pytest.MonkeyPatch, pgbouncer: FakePgbouncer) -> tuple[str, ...]:
    monkeypatch.setattr(postgresql_failover, "PostgresqlLink", lambda *_where, **_who: pgbouncer)
    monkeypatch.setattr(postgresql_failover, "LOOK_EVERY_S", 0.001)
    about = msgspec.structs.replace(
        stack(tiers=("postgresql",)), members=(Member(name="pgbouncer-0", component="pgbouncer", node="node-1"),)
    )
    platform = LedPlatform(about, {member.name: "10.0.0.1" for member in about.members}, {"postgresql-password": "x"})
    return lead_all(platform, platform, B)
