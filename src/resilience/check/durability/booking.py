"""Books what the audit found, and makes findings of it: one for each shard or queue, one for PostgreSQL.

*lost*: acknowledged, and not there. *recovered*: unknown to its client, and there; also a value that a client sent in
its last moment, of which nothing is on record (`unrecorded`). A *defect* is anything that must never be: a duplicate, a
value that nobody wrote, a refused write that is there, a version that went back, a broken chain. Under ``async`` a loss
is allowed on a shard whose primary an injection hit, if it was acknowledged from `WINDOW_US` before the injection began
until the fault took effect (in between lies what is done to a replica first). When the server acknowledged it is not on
record, only when its client heard of that: a write that was under way as the fault took effect counts as acknowledged
before, if its client heard of it within `ANSWER_US`. On all others, and under ``wait``, no loss is allowed.

*Acknowledged locally* is a class of its own: the server said that nobody but itself had the write (`ACKED_LOCALLY`).
Such a write does not count as acknowledged, nor as lost: how many there were, and how many of them are gone, is said
beside that.

``durability.lost_oldest_s`` and ``…_newest_s`` are ages: seconds from the acknowledgement to the instant at which the
fault took effect, negative for a write that was acknowledged after it; ``durability.lost_in_window_…`` of the allowed.

``durability.acked_in_window_ops`` are the writes that a shard acknowledged while its primary suffered and no other had
taken over: from the instant the fault took effect until another member was first seen as primary, else until healing.
``durability.kept_in_window_ops`` of them are there, ``…kept_before_fault_ops`` of what the shard acknowledged before
anything was done to it; ``…acked_during_fault_ops`` were sent after the fault took effect and acknowledged before it
was healed, by whomever.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from resilience.check import needs
from resilience.check.fault import (
    SECOND_US,
    Applied,
    HitShard,
    hit_shards,
    injections,
    load_end_us,
    primary_at,
    promoted_at,
    shards_at_start,
)
from resilience.check.finding import Finding, Where
from resilience.check.text import count, span
from resilience.check.window import JUDGED
from resilience.history.columns import OK, Codes, Flags, Ints
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Async

WINDOW_US = SECOND_US
# How long after the fault an answer that was given before it may still be heard of: twice the lag at which a generator
# makes a run inconclusive (`schedule_lag`). In 21 recorded runs that kept it the latest came after 8 ms.
ANSWER_US = SECOND_US // 10
BEFORE_FAULT = f"within {WINDOW_US / SECOND_US:g} s before the fault"
EVIDENCE_MAX = 200
NO_ROWS = np.empty(0, dtype=np.int64)
_NOTHING = "nothing was acknowledged that could be lost"

What = Literal["duplicated", "resurrected", "version went back", "chain broken", "unexpected", "refused but there"]
_OF_THE_AUDIT: frozenset[What] = frozenset({"duplicated", "resurrected", "version went back", "chain broken"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """Something that must never be, at a key of a shard."""

    what: What
    group: int
    key: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Booked:
    """What the audit of one kind of write found; ``writes`` are the ops that it speaks of, the others rows of them."""

    writes: Flags
    lost: Ints
    recovered: Ints
    defects: tuple[Defect, ...]
    unrecorded: tuple[int, ...] = ()  # the shard of each value that is there and whose op is not on record
    group: Codes | None = None  # of each op, where it is not the shard
    acked_locally: Ints = field(default_factory=NO_ROWS.copy)
    lost_locally: Ints = field(default_factory=NO_ROWS.copy)  # those of them that are not there
    expired: Ints = field(default_factory=NO_ROWS.copy)  # whose time had run out before anybody looked for them

    def groups(self, history: History) -> Codes:
        """The group that each op belongs to."""
        return history.ops.group if self.group is None else self.group

    def acked(self, history: History) -> Flags:
        """Which of the writes were acknowledged, and not only locally."""
        found: Flags = self.writes & (history.ops.outcome == OK)
        found[self.acked_locally] = False
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One kind of write whose acknowledgements are held against what is stored, and what its findings rest on.

    ``place`` names a group of keys; ``excuses`` are the injections around which the group may lose some, ``window`` is
    when that had to be acknowledged, in words; ``hits`` are the injections among whose members its primary was.
    """

    name: str
    noun: str
    audit: tuple[str, ...]
    primaries: tuple[str, ...]
    place: Callable[[int], str]
    excuses: Callable[[Scenario, History, int], tuple[Applied, ...]]
    hits: Callable[[History], tuple[HitShard, ...]]
    window: Callable[[Scenario], str] = lambda _: BEFORE_FAULT
    by_phase: bool = False  # whether it is told in which phases what is lost was due


