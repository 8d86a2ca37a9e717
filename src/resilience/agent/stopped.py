"""Whether a member's server is still the same and stopped: a pause is proved by the kernel's own word for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.process import STOPPED, Place, is_running, servers

_NOTHING = "nothing runs"


@dataclass(slots=True)
class Stopped:
    """``{"probe": "stopped", "of": place}``. A server that was stopped before the injection proves nothing."""

    place: Place
    before: str = field(default="not looked at")

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`."""
        return cls(Place.from_json(data["of"]))

    def prepare(self) -> None:
        """Remembers whether it went on."""
        self.before = self._states()

    def in_effect(self) -> list[Evidence]:
        """All of its processes are stopped, and the server is the one that ran before."""
        seen = self._states()
        if not is_running(self.place.server_pid, self.place.server_start):
            seen = f"{seen}, another server"
        if self.before in {"stopped", _NOTHING}:
            seen = f"{seen}, and before the injection: {self.before}"
        return [evidence(self._what, "stopped", seen)]

    def healed(self) -> list[Evidence]:
        """All of its processes go on."""
        return [evidence(self._what, "goes on", self._states())]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"server {self.place.server_pid}:{self.place.server_start} of {self.place.name}"

    def _states(self) -> str:
        states = {process.state == STOPPED for process in servers(self.place)}
        if not states:
            return _NOTHING
        return "some stopped" if len(states) > 1 else "stopped" if states.pop() else "goes on"
