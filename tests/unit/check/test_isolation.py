"""Each anomaly alone is found and told with who shows it; no other verdict than that of a search of all orders."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.check.isolation import NAMES, Anomaly, Edge, Name, Transaction, examine, forbidden, twice
from resilience.history.columns import FAIL, OK, UNKNOWN
from resilience.history.transaction import ISOLATION, Step, Told, steps_of, text_of, told_of, told_text


def transaction(told: str, outcome: int = OK) -> Transaction:
    """``x+1 y=2,3``: it appends 1 to x, and reads 2 and 3 of y."""
    steps, contents = [], []
    for word in told.split():
        key, read, content = word.partition("=")
        if read:
            contents.append(content)
        key, _, value = key.partition("+")
        steps.append(Step(key, value))
    return Transaction(outcome, steps, contents)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: Name
    told: tuple[str, ...]
    shown: tuple[int, ...]
    stored: Mapping[str, str] | None = None
    outcome: Mapping[int, int] | None = None  # of those that were not committed
    value: str = ""
    edges: tuple[Edge, ...] = ()


CASES = (
    Case(name="G0", told=("x+1 y+2", "x+3 y+4", "x=1,3 y=4,2"), shown=(0, 1),
         edges=(Edge("ww", 0, 1, "x", "3"), Edge("ww", 1, 0, "y", "2"))),
    Case(name="G1a", told=("x+1", "x=1"), shown=(0, 1), outcome={0: FAIL}, value="1"),
    Case(name="G1b", told=("x+1 x+2", "x=1"), shown=(0, 1), value="1"),
    Case(name="G1c", told=("x+1 y=2", "y+2 x=1"), shown=(0, 1),
         edges=(Edge("wr", 0, 1, "x", "1"), Edge("wr", 1, 0, "y", "2"))),
    Case(name="incompatible order", told=("x+1", "x+2", "x=1,2", "x=2,1"), shown=(2, 3), value="1"),
    Case(name="incompatible order", told=("x+1", "x+2", "x=2"), stored={"x": "1,2"}, shown=(2,), value="2"),
    Case(name="duplicate", told=("x+1", "x=1,1"), shown=(1,), value="1"),
    Case(name="duplicate", told=("x+1",), stored={"x": "1,1"}, shown=(), value="1"),
    Case(name="own append", told=("x+1 x=",), shown=(0,), value="1"),
    Case(name="own append", told=("x+1 x+2 x=1",), shown=(0,), value="2"),
    Case(name="own append", told=("x=1 x+1",), shown=(0,), value="1"),
    Case(name="own append", told=("x+1 x+2",), stored={"x": "2,1"}, shown=(0,), value="1"),
    Case(name="from nowhere", told=("x=7",), shown=(0,), value="7"),
    Case(name="from nowhere", told=("x+1",), stored={"x": "1,7"}, shown=(), value="7"),
    Case(name="refused but there", told=("x+1", "x+2"), outcome={1: FAIL}, stored={"x": "1,2"}, shown=(1,), value="2"),
    Case(name="lost append", told=("x+1", "x+2"), stored={"x": "1"}, shown=(1,), value="2"),
    Case(name="lost append", told=("x+1", "x+2", "x=1,2"), outcome={1: UNKNOWN}, stored={"x": "1"}, shown=(1,),
         value="2"),
    Case(name="lost append", told=("x+1",), stored={}, shown=(0,), value="1"),
    Case(name="partly there", told=("x+1 y+2",), stored={"x": "1"}, shown=(0,), value="2"),
    Case(name="G-single", told=("x+1 y+2", "x=1 y=", "y=2"), shown=(0, 1),
         edges=(Edge("wr", 0, 1, "x", "1"), Edge("rw", 1, 0, "y", "2"))),
    Case(name="G-single", told=("x= x+1", "x= x+2", "x=1,2"), shown=(0, 1),  # a lost update
         edges=(Edge("ww", 0, 1, "x", "2"), Edge("rw", 1, 0, "x", "1"))),
    Case(name="G-single", told=("x= x=1", "x+1"), shown=(0, 1),  # read again, and other
         edges=(Edge("rw", 0, 1, "x", "1"), Edge("wr", 1, 0, "x", "1"))),
    Case(name="G-nonadjacent", told=("x+1", "y+2", "x=1 y=", "y=2 x="), shown=(0, 2, 1, 3),  # a long fork
         edges=(Edge("wr", 0, 2, "x", "1"), Edge("rw", 2, 1, "y", "2"),
                Edge("wr", 1, 3, "y", "2"), Edge("rw", 3, 0, "x", "1"))),
    Case(name="G2-item", told=("x= y+1", "y= x+2", "x=2 y=1"), shown=(0, 1),  # write skew
         edges=(Edge("rw", 0, 1, "x", "2"), Edge("rw", 1, 0, "y", "1"))),
)  # fmt: skip


def examined(case: Case) -> list[Anomaly]:
    outcome = case.outcome or {}
    some = [transaction(told, outcome.get(at, OK)) for at, told in enumerate(case.told)]
    return examine(some, case.stored).anomalies


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {' | '.join(case.told)}")
def test_exactly_this_is_found(case: Case) -> None:
    (found,) = examined(case)
    assert (found.name, found.value, set(found.edges)) == (case.name, case.value, set(case.edges))
    if case.edges:
        assert set(found.transactions) == set(case.shown)
        assert all(one.target == other.source for one, other in zip(found.edges, found.edges[1:], strict=False))
    else:
        assert found.transactions == case.shown


def test_every_name_has_a_case() -> None:
    assert {case.name for case in CASES} == set(NAMES)


def test_what_each_level_forbids() -> None:
    allowed = {level: {name for name in NAMES if not forbidden(name, level)} for level in ISOLATION}
    assert allowed == {
        "read committed": {"G-single", "G-nonadjacent", "G2-item"},
        "repeatable read": {"G2-item"},
        "serializable": set(),
    }


SOUND = (
    ("x+1 y=", "y+2 x=1", "x=1 y=2"),
    ("x+1 x+2 x=1,2", "x=", "x=1,2"),
    ("x= x+1 x=1 x+2", "y=", "x=1,2"),
)


@pytest.mark.parametrize("told", SOUND, ids=" | ".join)
def test_nothing_is_wrong(told: tuple[str, ...]) -> None:
    assert examine([transaction(one) for one in told]).anomalies == []


def test_an_unknown_one_is_settled_by_what_is_stored_and_by_who_read_it() -> None:
    some = [
        transaction("x+1 y=", UNKNOWN),  # stored
        transaction("y+2", UNKNOWN),  # read by one that was committed
        transaction("z+3", UNKNOWN),  # read by the next
        transaction("z=3 v+4", UNKNOWN),  # which is stored
        transaction("w+5", UNKNOWN),  # by nobody
        transaction("w+6 w=6", UNKNOWN),
        transaction("y=2"),
    ]
    found = examine(some, {"x": "1", "y": "2", "z": "3", "v": "4"})
    assert (sorted(found.settled), found.anomalies) == ([0, 1, 2, 3], [])
    assert examine(some).settled == [1]


def test_what_an_unknown_one_read_counts_if_it_was_committed() -> None:
    some = [transaction("x= y+1"), transaction("y= x+2", UNKNOWN)]
    assert [one.name for one in examine(some, {"x": "2", "y": "1"}).anomalies] == ["G2-item"]
    assert examine(some, {"y": "1"}).anomalies == []


def test_what_was_taken_back_has_never_been() -> None:
    some = [
        transaction("x+1"),
        transaction("x+2 y+3", UNKNOWN),
        transaction("x=1,2"),  # it saw what is no more
        transaction("x+4"),
        transaction("x=1,4 y="),
    ]
    stored = {"x": "1,4"}
    found = examine(some, stored, may_be_gone=(1,))
    assert (found.anomalies, found.taken_back, found.settled) == ([], [1], [])
    assert {one.name for one in examine(some, stored).anomalies} == {"incompatible order", "lost append"}
    assert examine(some, stored, may_be_gone=(0, 1, 3)).taken_back == [1]
    assert examine(some, {"x": "1,2,4"}, may_be_gone=(1,)).taken_back == []  # part of it is there
    assert examine(some, None, may_be_gone=(1,)).taken_back == []


def test_a_knot_is_told_once_by_the_worst_in_it() -> None:
    """Two writes in a circle, and write skew beside them in the same knot."""
    some = [
        transaction("x+1 y+2 v= w+5"), transaction("x+3 y+4 w= v+6"), transaction("x=1,3 y=4,2 v=6 w=5"),
    ]  # fmt: skip
    assert [one.name for one in examine(some).anomalies] == ["G0"]


def test_a_value_that_is_appended_twice() -> None:
    assert twice([transaction("x+1"), transaction("x+1 y+2")]) == 1
    assert twice([transaction("x+1"), transaction("x=1 y+2")]) == 0


def test_texts_are_read_as_they_were_written() -> None:
    steps = [Step("pg-list-1", "1.0"), Step("pg-list-2"), Step("pg-list-1")]
    assert text_of(steps) == "pg-list-1+1.0 pg-list-2 pg-list-1"
    assert steps_of(text_of(steps)) == steps
    for told in (Told("serializable", ("1.0,2.1", "", "1.0")), Told("read committed", ()), Told("", ())):
        assert told_of(told_text(told)) == told


KEYS = ("x", "y")


@st.composite
def tiny(draw: st.DrawFn) -> tuple[list[Transaction], dict[str, str]]:
    """Up to four transactions, what is stored of them, and reads each of which is a beginning of that."""
    number = draw(st.integers(2, 4))
    shapes = [draw(st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=3))
              for _ in range(number)]  # fmt: skip
    appended: dict[str, list[str]] = {key: [] for key in KEYS}
    steps = []
    for at, shape in enumerate(shapes):
        steps.append([Step(key, f"{at}{place}" if append else "") for place, (key, append) in enumerate(shape)])
        for key, value in steps[-1]:
            if value:
                appended[key].append(value)
    outcomes = [draw(st.sampled_from((OK, OK, OK, UNKNOWN, FAIL))) for _ in range(number)]
    missing = {
        at for at, outcome in enumerate(outcomes) if outcome == FAIL or (outcome == UNKNOWN and draw(st.booleans()))
    }
    stored = {
        key: draw(st.permutations([value for value in values if int(value[0]) not in missing]))
        for key, values in appended.items()
    }
    told = []
    for some, outcome in zip(steps, outcomes, strict=True):
        contents = [",".join(stored[key][: draw(st.integers(0, len(stored[key])))]) for key, value in some if not value]
        told.append(Transaction(outcome, some, contents))
    return told, {key: ",".join(values) for key, values in stored.items() if values}


def committed(told: list[Transaction], stored: Mapping[str, str]) -> list[Transaction]:
    """Those that were, by the definition: acknowledged, or there."""
    there = {value for content in stored.values() for value in content.split(",")}
    return [one for one in told if one.outcome == OK
            or (one.outcome == UNKNOWN and any(step.value in there for step in one.steps))]  # fmt: skip


def explained(order: tuple[Transaction, ...], stored: Mapping[str, str]) -> bool:
    """Whether one after the other they are told this, and leave that."""
    lists: dict[str, list[str]] = {}
    for one in order:
        if not _carried_out(one, lists, lists):
            return False
    return {key: ",".join(values) for key, values in lists.items()} == stored


def _carried_out(one: Transaction, seen: dict[str, list[str]], lists: dict[str, list[str]]) -> bool:
    """Whether it is told this of what it sees; what it appends is there then."""
    contents = iter(one.contents)
    for key, value in one.steps:
        if value:
            lists.setdefault(key, []).append(value)
            if seen is not lists:
                seen.setdefault(key, []).append(value)
        elif ",".join(seen.get(key, ())) != next(contents):
            return False
    return True


@settings(max_examples=600, deadline=None)
@given(made=tiny())
def test_serializable_is_what_a_search_of_all_orders_says(made: tuple[list[Transaction], dict[str, str]]) -> None:
    told, stored = made
    found = examine(told, stored)
    some_order = any(explained(order, stored) for order in permutations(committed(told, stored)))
    assert (not found.anomalies) == some_order, found.anomalies


def interleaved(number: int) -> Iterator[tuple[int, ...]]:
    """The orders in which so many transactions may take their snapshots and commit, each named twice."""
    yield from set(permutations([at for at in range(number) for _ in range(2)]))


def explained_by_snapshots(some: list[Transaction], order: tuple[int, ...], stored: Mapping[str, str]) -> bool:
    """Whether each sees what was committed before its snapshot, and of two that meet on a list only one appends."""
    lists: dict[str, list[str]] = {}
    seen: dict[int, dict[str, list[str]]] = {}
    for at in order:
        if at not in seen:
            seen[at] = {key: list(values) for key, values in lists.items()}
            continue
        one = some[at]
        if any(step.value and len(lists.get(step.key, ())) != len(seen[at].get(step.key, ())) for step in one.steps):
            return False
        if not _carried_out(one, seen[at], lists):
            return False
    return {key: ",".join(values) for key, values in lists.items()} == stored


@settings(max_examples=300, deadline=None)
@given(made=tiny())
def test_repeatable_read_is_what_a_search_of_all_snapshots_says(made: tuple[list[Transaction], dict[str, str]]) -> None:
    told, stored = made
    found = [one for one in examine(told, stored).anomalies if forbidden(one.name, "repeatable read")]
    some = committed(told, stored)
    some_order = any(explained_by_snapshots(some, order, stored) for order in interleaved(len(some)))
    assert (not found) == some_order, found


def test_all_verdicts_are_among_what_is_drawn() -> None:
    """The same two searches over every history of a small form: each says yes, and no, to many."""
    verdicts = set()
    for first, second, final in product(("", "2"), ("", "1"), ("x=2 y=1",)):
        some = [transaction(f"x={first} y+1"), transaction(f"y={second} x+2"), transaction(final)]
        found = examine(some, {"x": "2", "y": "1"}).anomalies
        verdicts.add(tuple(forbidden(one.name, level) for one in found for level in ISOLATION))
    assert verdicts == {(), (False, False, True), (True, True, True)}
