"""Columns while they grow, batch by batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_WIDEST = np.dtype(np.int64)
_MORE = 4_096  # rows that room is made for at once; of a long column a sixteenth


class Growing:
    """Columns of the same length while they grow.

    Each is one block of memory that is made larger in place, so that what is read exists once: chunks that are put
    together in the end would be there twice then, and what they leave behind is in pieces that nobody can use. A column
    of numbers of less than 64 bits is made wider when a number comes that does not fit.
    """

    def __init__(self, dtypes: Mapping[str, Any]) -> None:
        self._cells: dict[str, Any] = {name: np.empty(0, dtype=dtype) for name, dtype in dtypes.items()}
        self._room = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, count: int, **columns: Any) -> None:
        """So many rows more; a column may be one value for all of them, and one that is not named is 0, or ""."""
        first, self._count = self._count, self._count + count
        if self._count > self._room:
            self._resize(self._count + max(_MORE, self._count // 16))
        for name, values in columns.items():
            self.put(first, name, values)

    def put(self, first: int, name: str, values: Any, rows: Any = slice(None)) -> None:
        """Writes to a column from a row on: to all that are there, or to these, counted from the first."""
        self._fit(name, values)
        self._cells[name][first : self._count][rows] = values

    def _fit(self, name: str, values: Any) -> None:
        """Makes a column as wide as these numbers need."""
        cells = self._cells[name]
        if cells.dtype.kind == "i" and cells.dtype != _WIDEST and np.size(values):
            largest = max(int(np.max(values)), -1 - int(np.min(values)))
            self._cells[name] = cells.astype(
                np.promote_types(cells.dtype, np.min_scalar_type(-1 - largest)), copy=False
            )

    def since(self, row: int) -> dict[str, Any]:
        """The columns from a row on, to look at until the next rows come."""
        return {name: cells[row : self._count] for name, cells in self._cells.items()}

    def columns(self) -> dict[str, Any]:
        """The columns; they grow no more."""
        self._resize(self._count)
        done, self._cells = self._cells, {}
        return done

    def _resize(self, room: int) -> None:
        for cells in self._cells.values():
            cells.resize(room, refcheck=False)  # nobody else has them yet
        self._room = room
