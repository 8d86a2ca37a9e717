"""Versions that somebody was told of: from which instant on a later one than a reader's was known."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from resilience.check.linearizability import NEVER
from resilience.history.columns import Ints, Ops


def overtaken_at(told: Ints, told_at: Ints, versions: Ints) -> Ints:
    """Of each of ``versions`` the first instant at which a later one was told; `NEVER` if none was."""
    order = np.argsort(told_at, kind="stable")
    highest = np.maximum.accumulate(told[order])  # that anybody had been told of by then
    return np.append(told_at[order], NEVER)[np.searchsorted(highest, versions, side="right")]


def by_key(ops: Ops, rows: Ints) -> Iterator[tuple[int, Ints]]:
    """The keys of these ops, each with its own of them, in the order in which they are given."""
    rows = rows[np.argsort(ops.key[rows], kind="stable")]
    borders = np.flatnonzero(np.diff(ops.key[rows], prepend=-1, append=-1)).tolist()
    for first, end in pairwise(borders):
        yield int(ops.key[rows[first]]), rows[first:end]
