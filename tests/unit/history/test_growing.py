"""Columns that grow: what was appended stands there in its order, over every border at which room is made."""

import numpy as np
import pytest

from resilience.history.columns import CODE, FLAG, INT, TEXT
from resilience.history.growing import Growing


def test_rows_stand_in_the_order_in_which_they_came() -> None:
    growing = Growing({"number": INT, "text": TEXT, "same": CODE, "unnamed": FLAG})
    sizes = (1, 0, 4_095, 4_096, 70_000, 3)
    first = 0
    for size in sizes:
        numbers = np.arange(first, first + size)
        texts = [f"a text that is longer than a cell: {number}" for number in numbers.tolist()]
        growing.append(size, number=numbers, text=np.array(texts, dtype=TEXT), same=size)
        first += size
    assert len(growing) == sum(sizes)
    columns = growing.columns()
    assert columns["number"].tolist() == list(range(sum(sizes)))
    assert columns["text"].tolist() == [f"a text that is longer than a cell: {number}" for number in range(sum(sizes))]
    assert columns["same"].tolist() == [size for size in sizes for _ in range(size)]
    assert not columns["unnamed"].any()
    assert {len(column) for column in columns.values()} == {sum(sizes)}


def test_rows_are_written_to_where_they_stand() -> None:
    growing = Growing({"number": INT})
    growing.append(3, number=np.arange(3))
    growing.put(1, "number", 7)
    growing.put(0, "number", [8, 9], [2, 0])
    assert growing.since(1)["number"].tolist() == [7, 8]
    growing.append(1, number=5)
    assert growing.columns()["number"].tolist() == [9, 7, 8, 5]


def test_nothing_came() -> None:
    columns = Growing({"number": INT, "text": TEXT}).columns()
    assert {name: (len(column), column.dtype) for name, column in columns.items()} == {
        "number": (0, INT), "text": (0, TEXT),
    }  # fmt: skip


@pytest.mark.parametrize(
    "number", [sign * 2**bits + add for bits in (7, 15, 31) for sign in (1, -1) for add in (-1, 0)]
)
def test_a_column_of_codes_is_as_wide_as_they_need(number: int) -> None:
    """Whether they come in a batch, or are written over others; those that were there before are kept."""
    fitting = next(bits for bits in (8, 16, 32, 64) if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1))
    appended, put = Growing({"code": CODE}), Growing({"code": CODE})
    for growing in (appended, put):
        growing.append(3, code=np.array([1, -2, 3]))
    appended.append(2, code=np.array([4, number], dtype=np.int64))
    put.append(2, code=4)
    put.put(3, "code", number, [1])
    for growing in (appended, put):
        column = growing.columns()["code"]
        assert (column.tolist(), column.dtype.itemsize * 8) == ([1, -2, 3, 4, number], fitting)
