"""Whether a member accepts a new TCP connection of another: it answers, refuses, or stays silent."""

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

TIMEOUT_S = 0.7
ANSWERS, REFUSED, SILENT = "answers", "refused", "timed out"


def connect(address: str, port: int) -> tuple[socket.socket | None, str]:
    """A new connection from the calling thread's network, and what came of it. The caller closes it."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.settimeout(TIMEOUT_S)
    try:
        opened.connect((address, port))
    except OSError as error:
        opened.close()
        return None, _word(error)
    return opened, ANSWERS


def _word(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return SILENT
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    return str(error.strerror or error)


@dataclass(slots=True)
class Connect:
    """``{"probe": "reachable|unreachable|refused", "via": place, "to": place, "port": int}``.

    ``unreachable`` and ``refused`` prove something only if the same connection was answered before the injection.
    """

    expected: str
    via: Place
    to: Place
    port: int
    before: str = field(default="not looked at")

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        expected = {"reachable": ANSWERS, "unreachable": SILENT, "refused": REFUSED}[data["probe"]]
        return cls(expected, Place.from_json(data["via"]), Place.from_json(data["to"]), int(data["port"]))

    def prepare(self) -> None:
        """Remembers what the connection does without the injection."""
        self.before = self._look()

    def in_effect(self) -> list[Evidence]:
        """The connection behaves as it must while the injection is in effect."""
        seen = self._look()
        if ANSWERS not in {self.expected, self.before}:
            seen = f"{seen}, and before the injection: {self.before}"
        return [evidence(self._what, self.expected, seen)]

    def healed(self) -> list[Evidence]:
        """The connection is answered."""
        return [evidence(self._what, ANSWERS, self._look())]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"TCP from {self.via.name} to {self.to.name}:{self.port}"

    def _look(self) -> str:
        opened, word = within(self.via, lambda: connect(self.to.address, self.port))
        with contextlib.ExitStack() as stack:
            if opened is not None:
                stack.enter_context(opened)
        return word
