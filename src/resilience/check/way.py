"""Rows of PostgreSQL by the way on which they were written."""

import numpy as np

from resilience.history.columns import Flags, Ops
from resilience.history.way import KIND, Way, way_of

WORDS: dict[Way, str] = {"pgbouncer": "rows through a PgBouncer", "direct": "rows straight to the primary"}


def rows_by(ops: Ops, way: Way) -> Flags:
    """Which ops are rows that were written on a way."""
    on_it = np.fromiter((way_of(key) == way for key in ops.keys), dtype=np.bool_, count=len(ops.keys))
    rows: Flags = ops.of_kind(KIND).copy()
    rows[rows] = on_it[ops.key[rows]]
    return rows
