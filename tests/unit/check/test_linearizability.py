"""Linearizability: zones agree with a search through all orders, and the search with trying them by hand."""

from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.check.linearizability import (
    INITIAL,
    NEVER,
    Contradiction,
    Registers,
    Searched,
    Step,
    contradictions,
    search,
    unexplained,
)

ENOUGH = 100_000  # states
Op = tuple[str, int, int, int]  # kind, value, called, returned


def registers(ops: list[Op], keys: list[int] | None = None) -> Registers:
    return Registers(
        key=np.array(keys or [0] * len(ops), dtype=np.int32),
        value=np.array([value for _, value, _, _ in ops], dtype=np.int64),
        writes=np.array([kind == "write" for kind, _, _, _ in ops], dtype=np.bool_),
        called=np.array([called for _, _, called, _ in ops], dtype=np.int64),
        returned=np.array([returned for _, _, _, returned in ops], dtype=np.int64),
    )


def steps(ops: list[Op]) -> list[Step]:
    return [Step("write" if kind == "write" else "read", called, returned, value)
            for kind, value, called, returned in ops]  # fmt: skip


WRITE, READ = "write", "read"
EXPLAINED: dict[str, list[Op]] = {
    "nothing": [],
    "one after another": [(WRITE, 1, 0, 1), (READ, 1, 2, 3), (WRITE, 2, 4, 5), (READ, 2, 6, 7)],
    "before any write": [(READ, INITIAL, 0, 1), (WRITE, 1, 2, 3)],
    "beside the write": [(WRITE, 1, 0, 9), (READ, INITIAL, 1, 2), (READ, 1, 3, 4)],
    "called as the other was answered": [(WRITE, 1, 0, 2), (READ, INITIAL, 2, 4)],
    "an unknown write that nobody saw": [(WRITE, 1, 0, NEVER), (READ, INITIAL, 5, 6)],
    "an unknown write that came late": [(WRITE, 1, 0, NEVER), (READ, INITIAL, 5, 6), (READ, 1, 7, 8)],
    "two writes at once, either may be last": [(WRITE, 1, 0, 5), (WRITE, 2, 0, 5), (READ, 1, 6, 7)],
    "a short one within two reads of another": [(WRITE, 1, 0, 9), (WRITE, 2, 2, 3), (READ, 1, 4, 5)],
}  # fmt: skip
TORN: dict[str, tuple[list[Op], str, set[int]]] = {
    "stale read": ([(WRITE, 1, 0, 1), (WRITE, 2, 2, 3), (READ, 1, 4, 5)], "torn apart", {0, 1, 2}),
    "back to nothing": ([(WRITE, 1, 0, 1), (READ, INITIAL, 2, 3)], "torn apart", {0, 1}),
    "one read sees it, the next does not": (
        [(WRITE, 1, 0, NEVER), (READ, 1, 1, 2), (READ, INITIAL, 3, 4)], "torn apart", {0, 1, 2}),
    "two values in turns": (
        [(WRITE, 1, 0, 9), (WRITE, 2, 0, 9), (READ, 1, 10, 11), (READ, 2, 12, 13), (READ, 1, 14, 15)],
        "torn apart", {0, 1, 2, 3, 4}),
    "from nowhere": ([(WRITE, 1, 0, 1), (READ, 7, 2, 3)], "read from nowhere", {1}),
    "before its write": ([(READ, 1, 0, 1), (WRITE, 1, 2, 3)], "read before its write", {0, 1}),
}  # fmt: skip


@pytest.mark.parametrize("ops", EXPLAINED.values(), ids=EXPLAINED)
def test_what_an_order_explains(ops: list[Op]) -> None:
    assert contradictions(registers(ops)) == []
    assert search(steps(ops), ENOUGH).explained


@pytest.mark.parametrize(("ops", "what", "among"), TORN.values(), ids=TORN)
def test_what_no_order_explains(ops: list[Op], what: str, among: set[int]) -> None:
    (found,) = contradictions(registers(ops))
    assert found.what == what
    assert set(found.ops) <= among
    assert not search(steps(ops), ENOUGH).explained
    assert not search(steps([ops[at] for at in set(found.ops)]), ENOUGH).explained  # it says enough to see it


instants = st.integers(0, 12)


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    """Few ops on one register: writes of a value each, some of them unknown, and reads of any value."""
    ops: list[Op] = []
    for value in range(draw(st.integers(1, 4))):
        called, returned = sorted((draw(instants), draw(instants)))
        ops.append((WRITE, value, called, NEVER if draw(st.integers(0, 3)) == 0 else returned))
    for _ in range(draw(st.integers(0, 4))):
        called, returned = sorted((draw(instants), draw(instants)))
        ops.append((READ, draw(st.integers(INITIAL, len(ops) - 1 if draw(st.integers(0, 9)) else 9)), called, returned))
    return draw(st.permutations(ops))


