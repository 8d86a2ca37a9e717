"""Whether a member leaves requests unanswered although its connections stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.connect import SILENT, TIMEOUT_S, connect
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place
from resilience.agent.silence import ANSWERED, NO_BYTE, converse


@dataclass(slots=True)
class Mute:
    """``{"probe": "mute", "via": place, "to": place, "port": int, "say": text that is answered}``.

    The kernel accepts connections for a server that is stopped; nobody reads what is sent on them.
    """

    via: Place
    to: Place
    port: int
    say: bytes
    before: str = field(default="not looked at")

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(Place.from_json(data["via"]), Place.from_json(data["to"]), int(data["port"]), data["say"].encode())

    def prepare(self) -> None:
        """Remembers whether a request was answered."""
        self.before = self._look()

    def in_effect(self) -> list[Evidence]:
        """No byte comes back."""
        seen = self._look()
        if self.before != ANSWERED:
            seen = f"{seen}, and before the injection: {self.before}"
        return [evidence(self._what, NO_BYTE, seen)]

    def healed(self) -> list[Evidence]:
        """A request is answered."""
        return [evidence(self._what, ANSWERED, self._look())]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"request from {self.via.name} to {self.to.name}:{self.port}"

    def _look(self) -> str:
        return within(self.via, self._ask)

    def _ask(self) -> str:
        opened, word = connect(self.to.address, self.port)
        if opened is None:  # once enough of them wait for a stopped server, the kernel takes no more
            return NO_BYTE if word == SILENT else word
        with opened:
            return converse(opened, self.say, TIMEOUT_S)
