"""Codes of texts: each text has one, in the order in which they came first, whatever their hashes are."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.history.names import NOT_FOUND, Hash, Names, Naming

HASHES: tuple[Hash, ...] = (hash, len, lambda _: 7)  # the last two are the same for texts that differ
batches = st.lists(st.lists(st.text(max_size=3), max_size=8), max_size=6)


def named(came: list[list[str]], hash_of: Hash) -> tuple[Names, list[int]]:
    """The texts, and the code of each text that came."""
    naming = Naming(hash_of)
    entries = [entry for texts in came for entry in naming.add(texts).tolist()]
    names, codes = naming.named()
    return names, codes[entries].tolist() if entries else []


@pytest.mark.parametrize("hash_of", HASHES)
@given(came=batches)
def test_codes_count_the_texts_in_the_order_in_which_they_came(came: list[list[str]], hash_of: Hash) -> None:
    names, codes = named(came, hash_of)
    texts = [text for batch in came for text in batch]
    assert names.texts.tolist() == list(dict.fromkeys(texts))
    assert [names.texts[code] for code in codes] == texts


@pytest.mark.parametrize("hash_of", HASHES)
@given(came=batches, asked=st.lists(st.text(max_size=3), max_size=8))
def test_the_code_of_a_text_is_found_again(came: list[list[str]], asked: list[str], hash_of: Hash) -> None:
    names, _ = named(came, hash_of)
    known = {text: code for code, text in enumerate(names.texts.tolist())}
    asked += list(known)
    assert names.find(asked).tolist() == [known.get(text, NOT_FOUND) for text in asked]


def test_two_texts_with_one_hash_are_two() -> None:
    """One of them also stands behind one with another hash, so that it is looked for at the end of the table."""
    names, codes = named([["b", "aa"], ["cc", "b"], ["aa", "cc", "dd"]], len)
    assert names.texts.tolist() == ["b", "aa", "cc", "dd"]
    assert codes == [0, 1, 2, 0, 1, 2, 3]
    assert names.find(["dd", "ee", "cc", "eee"]).tolist() == [3, NOT_FOUND, 2, NOT_FOUND]


def test_no_texts() -> None:
    names, codes = named([], hash)
    assert (names.texts.tolist(), codes) == ([], [])
    assert names.find(["a"]).tolist() == Names.none().find(["a"]).tolist() == [NOT_FOUND]


def test_codes_do_not_depend_on_the_seed_of_hashes() -> None:
    program = (
        "from resilience.history.names import Naming\n"
        "naming, batches = Naming(), ([n % 50 for n in range(100)], [n * 7 % 90 for n in range(90)])\n"
        "entries = [entry for batch in batches for entry in naming.add([f'k{n}' for n in batch])]\n"
        "names, codes = naming.named()\n"
        "print(names.texts.tolist(), codes[entries].tolist())\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert b"'k0', 'k1'" in told.pop()
