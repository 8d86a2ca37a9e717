"""Whether the injection's own rules meet packets: its drop counter rises from one look to the next."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent import drop, links, nftables
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

_WITHIN_S = 1.2
_OVER_NODES_WITHIN_S = 4.0  # by then the other nodes' probes are under way, too
_LOOK_EVERY_S = 0.1
COUNTERS = {"in": nftables.DROPPED_IN, "out": nftables.DROPPED_OUT}


@dataclass(slots=True)
class Counter:
    """``{"probe": "counter", "in": place}`` for packets dropped in a member's network; without ``in``: frames dropped
    on the bridge. With ``"directions": ["in", "out"]`` each of them has to rise by itself.

    What raises it are the other probes of the same injection. These may have sent before it is looked at, so it is
    compared with what it was at the look before; it begins with 0, as its table does.
    """

    table: str
    place: Place | None
    counters: tuple[str, ...] = ("",)  # "": all of them together
    seen: list[int] = field(default_factory=list)  # at the look before

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` or `KeyError`."""
        place = Place.from_json(data["in"]) if "in" in data else None
        counters = tuple(COUNTERS[direction] for direction in data.get("directions", ())) or ("",)
        return cls(nftables.table_name(injection_id), place, counters)

    def prepare(self) -> None:
        """There is no counter before the injection."""

    def in_effect(self) -> list[Evidence]:
        """It has risen since it was looked at last, or does in a moment."""
        start = self.seen or [0 for _name in self.counters]
        deadline = time.monotonic() + (_OVER_NODES_WITHIN_S if self.place and self.place.pod_uid else _WITHIN_S)
        while not _all_risen(start, now := self._packets()) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        self.seen = now
        return [
            evidence(
                f"drops of {self.table} {name}".rstrip(),
                "more than before",
                f"{after} after {before}",
                ok=after > before,
            )
            for name, before, after in zip(self.counters, start, now, strict=True)
        ]

    def healed(self) -> list[Evidence]:
        """That the table is gone is shown by the step that made it."""
        return []

    def close(self) -> None:
        """Nothing is kept open."""

    def _packets(self) -> list[int]:
        if self.place is None:
            return self._of(links.FAMILY)
        return within(self.place, lambda: self._of(drop.FAMILY))

    def _of(self, family: str) -> list[int]:
        return [nftables.dropped_packets(family, self.table, name) for name in self.counters]


def _all_risen(before: list[int], after: list[int]) -> bool:
    return all(now > then for then, now in zip(before, after, strict=True))
