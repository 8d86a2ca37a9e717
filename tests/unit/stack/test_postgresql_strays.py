"""Who is PostgreSQL's one primary, when that is not known, and who is fenced beside it."""

from typing import Any

import pytest

from resilience.errors import StackError
from resilience.stack import postgresql_strays
from resilience.stack.postgresql_fence import Fencing
from resilience.stack.postgresql_role import Look, Looks
from resilience.stack.postgresql_strays import alone, doubts, fence_strays
from tests.fakes import FakePlatform, FakePostgresqlLink, FakePostgresqlLinks
from tests.histories import stack

A, B, C = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
SILENT = StackError(f"{B}: an answer took too long")


def writer(timeline: int) -> Look:
    return Look(recovering=False, timeline=timeline, written=1)


def standby(timeline: int) -> Look:
    return Look(recovering=True, timeline=timeline, written=1)


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        ({A: writer(1), B: writer(2), C: standby(2)}, []),
        ({A: standby(2), B: writer(2), C: standby(1)}, []),
        ({A: writer(1), B: SILENT, C: standby(2)}, [f"no answer from {SILENT}"]),
        ({A: writer(1), B: SILENT, C: standby(1)}, [f"no answer from {SILENT}"]),
        ({A: standby(1), B: standby(1), C: standby(1)}, ["nobody takes writes"]),
        ({A: writer(1), B: standby(1), C: standby(2)}, [f"{C} is on timeline 2, and {A}, which takes writes, on 1"]),
        ({A: writer(2), B: writer(2), C: standby(2)}, [f"{B} is on timeline 2, and {A}, which takes writes, on 2"]),
    ],
    ids=["a stray", "one primary", "the true one is silent", "who knows whether it is", "none", "left behind", "two"],
)
def test_who_the_one_primary_is_has_to_be_known(seen: Looks, reasons: list[str]) -> None:
    assert doubts(seen) == reasons


FENCED = Fencing(member=A, how="fenced", seen=("it takes writes", "its host refuses connections"))


@pytest.mark.parametrize(
    ("seen", "denied"),
    [
        ({A: StackError("refused"), B: writer(2), C: standby(2)}, ()),
        ({A: standby(2), B: writer(2), C: standby(2)}, ()),
        ({A: writer(1), B: writer(2), C: standby(2)}, ("members that take writes", f"{A}, which took writes")),
        ({A: standby(2), B: writer(2), C: writer(2)}, ("members that take writes",)),
        ({A: standby(2), B: standby(2), C: standby(2)}, ("members that take writes",)),
        ({A: standby(2), B: SILENT, C: standby(2)}, ("members that take writes", B)),
        ({A: standby(2), B: writer(2), C: StackError("silent")}, (C,)),
    ],
    ids=["silent, and fenced", "a standby", "a primary again", "another", "nobody", "the primary is silent", "silent"],
)
def test_that_one_member_alone_takes_writes_is_seen(seen: Looks, denied: tuple[str, ...]) -> None:
    proof = alone(seen, B, (FENCED,))
    assert tuple(one.what for one in proof.evidence if not one.ok) == denied
    assert proof.holds == (not denied)


@pytest.fixture
def tier(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakePostgresqlLink]:
    """A stray, the primary that was promoted beside it, and a standby of that one."""
    servers = (
        FakePostgresqlLink(A, "primary"),
        FakePostgresqlLink(B, "primary", 2),
        FakePostgresqlLink(C, "standby", 2),
    )
    links = FakePostgresqlLinks(*servers)
    monkeypatch.setattr(postgresql_strays, "PostgresqlLinks", lambda _platform, _timeout_s: links)
    monkeypatch.setattr(postgresql_strays, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(postgresql_strays, "ALONE_WITHIN_S", 0.01)
    return links.servers


def platform() -> Any:
    return FakePlatform(stack(tiers=("postgresql",)), dict.fromkeys((A, B, C), "10.0.0.1"), {})


def test_a_stray_is_fenced_also_where_the_primary_is_silent_for_some_looks(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[B].silent = 3
    done = fence_strays(platform())
    assert (done.primary, done.members, done.proof.holds) == (B, (A,), True)
    assert (tier[A].told, tier[B].told) == (["fence"], [])


def test_nobody_is_fenced_where_the_primary_stays_silent_and_that_is_no_success(
    tier: dict[str, FakePostgresqlLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_strays, "KNOWN_WITHIN_S", 0.01)
    tier[B].silent = -1
    with pytest.raises(StackError, match=rf"one primary is not known after 0.01 s: no answer from {B}"):
        fence_strays(platform())
    assert tier[A].told == []


def test_a_tier_with_one_primary_is_left_alone(tier: dict[str, FakePostgresqlLink]) -> None:
    tier[A].role, tier[A].timeline = "standby", 2
    done = fence_strays(platform())
    assert (done.primary, done.members, done.proof.holds) == (B, (), True)
    assert tier[A].told == []
