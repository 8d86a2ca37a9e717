"""Empties members' data folders, and the probe that says what became of the files that were in them."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder, and the names in it that stay whatever happens."""

    path: Path
    keep: frozenset[str]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`."""
        return cls(Path(data["data_dir"]), frozenset(data["data_keep"]))

    def empty(self) -> None:
        """Removes everything else. Raises `OSError`."""
        for entry in self._entries():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def files(self) -> Iterator[Path]:
        """Every other file, in folders below it too."""
        for entry in self._entries():
            below = entry.rglob("*") if entry.is_dir() and not entry.is_symlink() else (entry,)
            yield from (path for path in below if path.is_file())

    def _entries(self) -> list[Path]:
        return [entry for entry in self.path.iterdir() if entry.name not in self.keep]


@dataclass(frozen=True, slots=True)
class Wipe:
    """``{"primitive": "wipe", "folders": [{"data_dir": path, "data_keep": [names]}, …]}``; no server runs on them."""

    folders: tuple[Folder, ...]

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`."""
        return cls(tuple(Folder.from_json(folder) for folder in data["folders"]))

    def do(self) -> None:
        """Empties them. Raises `OSError`."""
        for folder in self.folders:
            folder.empty()

    def undo(self) -> None:
        """Does nothing: data that is gone does not come back by healing."""

    def undone(self) -> list[Evidence]:
        """There is nothing to be seen."""
        return []


@dataclass(slots=True)
class Emptied:
    """``{"probe": "emptied", "of": {"name", "data_dir", "data_keep"}}``; proves nothing of an empty folder.

    The files are held open, so that none that is made later can be taken for one of them: of a file that is gone no
    name is left.
    """

    name: str
    folder: Folder
    before: list[int] = field(default_factory=list)  # file descriptors

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`."""
        return cls(str(data["of"]["name"]), Folder.from_json(data["of"]))

    def prepare(self) -> None:
        """Opens the files."""
        self.before = [os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW) for path in self.folder.files()]

    def in_effect(self) -> list[Evidence]:
        """None of them is there."""
        left = sum(os.fstat(handle).st_nlink > 0 for handle in self.before)
        observed = f"{left} of {len(self.before)}"
        expected = f"0 of {max(1, len(self.before))}"
        return [evidence(f"data files of {self.name} from before", expected, observed)]

    def healed(self) -> list[Evidence]:
        """Nothing is to be seen: they stay gone."""
        return []

    def close(self) -> None:
        """Closes them."""
        for handle in self.before:
            os.close(handle)
        self.before = []
