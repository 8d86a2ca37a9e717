"""Columns that grow: what was appended stands there in its order, over every border at which room is made."""

import numpy as np

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
    growing.since(1)["number"][:] = 7
    growing.append(1, number=5)
    assert growing.columns()["number"].tolist() == [0, 7, 7, 5]


def test_nothing_came() -> None:
    columns = Growing({"number": INT, "text": TEXT}).columns()
    assert {name: (len(column), column.dtype) for name, column in columns.items()} == {
        "number": (0, INT), "text": (0, TEXT),
    }  # fmt: skip
