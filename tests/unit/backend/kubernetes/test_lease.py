"""A cluster's lock: who has it, who had it, who may take it."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest

from resilience.backend.kubernetes import lease
from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.lease import LASTS_S, ClusterLock, locked, require_unused, trouble_of
from resilience.errors import StackError
from tests.fakes import FakeLease
from tests.unit.backend.kubernetes.cluster import RecordedApi
from tests.waiting import until

NOW = datetime(2026, 11, 25, 11, 0, tzinfo=UTC)


def lock(cluster: FakeLease, owner: str, now: datetime = NOW) -> ClusterLock:
    return ClusterLock(Api(cluster.call, "a cluster", patience_s=0.0), owner, lambda: now)


def nobody() -> None:
    raise AssertionError("the lock was not lost")


def test_it_is_taken_renewed_and_given() -> None:
    cluster = FakeLease()
    lock(cluster, "ann").take(break_stale=False)
    lock(cluster, "ann", NOW + timedelta(seconds=10)).renew()
    assert cluster.lease
    assert cluster.lease["spec"]["acquireTime"] == "2026-11-25T11:00:00.000000Z"
    assert cluster.lease["spec"]["renewTime"] == "2026-11-25T11:00:10.000000Z"
    lock(cluster, "ann").give()
    assert cluster.lease is None


@pytest.mark.parametrize("break_stale", [False, True])
def test_one_that_is_held_is_nobody_elses(break_stale: bool) -> None:
    cluster = FakeLease()
    lock(cluster, "ann on a (process 7, baseline)").take(break_stale=False)
    later = NOW + timedelta(seconds=LASTS_S)
    with pytest.raises(StackError, match=r"in use by ann on a \(process 7, baseline\): wait for its end"):
        lock(cluster, "bob", later).take(break_stale=break_stale)


def test_a_stale_one_is_shown_with_its_owner() -> None:
    cluster = FakeLease()
    lock(cluster, "ann").take(break_stale=False)
    said = r"^the cluster's lock is stale: ann has not renewed it for 90 s \(it lasts 60 s\); .* --break-lock takes it$"
    with pytest.raises(StackError, match=said):
        lock(cluster, "bob", NOW + timedelta(seconds=90)).take(break_stale=False)


def test_one_whose_owner_was_killed_a_moment_ago_says_when_it_is_stale() -> None:
    cluster = FakeLease()
    lock(cluster, "ann").take(break_stale=False)
    with pytest.raises(StackError, match=r"in use by ann: .* renewed 25 s ago; if it was killed, .* stale in 35 s"):
        lock(cluster, "bob", NOW + timedelta(seconds=25)).take(break_stale=True)


def test_a_stale_one_is_broken_when_asked_for() -> None:
    cluster = FakeLease()
    lock(cluster, "ann").take(break_stale=False)
    lock(cluster, "bob", NOW + timedelta(seconds=LASTS_S + 1)).take(break_stale=True)
    with pytest.raises(StackError, match="was taken away: bob holds it"):
        lock(cluster, "ann").renew()
    lock(cluster, "ann").give()
    assert cluster.lease, "it is not ann's to give"


def test_one_without_an_instant_is_stale() -> None:
    cluster = FakeLease()
    lock(cluster, "ann").take(break_stale=False)
    assert cluster.lease
    cluster.lease["spec"]["renewTime"] = "yesterday"
    with pytest.raises(StackError, match="not renewed it for ever"):
        lock(cluster, "bob").take(break_stale=False)


def test_one_that_is_gone_cannot_be_renewed() -> None:
    with pytest.raises(StackError, match="nobody holds it"):
        lock(FakeLease(), "ann").renew()


def test_while_a_run_is_alive_its_cluster_is_in_use() -> None:
    cluster = FakeLease()
    api = Api(cluster.call, "a cluster")
    require_unused(api, lambda: NOW)
    lock(cluster, "me").take(break_stale=False)
    with pytest.raises(StackError, match="in use by me"):
        require_unused(api, lambda: NOW + timedelta(seconds=LASTS_S))
    require_unused(api, lambda: NOW + timedelta(seconds=LASTS_S + 1))
    with pytest.raises(ApiError, match="away"):
        require_unused(RecordedApi({}, away=9).api(), lambda: NOW)


def test_what_went_wrong_in_a_run_is_told_although_its_lock_cannot_be_let_go() -> None:
    cluster = FakeLease()

    def run() -> None:
        with locked(lock(cluster, "me"), break_stale=False, end=nobody):
            cluster.away = True
            raise StackError("redis-cluster-0 is not ready")

    with pytest.raises(StackError, match="redis-cluster-0 is not ready"):
        run()
    cluster.away = False
    with pytest.raises(StackError, match="in use by me"):
        lock(cluster, "you").take(break_stale=False)


def test_a_lock_that_cannot_be_renewed_any_more_is_lost() -> None:
    cluster = FakeLease()
    mine = lock(cluster, "me")
    mine.take(break_stale=False)
    assert trouble_of(mine) == []
    cluster.away = True
    assert trouble_of(mine) == []
    cluster.away = False
    lock(cluster, "you", NOW + timedelta(seconds=LASTS_S + 1)).take(break_stale=True)
    assert trouble_of(mine) == ["the lock on the cluster was taken away: you holds it"]
    assert cluster.lease
    cluster.lease = {"metadata": cluster.lease["metadata"]}
    assert trouble_of(mine) == ["the lock on the cluster: KeyError('spec')"]


class Clock:
    """What the owner's wall clock shows."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


