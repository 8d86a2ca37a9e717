"""Transactions that append to lists and read them, as they stand in a history.

One is an op of kind `KIND` on key `TABLE`. Its value has what it was to do, step by step: ``pg-1-list-3`` reads that
list, ``pg-1-list-3+12.1`` appends ``12.1`` to it. Its answer has what it was told: the isolation level that the server
ran it at, and for each read what the list held by then, ``serializable|11.1,12.1|``. A value is appended once in a run.
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from resilience.spec.load import Isolation

KIND = "list.transaction"
TABLE = "lists"  # PostgreSQL's, too: a row for each list, what it holds as one text

ISOLATION: tuple[Isolation, ...] = get_args(Isolation)  # the weakest first

_APPENDED, _BETWEEN, _TOLD = "+", " ", "|"
COMMA = ","  # between the values of a list


class Step(NamedTuple):
    """A step of a transaction: it appends a value to a list, or reads it ("")."""

    key: str
    value: str = ""


class Told(NamedTuple):
    """What a transaction was told: the level, and what the list of each of its reads held, the first one first."""

    level: str
    contents: tuple[str, ...]


def text_of(steps: Sequence[Step]) -> str:
    """What a transaction is to do, as a text."""
    return _BETWEEN.join(f"{key}{_APPENDED}{value}" if value else key for key, value in steps)


def steps_of(text: str) -> list[Step]:
    """The same, read."""
    return [Step(key, value) for key, _, value in (word.partition(_APPENDED) for word in text.split(_BETWEEN))]


def told_text(told: Told) -> str:
    """What it was told, as a text."""
    return _TOLD.join((told.level, *told.contents))


def told_of(text: str) -> Told:
    """The same, read; of a transaction that was told nothing no level."""
    level, *contents = text.split(_TOLD)
    return Told(level, tuple(contents))
