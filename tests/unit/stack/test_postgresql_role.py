"""Who is what in the PostgreSQL tier, from what its members say; and what is amiss then."""

from dataclasses import dataclass

import msgspec
import pytest

from resilience.errors import StackError
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, FirstStandbys, Postgresql
from resilience.spec.stack import Stack
from resilience.stack.postgresql_role import Look, Looks, behind, decide, look_from_text, primary_of, unready, way_back
from tests.unit.stack.views import STACK as REDIS_ONLY

A, B, C = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
ASYNC = Asynchronous()
TIER = Postgresql(primary=A, replicas=(B, C))
STACK = msgspec.structs.replace(REDIS_ONLY, postgresql=TIER)
HOSTS = {A: "198.18.1.1", B: "198.18.2.1", C: "198.18.3.1"}
SILENT = StackError(f"{B}: an answer took too long")


def writer(timeline: int = 1, written: int = 1_000, **standbys: str) -> Look:
    """A member that takes writes; ``b="async"``: what it makes of a standby that streams from it."""
    names = {"a": A, "b": B, "c": C}
    streams = {names[short]: ("streaming", synchrony) for short, synchrony in standbys.items()}
    return Look(recovering=False, timeline=timeline, written=written, standbys=streams)


def standby(upstream: str | None = A, timeline: int = 1, written: int = 1_000, replayed: int = 1_000) -> Look:
    return Look(recovering=True, timeline=timeline, written=written, replayed=replayed, upstream=upstream)


WHOLE: dict[str, Look | StackError] = {A: writer(b="async", c="async"), B: standby(), C: standby(written=900)}


def test_roles_of_a_whole_tier() -> None:
    first, second, third = decide(STACK, HOSTS, WHOLE)
    assert (first.role, first.timeline, first.address, first.group) == ("primary", 1, HOSTS[A], 0)
    assert (second.role, second.upstream, second.lag_bytes, second.synchrony) == ("replica", A, 0, "async")
    assert (third.role, third.lag_bytes) == ("replica", 100)


def test_a_former_primary_is_stray_whoever_answers_first() -> None:
    looks: Looks = {A: writer(1, 5_000, c="async"), B: writer(2), C: standby()}
    assert [role.role for role in decide(STACK, HOSTS, looks)] == ["stray", "primary", "replica"]
    assert primary_of(looks) == B
    assert unready(STACK, looks) == [
        f"{A} takes writes on timeline 1, {B} on 2",
        f"{C} streams from {A}, {B} is the primary",
    ]


def test_a_silent_member_is_unreachable_and_nothing_else_is_known_of_it() -> None:
    role = decide(STACK, HOSTS, WHOLE | {B: SILENT})[1]
    assert (role.role, role.timeline, role.lag_bytes, role.synchrony) == ("unreachable", 0, None, "")


def test_without_a_primary_nobody_knows_how_far_behind_a_replica_is() -> None:
    looks: Looks = {A: SILENT, B: standby(None), C: standby(None)}
    assert [role.lag_bytes for role in decide(STACK, HOSTS, looks)] == [None, None, None]
    assert primary_of(looks) == ""
    assert unready(STACK, looks)[-1] == "no PostgreSQL member takes writes"


def test_of_two_on_one_timeline_the_one_that_has_standbys_is_primary() -> None:
    assert primary_of({A: writer(), B: writer(c="async"), C: standby(B)}) == B


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    looks: Looks
    expect: list[str]
    durability: Durability = ASYNC


CASES = (
    Case(name="whole", looks=WHOLE, expect=[]),
    Case(name="silent", looks=WHOLE | {B: SILENT}, expect=[f"{B}: an answer took too long"]),
    Case(name="nobody", looks=WHOLE | {B: standby(None)}, expect=[f"{B} streams from nobody, {A} is the primary"]),
    Case(name="cascade", looks=WHOLE | {C: standby(B)}, expect=[f"{C} streams from {B}, {A} is the primary"]),
    Case(name="timeline", looks=WHOLE | {B: standby(timeline=2)}, expect=[f"{B} is on timeline 2, {A} on 1"]),
    Case(name="unknown to it", looks=WHOLE | {A: writer(c="async")}, expect=[f"{A} streams to {B}: not at all"]),
    Case(
        name="catching up",
        looks=WHOLE
        | {A: Look(recovering=False, timeline=1, standbys={B: ("catchup", "async"), C: ("streaming", "async")})},
        expect=[f"{A} streams to {B}: catchup"],
    ),
    Case(
        name="quorum",
        looks=WHOLE | {A: writer(b="quorum", c="quorum")},
        expect=[],
        durability=AnyStandbys(standbys=1),
    ),
    Case(
        name="one of two",
        looks=WHOLE | {A: writer(b="sync", c="potential")},
        expect=[f"{A} waits for 2 standbys and has 1"],
        durability=FirstStandbys(standbys=2),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_amiss(case: Case) -> None:
    stack: Stack = msgspec.structs.replace(STACK, postgresql=msgspec.structs.replace(TIER, durability=case.durability))
    assert unready(stack, case.looks) == case.expect


def test_who_has_not_replayed_what_was_written() -> None:
    assert behind(WHOLE, 1_000) == []
    assert behind(WHOLE | {C: standby(replayed=999)}, 1_000) == [f"{C} has replayed 999 of 1000 bytes"]


@pytest.mark.parametrize(
    ("started", "came_by", "expect"),
    [("noon", "pg_rewind", "pg_rewind"), ("", "pg_rewind", ""), ("one", "pg_rewind", ""), ("noon", None, "")],
    ids=["started again", "not seen before", "the same server", "it does not say"],
)
def test_how_a_member_came_back(started: str, came_by: str | None, expect: str) -> None:
    assert way_back(started, msgspec.structs.replace(standby(), started="one", came_by=came_by)) == expect


def test_an_answer_is_read_as_the_server_writes_it() -> None:
    text = (
        '{"recovering" : false, "timeline" : 1, "written" : 83886080, "replayed" : null, "upstream" : null, '
        '"started" : "2026-11-30T19:05:30.2+00:00", "came_by" : "pg_rewind", '
        '"standbys" : { "postgresql-replica-0" : ["streaming", "async"] }}'
    )
    assert look_from_text(text) == Look(
        recovering=False,
        timeline=1,
        written=83_886_080,
        standbys={B: ("streaming", "async")},
        started="2026-11-30T19:05:30.2+00:00",
        came_by="pg_rewind",
    )
    with pytest.raises(StackError, match="cannot be read"):
        look_from_text(None)