def of_shards(name: str, noun: str) -> Ledger:
    """A kind of write to Redis' shards."""
    return Ledger(
        name=name,
        noun=noun,
        audit=needs.AUDIT,
        primaries=needs.SHARDS,
        place="shard {}".format,
        excuses=excuses,
        hits=hit_shards,
    )


def findings(ledger: Ledger, scenario: Scenario, history: History, booked: Booked) -> tuple[Finding, ...]:
    """A finding for each shard that such a write was sent to; one for none if there was no write at all."""
    groups = set(np.unique(booked.groups(history)[booked.writes]).tolist()) | {
        defect.group for defect in booked.defects
    }
    shards = (_shard(ledger, group, scenario, history, booked) for group in sorted(groups or {0}))
    return tuple(_of_shard(ledger, shard, scenario, history) for shard in shards)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shard:
    """What was found on one shard; ``inside`` are the lost that may be, ``outside`` all others.

    ``ages_s`` belong to ``lost``, ``excused_by`` are the injections around which some may be lost, ``looked_for`` is
    how many of those that were acknowledged were to be there when they were read back.
    """

    group: int
    excused_by: tuple[Applied, ...]
    acked: Flags
    looked_for: int
    lost: Ints
    inside: Ints
    outside: Ints
    ages_s: Any
    recovered: int
    acked_locally: Ints
    lost_locally: Ints
    defects: tuple[Defect, ...]

    @property
    def bad(self) -> bool:
        return bool(len(self.outside) or self.defects)


def _shard(ledger: Ledger, group: int, scenario: Scenario, history: History, booked: Booked) -> _Shard:
    groups = booked.groups(history)
    lost = booked.lost[groups[booked.lost] == group]
    excused_by = ledger.excuses(scenario, history, group)
    allowed = may_be_lost(history, lost, excused_by)
    acked = booked.acked(history) & (groups == group)
    return _Shard(
        group=group,
        excused_by=excused_by,
        acked=acked,
        looked_for=int(acked.sum() - acked[booked.expired].sum()),
        lost=lost,
        inside=lost[allowed],
        outside=lost[~allowed],
        ages_s=ages(history, lost),
        recovered=int((groups[booked.recovered] == group).sum()) + booked.unrecorded.count(group),
        acked_locally=booked.acked_locally[groups[booked.acked_locally] == group],
        lost_locally=booked.lost_locally[groups[booked.lost_locally] == group],
        defects=tuple(defect for defect in booked.defects if defect.group == group),
    )


def _of_shard(ledger: Ledger, shard: _Shard, scenario: Scenario, history: History) -> Finding:
    total = int(shard.acked.sum())
    return Finding(
        check=ledger.name,
        verdict="fail" if shard.bad else "pass" if shard.looked_for else "inconclusive",
        title=_title(ledger.noun, shard),
        measured=_measured(ledger.noun, shard, total),
        allowed=f"only acknowledged {ledger.window(scenario)}" if shard.excused_by else "none lost",
        value=float(len(shard.lost)),
        unit="ops",
        reason="; ".join(filter(None, (_reason(shard, total), _phases(ledger, shard, history)))),
        where=_where(ledger.place(shard.group), shard, history),
        rests_on=_rests_on(ledger, shard),
        evidence=tuple(_evidence(shard, history))[:EVIDENCE_MAX],
        evidence_total=len(shard.lost) + len(shard.lost_locally) + len(shard.defects),
        measures=_measures(ledger, shard, history),
    )


