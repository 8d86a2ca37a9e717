"""Holds the restart of members back: a file of the injection's name in each member's own folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.nftables import table_name


@dataclass(frozen=True, slots=True)
class Hold:
    """``{"primitive": "hold", "dirs": [folder of each member]}``; while the file is there, no server is started."""

    files: tuple[Path, ...]

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` if the id is no name for a file."""
        table_name(injection_id)  # the same rule: nothing that could leave the folder
        return cls(tuple(Path(folder) / injection_id for folder in data["dirs"]))

    def do(self) -> None:
        """Makes the files."""
        for file in self.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def undo(self) -> None:
        """Removes the files."""
        for file in self.files:
            file.unlink(missing_ok=True)

    def undone(self) -> list[Evidence]:
        """One piece for all the files."""
        left = [file.parent.name for file in self.files if file.exists()]
        return [evidence("restarts held back", "none", ", ".join(left) or "none")]
