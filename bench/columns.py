"""Histories of many ops made in columns, for benchmarks of single checks: nothing is written, nothing is read."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from resilience.history.columns import OK, Ops
from resilience.history.read import History, read_history


def history_of(count: int, **columns: Any) -> History:
    """A history of so many acknowledged ops of one client and phase, and of nothing else.

    ``columns`` are those of `Ops` that are not the same for all, ``called`` and ``returned`` among them.
    """
    same = np.zeros(count, dtype=np.int32)
    made = {
        **dict.fromkeys(("client", "kind", "key", "group", "phase", "error", "stood"), same),
        **dict.fromkeys(("version", "epoch"), np.full(count, -1)),
        "id": np.arange(count) + 1,
        "outcome": np.full(count, OK, dtype=np.int32),
        "due": columns["called"],
        "clients": ("bench",),
        "phases": ("steady",),
        "errors": ("",),
        "standing": ("",),
    }
    return dataclasses.replace(read_history(Path("nowhere")), ops=Ops(**(made | columns)))
