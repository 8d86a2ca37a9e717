"""A signal to every process of members, but for the one that holds their namespaces."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence
from resilience.agent.process import Place, servers

SIGNALS = {"KILL": signal.SIGKILL}
_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Signal:
    """``{"primitive": "signal", "signal": "KILL", "members": [{"name", "init_pid", "init_start"}, …]}``.

    Signals are sent from outside the members' PID namespaces (from inside, their first process would be immune and
    say nothing), until nothing of them runs. A kill has nothing to undo: the platform starts servers, not the agent.
    """

    number: int
    places: tuple[Place, ...]

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(SIGNALS[data["signal"]], tuple(Place.from_json(member) for member in data["members"]))

    def do(self) -> None:
        """Kills until none is left: a process may fork while it is being looked for. Raises `AgentError`."""
        for place in self.places:
            if not place.exists:
                raise AgentError(f"{place.name}: its first process {place.init_pid} is gone")
        deadline = time.monotonic() + _WITHIN_S
        while left := [(place, process) for place in self.places for process in servers(place)]:
            if time.monotonic() > deadline:
                raise AgentError(f"{left[0][0].name}: process {left[0][1].pid} still runs {_WITHIN_S} s after its kill")
            for _place, process in left:
                process.signal(self.number)
            time.sleep(0.002)

    def undo(self) -> None:
        """Does nothing."""

    def undone(self) -> list[Evidence]:
        """Nothing is left of a signal."""
        return []
