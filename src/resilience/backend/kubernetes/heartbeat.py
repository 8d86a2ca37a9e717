"""Whether the harness outside is there still: it says so again and again, and the runner in its pod listens.

::

    the harness outside ─ alive: 17 ─▶  ConfigMap `machine`  ◀─ looked at ─ the runner's pod

A harness that was killed renews no lock, and nobody takes its run's record out: the runner ends the run then, healed,
rather than go on in a cluster that somebody else may take. Only looks that the API server answers count: while it is
away nobody can be heard.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.lease import LASTS_S, RENEW_EVERY_S
from resilience.backend.kubernetes.workload import MACHINE, NAMESPACE

EVERY_S = RENEW_EVERY_S
SILENT_S = float(LASTS_S)  # from then on its lock is stale, too
_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{MACHINE}"
_ALIVE = "alive"  # a key of the ConfigMap, beside those of the mailbox
_MISSING = 404
_JOIN_S = 1.0  # a call that hangs is not waited for: nothing rests on it any more


class Heartbeat:
    """What the harness outside says."""

    def __init__(self, api: Api) -> None:
        """Says nothing yet."""
        self._api = api
        self._count = 0

    def beat(self) -> None:
        """Says that it is there. Before the run is on its stage, and while the API server is away, nobody hears it."""
        self._count += 1
        with suppress(ApiError):
            self._api.patch(_PATH, {"data": {_ALIVE: str(self._count)}})


class Listener:
    """What the runner hears of it."""

    def __init__(self, api: Api, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` in seconds. Asks nothing."""
        self._api = api
        self._now = now
        self._said = ""
        self._since_s: float | None = None

    def silent_s(self) -> float:
        """Looks, and returns for how long looks that were answered have heard nothing new."""
        try:
            said = str((self._api.get(_PATH).get("data") or {}).get(_ALIVE, ""))
        except ApiError as error:
            if error.status != _MISSING:
                self._since_s = None
                return 0.0
            said = ""  # somebody has taken away what it would be said by
        now_s = self._now()
        if self._since_s is None or said != self._said:
            self._said, self._since_s = said, now_s
        return now_s - self._since_s


@contextmanager
def beating(heartbeat: Heartbeat) -> Iterator[None]:
    """Says that the harness is there while it is entered, by a thread of its own."""
    ended = threading.Event()

    def keep() -> None:
        heartbeat.beat()
        while not ended.wait(EVERY_S):
            heartbeat.beat()

    thread = threading.Thread(target=keep, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_S)


@contextmanager
def ended_when_silent(listener: Listener, end: Callable[[str], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Looks while it is entered, by a thread of its own; ``end`` is told once, why, if the harness is gone."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(every_s):
            if (silent_s := listener.silent_s()) >= SILENT_S:
                end(f"the harness outside has been silent for {silent_s:.0f} s and counts as gone: the run ends here")
                return

    thread = threading.Thread(target=keep, name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_S)
