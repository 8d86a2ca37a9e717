"""Isolation: whether what transactions read of lists that they append to may be so at each level (after Elle and Adya).

A list that was read shows in which order all its values were appended, its *version order*, and a value says who
appended it. So three kinds of dependency are known between transactions that were committed::

    ww  it appended the value after the other's        wr  it read the other's value as the last one
    rw  it did not see yet what the other appended next

A *cycle* of them has no order. What is in it says from which level on it must not be:

===============  ================================================================  ===============
name             what                                                              never at
===============  ================================================================  ===============
G0               a cycle of ww                                                     any level
G1a, G1b         read what was rolled back; what its writer appended more to       any level
G1c              a cycle of ww and wr                                              any level
G-single         a cycle with one rw                                               repeatable read
G-nonadjacent    one with several rw, of which no two follow each other            repeatable read
G2-item          one in which two rw follow each other (write skew)                serializable
===============  ================================================================  ===============

PostgreSQL's repeatable read is snapshot isolation, which allows exactly the last (Cerone and Gotsman). Nothing is said
of real time: no level promises that a transaction sees what was committed before it began.

Besides there is what no version order explains: two reads of which none begins with the other (``incompatible
order``), a value twice (``duplicate``), of nobody (``from nowhere``) or of one that was rolled back (``refused but
there``), a transaction's own appends that it did not read, or that are there in another order (``own append``), and
what is not stored in the end (``lost append``), or of which only a part is (``partly there``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np

from resilience.check.cycle import graph_of, knots, shortest_cycle
from resilience.history.columns import FAIL, OK, Flags, Ints
from resilience.history.transaction import COMMA, ISOLATION, Step
from resilience.spec.load import Isolation

WORK_MAX = 2_000_000  # looks at edges to find short cycles in knots of a kind: some half a second

Name = Literal[
    "G0", "G1a", "G1b", "G1c", "incompatible order", "duplicate", "own append", "from nowhere", "refused but there",
    "lost append", "partly there", "G-single", "G-nonadjacent", "G2-item",
]  # fmt: skip
NAMES: tuple[Name, ...] = get_args(Name)
_NOT_BELOW: Mapping[Name, Isolation] = {
    "G-single": "repeatable read", "G-nonadjacent": "repeatable read", "G2-item": "serializable",
}  # fmt: skip

Kind = Literal["ww", "wr", "rw"]
_KINDS: tuple[Kind, ...] = ("ww", "wr", "rw")
_WW, _WR, _RW = range(3)


def forbidden(name: Name, level: Isolation) -> bool:
    """Whether an anomaly must not be at a level."""
    return ISOLATION.index(level) >= ISOLATION.index(_NOT_BELOW.get(name, ISOLATION[0]))


class Transaction(NamedTuple):
    """What a transaction was to do, what its reads were told in their order, and `OK`, `FAIL` or `UNKNOWN`.

    ``contents`` of one that was told nothing are fewer than its reads.
    """

    outcome: int
    steps: Sequence[Step]
    contents: Sequence[str]


class Edge(NamedTuple):
    """A dependency of the transaction ``target`` on ``source``, by a value: see the kinds above.

    Of ``ww`` and ``rw`` that is the later one's, of ``wr`` the one that was read; ``key`` is its list.
    """

    kind: Kind
    source: int
    target: int
    key: str
    value: str


class Anomaly(NamedTuple):
    """``transactions`` show it, the one that gives it away last; of a cycle each depends on the one before it.

    It was seen of a ``value`` of list ``key``; a cycle has ``edges`` instead.
    """

    name: Name
    transactions: tuple[int, ...]
    key: str = ""
    value: str = ""
    edges: tuple[Edge, ...] = ()


class Examined(NamedTuple):
    """``settled`` are those of unknown outcome that were committed, ``taken_back`` those that may be gone and are."""

    anomalies: list[Anomaly]
    settled: list[int]
    taken_back: list[int]


def twice(transactions: Iterable[Transaction]) -> int:
    """How many values are appended more than once: whose they are cannot be told."""
    values = [step.value for transaction in transactions for step in transaction.steps if step.value]
    return len(values) - len(set(values))


def examine(
    transactions: Sequence[Transaction],
    stored: Mapping[str, str] | None = None,
    may_be_gone: Iterable[int] = (),
) -> Examined:
    """What is wrong with transactions, which are best in the order in which they ended; in O(steps).

    ``stored`` is what each list held in the end, None if nobody knows. ``may_be_gone`` are transactions that a failover
    may have taken back: one that is not stored has never been, and who read of it says nothing. No value is appended
    twice.
    """
    examination = _Examination(transactions, stored)
    examination.take_back(may_be_gone)
    examination.settle()
    examination.order_versions()
    examination.look_for_losses()
    examination.read_again()
    examination.find_cycles()
    return Examined(examination.anomalies, examination.settled, examination.taken_back)


class _Examination:
    """What is known so far of some transactions, which are named by their place."""

    def __init__(self, transactions: Sequence[Transaction], stored: Mapping[str, str] | None) -> None:
        self.anomalies: list[Anomaly] = []
        self.settled: list[int] = []
        self.taken_back: list[int] = []
        self._transactions = transactions
        self._stored = stored
        self._there = {value for content in (stored or {}).values() for value in _values(content)}
        self._writer = {step.value: at for at, one in enumerate(transactions) for step in one.steps if step.value}
        self._committed = {at for at, one in enumerate(transactions) if one.outcome == OK}
        self._gone: set[str] = set()  # values of those that were taken back
        self._readers: dict[str, dict[str, int]] = {}  # of each list and of what it held, one who read that
        self._unfit: set[tuple[str, str]] = set()  # a list and what was read of it that says nothing of its order
        self._first: dict[str, str] = {}  # of each list the first value of a transaction that was committed
        self._next: dict[str, str] = {}  # such a value, after each one
        self._strangers: set[str] = set()  # values that were told of as such
        self._more: set[str] = set()  # values after which the same transaction appended to the same list
        self._source: list[int] = []
        self._target: list[int] = []
        self._kind: list[int] = []
        self._value: list[str] = []

    def take_back(self, may_be_gone: Iterable[int]) -> None:
        if self._stored is None:
            return
        for at in may_be_gone:
            values = self._appended(at)
            if self._transactions[at].outcome != FAIL and values and not self._there.intersection(values):
                self.taken_back.append(at)
                self._gone.update(values)
        self._committed.difference_update(self.taken_back)

    def settle(self) -> None:
        """Those of unknown outcome of which anything is there, or was read by one that was committed, were, too."""
        seen = set(self._there)
        waiting = {at for at, one in enumerate(self._transactions) if one.outcome not in {OK, FAIL}}
        waiting.difference_update(self.taken_back)
        fresh = sorted(self._committed)
        while True:
            contents = self._remembered(fresh)
            if not waiting:
                return
            seen.update(value for content in contents for value in _values(content))
            fresh = sorted(at for at in waiting if not seen.isdisjoint(self._appended(at)))
            if not fresh:
                return
            waiting.difference_update(fresh)
            self._committed.update(fresh)
            self.settled += fresh

    def _remembered(self, some: Iterable[int]) -> list[str]:
        """What some transactions read that nobody had read before them."""
        found = []
        for at in some:
            for key, content in self._reads(at):
                readers = self._readers.setdefault(key, {})
                if content not in readers:
                    readers[content] = at
                    found.append(content)
        return found

    def order_versions(self) -> None:
        """Of each list the order of its values, from all that was read of it and what is stored."""
        for at, one in enumerate(self._transactions):
            if at in self._committed:
                self._more.update(_followed(one.steps))
        for key in {**self._readers, **(self._stored or {})}:
            self._order(key, self._readers.get(key, {}))

    def _order(self, key: str, readers: Mapping[str, int]) -> None:
        order = (self._stored or {}).get(key, "")
        longest = -1  # who read that much
        for content in sorted(readers, key=len):
            reader = readers[content]
            if self._gone and not self._gone.isdisjoint(_values(content)):
                self._unfit.add((key, content))
            elif _begins_with(content, order):
                order, longest = content, reader
            elif not _begins_with(order, content):
                self._unfit.add((key, content))
                others = (longest,) if longest >= 0 else ()
                values = _values(content)
                self.anomalies.append(Anomaly("incompatible order", (*others, reader), key, values[-1]))
                self._strange(key, values, readers, reader)
        values = _values(order)
        self._strange(key, values, readers, longest)
        values = list(dict.fromkeys(values))
        last = ""
        for value in (value for value in values if self._writer.get(value, -1) in self._committed):
            if not last:
                self._first[key] = value
            elif (writer := self._writer[value]) != self._writer[last]:
                self._depends(_WW, self._writer[last], writer, value)
            elif not _goes_before(self._transactions[writer].steps, last, value):
                self.anomalies.append(Anomaly("own append", (writer,), key, value))
            last = value
        following = ""
        for value in reversed(values):
            self._next[value] = following
            following = value if self._writer.get(value, -1) in self._committed else following

    def _strange(self, key: str, values: Sequence[str], readers: Mapping[str, int], longest: int) -> None:
        """What can be in no list; ``longest`` read all of these values, -1: they are stored."""
        if len(set(values)) < len(values):
            value = next(value for at, value in enumerate(values) if value in values[:at])
            self.anomalies.append(Anomaly("duplicate", (longest,) if longest >= 0 else (), key, value))
        for value in values:
            writer = self._writer.get(value, -1)
            if value in self._strangers or (writer >= 0 and self._transactions[writer].outcome != FAIL):
                continue
            self._strangers.add(value)
            reader = next((readers[one] for one in sorted(readers, key=len) if value in _values(one)), -1)
            shown = tuple(at for at in (writer, reader) if at >= 0)
            name: Name = "from nowhere" if writer < 0 else "refused but there" if reader < 0 else "G1a"
            self.anomalies.append(Anomaly(name, shown, key, value))

    def look_for_losses(self) -> None:
        """What was committed has to be stored, as far as that is known."""
        if self._stored is None:
            return
        for at in sorted(self._committed):
            lost = [step for step in self._transactions[at].steps if step.value and step.value not in self._there]
            if lost:
                name: Name = "lost append" if len(lost) == len(self._appended(at)) else "partly there"
                self.anomalies.append(Anomaly(name, (at,), *lost[0]))

    def read_again(self) -> None:
        """Each read, for what it says of its transaction and those before and after it."""
        for at in sorted(self._committed):
            own: dict[str, list[str]] = {}
            contents = iter(self._transactions[at].contents)
            for key, value in self._transactions[at].steps:
                if value:
                    own.setdefault(key, []).append(value)
                elif (content := next(contents, None)) is not None and (key, content) not in self._unfit:
                    self._read(at, key, content, own.get(key, ()))

    def _read(self, at: int, key: str, content: str, own: Sequence[str]) -> None:
        before = _without(content, COMMA.join(own))
        last = "" if before is None else before.rpartition(COMMA)[2]
        writer = self._writer.get(last, -1)
        if before is None or writer == at:  # it lacks its own appends, or has one that it had not made yet
            self.anomalies.append(Anomaly("own append", (at,), key, own[-1] if own else last))
            return
        if last in self._more:
            self.anomalies.append(Anomaly("G1b", (writer, at), key, last))
        if writer in self._committed:
            self._depends(_WR, writer, at, last)
        following = self._next.get(last, "") if last else self._first.get(key, "")
        if following and self._writer[following] != at:
            self._depends(_RW, at, self._writer[following], following)

    def _depends(self, kind: int, source: int, target: int, value: str) -> None:
        self._source.append(source)
        self._target.append(target)
        self._kind.append(kind)
        self._value.append(value)

    def find_cycles(self) -> None:
        """The worst kind first; a knot of which something was told is not told of again."""
        source, target, kind = (np.array(column, dtype=np.int64) for column in (self._source, self._target, self._kind))
        told: set[int] = set()
        for of_kind in (kind == _WW, kind != _RW):
            self._tell(source[of_kind], target[of_kind], 1, told)
        self._tell(*_no_two_rw_in_a_row(source, target, kind), 2, told)
        self._tell(source, target, 1, told)

    def _tell(self, source: Ints, target: Ints, states: int, told: set[int]) -> None:
        """Tells of the cycles of a graph with so many nodes for each transaction, of two the other one after an rw."""
        tied = [nodes for nodes in knots(source, target) if told.isdisjoint(node // states for node in nodes)]
        if not tied:
            return
        knot_of = np.full(states * len(self._transactions), -1, dtype=np.int64)
        for number, nodes in enumerate(tied):
            knot_of[nodes] = number
        inside = (knot_of[source] >= 0) & (knot_of[source] == knot_of[target])
        graph = graph_of(source[inside], target[inside])
        for nodes in tied:
            told.update(node // states for node in nodes)
            cycle = shortest_cycle(graph, nodes, WORK_MAX // len(tied))
            edges = tuple(
                self._edge(one // states, other // states, after_rw=states > 1 and bool(other % states))
                for one, other in pairwise((*cycle, cycle[0]))
            )
            self.anomalies.append(Anomaly(_name(edges), tuple(node // states for node in cycle), edges=edges))

    def _edge(self, source: int, target: int, *, after_rw: bool) -> Edge:
        """The strongest dependency that there is, or that on what was not seen."""
        found = self._edges[source, target]
        at = next((at for at in found if self._kind[at] == _RW), found[0]) if after_rw else found[0]
        value = self._value[at]
        key = next(step.key for step in self._transactions[self._writer[value]].steps if step.value == value)
        return Edge(_KINDS[self._kind[at]], source, target, key, value)

    @cached_property
    def _edges(self) -> dict[tuple[int, int], list[int]]:
        """Those between two transactions, the strongest first."""
        found: dict[tuple[int, int], list[int]] = {}
        for at in sorted(range(len(self._kind)), key=self._kind.__getitem__):
            found.setdefault((self._source[at], self._target[at]), []).append(at)
        return found

    def _appended(self, at: int) -> list[str]:
        return [value for _, value in self._transactions[at].steps if value]

    def _reads(self, at: int) -> Iterator[tuple[str, str]]:
        """The lists that a transaction read, as far as it was told, and what they held."""
        keys = (key for key, value in self._transactions[at].steps if not value)
        return zip(keys, self._transactions[at].contents, strict=False)


def _values(content: str) -> list[str]:
    return content.split(COMMA) if content else []


def _begins_with(content: str, beginning: str) -> bool:
    return not beginning or content == beginning or content.startswith(beginning + COMMA)


def _without(content: str, end: str) -> str | None:
    """What stands before the values that it ends with, None if it does not."""
    if not end:
        return content
    if content == end:
        return ""
    return content.removesuffix(COMMA + end) if content.endswith(COMMA + end) else None


def _goes_before(steps: Sequence[Step], value: str, other: str) -> bool:
    """Whether the one is appended before the other."""
    return next(step.value for step in steps if step.value in {value, other}) == value


def _followed(steps: Sequence[Step]) -> Iterator[str]:
    """The values after which the same list is appended to again."""
    last: dict[str, str] = {}
    for key, value in steps:
        if value:
            if key in last:
                yield last[key]
            last[key] = value


def _no_two_rw_in_a_row(source: Ints, target: Ints, kind: Ints) -> tuple[Ints, Ints]:
    """A graph whose cycles are those in which no two rw follow each other: each transaction has a node besides, which
    is come to by rw, and which no rw leads on from.
    """
    rw: Flags = kind == _RW
    plain, target_plain = 2 * source[~rw], 2 * target[~rw]
    return (
        np.concatenate((plain, plain + 1, 2 * source[rw])),
        np.concatenate((target_plain, target_plain, 2 * target[rw] + 1)),
    )


def _name(edges: Sequence[Edge]) -> Name:
    """What a cycle is called."""
    kinds = [edge.kind for edge in edges]
    if set(kinds) == {"ww"}:
        return "G0"
    unseen = kinds.count("rw")
    if unseen < 2:
        return "G1c" if not unseen else "G-single"
    in_a_row = any(one == other == "rw" for one, other in pairwise((*kinds, kinds[0])))
    return "G2-item" if in_a_row else "G-nonadjacent"
