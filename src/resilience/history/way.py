"""The two ways on which rows are written to PostgreSQL, by turns: through a PgBouncer, and straight to the primary.

A row's key tells its way: ``pg:2`` went through a PgBouncer, as the platform's own rows go, ``pg:1`` straight.
"""

from typing import Literal

Way = Literal["pgbouncer", "direct"]
WAYS: tuple[Way, Way] = ("pgbouncer", "direct")  # of even rows, of odd ones
KIND = "postgresql.write"


def row_key(number: int) -> str:
    """The key of a row by its number."""
    return f"pg:{number}"


def way_of(key: str) -> Way:
    """The way on which the row of a key was written."""
    return WAYS[key.endswith(("1", "3", "5", "7", "9"))]
