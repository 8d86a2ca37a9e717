"""Stops every process of members, but for the ones that hold their namespaces, and lets them go on."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.process import STOPPED, Place, require, servers

_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Pause:
    """``{"primitive": "pause", "members": [{"name", "init_pid", "init_start"}, …]}``."""

    places: tuple[Place, ...]

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(tuple(Place.from_json(member) for member in data["members"]))

    def do(self) -> None:
        """Stops until all are: one that was not stopped yet may have forked. Raises `AgentError`."""
        require(self.places)
        deadline = time.monotonic() + _WITHIN_S
        while going := [process for place in self.places for process in servers(place) if process.state != STOPPED]:
            if time.monotonic() > deadline:
                raise AgentError(f"process {going[0].pid} still runs {_WITHIN_S} s after it was stopped")
            for process in going:
                process.signal(signal.SIGSTOP)
            time.sleep(0.002)

    def undo(self) -> None:
        """Lets all go on; one that was never stopped takes no notice."""
        for place in self.places:
            for process in servers(place):
                process.signal(signal.SIGCONT)

    def undone(self) -> list[Evidence]:
        """One piece for all of them."""
        left = [place.name for place in self.places if any(p.state == STOPPED for p in servers(place))]
        return [evidence("stopped members", "none", ", ".join(left) or "none")]
