"""The order of a room's edits, however they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.order import Edit, Order


def edit(epoch: int, seq: int, base: int = 0) -> Edit:
    return Edit(position=(epoch, seq), base=base, text=f"{epoch}-{seq}")


def passed(order: Order, *edits: Edit) -> list[tuple[int, int]]:
    return [one.position for given_ in edits for one in order.offer(given_)]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([edit(1, 11), edit(1, 12)], [(1, 11), (1, 12)]),
        ([edit(1, 12), edit(1, 11)], [(1, 11), (1, 12)]),
        ([edit(1, 11), edit(1, 11), edit(1, 10)], [(1, 11)]),
        ([edit(1, 12), edit(1, 13)], []),
        ([edit(2, 11, base=10)], [(2, 11)]),  # a new epoch that goes on where the old one ended
        ([edit(2, 12, base=11), edit(1, 11)], [(1, 11), (2, 12)]),
        ([edit(2, 12, base=10)], []),  # its first edit is missing
        ([edit(2, 11, base=8)], []),  # the new epoch began earlier: edits were rolled back
    ],
    ids=["in order", "overtaken", "twice", "gap", "new epoch", "new epoch early", "new epoch, gap", "rollback"],
)
def test_offers(edits: list[Edit], expected: list[tuple[int, int]]):
    assert passed(Order((1, 10)), *edits) == expected


def test_what_is_held_is_released_with_its_gap():
    order = Order((1, 10))
    passed(order, edit(1, 13), edit(1, 12))
    assert [one.position for one in order.release()] == [(1, 12), (1, 13)]
    assert not order.holding
    assert passed(order, edit(1, 11), edit(1, 14)) == [(1, 14)]


def test_a_gap_is_filled_from_the_log():
    order = Order((1, 10))
    passed(order, edit(1, 13), edit(1, 15))
    rows = [edit(1, seq) for seq in (12, 11)]
    assert [one.position for one in order.fill(rows)] == [(1, 11), (1, 12), (1, 13)]
    assert order.holding
    assert order.last == (1, 13)


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 12)))
def test_every_order_of_arrival_gives_the_one_of_the_numbers(arrivals: list[int], again: list[int]):
    order = Order((1, 0))
    assert passed(order, *(edit(1, seq) for seq in [*arrivals, *again])) == [(1, seq) for seq in range(1, 13)]


@given(st.lists(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_with_gaps_nothing_comes_twice_or_backwards(arrivals: list[int], released_after: set[int]):
    order, got = Order((1, 0)), []
    for seq in arrivals:
        got += [one.position for one in order.offer(edit(1, seq))]
        if seq in released_after:
            got += [one.position for one in order.release()]
    assert got == sorted(set(got))
