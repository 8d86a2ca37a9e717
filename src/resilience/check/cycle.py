"""Cycles of a directed graph: the knots that they are tied in, and a short one of each.

A *knot* is a set of nodes each of which leads to each other one (a strongly connected component of two nodes or more).
Nodes are numbers, best such that most edges go from a lower to a higher one: a cycle has an edge back, so it lies
within stretches that edges back span, and nothing else of the graph has to be walked.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from resilience.history.columns import Flags, Ints

Graph = dict[int, list[int]]  # of each node those that its edges lead to


def knots(source: Ints, target: Ints) -> list[list[int]]:
    """The knots of the graph of these edges, each in the order of its nodes; in O(edges)."""
    within = _spanned(source, target)
    found = _components(graph_of(source[within], target[within]))
    return sorted(sorted(nodes) for nodes in found)


def graph_of(source: Ints, target: Ints) -> Graph:
    """Edges by the node that they come from."""
    graph: Graph = {}
    for one, other in zip(source.tolist(), target.tolist(), strict=True):
        graph.setdefault(one, []).append(other)
    return graph


def shortest_cycle(graph: Graph, nodes: Iterable[int], work_max: int) -> list[int]:
    """A cycle through some of the nodes, the shortest that so many looks at edges have found; the first goes whole."""
    work, best = 0, list[int]()
    for node in nodes:
        cycle, looks = _cycle_through(graph, node, len(best))
        work += looks
        if cycle and (not best or len(cycle) < len(best)):
            best = cycle
        if best and (len(best) == 2 or work >= work_max):
            break
    return best


def _cycle_through(graph: Graph, start: int, shorter_than: int) -> tuple[list[int], int]:
    """The shortest cycle through a node, and how many edges were looked at; 0: it may have any length."""
    came_from, length, looks = {start: start}, {start: 1}, 0
    waiting = deque((start,))
    while waiting:
        node = waiting.popleft()
        if shorter_than and length[node] >= shorter_than:
            break
        for other in graph.get(node, ()):
            looks += 1
            if other == start:
                return _way(came_from, start, node), looks
            if other not in came_from:
                came_from[other], length[other] = node, length[node] + 1
                waiting.append(other)
    return [], looks


def _way(came_from: dict[int, int], start: int, end: int) -> list[int]:
    way = [end]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]


def _spanned(source: Ints, target: Ints) -> Flags:
    """The edges both of whose ends lie within one stretch that edges back span, overlapping ones put together."""
    back = np.flatnonzero(source >= target)
    if not len(back):
        return np.zeros(len(source), dtype=np.bool_)
    order = back[np.argsort(target[back])]
    first, last = target[order], np.maximum.accumulate(source[order])
    fresh = np.concatenate(([True], first[1:] > last[:-1]))  # nothing before it reaches here
    begins, ends = first[fresh], last[np.append(np.flatnonzero(fresh)[1:] - 1, len(last) - 1)]
    stretch = np.searchsorted(begins, source, side="right") - 1
    within: Flags = (stretch >= 0) & (source <= ends[stretch])
    within &= (target >= begins[stretch]) & (target <= ends[stretch])
    return within


def _components(graph: Graph) -> list[list[int]]:
    """Tarjan's, without recursion: sets of nodes that lead to each other, those of one node left out."""
    index: dict[int, int] = {}  # in which order nodes were come to
    low: dict[int, int] = {}  # the first one that each leads back to
    standing: list[int] = []
    on_it: set[int] = set()
    found = []
    for root in graph:
        if root in index:
            continue
        path = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        standing.append(root)
        on_it.add(root)
        while path:
            node, others = path[-1]
            for other in others:
                if other not in index:
                    index[other] = low[other] = len(index)
                    standing.append(other)
                    on_it.add(other)
                    path.append((other, iter(graph.get(other, ()))))
                    break
                if other in on_it:
                    low[node] = min(low[node], index[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == index[node]:
                    nodes = _taken_off(standing, node)
                    on_it.difference_update(nodes)
                    if len(nodes) > 1:
                        found.append(nodes)
    return found


def _taken_off(standing: list[int], node: int) -> list[int]:
    """What stands from a node on."""
    nodes = [standing.pop()]
    while nodes[-1] != node:
        nodes.append(standing.pop())
    return nodes