def subsets(ops: list[Op]) -> Iterator[list[Op]]:
    """The ops with every choice of those unknown writes that were carried out, each at any time after its call."""
    unknown = [op for op in ops if op[3] == NEVER]
    certain = [op for op in ops if op[3] != NEVER]
    for count in range(len(unknown) + 1):
        for chosen in combinations(unknown, count):
            yield [*certain, *((kind, value, called, NEVER - 1) for kind, value, called, _ in chosen)]


@settings(max_examples=400, deadline=None)
@given(ops=histories())
def test_zones_agree_with_every_order_of_every_subset_of_the_unknown_writes(ops: list[Op]) -> None:
    explained = any(search(steps(some), ENOUGH).explained for some in subsets(ops))
    assert search(steps(ops), ENOUGH).explained == explained
    assert (contradictions(registers(ops)) == []) == explained


@settings(max_examples=100, deadline=None)
@given(several=st.lists(histories(), min_size=2, max_size=3))
def test_registers_say_nothing_of_one_another(several: list[list[Op]]) -> None:
    ops = [op for one in several for op in one]
    keys = [key for key, one in enumerate(several) for _ in one]
    found = contradictions(registers(ops, keys))
    starts = np.cumsum([0, *map(len, several)]).tolist()
    alone = [
        Contradiction(one.what, tuple(row + start for row in one.ops))
        for history, start in zip(several, starts, strict=False)
        for one in contradictions(registers(history))
    ]
    assert sorted(found) == sorted(alone)


KINDS: st.SearchStrategy[Literal["read", "write", "swap", "miss"]] = st.sampled_from(("read", "write", "swap", "miss"))


@st.composite
def swaps(draw: st.DrawFn) -> list[Step]:
    """Few ops of every kind, over few values or over many: then most are written once, and some nobody speaks of."""
    found = []
    most = draw(st.sampled_from((2, 6)))
    for _ in range(draw(st.integers(1, 5))):
        called, returned = sorted((draw(instants), draw(instants)))
        kind = draw(KINDS)
        late = kind in {"write", "swap"} and draw(st.booleans())
        values = st.integers(INITIAL, most)
        found.append(Step(kind, called, NEVER if late else returned, draw(values), draw(values)))
    return found


def by_hand(ops: list[Step]) -> bool:
    """Whether any order of any choice of the unknown ops is one that time and values allow."""
    unknown = [op for op in ops if op.returned == NEVER]
    certain = [op for op in ops if op.returned != NEVER]
    return any(
        _fits(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*certain, *chosen])
    )


def _fits(order: tuple[Step, ...]) -> bool:
    value = INITIAL
    for at, op in enumerate(order):
        if any(later.returned < op.called for later in order[at + 1 :]):
            return False
        if (op.kind == "read" and value != op.value) or (op.kind == "miss" and value == op.expected):
            return False
        if op.kind == "swap" and value != op.expected:
            return False
        value = op.value if op.kind in {"write", "swap"} else value
    return True


@settings(max_examples=600, deadline=None)
@given(ops=swaps())
def test_the_search_agrees_with_trying_all_orders(ops: list[Step]) -> None:
    assert search(ops, ENOUGH).explained == by_hand(ops)


@settings(max_examples=200, deadline=None)
@given(ops=swaps())
def test_the_answer_with_which_no_order_was_left(ops: list[Step]) -> None:
    """Without it, and without all that was answered later, there is an order; with it there is none."""
    if search(ops, ENOUGH).explained:
        return
    last = ops[unexplained(ops, lambda some: search(some, ENOUGH).explained)]
    assert not by_hand(answered_until(ops, last.returned))
    assert all(by_hand(answered_until(ops, before.returned)) for before in ops if before.returned < last.returned)


def answered_until(ops: list[Step], instant: int) -> list[Step]:
    begun = [op if op.returned <= instant else op._replace(returned=NEVER) for op in ops if op.called <= instant]
    return [op for op in begun if op.returned != NEVER or op.kind in {"write", "swap"}]


def test_a_search_that_would_take_too_long_says_so() -> None:
    """Twenty writes at once, and a read of what nobody wrote: every order of every part of them would be tried."""
    ops = [Step("write", 0, 9, value) for value in range(20)] + [Step("read", 10, 11, 99)]
    assert search(ops, 1_000) == Searched(None, 1_000)
    assert search(ops[:4] + ops[-1:], 1_000).explained is False


def test_one_stale_read_among_100_000_ops() -> None:
    """Of 1,000 registers, each written and read by turns, one is read once as it was before."""
    count, each = 1_000, 100
    key = np.repeat(np.arange(count, dtype=np.int32), each)
    turn = np.tile(np.arange(each, dtype=np.int64), count)
    called = turn * 10
    ops = Registers(key=key, value=turn // 2, writes=turn % 2 == 0, called=called, returned=called + 5)
    assert contradictions(ops) == []
    stale = 77 * each + 51
    ops.value[stale] -= 1
    (found,) = contradictions(ops)
    assert found.what == "torn apart"
    assert stale in found.ops
    assert {int(key[row]) for row in found.ops} == {77}
