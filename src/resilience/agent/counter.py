"""Whether the injection's own rules meet packets: its drop counter rises while the probes are under way."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent import drop, links, nftables
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

_WITHIN_S = 1.2
_LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class Counter:
    """``{"probe": "counter", "in": place}`` for packets dropped in a member's network; without ``in``: frames dropped
    on the bridge. What raises it are the other probes of the same injection, which run at the same time.
    """

    table: str
    place: Place | None

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` or `KeyError`."""
        place = Place.from_json(data["in"]) if "in" in data else None
        return cls(nftables.table_name(injection_id), place)

    def prepare(self) -> None:
        """There is no counter before the injection."""

    def in_effect(self) -> list[Evidence]:
        """It has risen since a moment ago."""
        start = self._packets()
        deadline = time.monotonic() + _WITHIN_S
        while (now := self._packets()) <= start and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        return [evidence(f"drops of {self.table}", "more than before", f"{now} after {start}", ok=now > start)]

    def healed(self) -> list[Evidence]:
        """That the table is gone is shown by the step that made it."""
        return []

    def close(self) -> None:
        """Nothing is kept open."""

    def _packets(self) -> int:
        if self.place is None:
            return nftables.dropped_packets(links.FAMILY, self.table)
        return within(self.place, lambda: nftables.dropped_packets(drop.FAMILY, self.table))
