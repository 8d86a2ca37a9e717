"""Linearizability of registers: whether some order of the ops explains what each of them was told.

An op may take effect at one instant between its call and its answer; one goes before another if it was answered before
the other was called. A write whose outcome is unknown may take effect at any time after its call, or never.

*Zones.* Where each value is written once, no order has to be searched (Gibbons and Korach). The write of a value and
all reads of it are a *cluster*, which must not be torn apart by another one. ``f`` is its first answer, ``s`` its last
call. A cluster has to come before another one if it was answered before the other was called, ``f < s'``; what was told
has an order unless two of them have to come before each other::

    forward, f < s     ├──f━━━━━━━━s──┤      it was the register's value from f to s: no other's zone may reach in
    backward, s ≤ f       s ······· f        it may take any instant from s to f: no forward zone may cover all of it

*Search.* A compare-and-set reads and writes, so orders have to be tried, and there are very many: `search` tries so
many states at most, and says so if they were not enough.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from resilience.history.columns import Codes, Flags, Ints

INITIAL = -1  # the value of a register that nobody has written to yet
NEVER = np.iinfo(np.int64).max  # when a write of unknown outcome was answered
_SILENT = -2  # in a search, the value of a write that nobody speaks of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registers:
    """Ops on registers, one entry each: reads that were answered, and writes that were, or whose outcome is unknown.

    A value is written to a register once at most, and never `INITIAL`.
    """

    key: Codes
    value: Ints  # what was written, or read
    writes: Flags
    called: Ints
    returned: Ints  # `NEVER`: unknown, of a write only

    def __len__(self) -> int:
        return len(self.key)


class Contradiction(NamedTuple):
    """Ops that no order explains, by their entries: the first alone, or each with the others."""

    what: Literal["read from nowhere", "read before its write", "torn apart"]
    ops: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Clusters:
    """One entry a cluster; instants are ranks, and each register has its own: the lowest is its initial value's."""

    first: Ints  # f
    last: Ints  # s
    first_op: Ints  # the op with that answer, -1: the initial value's write
    last_op: Ints


def contradictions(ops: Registers) -> list[Contradiction]:
    """What cannot be explained in registers that each value is written to once; in O(n log n).

    Of clusters each that is torn apart by another one is named once, with the ops that show it.
    """
    if not len(ops):
        return []
    cluster = _cluster_of(ops)
    write = np.full(int(cluster.max()) + 1, -1, dtype=np.int64)
    write[cluster[ops.writes]] = np.flatnonzero(ops.writes)
    reads = np.flatnonzero(~ops.writes)
    author = write[cluster[reads]]
    nowhere = (author < 0) & (ops.value[reads] != INITIAL)
    early = (author >= 0) & (ops.returned[reads] < ops.called[author])
    return [
        *(Contradiction("read from nowhere", (row,)) for row in reads[nowhere].tolist()),
        *(Contradiction("read before its write", pair)
          for pair in zip(reads[early].tolist(), author[early].tolist(), strict=True)),
        *_torn(_clusters(ops, cluster, np.isin(cluster, cluster[reads[nowhere]]))),
    ]  # fmt: skip


def _cluster_of(ops: Registers) -> Ints:
    """Of each op the number of its key and value."""
    numbers = _numbered(ops.key, ops.value - ops.value.min())
    order = np.argsort(numbers)
    sorted_ = numbers[order]
    found = np.empty(len(ops), dtype=np.int64)
    found[order] = np.cumsum(np.diff(sorted_, prepend=sorted_[0]) != 0)
    return found


def _numbered(key: Codes, within: Ints) -> Ints:
    """One number for each pair, in the order of the pairs; what is within a key is at least 0."""
    span = int(within.max()) + 1
    if (int(key.max()) + 1) * span >= NEVER:
        within = np.unique(within, return_inverse=True)[1]
        span = int(within.max()) + 1
    return key.astype(np.int64) * span + within