def _measured(noun: str, shard: _Shard, total: int) -> str:
    text = f"{len(shard.lost):,} of {count(total, f'acknowledged {noun}')} lost, {shard.recovered} recovered"
    if not len(shard.acked_locally):
        return text
    return f"{text}; {len(shard.lost_locally):,} of {len(shard.acked_locally):,} acknowledged locally gone"


def ages(history: History, rows: Ints) -> Any:
    """Seconds from each op's answer to the instant at which the first fault took effect; empty without a fault."""
    applied = injections(history)
    if not applied:
        return np.empty(0)
    return (applied[0].applied - history.ops.returned[rows]) / SECOND_US


def excuses(scenario: Scenario, history: History, group: int) -> tuple[Applied, ...]:
    """The injections around which a shard may lose what it acknowledged: those that hit its primary, under ``async``.

    A record that does not say which shards there are, or who was this one's primary, might hold any: its findings rest
    on that (`needs.SHARDS`).
    """
    if not isinstance(scenario.stack.durability, Async):
        return ()
    if not shards_at_start(history):
        return injections(history)
    return tuple(
        injection
        for injection in injections(history)
        if primary_at(history, group, injection.began) in {"", *injection.members}
    )


def may_be_lost(history: History, rows: Ints, excused_by: tuple[Applied, ...]) -> Flags:
    """Which of these writes of a shard were acknowledged in the window of one of these injections."""
    called, returned = history.ops.called[rows], history.ops.returned[rows]
    inside = np.zeros(len(rows), dtype=np.bool_)
    for fault in excused_by:
        acked = (returned >= fault.began - WINDOW_US) & (returned <= fault.applied + ANSWER_US)
        inside |= acked & (called <= fault.applied)
    return inside


def _title(noun: str, shard: _Shard) -> str:
    if len(shard.outside) or (len(shard.lost) and not shard.defects):
        return f"{count(len(shard.lost), f'acknowledged {noun}')} lost{_when(shard)}"
    if shard.defects:
        return ", ".join(f"{number:,} {what}" for what, number in _tally(shard).items())
    return f"every acknowledged {noun} is there"


def _when(shard: _Shard) -> str:
    ages_s = shard.ages_s
    return f", acknowledged {span(float(ages_s.min()), float(ages_s.max()))}" if len(ages_s) else ""


def _tally(shard: _Shard) -> Counter[str]:
    return Counter(defect.what for defect in shard.defects)


def _reason(shard: _Shard, total: int) -> str:
    reasons = [f"{number:,} {what}" for what, number in _tally(shard).items()]
    lost, outside = len(shard.lost), len(shard.outside)
    if outside:
        reasons.insert(0, f"{outside:,} of {lost:,} lost writes were acknowledged outside what may be lost")
    elif lost:
        reasons.insert(0, f"{lost:,} lost{_when(shard)}, which async replication allows")
    if len(shard.lost_locally):
        reasons.append(f"{len(shard.lost_locally):,} gone that were acknowledged locally, which promises no more")
    if not shard.looked_for and not (lost or shard.defects):
        reasons.append("all had expired when they were looked for" if total else _NOTHING)
    return "; ".join(reasons)


def _phases(ledger: Ledger, shard: _Shard, history: History) -> str:
    """In which phases the lost writes were due, if the ledger asks for it."""
    lost = _lost_by_phase(shard, history) if ledger.by_phase else {}
    told = ", ".join(f"{number:,} in {phase}" for phase, number in lost.items() if number)
    return f"lost of phases: {told}" if told else ""


def _lost_by_phase(shard: _Shard, history: History) -> dict[str, int]:
    phases = dict.fromkeys((*JUDGED, *history.ops.phases))
    return {phase: int(history.ops.in_phase(phase)[shard.lost].sum()) for phase in phases}


