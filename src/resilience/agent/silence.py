"""Whether a member is silent to a witness: no byte, no end, no refusal on an old connection nor on a new one."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.connect import ANSWERS, SILENT, TIMEOUT_S, connect
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

_QUIET_S = 0.05  # an answer that pauses for longer than this is over
_PIECES_MAX = 20
NO_BYTE = "no byte"
ANSWERED = "answered"


@dataclass(slots=True)
class Silence:
    """``{"probe": "silent", "via": place, "to": place, "port": int, "say": text that is answered}``.

    The old connection is opened, and must have answered, before the injection.
    """

    via: Place
    to: Place
    port: int
    say: bytes
    opened: socket.socket | None = field(default=None)
    before: str = field(default="not looked at")

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(Place.from_json(data["via"]), Place.from_json(data["to"]), int(data["port"]), data["say"].encode())

    def prepare(self) -> None:
        """Opens the connection and reads one whole answer, so that none of its bytes is on the way any more."""
        self.opened, self.before = within(self.via, lambda: connect(self.to.address, self.port))
        if self.opened is None:
            return
        self.before = converse(self.opened, self.say, TIMEOUT_S)
        for _piece in range(_PIECES_MAX):
            rest = converse(self.opened, b"", _QUIET_S)
            if rest == NO_BYTE:
                return
            self.before = rest

    def in_effect(self) -> list[Evidence]:
        """Neither connection has any sign of life."""
        return [
            evidence(f"open connection from {self._what}", NO_BYTE, self._look_at_open()),
            evidence(f"new connection from {self._what}", SILENT, self._look_at_new()),
        ]

    def healed(self) -> list[Evidence]:
        """A new connection is answered; the old one is dead for good, as after a real loss of power."""
        return [evidence(f"new connection from {self._what}", ANSWERS, self._look_at_new())]

    def close(self) -> None:
        """Closes the old connection."""
        if self.opened is not None:
            self.opened.close()

    @property
    def _what(self) -> str:
        return f"{self.via.name} to {self.to.name}:{self.port}"

    def _look_at_open(self) -> str:
        if self.opened is None or self.before != ANSWERED:
            return f"nothing to be learned: before the injection it was {self.before}"
        return converse(self.opened, self.say, TIMEOUT_S)

    def _look_at_new(self) -> str:
        opened, word = within(self.via, lambda: connect(self.to.address, self.port))
        if opened is not None:
            opened.close()
        return word


def converse(opened: socket.socket, say: bytes, timeout_s: float) -> str:
    """Says something on a connection; what comes back, in a word."""
    opened.settimeout(timeout_s)
    try:
        opened.sendall(say)
        return ANSWERED if opened.recv(65_536) else "closed by the other side"
    except TimeoutError:
        return NO_BYTE
    except OSError as error:
        return f"broken: {error.strerror or error}"
