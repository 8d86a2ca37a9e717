"""Knots and cycles of graphs are what the definition says, however their nodes are numbered."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.check.cycle import graph_of, knots, shortest_cycle
from resilience.history.columns import Ints

Edges = list[tuple[int, int]]


def columns(edges: Edges) -> tuple[Ints, Ints]:
    source, target = (np.array([edge[end] for edge in edges], dtype=np.int64) for end in range(2))
    return source, target


def reached(edges: Edges, start: int) -> set[int]:
    """The nodes that a node leads to, by the definition."""
    found, waiting = set[int](), [start]
    while waiting:
        node = waiting.pop()
        fresh = {other for one, other in edges if one == node} - found
        found |= fresh
        waiting += fresh
    return found


nodes = st.integers(0, 9)
graphs = st.lists(st.tuples(nodes, nodes).filter(lambda edge: edge[0] != edge[1]), max_size=25)


@settings(max_examples=300, deadline=None)
@given(edges=graphs)
def test_knots_are_those_that_lead_to_each_other(edges: Edges) -> None:
    leads = {node: reached(edges, node) for node in range(10)}
    tied = {node: {node} | {other for other in leads[node] if node in leads[other]} for node in range(10)}
    wanted = sorted({tuple(sorted(others)) for others in tied.values() if len(others) > 1})
    assert [tuple(knot) for knot in knots(*columns(edges))] == wanted


@settings(max_examples=200, deadline=None)
@given(edges=graphs)
def test_the_cycle_of_a_knot_is_one_and_the_shortest(edges: Edges) -> None:
    for knot in knots(*columns(edges)):
        inside = [(one, other) for one, other in edges if one in knot and other in knot]
        cycle = shortest_cycle(graph_of(*columns(inside)), knot, 10_000)
        assert set(pairwise((*cycle, cycle[0]))) <= set(inside)
        assert len(set(cycle)) == len(cycle) == min(length_of_cycle(inside, node) for node in knot)


def length_of_cycle(edges: Edges, start: int) -> int:
    """How many edges lead back to a node at least."""
    steps, at = 0, {start}
    while steps == 0 or start not in at:
        steps, at = steps + 1, {other for one, other in edges if one in at}
    return steps


def test_without_work_left_the_first_cycle_is_told() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (1, 2), (2, 1)]
    graph = graph_of(*columns(edges))
    assert shortest_cycle(graph, range(4), 0) == [0, 1, 2, 3]
    assert shortest_cycle(graph, range(4), 100) == [1, 2]


def test_nothing_is_tied_where_there_is_no_edge() -> None:
    assert knots(*columns([])) == []
    assert knots(*columns([(3, 4), (0, 1)])) == []


def test_a_long_way_is_no_recursion() -> None:
    length = 20_000
    edges = [*pairwise(range(length)), (length - 1, 0)]
    (knot,) = knots(*columns(edges))
    assert knot == list(range(length))
