"""Whose word a profile is taken from, and when nobody's is fresh enough."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services import profile as module
from services.config import Personalization
from services.database import DatabaseError
from services.metric import ProfileMetrics, Stores
from services.personalization import suggestions
from services.profile import Profile, Profiles
from services.web import Refusal

BOUND_S = 2.0


def behind(lag_s: float, version: int = 1) -> Profile:
    return Profile(version, "", 0, "replica", lag_s)


PRIMARY = Profile(9, "", 0, "primary", 0.0)
GONE = DatabaseError("timeout")


class Servers:
    """Two replicas and a primary, each with what it says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *says: Profile | DatabaseError) -> None:
        password = folder / "password"
        password.write_text("secret")
        settings = Personalization(
            postgresql=("pgbouncer-0:1",), replicas=("pgbouncer-1:1", "pgbouncer-2:1"),
            postgresql_password_file=str(password), rabbitmq=("rabbitmq-0:1",), rabbitmq_password_file=str(password),
            sessions=("session-0:1",), staleness_bound_s=BOUND_S,
        )  # fmt: skip
        metrics = ProfileMetrics(CollectorRegistry())
        self.profiles = Profiles(settings, metrics, Stores("personalization", metrics.errors))
        self.databases = [*self.profiles._replicas, self.profiles._primary]
        self.says = list(says)
        self.asked: list[int] = []
        self.left_s: list[float] = []
        monkeypatch.setattr(module, "_read", self.read)

    async def read(self, database: Any, _person: str, deadline: float) -> Profile:
        index = self.databases.index(database)
        self.asked.append(index)
        self.left_s.append(deadline - asyncio.get_running_loop().time())
        said = self.says[index]
        if isinstance(said, DatabaseError):
            raise said
        return said

    async def found(self, within_s: float = 0.9) -> Profile:
        return await self.profiles.read("anna", asyncio.get_running_loop().time() + within_s)


@pytest.mark.parametrize(
    ("says", "source", "asked"),
    [
        ((behind(0.1), behind(0.1), PRIMARY), 0, [0]),
        ((behind(BOUND_S), behind(0.1), PRIMARY), 0, [0]),
        ((behind(BOUND_S + 0.01), behind(0.1), PRIMARY), 1, [0, 1]),
        ((behind(float("inf")), GONE, PRIMARY), 2, [0, 1, 2]),
        ((GONE, GONE, behind(0.2)), 2, [0, 1, 2]),  # its PgBouncer leads to a standby, which is fresh enough
        ((Profile(3, "", 0, "primary", 0.1), GONE, GONE), 0, [0]),  # it has been promoted
        ((Profile(3, "", 0, "primary", 9.0), GONE, PRIMARY), 2, [0, 1, 2]),  # and this one was left behind
    ],
    ids=[
        "the first replica",
        "at the bound",
        "beyond it",
        "none that has seen a beat",
        "misled",
        "promoted",
        "a stray",
    ],
)
async def test_the_first_that_is_fresh_enough_by_its_own_word(
    says: tuple[Any, ...], source: int, asked: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    servers = Servers(tmp_path, monkeypatch, *says)
    assert await servers.found() == says[source]
    assert servers.asked == asked


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ((behind(9.0), behind(9.0), GONE), "stale"),
        ((behind(9.0), GONE, behind(9.0)), "stale"),
        ((GONE, GONE, GONE), "postgresql"),
    ],
)
async def test_what_is_staler_is_refused(
    says: tuple[Any, ...], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(Refusal) as caught:
        await Servers(tmp_path, monkeypatch, *says).found()
    assert (caught.value.status, caught.value.error, caught.value.outcome) == (503, error, "fail")


async def test_who_takes_writes_is_behind_nobody_whatever_its_last_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A beat that waits for a standby is not to be seen yet, and nothing else that was acknowledged is missing."""
    servers = Servers(tmp_path, monkeypatch, GONE, GONE, PRIMARY._replace(lag_s=9.0))
    assert await servers.found() == PRIMARY


async def test_each_server_has_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    servers = Servers(tmp_path, monkeypatch, GONE, GONE, PRIMARY)
    await servers.found(0.9)
    assert servers.left_s == pytest.approx([0.3, 0.45, 0.9], abs=0.1)  # nothing took any time here


async def test_a_replica_that_was_left_is_not_asked_first_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    servers = Servers(tmp_path, monkeypatch, GONE, behind(0.1), PRIMARY)
    for _ in range(2):
        await servers.found()
    assert servers.asked == [0, 1, 1]


async def test_beats_go_on_without_a_database_and_end_by_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    problems: list[Exception] = [GONE, GONE, ValueError("no such beat")]

    async def make_tables(*_: Any) -> None:
        raise problems.pop(0)

    monkeypatch.setattr(module, "make_tables", make_tables)
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    with pytest.raises(ValueError, match="no such beat"):
        await asyncio.wait_for(Servers(tmp_path, monkeypatch).profiles.beat_on(), 5.0)
    assert problems == []


def test_suggestions_follow_the_profile():
    assert suggestions(Profile(0, "", 0, "replica", 0.0)) == ["breathing", "gratitude", "stretching"]
    assert suggestions(Profile(2, "walking", 8, "replica", 0.0)) == ["walking", "gratitude", "stretching"]
    assert suggestions(Profile(2, "breathing", 0, "replica", 0.0)) == ["breathing", "gratitude", "stretching"]
