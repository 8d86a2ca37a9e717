"""The lock on a cluster: a Lease that whoever works on it holds and renews, so that two never touch the same."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta

from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.errors import StackError

NAMESPACE = "resilience"
LASTS_S = 60  # an owner that has not renewed it for this long counts as gone
RENEW_EVERY_S = 10.0
_NAME = "run"
_LIST = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_CONFLICT = 409


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class ClusterLock:
    """One run's hold on a cluster, or that of a stack while it is brought up."""

    def __init__(self, api: Api, owner: str, now: Callable[[], datetime] = utc_now) -> None:
        """``owner`` is what others are told: who, where, what for. Asks nothing."""
        self._api = api
        self._owner = owner
        self._now = now
        self._renewed = now()  # as far as it is known

    def take(self, *, break_stale: bool) -> None:
        """Takes the lock. Raises `StackError` with the owner if somebody has it, or had it and was not let go."""
        for _ in range(2):  # once more where it was let go between two steps
            self._renewed = self._now()
            try:
                self._api.create(_LIST, self._lease())
            except ApiError as error:
                if error.status != _CONFLICT:
                    raise
            else:
                return
            found = self._found()
            if found is None:
                continue
            refuse_unless_free(found, self._now(), break_stale=break_stale)
            self._api.replace(f"{_LIST}/{_NAME}", self._lease(found))  # 409: somebody else was quicker
            return
        raise StackError("the cluster's lock changes hands just now: try again")

    def renew(self) -> None:
        """Says that the owner is alive. Raises `StackError` if the lock is not its own any more."""
        found = self._found()
        if found is None or found["spec"].get("holderIdentity") != self._owner:
            holder = "nobody" if found is None else found["spec"].get("holderIdentity")
            raise StackError(f"the lock on the cluster was taken away: {holder} holds it")
        at = self._now()
        self._api.replace(f"{_LIST}/{_NAME}", self._lease(found))
        self._renewed = at

    def overdue_s(self) -> float:
        """For how long it has not been renewed, if that is longer than it lasts, so that others may take it; else 0."""
        silent_s = (self._now() - self._renewed).total_seconds()
        return silent_s if silent_s > LASTS_S else 0.0

    def give(self) -> None:
        """Lets it go; one that is somebody else's by now stays."""
        found = self._found()
        if found is not None and found["spec"].get("holderIdentity") == self._owner:
            self._api.delete(f"{_LIST}/{_NAME}")

    def _found(self) -> Object | None:
        return self._api.find(f"{_LIST}/{_NAME}")

    def _lease(self, found: Object | None = None) -> Object:
        metadata = {"name": _NAME, "namespace": NAMESPACE}
        if found:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        now = self._now().strftime(_FORMAT)
        mine = found is not None and found["spec"].get("holderIdentity") == self._owner
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._owner,
                "leaseDurationSeconds": LASTS_S,
                "acquireTime": found["spec"]["acquireTime"] if found and mine else now,
                "renewTime": now,
            },
        }


def require_unused(api: Api, now: Callable[[], datetime] = utc_now) -> None:
    """Raises `StackError` with its owner while a run that is alive has the lock."""
    if lease := api.find(f"{_LIST}/{_NAME}"):
        refuse_unless_free(lease, now(), break_stale=True)


def refuse_unless_free(lease: Object, now: datetime, *, break_stale: bool) -> None:
    """Raises `StackError` unless the lease is stale and may be broken."""
    spec = lease.get("spec", {})
    owner, renewed = spec.get("holderIdentity", "somebody"), _instant(spec.get("renewTime", ""))
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds") or LASTS_S)
    silent_s = "ever" if renewed is None else f"{(now - renewed).total_seconds():.0f} s"
    if renewed is not None and now <= renewed + lasts:
        left_s = (renewed + lasts - now).total_seconds()
        raise StackError(
            f"the cluster is in use by {owner}: wait for its end (its lock was renewed {silent_s} ago; if it was"
            f" killed, that is stale in {left_s:.0f} s)"
        )
    if not break_stale:
        raise StackError(
            f"the cluster's lock is stale: {owner} has not renewed it for {silent_s} (it lasts"
            f" {lasts.total_seconds():.0f} s); if that process is gone, --break-lock takes it"
        )


def _instant(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


@contextmanager
def locked(lock: ClusterLock, *, break_stale: bool, end: Callable[[], None]) -> Iterator[list[str]]:
    """Holds the lock while it is entered; the list says why it was lost, if it was, and ``end`` is called then, once,
    by a thread of its own. Raises `StackError`.
    """
    lock.take(break_stale=break_stale)
    ended, lost = threading.Event(), list[str]()

    def keep() -> None:
        while not lost and not ended.wait(RENEW_EVERY_S):
            lost.extend(trouble_of(lock))
        if lost and not ended.is_set():
            end()

    def stop() -> None:
        ended.set()
        thread.join(RENEW_EVERY_S)

    thread = threading.Thread(target=keep, name="lock", daemon=True)
    thread.start()
    try:
        yield lost
    except BaseException:
        stop()
        with suppress(ApiError):  # what went wrong first is what people have to know
            lock.give()
        raise
    stop()
    with suppress(ApiError) if lost else nullcontext():  # why it was lost is known, and it is stale by itself
        lock.give()


def trouble_of(lock: ClusterLock) -> list[str]:
    """Renews a lock; why that can be done no more, or nothing."""
    try:
        lock.renew()
    except ApiError as error:  # the API server is away: it is tried again, while nobody else may take the lock
        overdue_s = lock.overdue_s()
        return [f"the lock on the cluster has not been renewed for {overdue_s:.0f} s: {error}"] if overdue_s else []
    except StackError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001  the thread's own: whatever it was, nobody would renew it any more
        return [f"the lock on the cluster: {error!r}"]
    return []
