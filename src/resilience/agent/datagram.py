"""Whether a UDP datagram from one member reaches another: unlike a connection, it needs one direction only."""

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

_ATTEMPTS = 3
_WAIT_S = 0.2  # after each attempt
ARRIVES, LOST = "arrives", "lost"


@dataclass(slots=True)
class Datagram:
    """``{"probe": "datagram", "via": place, "to": place, "arrives": bool}``.

    That none arrives proves something only if one arrived before the injection.
    """

    via: Place
    to: Place
    arrives: bool
    before: str = field(default="not looked at")

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `ValueError`."""
        return cls(Place.from_json(data["via"]), Place.from_json(data["to"]), bool(data["arrives"]))

    def prepare(self) -> None:
        """Remembers whether one arrives without the injection."""
        self.before = self._look()

    def in_effect(self) -> list[Evidence]:
        """One arrives, or none, as the injection has it."""
        seen = self._look()
        if not self.arrives and self.before != ARRIVES:
            seen = f"{seen}, and before the injection: {self.before}"
        return [evidence(self._what, ARRIVES if self.arrives else LOST, seen)]

    def healed(self) -> list[Evidence]:
        """One arrives."""
        return [evidence(self._what, ARRIVES, self._look())]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"datagram from {self.via.name} to {self.to.name}"

    def _look(self) -> str:
        with within(self.to, self._receiver) as receiver, within(self.via, _sender) as sender:
            address = receiver.getsockname()
            token = secrets.token_bytes(16)
            for _attempt in range(_ATTEMPTS):
                if _send(sender, token, address) and _arrived(receiver, token):
                    return ARRIVES
        return LOST

    def _receiver(self) -> socket.socket:
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((self.to.address, 0))
        receiver.settimeout(_WAIT_S)
        return receiver


def _sender() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _send(sender: socket.socket, token: bytes, address: tuple[str, int]) -> bool:
    try:
        sender.sendto(token, address)
    except PermissionError:  # a packet dropped in its sender's own network is refused to the sender
        return False
    return True


def _arrived(receiver: socket.socket, token: bytes) -> bool:
    try:
        return receiver.recv(64) == token
    except TimeoutError:
        return False
