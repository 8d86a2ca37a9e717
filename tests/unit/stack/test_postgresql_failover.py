"""Whom a person promotes, what shows that somebody was fenced, and what that a promotion is true."""

import socket
from typing import Any

import msgspec
import pytest

from resilience.errors import StackError
from resilience.stack.postgresql_failover import Promotion, ahead_of, candidate, not_stopped, writers_seen
from resilience.stack.postgresql_link import PostgresqlLink
from resilience.stack.postgresql_role import Look, Looks
from tests.fakes import FakePlatform, FakePostgresqlLink
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


SLOW = StackError(f"{A}: an answer took too long")


@pytest.mark.parametrize(
    ("answer", "refused", "running", "reason"),
    [
        (SLOW, True, True, ""),
        (SLOW, False, False, ""),
        ([("t",)], False, True, ""),
        (SLOW, False, True, f"it neither answers nor refuses: {SLOW}"),
        (StackError("the database system is shutting down"), False, True, "it neither answers nor refuses: the data"),
        ([("f",)], False, True, "it takes questions still"),
    ],
    ids=["refused", "no server runs", "a standby by now", "silence", "on its way", "a primary"],
)
def test_only_what_is_seen_to_have_stopped_is_fenced(answer: Any, refused: bool, running: bool, reason: str) -> None:
    platform = FakePlatform(stack(tiers=("postgresql",)), {A: "10.0.0.1"}, {})
    platform.stopped = set() if running else {A}
    link: Any = FakePostgresqlLink(A, answer, refused=refused)
    seen = not_stopped(platform, link)
    assert seen.startswith(reason)
    assert bool(seen) == bool(reason)


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
        ({A: writer(1), B: writer(2), C: standby(1)}, ("members that take writes", f"the former primary {A}")),
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


def test_that_a_former_primary_may_go_on_is_told() -> None:
    seen: Looks = {A: DEAD, B: writer(2), C: standby(1)}
    told = [one.observed for fenced in (True, False) for one in writers_seen(promotion(fenced=fenced), seen)]
    assert "silent, and fenced" in told
    assert "silent, and not fenced: it may take writes again" in told
