"""Drops packets between one member and others, in that member's own network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent import nftables
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.network import within
from resilience.agent.process import Place

FAMILY = "inet"


@dataclass(frozen=True, slots=True)
class Drop:
    """``{"primitive": "drop", "member": place, "others": [addresses], "direction": "both|in|out"}``."""

    table: str
    place: Place
    script: str

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError`, `KeyError` or `ValueError`."""
        table = nftables.table_name(injection_id)
        script = nftables.drop_table(table, data["others"], data["direction"])
        return cls(table, Place.from_json(data["member"]), script)

    def do(self) -> None:
        """Loads the table in the member's network."""
        within(self.place, lambda: nftables.load(self.script))

    def undo(self) -> None:
        """Deletes the table; where the member is gone, its network and rules went with it."""
        if self.place.exists:
            within(self.place, lambda: nftables.delete(FAMILY, self.table))

    def undone(self) -> list[Evidence]:
        """The table is gone."""
        there = self.place.exists and within(self.place, lambda: nftables.exists(FAMILY, self.table))
        what = f"table {FAMILY} {self.table} of {self.place.name}"
        return [evidence(what, "gone", "there" if there else "gone")]