def _rests_on(ledger: Ledger, shard: _Shard) -> tuple[str, ...]:
    if len(shard.outside) or any(defect.what in _OF_THE_AUDIT for defect in shard.defects):
        return ledger.audit
    if shard.bad:  # a value that nobody is known to have written may stand in a line that is missing
        return (*ledger.audit, "assumption.history-whole", "assumption.generator-alive")
    return tuple(dict.fromkeys(ledger.audit + needs.WHOLE + needs.LOAD + needs.FAULT + ledger.primaries))


def _where(place: str, shard: _Shard, history: History) -> Where:
    if not len(shard.lost):
        return Where(group=place)
    acked = history.ops.returned[shard.lost]
    return Where(group=place, start_us=int(acked.min()), end_us=int(acked.max()))


def _evidence(shard: _Shard, history: History) -> Iterator[dict[str, Any]]:
    outside = set(shard.outside.tolist())
    for defect in shard.defects[:EVIDENCE_MAX]:
        yield {"what": defect.what, "key": defect.key, "detail": defect.detail}
    for index, row in enumerate(shard.lost[:EVIDENCE_MAX].tolist()):
        item = lost_write(history, row, "lost") | {"allowed": row not in outside}
        yield item | ({"age_s": round(float(shard.ages_s[index]), 6)} if len(shard.ages_s) else {})
    for row in shard.lost_locally[:EVIDENCE_MAX].tolist():
        yield lost_write(history, row, "gone, acknowledged locally")


def lost_write(history: History, row: int, what: str) -> dict[str, Any]:
    """An op that was acknowledged, as evidence."""
    ops = history.ops
    return {
        "what": what, "op": ops.name(row), "kind": ops.kinds[ops.kind[row]], "key": ops.keys[ops.key[row]],
        "value": str(ops.value[row]), "called_us": int(ops.called[row]), "acked_us": int(ops.returned[row]),
    }  # fmt: skip


def _measures(ledger: Ledger, shard: _Shard, history: History) -> dict[str, float]:
    acked, lost = float(shard.acked.sum()), float(len(shard.lost))
    measures = {
        "durability.acked_ops": acked,
        "durability.lost_ops": lost,
        "durability.lost_in_window_ops": float(len(shard.inside)),
        "durability.lost_outside_window_ops": float(len(shard.outside)),
        "durability.recovered_ops": float(shard.recovered),
        "durability.defect_ops": float(len(shard.defects)),
        f"{ledger.name}.acked_ops": acked,
        f"{ledger.name}.lost_ops": lost,
    }
    for prefix, ages_s in (("lost", shard.ages_s), ("lost_in_window", ages(history, shard.inside))):
        if len(ages_s):
            measures[f"durability.{prefix}_oldest_s"] = float(ages_s.max())
            measures[f"durability.{prefix}_newest_s"] = float(ages_s.min())
    if ledger.by_phase:
        lost_in = _lost_by_phase(shard, history)
        measures |= {f"{ledger.name}.lost_in_{phase}_ops": float(lost_in[phase]) for phase in JUDGED}
    for hit in ledger.hits(history):
        if hit.group == shard.group:
            for measure, number in _of_hit(shard, history, hit).items():
                measures |= {f"durability.{measure}": number, f"{ledger.name}.{measure}": number}
    return measures


def _of_hit(shard: _Shard, history: History, hit: HitShard) -> dict[str, float]:
    """What a shard that was hit acknowledged around its fault, and what of that is there."""
    ops, kept = history.ops, shard.acked.copy()
    kept[shard.lost] = False
    window = _in_window(history, hit)
    meanwhile = (ops.called > hit.injection.applied) & (ops.returned < (hit.injection.undoing or load_end_us(history)))
    return {
        "acked_in_window_ops": float((shard.acked & window).sum()),
        "kept_in_window_ops": float((kept & window).sum()),
        "kept_before_fault_ops": float((kept & (ops.returned < hit.injection.began)).sum()),
        "acked_during_fault_ops": float((shard.acked & meanwhile).sum()),
    }


def _in_window(history: History, shard: HitShard) -> Flags:
    until = promoted_at(history, shard) or shard.injection.healed or load_end_us(history)
    return (history.ops.returned >= shard.injection.applied) & (history.ops.returned < until)