def _clusters(ops: Registers, cluster: Ints, left_out: Flags) -> _Clusters:
    """The clusters that have a write; an unknown one that nobody read is left out, since it may not be there."""
    unread = ops.writes & (ops.returned == NEVER) & (np.bincount(cluster)[cluster] == 1)
    rows = np.flatnonzero(~left_out & ~unread)
    if not len(rows):
        return _Clusters(first=rows, last=rows, first_op=rows, last_op=rows)
    key, known, initial = ops.key[rows], ops.returned[rows] != NEVER, ops.value[rows] == INITIAL
    began = int(ops.called[rows].min())
    called = ops.called[rows] - began + 1  # 0 is before all of them
    ended = max(int(called.max()), int((ops.returned[rows][known] - began).max(initial=0))) + 2
    returned = np.where(known, ops.returned[rows] - began + 1, ended)
    returned[initial] = 0  # the write of an initial value was answered before anything else
    instants = _numbered(np.concatenate((key, key)), np.concatenate((called, returned)))  # no register reaches on
    called, returned = instants[: len(rows)], instants[len(rows) :]
    first, last = _extremes(cluster[rows], called, returned)
    return _Clusters(
        first=returned[first],
        last=called[last],
        first_op=np.where(initial[first], -1, rows[first]),
        last_op=rows[last],
    )


def _extremes(cluster: Ints, called: Ints, returned: Ints) -> tuple[Ints, Ints]:
    """Of each cluster the entry that returned first, and the one that was called last."""
    order = np.argsort(cluster)
    begins = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    of_it = np.empty(len(cluster), dtype=np.int64)
    of_it[order] = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(order)))
    first, last = np.empty(len(begins), dtype=np.int64), np.empty(len(begins), dtype=np.int64)
    least, most = np.minimum.reduceat(returned[order], begins), np.maximum.reduceat(called[order], begins)
    at = np.flatnonzero(returned == least[of_it])
    first[of_it[at]] = at
    at = np.flatnonzero(called == most[of_it])
    last[of_it[at]] = at
    return first, last


def _torn(clusters: _Clusters) -> Iterator[Contradiction]:
    """Each cluster that has to come both before and after one that became the register's value before it did."""
    forward = np.flatnonzero(clusters.first < clusters.last)
    forward = forward[np.argsort(clusters.first[forward], kind="stable")]
    if not len(forward):
        return
    reach = np.maximum.accumulate(clusters.last[forward])
    reaching = _where_reached(clusters.last[forward], reach)
    everyone = np.arange(len(clusters.first))
    before = np.searchsorted(clusters.first[forward], clusters.last, side="left")  # forward zones with f < s of each
    place = np.full(len(everyone), len(forward))
    place[forward] = np.arange(len(forward))
    before = np.minimum(before, place)  # of two forward zones the one that begins later is named
    torn = (before > 0) & (clusters.first < reach[np.maximum(before - 1, 0)])
    for index in np.flatnonzero(torn).tolist():
        other = int(forward[reaching[before[index] - 1]])
        ops = (clusters.first_op[other], clusters.last_op[index], clusters.first_op[index], clusters.last_op[other])
        yield Contradiction("torn apart", tuple(int(op) for op in ops if op >= 0))


def _where_reached(values: Ints, reach: Ints) -> Ints:
    """For each position the one at which the largest value so far stands."""
    fresh = np.where(values == reach, np.arange(len(values)), 0)
    found: Ints = np.maximum.accumulate(fresh)
    return found


class Step(NamedTuple):
    """An op on one register: ``read`` saw a value, ``write`` wrote it, ``swap`` wrote it where ``expected`` stood.

    ``miss`` is a compare-and-set that was told that something else than ``expected`` stands there.
    """

    kind: Literal["read", "write", "swap", "miss"]
    called: int
    returned: int  # `NEVER`: unknown
    value: int = INITIAL
    expected: int = INITIAL


class Searched(NamedTuple):
    """Whether some order explains the ops (None: not known, the states did not suffice), and how many were tried."""

    explained: bool | None
    states: int


