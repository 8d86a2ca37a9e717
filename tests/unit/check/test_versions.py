"""From which instant on a later version was known, and ops by their keys."""

from pathlib import Path

import numpy as np
import pytest

from resilience.check.linearizability import NEVER
from resilience.check.versions import by_key, overtaken_at
from tests.histories import recorded, scenario


@pytest.mark.parametrize(
    ("told", "told_at", "version", "instant"),
    [
        ([1, 2, 3], [10, 20, 30], 1, 20),
        ([1, 2, 3], [10, 20, 30], 0, 10),
        ([1, 2, 3], [10, 20, 30], 3, NEVER),
        ([1, 3, 2], [10, 20, 30], 1, 20),  # a later one than the next was told of before that
        ([3, 1, 2], [30, 10, 20], 1, 20),  # in the order of instants, not of the record
        ([2, 2], [20, 10], 1, 10),
        ([], [], 0, NEVER),
    ],
)
def test_overtaken_at(told: list[int], told_at: list[int], version: int, instant: int) -> None:
    columns = (np.array(column, dtype=np.int64) for column in (told, told_at, [version]))
    assert overtaken_at(*columns).tolist() == [instant]


def test_each_op_is_given_with_its_key_once_and_in_their_order(tmp_path: Path) -> None:
    ops = recorded().history(tmp_path, scenario()).ops
    rows = np.flatnonzero(ops.of_kind("session."))
    parts = list(by_key(ops, rows))
    assert [key for key, _ in parts] == np.unique(ops.key[rows]).tolist()
    assert all(part.tolist() == rows[ops.key[rows] == key].tolist() for key, part in parts)
    assert list(by_key(ops, rows[:0])) == []