def test_one_that_could_not_be_renewed_for_as_long_as_it_lasts_is_lost() -> None:
    cluster, clock = FakeLease(), Clock()
    mine = ClusterLock(Api(cluster.call, "a cluster", patience_s=0.0), "me", clock)
    mine.take(break_stale=False)
    clock.now = NOW + timedelta(seconds=50)
    assert trouble_of(mine) == []
    cluster.away = True
    clock.now = NOW + timedelta(seconds=50 + LASTS_S)
    assert trouble_of(mine) == [], "nobody else may take it yet"
    clock.now += timedelta(seconds=1)
    (told,) = trouble_of(mine)
    assert told.startswith("the lock on the cluster has not been renewed for 61 s: ")


def test_one_that_was_late_and_that_nobody_took_is_kept() -> None:
    cluster, clock = FakeLease(), Clock()
    mine = ClusterLock(Api(cluster.call, "a cluster", patience_s=0.0), "me", clock)
    mine.take(break_stale=False)
    clock.now += timedelta(seconds=3 * LASTS_S)
    assert trouble_of(mine) == []


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_lock_that_is_lost_already_is_not_let_go_by_force(is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done under it is judged all the same."""
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.01 if is_lost else 60.0)
    cluster, clock, ended = FakeLease(), Clock(), list[bool]()
    mine = ClusterLock(Api(cluster.call, "a cluster", patience_s=0.0), "me", clock)
    told = nullcontext() if is_lost else pytest.raises(ApiError)
    with told, locked(mine, break_stale=False, end=lambda: ended.append(True)):
        cluster.away = True
        clock.now += timedelta(seconds=LASTS_S + 1)
        until(lambda: ended or not is_lost)
    assert ended == [True] * is_lost


@pytest.mark.parametrize("how", ["taken", "not renewed"])
def test_whoever_loses_it_hears_of_that_at_once_and_once(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.01)
    cluster, clock, ended = FakeLease(), Clock(), list[str]()
    mine = ClusterLock(Api(cluster.call, "a cluster", patience_s=0.0), "me", clock)
    with locked(mine, break_stale=False, end=lambda: ended.append(how)) as lost:
        if how == "taken":
            lock(cluster, "you", NOW + timedelta(seconds=LASTS_S + 1)).take(break_stale=True)
        else:
            cluster.away = True
            clock.now += timedelta(seconds=LASTS_S + 1)
        until(lambda: ended)
        assert len(lost) == 1
        cluster.away = False
    assert ended == [how]
    assert (cluster.lease is None) is (how == "not renewed"), "what is somebody else's stays"
