"""A signal to every process of members, but for the one that holds their namespaces."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence
from resilience.agent.process import Place, Process, require, servers

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM}
_WITHIN_S = {signal.SIGKILL: 5.0, signal.SIGTERM: 20.0}  # a server that is asked to end may wait for its replicas


@dataclass(frozen=True, slots=True)
class Signal:
    """``{"primitive": "signal", "signal": "KILL|TERM", "members": [{"name", "init_pid", "init_start"}, …]}``.

    Signals are sent from outside the members' PID namespaces (from inside, their first process would be immune and
    say nothing), each process one, until nothing of them runs. There is nothing to undo: the platform starts servers,
    not the agent.
    """

    number: signal.Signals
    places: tuple[Place, ...]

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(SIGNALS[data["signal"]], tuple(Place.from_json(member) for member in data["members"]))

    def do(self) -> None:
        """Signals until none is left: a process may fork while it is being looked for. Raises `AgentError`."""
        require(self.places)
        within_s = _WITHIN_S[self.number]
        deadline = time.monotonic() + within_s
        told: set[Process] = set()
        while left := [(place, process) for place in self.places for process in servers(place)]:
            if time.monotonic() > deadline:
                place, process = left[0]
                raise AgentError(
                    f"{place.name}: process {process.pid} still runs {within_s} s after {self.number.name}"
                )
            for _place, process in left:
                if process not in told:
                    process.signal(self.number)
                    told.add(process)
            time.sleep(0.002)

    def undo(self) -> None:
        """Does nothing."""

    def undone(self) -> list[Evidence]:
        """Nothing is left of a signal."""
        return []
