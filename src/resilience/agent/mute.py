"""Whether a member leaves requests unanswered although its connections stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.before import ANSWERED, Before
from resilience.agent.connect import SILENT, TIMEOUT_S, connect
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place
from resilience.agent.silence import NO_BYTE, converse


@dataclass(slots=True)
class Mute:
    """``{"probe": "mute", "via": place, "to": place, "port": int, "say": text that is answered, "node": name}``.

    The kernel accepts connections for a server that is stopped; nobody reads what is sent on them. A request
    must have been answered before the injection: see `resilience.agent.before`.
    """

    via: Place
    to: Place
    port: int
    say: bytes
    node: str = field(default="")
    before: Before = field(default_factory=Before)

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        via, to = Place.from_json(data["via"]), Place.from_json(data["to"])
        return cls(via, to, int(data["port"]), data["say"].encode(), str(data.get("node", "")))

    def prepare(self) -> None:
        """Remembers whether a request was answered."""
        self.before.look(lambda: self._look(TIMEOUT_S))

    def in_effect(self) -> list[Evidence]:
        """No byte comes back."""
        seen = self._look(self.before.patience_s)
        if self.before.answered:
            return [evidence(self._what, NO_BYTE, seen)]
        ok = seen == NO_BYTE and bool(self.before.instead)
        return [evidence(self._what, NO_BYTE, f"{seen}; {self.before.told}", ok=ok)]

    def healed(self) -> list[Evidence]:
        """A request is answered."""
        return [evidence(self._what, ANSWERED, self._look(TIMEOUT_S))]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"request from {self.via.name} to {self.to.name}:{self.port}"

    def _look(self, timeout_s: float) -> str:
        return within(self.via, lambda: self._ask(timeout_s))

    def _ask(self, timeout_s: float) -> str:
        opened, word = connect(self.to.address, self.port)
        if opened is None:  # once enough of them wait for a stopped server, the kernel takes no more
            return NO_BYTE if word == SILENT else word
        with opened:
            return converse(opened, self.say, timeout_s)
