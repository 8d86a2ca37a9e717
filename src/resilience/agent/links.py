"""Silences links: every frame but ARP to and from these ports of the bridge is dropped, all in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent import nftables
from resilience.agent.evidence import Evidence, evidence

FAMILY = "bridge"


@dataclass(frozen=True, slots=True)
class Links:
    """``{"primitive": "links", "devices": [port of each member]}``, in the network that the agent itself is in."""

    table: str
    devices: tuple[str, ...]

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` if the id is no name for a table."""
        return cls(nftables.table_name(injection_id), tuple(data["devices"]))

    def do(self) -> None:
        """Loads the table."""
        nftables.load(nftables.links_table(self.table, self.devices))

    def undo(self) -> None:
        """Deletes the table."""
        nftables.delete(FAMILY, self.table)

    def undone(self) -> list[Evidence]:
        """The table is gone."""
        return [
            evidence(f"table {FAMILY} {self.table}", "gone", "there" if nftables.exists(FAMILY, self.table) else "gone")
        ]
