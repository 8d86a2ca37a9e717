"""Ends a hold after a while, so that the platform starts the servers again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent.evidence import Evidence
from resilience.agent.hold import Hold


@dataclass(frozen=True, slots=True)
class Release:
    """``{"primitive": "release", "dirs": [folder of each member], "after_s": float}``; comes after a ``hold``."""

    hold: Hold
    after_s: float

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError`, `KeyError` or `ValueError`."""
        return cls(Hold.from_json(injection_id, data), float(data["after_s"]))

    def do(self) -> None:
        """Waits, then removes the files."""
        time.sleep(self.after_s)
        self.hold.undo()

    def undo(self) -> None:
        """Does nothing: the hold itself is undone by its own step."""

    def undone(self) -> list[Evidence]:
        """What was let go leaves nothing."""
        return []