def search(steps: Sequence[Step], states_max: int) -> Searched:
    """Tries orders of the ops of one register, at most so many states of it, each the ops done so far and the value.

    No value that an op speaks of is below `INITIAL`.
    """
    orders = _Orders(steps)
    seen = {(0, INITIAL)}
    stack = [(0, INITIAL)]
    while stack:
        done, value = stack.pop()
        if done & orders.needed == orders.needed:
            return Searched(explained=True, states=len(seen))
        for state in orders.after(done, value):
            if state not in seen:
                if len(seen) >= states_max:
                    return Searched(explained=None, states=len(seen))
                seen.add(state)
                stack.append(state)
    return Searched(explained=False, states=len(seen))


def unexplained(steps: Sequence[Step], explained: Callable[[Sequence[Step]], bool | None]) -> int:
    """Of steps that no order explains, the one whose answer came first among those that leave no order any more.

    ``explained`` says whether some order explains other steps (None: not known). What was answered later counts as
    under way: of what an order explains each beginning has one, too.
    """
    answers = sorted((step.returned, at) for at, step in enumerate(steps) if step.returned != NEVER)
    at = bisect_left(answers, 1, key=lambda answer: int(explained(_until(steps, answer[0])) is False))
    return answers[min(at, len(answers) - 1)][1]


def _until(steps: Sequence[Step], instant: int) -> list[Step]:
    """What was known at an instant."""
    begun = (step for step in steps if step.called <= instant)
    known = [step if step.returned <= instant else step._replace(returned=NEVER) for step in begun]
    return [step for step in known if step.returned != NEVER or step.kind in {"write", "swap"}]


class _Orders:
    """The ops of one register by their calls, and what need not be tried of their orders.

    What only looks, and may look now, looks now: later it could do no better. A value that is written once stays until
    all have seen it that have to. Of unknown writes that nobody speaks of any is as good as the one that was called
    first.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._ops = sorted(steps, key=lambda step: step.called)
        bits = [1 << at for at in range(len(self._ops))]
        self.needed = sum(bit for bit, op in zip(bits, self._ops, strict=True) if op.returned != NEVER)
        times = Counter(op.value for op in self._ops if op.kind in {"write", "swap"})
        times[INITIAL] += 1  # it stood there before
        self._awaited: dict[int, int] = {}  # of each value that is written once, the ops that have to find it
        for bit, op in zip(bits, self._ops, strict=True):
            if op.kind in {"read", "swap"} and op.returned != NEVER:
                value = op.value if op.kind == "read" else op.expected
                if times[value] <= 1:
                    self._awaited[value] = self._awaited.get(value, 0) | bit
        spoken = {op.value for op in self._ops if op.kind == "read"}
        spoken |= {op.expected for op in self._ops if op.kind in {"swap", "miss"}}
        self._silent = sum(
            bit
            for bit, op in zip(bits, self._ops, strict=True)
            if op.kind == "write" and op.returned == NEVER and op.value not in spoken
        )

    def after(self, done: int, value: int) -> list[tuple[int, int]]:
        """Where one more op leads to that was not called after another one, not done yet, had been answered."""
        awaited = self._awaited.get(value, 0) & ~done
        looking, silent, answered = 0, False, NEVER
        found = []
        for at in range((~done & (done + 1)).bit_length() - 1, len(self._ops)):
            op, bit = self._ops[at], 1 << at
            if done & bit:
                continue
            if op.called > answered:
                break
            answered = min(answered, op.returned)
            match op.kind:
                case "read":
                    looking |= bit if value == op.value else 0
                case "miss":
                    looking |= bit if value != op.expected else 0
                case "swap":
                    if value == op.expected and not awaited & ~bit:
                        found.append((done | bit, op.value))
                case "write":
                    first = not (silent and bit & self._silent)
                    silent = silent or bool(bit & self._silent)
                    if first and not awaited:
                        found.append((done | bit, _SILENT if bit & self._silent else op.value))
        return [(done | looking, value)] if looking else found
