"""Servers that end and start again while a run goes on, and nodes that are given up, as the API shows them."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from resilience.backend.base import MemberState, Say
from resilience.errors import StackError

EVERY_S = 1.0
TOLD_TO = timedelta(seconds=1)  # what the instants of containers are cut off to
GOES_ON = timedelta(seconds=4)  # a server whose pod was deleted by force, which kubelet has to notice, and gives 2 s
NODES_EVERY = 3  # looks: what is told of nodes is tens of seconds old anyway
_JOIN_S = 45.0  # a question that an API server which is away does not answer yet

News = dict[str, Any]  # the data of an event ``member``, or ``node``


class Seen(NamedTuple):
    """A member as it was at a look."""

    state: MemberState
    at: datetime


def first_news(states: Sequence[MemberState]) -> Iterator[News]:
    """The start of each server that runs when it is first looked at."""
    return ({"member": state.name, "what": "started"} for state in states if state.identity)


def news(
    before: Mapping[str, Seen], after: Sequence[MemberState], now: datetime, *, last: bool = False
) -> Iterator[News]:
    """What became of members between when each was last seen and the look ``now``; a pod in another's place is an end,
    too.

    Kubelet and API tell of an end late, and not exactly: see `history.event` for ``late_us`` and ``unsure_us``. That a
    pod is away is no end yet, unless this is the ``last`` look: its server may go on.
    """
    for state in after:
        known = before.get(state.name)
        if known is None or known.state.identity == state.identity:
            continue
        if _may_go_on(known, state, now) and not last:
            continue
        if known.state.identity:
            of_known = _ends_told(state) == known.state.handle.get("container_id")
            told = state.handle if of_known else {}  # not another's end
            when = _when(told.get("ended_at") or "", known.at, now)
            yield {"member": state.name, "what": "exited", "code": told.get("last_exit"), **when}
        if state.identity:
            yield {"member": state.name, "what": "restarted" if known.state.identity else "started"}


def _may_go_on(known: Seen, state: MemberState, now: datetime) -> bool:
    """Whether a member without a pod may still have the server that it had."""
    return bool(known.state.identity) and not state.handle and now - known.at < GOES_ON


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
        self._known: dict[str, Seen] = {}
        self._thread = threading.Thread(target=self._run, name="ends", daemon=True)

    def start(self) -> None:
        """Tells of the members that run now, and watches from here on. Raises `StackError`."""
        states = self._states()
        for data in first_news(states):
            self._say("member", data)
        self._remember(states, datetime.now(UTC))
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
                self._look(last=stopping)
        except Exception as error:  # noqa: BLE001  of a thread's own: it is told when the watch is stopped
            self._trouble = error

    def _look(self, *, last: bool = False) -> None:
        try:
            states = self._states()
            nodes = self._nodes() if self._looks % NODES_EVERY == 0 else self._known_nodes
        except StackError as error:  # the API server is away; what happened meanwhile is seen by the next look
            self._trouble = error
            return
        self._trouble = None
        now = datetime.now(UTC)
        for data in news(self._known, states, now, last=last):
            self._say("member", data)
        for data in nodes_news(self._known_nodes, nodes):
            self._say("node", data)
        self._known_nodes = nodes
        self._looks += 1
        self._remember(states, now)

    def _remember(self, states: Sequence[MemberState], now: datetime) -> None:
        last = self._known
        self._known = {
            state.name: last[state.name]
            if state.name in last and _may_go_on(last[state.name], state, now)
            else Seen(state, now)
            for state in states
        }
