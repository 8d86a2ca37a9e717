"""Codes for texts that mostly occur once, as keys do: none of them is an object while it has one.

A dict of ten million texts takes more memory than all other columns together. So each text stands in a column, with a
hash of 64 bits beside it: what is the same has the same hash, and where hashes are the same the texts are compared.
Python's hash differs from process to process; codes do not: they count the texts in the order in which they came first.
"""

from collections.abc import Callable
from typing import Self

import numpy as np

from resilience.history.columns import INT, TEXT, Codes, Flags, Ints, Known, Texts, code_array, same_texts, text_array
from resilience.history.growing import Growing

Hash = Callable[[str], int]
NOT_FOUND = -1


class Names:
    """Texts, each once, and by their hashes the code of each: its row."""

    def __init__(self, texts: Texts, hashes: Ints, hash_of: Hash) -> None:
        """``hashes`` are those of the texts."""
        order = np.argsort(hashes, kind="stable")
        self.texts = texts
        self._hash_of = hash_of
        self._hashes = hashes[order]
        self._codes = order.astype(np.int32)

    @classmethod
    def none(cls) -> Self:
        """No text."""
        return cls(np.empty(0, dtype=TEXT), np.empty(0, dtype=np.int64), hash)

    def find(self, texts: list[str]) -> Codes:
        """The code of each text, `NOT_FOUND` of one that is not among them."""
        wanted, asked = _hashes(texts, self._hash_of), text_array(texts)
        codes = np.full(len(texts), NOT_FOUND, dtype=np.int32)
        places = np.searchsorted(self._hashes, wanted)
        left = np.arange(len(texts))
        while len(left):  # once, and again for what has the hash of another text
            left = left[places[left] < len(self._hashes)]
            left = left[self._hashes[places[left]] == wanted[left]]
            found = self._codes[places[left]]
            same = same_texts(asked, left, self.texts, found)
            codes[left[same]] = found[same]
            left = left[~same]
            places[left] += 1
        return codes


class Naming:
    """Texts while they come, batch by batch."""

    def __init__(self, hash_of: Hash = hash) -> None:
        self._hash_of = hash_of
        self._came = Growing({"hash": INT, "text": TEXT})  # what differs in each batch

    def add(self, texts: list[str]) -> Codes:
        """The *entry* of each of these: which code it has `named` says once all have come."""
        known: Known = {}
        codes = code_array(texts, known)
        first, once = len(self._came), list(known)
        self._came.append(len(once), hash=_hashes(once, self._hash_of), text=text_array(once))
        return codes + np.int32(first)

    def named(self) -> tuple[Names, Codes]:
        """All texts that came, and the code of each entry. Nothing can be added afterwards."""
        came = self._came.columns()
        texts, hashes = came["text"], came["hash"]
        first = _first_same(texts, hashes)
        new = np.equal(first, np.arange(len(first)))
        if new.all():
            return Names(texts, hashes, self._hash_of), first
        codes = (np.cumsum(new, dtype=np.int32) - np.int32(1))[first]
        return Names(texts[new], hashes[new], self._hash_of), codes


def _hashes(texts: list[str], hash_of: Hash) -> Ints:
    return np.fromiter(map(hash_of, texts), dtype=np.int64, count=len(texts))


def _first_same(texts: Texts, hashes: Ints) -> Codes:
    """Of each row the first one with the same text."""
    order = np.argsort(hashes, kind="stable").astype(np.int32)
    begins = _begins(hashes[order])
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(order), dtype=np.int32), 0))]
    again = np.flatnonzero(first != np.arange(len(order)))
    others = again[~same_texts(texts, again, texts, first[again])]
    firsts: dict[str, int] = {}
    for row, text in zip(others.tolist(), texts[others].tolist(), strict=True):
        first[row] = firsts.setdefault(text, row)  # another text with that hash
    return first


def _begins(sorted_hashes: Ints) -> Flags:
    """Where in hashes that are sorted another one begins."""
    begins = np.ones(len(sorted_hashes), dtype=np.bool_)
    np.not_equal(sorted_hashes[1:], sorted_hashes[:-1], out=begins[1:])
    return begins
