"""Histories of many ops made in columns, for benchmarks of single checks: nothing is written, nothing is read."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from resilience.history.columns import CODE, OK, TEXT, Ops, Texts
from resilience.history.read import History, read_history


def numbered(prefix: str, count: int) -> Texts:
    """So many texts, each with its number, made as a column: as objects they would take more than all else."""
    texts: Texts = np.strings.add(prefix, np.arange(count).astype(TEXT))
    return texts


def history_of(count: int, **columns: Any) -> History:
    """A history of so many acknowledged ops of one client and phase, and of nothing else.

    ``columns`` are those of `Ops` that are not the same for all, ``called`` and ``returned`` among them. Each column
    has its own memory, and as many bits, as one that was read has.
    """
    same = ("client", "kind", "key", "group", "phase", "error", "stood")
    made = {
        **{name: np.zeros(count, dtype=CODE) for name in same if name not in columns},
        **{name: np.full(count, -1, dtype=CODE) for name in ("version", "epoch") if name not in columns},
        "id": np.arange(count, dtype=np.int32) + np.int32(1),
        "outcome": np.full(count, OK, dtype=CODE),
        "due": columns["called"].copy(),
        "clients": ("bench",),
        "phases": ("steady",),
        "errors": ("",),
        "standing": ("",),
    }
    return dataclasses.replace(read_history(Path("nowhere")), ops=Ops(**(made | columns)))
