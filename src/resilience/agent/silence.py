"""Whether a member is silent to a witness: no byte, no end, no refusal on an old connection nor on a new one."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.before import ANSWERED, Before
from resilience.agent.connect import ANSWERS, SILENT, TIMEOUT_S, connect
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

_QUIET_S = 0.05  # an answer that pauses for longer than this is over
_PIECES_MAX = 20
NO_BYTE = "no byte"


@dataclass(slots=True)
class Silence:
    """``{"probe": "silent", "via": place, "to": place, "port": int, "say": text that is answered, "node": name}``.

    The old connection is opened, and must have answered, before the injection: see `resilience.agent.before`.
    """

    via: Place
    to: Place
    port: int
    say: bytes
    node: str = field(default="")
    opened: socket.socket | None = field(default=None)
    before: Before = field(default_factory=Before)

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        via, to = Place.from_json(data["via"]), Place.from_json(data["to"])
        return cls(via, to, int(data["port"]), data["say"].encode(), str(data.get("node", "")))

    def prepare(self) -> None:
        """Opens the connection and reads one whole answer, so that none of its bytes is on the way any more."""
        self.before.look(self._open)

    def in_effect(self) -> list[Evidence]:
        """Neither connection has any sign of life."""
        what = f"open connection from {self._what}"
        if self.opened is not None and self.before.answered:
            old = evidence(what, NO_BYTE, converse(self.opened, self.say, self.before.patience_s))
        else:
            old = evidence(what, NO_BYTE, self.before.told, ok=bool(self.before.instead))
        return [old, evidence(f"new connection from {self._what}", SILENT, self._look_at_new())]

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

    def _open(self) -> str:
        """One try, on a connection of its own: a late answer to an earlier one must not be taken for a sign of life."""
        self.close()
        self.opened, word = within(self.via, lambda: connect(self.to.address, self.port))
        if self.opened is None:
            return word
        word = converse(self.opened, self.say, TIMEOUT_S)
        for _piece in range(_PIECES_MAX):
            rest = converse(self.opened, b"", _QUIET_S)
            if rest == NO_BYTE:
                break
            word = rest
        return word

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
