"""Registers of PostgreSQL: some order of the ops on each explains what all of them were told (`linearizability`).

::

    all registers at once ── zones ──┬─ contradictions: which ops, which values, how stale
                                     └─ none ── a compare-and-set among its ops? ── bounded search
    what is not explained ── may a commit be lost here? ── search with one step back

A compare-and-set that was answered read one value and wrote another; zones take it as those two, which finds most of
what is wrong and none that is not. One of unknown outcome may have written, one that missed only says what did not
stand there: with these the search is left to decide, state by state, `STATES_MAX` of a register and `WORK_MAX` in all.

Where a commit is acknowledged that no standby has, a failover may take back what was committed last. Such a *step
back* is one more write, between the injection's beginning and its effect, of a value that had not been overwritten
for longer than what may be lost (`durability.booking`). Ops that need it are told, and are no fail.

A failover shows in what is read after it: of the registers that were written before the fault and asked for again once
another had taken over, half have to have been read since, or nothing is known of what it took back. What a
compare-and-set was carried out over counts as read.

*Stale* is a read of a value that was over: how long before it was called the first answer had come that spoke of a
value written later, and how many such values there were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX, WINDOW_US
from resilience.check.durability.postgresql import excuses, may_lose, window
from resilience.check.fault import POSTGRESQL, SECOND_US, Applied, after_fault
from resilience.check.finding import Finding, Where
from resilience.check.linearizability import (
    INITIAL,
    NEVER,
    Contradiction,
    Registers,
    Step,
    contradictions,
    search,
    unexplained,
)
from resilience.check.text import count, seconds
from resilience.history.columns import OK, UNKNOWN, Codes, Flags, Ints, Ops
from resilience.history.read import History
from resilience.history.record import ACKED_LOCALLY, MISMATCH
from resilience.spec.scenario import Scenario

NAME = "linearizability.postgresql"
TITLE = "What registers answered fits one order of the ops on each"
STATES_MAX = 100_000  # of one register, some 20 MB of them
WORK_MAX = 50_000_000  # states times ops of a register, in all: some ten seconds


def registers(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about all registers."""
    told = _told(history)
    if reason := _nothing_to_judge(told):
        return (Finding(check=NAME, verdict="inconclusive", title=TITLE, reason=reason, where=_nowhere()),)
    return (_finding(scenario, history, told, _Judge(scenario, history, told).judged()),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Told:
    """What is on record of registers.

    ``zones`` are reads and writes, a compare-and-set that was carried out as both, ``row`` the op that each is of.
    ``wrote`` and ``stood`` are values by their numbers, of each op: `INITIAL` where there is none.
    """

    rows: Ints  # all ops that say something, by register and in the order in which they were called
    zones: Registers
    row: Ints
    wrote: Ints
    stood: Ints
    swaps: Flags
    missed: Flags
    returned: Ints  # `NEVER`: unknown
    texts: tuple[str, ...]  # of each number the value as it was sent
    twice: int  # values that were written more than once


def _told(history: History) -> _Told:
    ops = history.ops
    reads, swaps = ops.of_kind("register.read"), ops.of_kind("register.swap")
    missed = swaps & ops.with_error(MISMATCH) & (ops.outcome == OK)
    writes = (swaps | ops.of_kind("register.write")) & ((ops.outcome == OK) | (ops.outcome == UNKNOWN)) & ~missed
    reads &= ops.outcome == OK
    known: dict[str, int] = {"": INITIAL}
    wrote = np.full(len(ops), INITIAL, dtype=np.int64)
    all_written = swaps | ops.of_kind("register.write")
    wrote[all_written] = _numbers(ops.value[all_written].tolist(), known)
    stood = _numbers(list(ops.standing), known)[ops.stood]
    local = ops.with_error(ACKED_LOCALLY)  # nobody but the primary had it: it may go, as one of unknown outcome
    returned = np.where((ops.outcome == OK) & ~local, ops.returned, NEVER)
    carried_out = np.flatnonzero(writes & swaps & (ops.outcome == OK))
    reading, writing = np.concatenate((np.flatnonzero(reads), carried_out)), np.flatnonzero(writes)
    row = np.concatenate((reading, writing))
    rows = np.flatnonzero(reads | writes | missed)
    return _Told(
        rows=rows[np.lexsort((ops.called[rows], ops.key[rows]))],
        zones=Registers(
            key=ops.key[row],
            value=np.concatenate((stood[reading], wrote[writing])),
            writes=np.arange(len(row)) >= len(reading),
            called=ops.called[row],
            returned=np.concatenate((ops.returned[reading], returned[writing])),
        ),
        row=row,
        wrote=wrote,
        stood=stood,
        swaps=swaps,
        missed=missed,
        returned=returned,
        texts=tuple(known),
        twice=int(all_written.sum()) - int((np.bincount(wrote[all_written]) > 0).sum()),
    )


def _numbers(texts: list[str], known: dict[str, int]) -> Ints:
    """A number for each text, the same for the same one; ``known`` holds all of them in their order."""
    fresh = [text for text in dict.fromkeys(texts) if text not in known]
    known.update(zip(fresh, range(len(known), len(known) + len(fresh)), strict=True))
    return np.fromiter(map(known.__getitem__, texts), dtype=np.int64, count=len(texts))


def _nothing_to_judge(told: _Told) -> str:
    if told.twice:
        return f"{count(told.twice, 'value')} written more than once: what was read cannot be told apart"
    return "" if len(told.zones.key) else "nothing is on record of any register"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reads:
    """How much was read: in all, and since the fault and the failover, if there were any (``after``: their name).

    ``stood`` is how many registers were written before the fault and asked for since, ``read`` how many of them were
    read since; ``both`` how many were written and read at all.
    """

    total: int
    both: int
    after: str
    since: int
    stood: int
    read: int

    @property
    def too_few(self) -> str:
        """Why nothing is known from them, "" if something is."""
        if not self.both:
            return "no register was both written and read"
        if not self.after:
            return ""
        if not self.since:
            return f"no register was read after the {self.after}"
        if not self.stood:
            return f"no register that was written before the fault was asked for after the {self.after}"
        if 2 * self.read < self.stood:
            before = count(self.stood, "register")
            return f"of {before} that had been written before it {self.read} were read after the {self.after}"
        return ""


def _reads(history: History, told: _Told) -> _Reads:
    zones, ops = told.zones, history.ops
    after = after_fault(history)
    applied, since = (after.applied, after.since) if after else (-NEVER, NEVER)
    reads = ~zones.writes
    read_since = reads & (zones.called > since)
    written_before = zones.writes & (zones.returned <= applied)
    asked_since = ops.key[ops.of_kind("register.") & (ops.called > since)]
    stood = np.intersect1d(zones.key[written_before], asked_since)
    return _Reads(
        total=int(reads.sum()),
        both=len(np.intersect1d(zones.key[reads], zones.key[zones.writes])),
        after=after.name if after else "",
        since=int(read_since.sum()),
        stood=len(stood),
        read=int(np.isin(stood, zones.key[read_since]).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    """A register whose answers no order explains: ``what``, and the ops that show it, the one that gives it away last.

    ``read`` is that op's value, ``newer`` the one that was there by then, both "" where there is none.
    """

    key: int
    what: str
    ops: tuple[int, ...]
    read: str
    newer: str
    stale_us: int
    behind: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What became of so many registers; ``went_back`` and ``undecided`` are their keys."""

    registers: int
    broken: tuple[_Broken, ...]
    went_back: tuple[int, ...]
    undecided: tuple[int, ...]
    states: int


class _Judge:
    """Goes through the registers, and keeps account of what the searches have cost."""

    def __init__(self, scenario: Scenario, history: History, told: _Told) -> None:
        self._ops = history.ops
        self._told = told
        self._faults = excuses(scenario, history, POSTGRESQL)
        self._work = 0
        self._states = 0
        key = self._ops.key[told.rows]
        self._keys = key[np.flatnonzero(np.diff(key, prepend=-1))]
        self._rows = _parts(told.rows, key, self._keys)
        by_key = np.argsort(told.zones.key, kind="stable")
        self._entries = _parts(by_key, told.zones.key[by_key], self._keys)

    def judged(self) -> _Judged:
        told, ops = self._told, self._ops
        torn: dict[int, Contradiction] = {}
        for one in contradictions(told.zones):
            torn.setdefault(int(told.zones.key[one.ops[-1]]), one)
        hard = set(np.unique(ops.key[told.rows[told.swaps[told.rows]]]).tolist())
        broken, went_back, undecided = [], [], []
        keys = [(place, key) for place, key in enumerate(self._keys.tolist()) if key in torn or key in hard]
        for place, key in sorted(keys, key=lambda one: one[1] not in torn):  # what is wrong comes first
            rows = self._rows[place]
            steps = self._steps(rows)
            explained = False if key in torn else self._explained(steps)
            if explained is False:
                explained = self._after_a_step_back(steps)
                if explained:
                    went_back.append(key)
                elif explained is False:
                    broken.append(
                        self._torn(key, torn[key], self._entries[place])
                        if key in torn
                        else self._unexplained(key, rows, steps)
                    )
            if explained is None:
                undecided.append(key)
        return _Judged(
            registers=len(self._keys),
            broken=tuple(broken),
            went_back=tuple(went_back),
            undecided=tuple(undecided),
            states=self._states,
        )

    def _steps(self, rows: Ints) -> list[Step]:
        told, ops = self._told, self._ops
        found = []
        for row in rows.tolist():
            called, stood, wrote = int(ops.called[row]), int(told.stood[row]), int(told.wrote[row])
            if told.missed[row]:
                found.append(Step("miss", called, int(ops.returned[row]), expected=stood))
            elif told.swaps[row] and stood != INITIAL:
                found.append(Step("swap", called, int(told.returned[row]), wrote, stood))
            elif wrote != INITIAL:  # also a compare-and-set of which only its call is on record
                found.append(Step("write", called, int(told.returned[row]), wrote))
            else:
                found.append(Step("read", called, int(ops.returned[row]), stood))
        return found

    def _explained(self, steps: Sequence[Step]) -> bool | None:
        """Whether an order explains them; None: that was not found out with the states that are left."""
        size = max(1, len(steps))
        states_max = min(STATES_MAX, (WORK_MAX - self._work) // size)
        if states_max <= 0:
            return None
        found = search(steps, states_max)
        self._work += found.states * size
        self._states += found.states
        return found.explained

    def _after_a_step_back(self, steps: list[Step]) -> bool | None:
        """Whether an order explains them if one of the faults has taken back what may be lost around it."""
        answer: bool | None = False
        for fault in self._faults:
            for value in _may_come_back(steps, fault):
                back = Step("write", fault.began, fault.applied, value)
                explained = self._explained([*steps, back])
                if explained:
                    return True
                answer = None if explained is None else answer
        return answer

    def _torn(self, key: int, found: Contradiction, entries: Ints) -> _Broken:
        """A contradiction of zones, with the register's entries; of the reads of its values the stalest is told."""
        told, zones = self._told, self._told.zones
        values = sorted({int(zones.value[entry]) for entry in found.ops})
        stale = _stalest(zones, entries, values)
        last = stale.entry if stale else max(found.ops, key=lambda one: int(zones.called[one]))
        read = int(zones.value[last])
        newer = stale.newer if stale else next((value for value in values if value != read), INITIAL)
        beside = dict.fromkeys(int(told.row[one]) for one in found.ops)
        beside.pop(int(told.row[last]), None)
        return _Broken(
            key=key,
            what=found.what,
            ops=(*beside, int(told.row[last])),
            read=self._text(read),
            newer=self._text(newer),
            stale_us=stale.stale_us if stale else 0,
            behind=stale.behind if stale else 0,
        )

    def _unexplained(self, key: int, rows: Ints, steps: list[Step]) -> _Broken:
        """What only the search has found: the first answer with which no order was left."""
        told, ops = self._told, self._ops
        last = int(rows[unexplained(steps, self._explained)])
        before = rows[(told.wrote[rows] != INITIAL) & ~told.missed[rows] & (told.returned[rows] < ops.called[last])]
        newest = before[np.argsort(told.returned[before])][-1:].tolist()
        read = int(told.stood[last]) if told.swaps[last] or told.wrote[last] == INITIAL else int(told.wrote[last])
        what = "missed its value" if told.missed[last] else "no order explains it"
        newer = self._text(int(told.wrote[newest[0]])) if newest else ""
        return _Broken(
            key=key, what=what, ops=(*newest, last), read=self._text(read), newer=newer, stale_us=0, behind=0
        )

    def _text(self, value: int) -> str:
        return "" if value == INITIAL else self._told.texts[value]


def _parts(what: Ints, keys: Codes, wanted: Codes) -> list[Ints]:
    """What belongs to each of these keys, where ``keys`` is sorted."""
    begins = np.searchsorted(keys, wanted, side="left").tolist()
    ends = np.searchsorted(keys, wanted, side="right").tolist()
    return [what[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _may_come_back(steps: list[Step], fault: Applied) -> Iterator[int]:
    """The values that had not been overwritten for longer than a fault may take back, the newest first."""
    writes = [step for step in steps if step.kind in {"write", "swap"} and step.called <= fault.applied]
    kept = [step for step in writes if step.returned < fault.began - WINDOW_US]
    for write in sorted(writes, key=lambda step: -step.called):
        if not any(later.called > write.returned for later in kept):
            yield write.value
    if not kept:
        yield INITIAL


class _Stale(NamedTuple):
    """A read of a value that was over: since when, by how many values, and which was the first of them."""

    stale_us: int
    behind: int
    entry: int
    newer: int


def _stalest(zones: Registers, entries: Ints, values: list[int]) -> _Stale | None:
    """Of the reads of these values in a register the one whose value had been over for longest, if there is one."""
    value, of_value = np.unique(zones.value[entries], return_inverse=True)
    first = np.full(len(value), NEVER, dtype=np.int64)  # when the first answer came that speaks of it
    np.minimum.at(first, of_value, zones.returned[entries])
    first[value == INITIAL] = -NEVER
    writes = zones.writes[entries]
    called = np.full(len(value), -NEVER, dtype=np.int64)  # when it was written; the initial value before all others
    called[of_value[writes]] = zones.called[entries[writes]]
    found = None
    for place in np.flatnonzero(~writes & np.isin(zones.value[entries], values)).tolist():
        over = np.flatnonzero((called > first[of_value[place]]) & (first < zones.called[entries[place]]))
        if len(over):
            newer = over[np.argmin(first[over])]
            stale_us = int(zones.called[entries[place]] - first[newer])
            one = _Stale(stale_us, len(over), int(entries[place]), int(value[newer]))
            found = one if found is None else max(found, one)
    return found


def _finding(scenario: Scenario, history: History, told: _Told, judged: _Judged) -> Finding:
    broken, reads = judged.broken, _reads(history, told)
    return Finding(
        check=NAME,
        verdict="fail" if broken else "inconclusive" if judged.undecided or reads.too_few else "pass",
        title=f"{count(len(broken), 'register')} answered what no order explains" if broken else TITLE,
        measured=_measured(told, judged, reads),
        allowed="only what a failover may take back" if may_lose(scenario.stack) else "none",
        value=float(len(broken)),
        unit="ops",
        reason=_reason(scenario, history, judged, reads),
        where=_where(history, broken),
        rests_on=_rests_on(scenario, broken),
        evidence=tuple(_item(history, one) for one in broken[:EVIDENCE_MAX]),
        evidence_total=len(broken),
        measures={
            f"{NAME}.unexplained_ops": float(len(broken)),
            f"{NAME}.went_back_ops": float(len(judged.went_back)),
            f"{NAME}.undecided_ops": float(len(judged.undecided)),
            f"{NAME}.read_ops": float(reads.total),
            f"{NAME}.stale_s": max((one.stale_us for one in broken), default=0) / SECOND_US,
        }
        | ({f"{NAME}.read_after_{reads.after}_ops": float(reads.since)} if reads.after else {}),
    )


def _measured(told: _Told, judged: _Judged, reads: _Reads) -> str:
    among, ops = count(judged.registers, "register"), count(len(told.rows), "op")
    text = f"{len(judged.broken)} of {among} contradict themselves, {ops}, {count(reads.total, 'read')}"
    if reads.after:
        text += f", {reads.since:,} of them after the {reads.after}"
        text += f" on {reads.read} of {reads.stood} that had been written before"
    if judged.went_back:
        text += f"; {count(len(judged.went_back), 'register')} went back"
    return text if not judged.undecided else f"{text}; {len(judged.undecided)} undecided"


def _reason(scenario: Scenario, history: History, judged: _Judged, reads: _Reads) -> str:
    reasons = [_in_words(history, judged.broken[0])] if judged.broken else []
    if judged.undecided:
        first = history.ops.keys[judged.undecided[0]]
        undecided = count(len(judged.undecided), "register")
        reasons.append(f"{undecided} not decided after {judged.states:,} states were tried, e.g. {first}")
    if judged.went_back:
        back = count(len(judged.went_back), "register")
        reasons.append(f"{back} went back to what stood there {window(scenario)}, which async replication allows")
    if reads.too_few and not judged.broken:
        reasons.append(reads.too_few)
    return "; ".join(reasons)


def _in_words(history: History, one: _Broken) -> str:
    ops, last = history.ops, one.ops[-1]
    read, newer = one.read or "nothing", one.newer or "nothing"
    when = f", {seconds(one.stale_us / SECOND_US)} after {newer} was there, {count(one.behind, 'value')} behind"
    when = when if one.stale_us else ""
    phase = ops.phases[ops.phase[last]]
    return f"{ops.keys[one.key]}: {ops.name(last)} was told {read}{when}, in phase {phase} ({one.what})"


def _rests_on(scenario: Scenario, broken: tuple[_Broken, ...]) -> tuple[str, ...]:
    if not broken:
        return needs.WHOLE + needs.LOAD + needs.FAULT + (needs.PRIMARY if may_lose(scenario.stack) else ())
    found = list(needs.RECORD)
    if may_lose(scenario.stack):  # who was hit decides what may be taken back
        found += needs.PRIMARY
    if any(one.what == "read from nowhere" for one in broken):  # the write may be among what a dead client lost
        found.append("assumption.generator-alive")
    return tuple(found)


def _nowhere() -> Where:
    return Where(group="postgresql")


def _where(history: History, broken: tuple[_Broken, ...]) -> Where:
    """From the first to the last answer that gives a register away."""
    if not broken:
        return _nowhere()
    told = history.ops.returned[[one.ops[-1] for one in broken]]
    return Where(group="postgresql", start_us=int(told.min()), end_us=int(told.max()))


def _item(history: History, one: _Broken) -> dict[str, Any]:
    ops: Ops = history.ops
    last = one.ops[-1]
    item: dict[str, Any] = {
        "what": one.what,
        "key": ops.keys[one.key],
        "op": ops.name(last),
        "kind": ops.kinds[ops.kind[last]],
        "told": one.read or "nothing",
        "newer": one.newer or "nothing",
        "beside": ", ".join(ops.name(row) for row in one.ops[:-1]),
        "phase": ops.phases[ops.phase[last]],
        "called_us": int(ops.called[last]),
    }
    return item | ({"stale_s": one.stale_us / SECOND_US, "behind": one.behind} if one.stale_us else {})
