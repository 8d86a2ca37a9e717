"""Servers that end and start again while a run goes on, and nodes that are given up, as the API shows them."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from resilience.backend.base import MemberState, Say
from resilience.errors import StackError

EVERY_S = 1.0
TOLD_TO = timedelta(seconds=1)  # what the instants of containers are cut off to
NODES_EVERY = 3  # looks: what is told of nodes is tens of seconds old anyway
_JOIN_S = 45.0  # a question that an API server which is away does not answer yet

News = dict[str, Any]  # the data of an event ``member``, or ``node``


def first_news(states: Sequence[MemberState]) -> Iterator[News]:
    """The start of each server that runs when it is first looked at."""
    return ({"member": state.name, "what": "started"} for state in states if state.identity)


def news(
    before: Mapping[str, MemberState], after: Sequence[MemberState], looked: datetime, now: datetime
) -> Iterator[News]:
    """What became of members between the look before and the one ``now``; a pod in another's place is an end, too.

    Kubelet and API tell of an end late, and not exactly: see `history.event` for ``late_us`` and ``unsure_us``.
    """
    for state in after:
        known = before.get(state.name)
        if known is None or known.identity == state.identity:
            continue
        if known.identity:
            told = state.handle if _ends_told(state) == known.handle.get("container_id") else {}  # not another's end
            when = _when(told.get("ended_at") or "", looked, now)
            yield {"member": state.name, "what": "exited", "code": told.get("last_exit"), **when}
        if state.identity:
            yield {"member": state.name, "what": "restarted" if known.identity else "started"}


def _ends_told(state: MemberState) -> str | None:
    """The container whose end is told of a pod: of several that ended between two looks, the last one."""
    told: str | None = state.handle.get("ended_id")
    return told


def _when(ended_at: str, looked: datetime, now: datetime) -> News:
    """Where nobody says when it ended, since its pod is gone, it was between the two looks."""
    if not ended_at:
        return {"late_us": 0, "unsure_us": _us(now - looked)}
    latest = min(datetime.fromisoformat(ended_at) + TOLD_TO, now)
    return {"late_us": _us(now - latest), "unsure_us": _us(TOLD_TO)}


def _us(length: timedelta) -> int:
    return max(0, round(length.total_seconds() * 1e6))


def nodes_news(before: Mapping[str, bool], after: Mapping[str, bool]) -> Iterator[News]:
    """Which nodes the cluster takes for ready, or does not any more, since the last look."""
    for name, ready in after.items():
        if before.get(name, ready) != ready:
            yield {"node": name, "what": "ready" if ready else "not-ready"}


class EndsWatch:
    """Tells of members' ends and starts, and of nodes' readiness; a thread of its own."""

    def __init__(
        self, states: Callable[[], Sequence[MemberState]], say: Say, nodes: Callable[[], Mapping[str, bool]] = dict
    ) -> None:
        """``states`` asks for the members, ``nodes`` which nodes are ready; nothing is asked before `start`."""
        self._states = states
        self._nodes = nodes
        self._known_nodes: Mapping[str, bool] = {}
        self._looks = 0
        self._say = say
        self._stopping = threading.Event()
        self._trouble: Exception | None = None  # what keeps it from having seen all
        self._known: dict[str, MemberState] = {}
        self._looked = datetime.now(UTC)
        self._thread = threading.Thread(target=self._run, name="ends", daemon=True)

    def start(self) -> None:
        """Tells of the members that run now, and watches from here on. Raises `StackError`."""
        states = self._states()
        for data in first_news(states):
            self._say("member", data)
        self._remember(states)
        self._thread.start()

    def stop(self) -> None:
        """Looks once more and stops watching. Raises `StackError` if that look, or what is to be told, was missed."""
        self._stopping.set()
        if not self._thread.ident:  # never started
            return
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise StackError(f"members' ends: whoever watches them has not ended within {_JOIN_S:g} s")
        if self._trouble:
            raise StackError(f"members' ends: not all were seen: {self._trouble}") from self._trouble

    def _run(self) -> None:
        stopping = False
        try:
            while not stopping:
                stopping = self._stopping.wait(EVERY_S)
                self._look()
        except Exception as error:  # noqa: BLE001  of a thread's own: it is told when the watch is stopped
            self._trouble = error

    def _look(self) -> None:
        try:
            states = self._states()
            nodes = self._nodes() if self._looks % NODES_EVERY == 0 else self._known_nodes
        except StackError as error:  # the API server is away; what happened meanwhile is seen by the next look
            self._trouble = error
            return
        self._trouble = None
        for data in news(self._known, states, self._looked, datetime.now(UTC)):
            self._say("member", data)
        for data in nodes_news(self._known_nodes, nodes):
            self._say("node", data)
        self._known_nodes = nodes
        self._looks += 1
        self._remember(states)

    def _remember(self, states: Sequence[MemberState]) -> None:
        self._known = {state.name: state for state in states}
        self._looked = datetime.now(UTC)
