"""The columns of a history: one array for each field of its ops and of what arrived, no object for each of them.

Instants are microseconds on the run's clock. A text that occurs often (a key, a kind, a phase) is a *code*: an index
into the texts that stand beside the column: a tuple, or of keys, which may be as many as there are ops, a column of
their own. Values occur once each. Such columns of texts are kept in numpy's string type. Codes and other small numbers
have as many bits as the largest of them needs: whoever calculates with them takes more.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.signedinteger[Any]]
Flags = NDArray[np.bool_]
Texts = NDArray[Any]  # of numpy.dtypes.StringDType

# of the columns of these kinds; those of codes begin as narrow as that, see `history.growing`
INT, CODE, FLAG = np.dtype(np.int64), np.dtype(np.int8), np.dtype(np.bool_)
TEXT: Any = np.dtypes.StringDType()

OK, FAIL, UNKNOWN = 0, 1, 2  # the values of `Ops.outcome`
OUTCOMES = ("ok", "fail", "unknown")
_PIECE = 65_536  # rows of texts that are taken at once
UNFINISHED = "unfinished"  # the error of an op whose client never said how it ended


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ops:
    """All ops of a run, client by client, in the order in which they were invoked.

    ``returned`` is -1 for an op that never ended; its outcome is unknown and its error `UNFINISHED`.
    """

    client: Codes  # into ``clients``
    id: Codes
    kind: Codes  # into ``kinds``
    key: Codes  # into ``keys``
    value: Texts
    group: Codes  # the Redis shard's number, 0 where there is none
    phase: Codes  # into ``phases``
    due: Ints
    called: Ints
    returned: Ints
    outcome: Codes  # `OK`, `FAIL`, `UNKNOWN`
    version: Codes
    epoch: Codes
    error: Codes  # into ``errors``
    stood: Codes  # into ``standing``: the value that a register's answer speaks of, what a transaction was told; ""
    clients: tuple[str, ...]
    kinds: tuple[str, ...]
    keys: Texts
    phases: tuple[str, ...]
    errors: tuple[str, ...]
    standing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.id)

    def of_kind(self, *kinds: str) -> Flags:
        """Which ops are of one of these kinds; a kind that ends in a dot means all that begin so."""
        return of_codes(self.kind, (_named(kind, kinds) for kind in self.kinds))

    def of_client(self, client: str) -> Flags:
        """Which ops a client sent."""
        return np.equal(self.client, _code(self.clients, client))

    def in_phase(self, *phases: str) -> Flags:
        """Which ops were due in one of these phases, as their generator booked them."""
        return of_codes(self.phase, (phase in phases for phase in self.phases))

    def with_key(self, key: str) -> Flags:
        """Which ops are on this key."""
        return np.isin(self.key, np.flatnonzero(np.equal(self.keys, key)))

    def with_error(self, error: str) -> Flags:
        """Which ops ended with an error of this class."""
        return np.equal(self.error, _code(self.errors, error))

    def keys_of(self, rows: Flags) -> Flags:
        """Which keys these ops are on, by their codes."""
        found = np.zeros(len(self.keys), dtype=np.bool_)
        found[self.key[rows]] = True
        return found

    def name(self, row: int) -> str:
        """How evidence names an op: its client and id."""
        return f"{self.clients[self.client[row]]}/{self.id[row]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deliveries:
    """All arrivals of edits at receivers, file by file, in the order in which they came."""

    receiver: Codes  # into ``receivers``
    room: Codes  # into ``rooms``
    epoch: Ints
    seq: Ints
    edit: Codes  # into ``edits``
    at: Ints
    live: Flags  # as it was fanned out, not after the receiver had asked
    receivers: tuple[str, ...]
    rooms: tuple[str, ...]
    edits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Consumptions:
    """All messages that consumers were handed, file by file, in the order in which they came."""

    consumer: Codes  # into ``consumers``
    queue: Codes  # into ``queues``
    value: Texts
    at: Ints
    redelivered: Flags
    acked: Flags
    came: Ints  # `history.record.NEVER`: not on record
    consumers: tuple[str, ...]
    queues: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DirectReads:
    """What the audit found under the keys of the direct client, each as it was read last.

    A key that is not ``there`` was asked for and holds nothing; its value is "".
    """

    key: Codes  # of `History.key`, as that of an op
    value: Texts
    there: Flags
    group: Codes  # the Redis shard that it was read from

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableRows:
    """The audit's lines of PostgreSQL's table, in the order in which they were read.

    A key that is not ``there`` was asked for and has no row; its value is "".
    """

    key: Codes  # of `History.key`, as that of an op
    value: Texts
    there: Flags
    source: Codes  # into ``sources``
    sources: tuple[tuple[str, int], ...]  # whom it was read from: a member, and the timeline that it was on

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Messages:
    """The messages that the audit drained from the queues, in the order in which they came out.

    ``queues`` are those that were read; one that was empty has no message. ``members`` are those that it was done
    through, as far as that is on record.
    """

    queue: Codes  # into ``queues``
    value: Texts
    redelivered: Flags
    died_in: Codes  # into ``origins``: the queue that it died in first, "" if it never died
    died_of: Codes  # into ``reasons``
    queues: tuple[str, ...]
    members: tuple[str, ...]
    origins: tuple[str, ...]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.queue)


Known = dict[str, int]  # the texts that have a code


def code_array(texts: list[str], known: Known) -> Codes:
    """Codes of texts; one that is not known yet is from now on, under the next code."""
    for text in dict.fromkeys(texts):
        known.setdefault(text, len(known))
    return np.fromiter(map(known.__getitem__, texts), dtype=np.int32, count=len(texts))


def text_array(texts: list[str]) -> Texts:
    """Texts of any length as one array without an object for each."""
    return np.array(texts, dtype=TEXT)


def in_pieces(is_so: Callable[[Codes], Flags], rows: Codes) -> Flags:
    """What is so of which of these rows, asked of some of them at a time: what that takes is not there for all."""
    found = np.empty(len(rows), dtype=np.bool_)
    for first in range(0, len(rows), _PIECE):
        piece = slice(first, first + _PIECE)
        found[piece] = is_so(rows[piece])
    return found


def same_texts(texts: Texts, rows: Ints | Codes, others: Texts, their_rows: Ints | Codes) -> Flags:
    """Whether the texts in some rows are those in as many rows of another column.

    To take rows is to copy their texts, so this is done in pieces.
    """
    same = np.empty(len(rows), dtype=np.bool_)
    for first in range(0, len(rows), _PIECE):
        piece = slice(first, first + _PIECE)
        same[piece] = _taken(texts, rows[piece]) == _taken(others, their_rows[piece])
    return same


def _taken(texts: Texts, rows: Ints | Codes) -> Texts:
    """The texts in these rows; where they follow one another no text is copied."""
    follow = len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (rows[1:] > rows[:-1]).all()
    return texts[rows[0] : rows[-1] + 1] if follow else texts[rows]


def rows_with(texts: Texts, rows: Ints | Codes, wanted: Collection[str]) -> dict[str, int]:
    """Of each of these texts the last of the rows that has it, as far as one does; also in pieces."""
    found: dict[str, int] = {}
    for first in range(0, len(rows) if wanted else 0, _PIECE):
        piece = rows[first : first + _PIECE]
        named = zip(texts[piece].tolist(), piece.tolist(), strict=True)
        found.update((text, row) for text, row in named if text in wanted)
    return found


def are_among(texts: Texts, wanted: Collection[str]) -> Flags:
    """Which texts are wanted."""
    if not wanted:
        return np.zeros(len(texts), dtype=np.bool_)
    return np.fromiter((text in wanted for text in texts), dtype=np.bool_, count=len(texts))


def rows_of(wanted: Flags) -> Codes:
    """The rows that are wanted, in half the bits of an index: there are no 2,000,000,000 of them."""
    return np.flatnonzero(wanted).astype(np.int32)


def of_codes(column: Codes, wanted: Iterable[bool]) -> Flags:
    """Which rows have a code that is wanted; ``wanted`` says it of each code."""
    return np.array(list(wanted), dtype=np.bool_)[column]


def _named(kind: str, names: tuple[str, ...]) -> bool:
    return any(kind.startswith(name) if name.endswith(".") else kind == name for name in names)


def _code(texts: tuple[str, ...], text: str) -> int:
    return texts.index(text) if text in texts else -1
