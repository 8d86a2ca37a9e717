"""Delivery: every edit that is stored reaches every member of its room, at once or after asking.

A member is *owed* an edit of its room that is stored, was acknowledged while it was a member (`GRACE_US` before its
last connection ended, at the latest), and has a higher number than the last one that it had when it first joined. A
*gap* is a stored edit below the last number that a member has and that it never got, acknowledged or not. A room is
*stuck* if in the last `STUCK_US` of the load edits were sent in it and none was acknowledged, or of those that were
none arrived.

Where edits are events of RabbitMQ, each that is missing is named with its hop: the *event*, if its row was never
published or its event was lost, else the *delivery* from an instance to its member.

An acknowledged edit that is not stored was lost: that is booked in ``durability.collaboration`` and not here. Nor is a
member that never joined any room owed anything: where there were fewer than the load asks for, nothing can be said of
the others.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience.check import needs
from resilience.check.durability.collaboration import follow
from resilience.check.fault import SECOND_US, load_end_us
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import OK, Deliveries, Ints
from resilience.history.outbox import event_of_edit
from resilience.history.read import History
from resilience.history.record import Joined, Left
from resilience.spec.scenario import Scenario

GRACE_US = 2 * SECOND_US
STUCK_US = 10 * SECOND_US
STUCK_EDITS_MIN = 3
EVIDENCE_MAX = 200
_NEVER = np.iinfo(np.int64).max
_NOTHING = np.empty(0, dtype=np.int64)
Position = tuple[int, int]  # epoch, sequence number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One receiver in one room: what it had when it first joined, until when edits are owed to it, and what arrived."""

    receiver: str
    room: str
    since: Position
    until: int
    arrivals: Ints  # rows of them


def delivery(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all rooms."""
    members = tuple(_members(history))
    absent = scenario.load.rooms * scenario.load.room_members - len(members)
    stuck = list(_stuck_rooms(history))
    missing, owed = _missing(history, members)
    if scenario.stack.has_room_events:
        missing = [item | {"hop": hop} for item, hop in zip(missing, _hops(history, missing), strict=True)]
    evidence = [*stuck, *missing]
    unjudged = _unjudged(absent, owed)
    return (
        Finding(
            check="collaboration.delivery",
            verdict="fail" if evidence else "inconclusive" if unjudged else "pass",
            title="Every stored edit reached every member of its room",
            measured=f"{len(missing):,} of {owed:,} {'delivery' if owed == 1 else 'deliveries'} missing",
            allowed="none missing, no room stuck",
            value=float(len(missing)),
            unit="deliveries",
            reason=_reason(len(stuck), missing) if evidence else unjudged,
            rests_on=needs.WHOLE + needs.LOAD + needs.rooms(scenario.stack) + needs.FAULT,
            evidence=tuple(evidence[:EVIDENCE_MAX]),
            evidence_total=len(evidence),
            measures={"collaboration.missing_ops": float(len(missing)), "collaboration.stuck_rooms": float(len(stuck))},
        ),
    )


def _unjudged(absent: int, owed: int) -> str:
    """Why that nothing is missing says nothing, "" if it does."""
    if absent > 0:
        return f"{count(absent, 'member')} of rooms never joined, or what they got is not on record"
    return "" if owed else "no edit was owed to anybody"


def _reason(stuck: int, missing: list[dict[str, Any]]) -> str:
    gaps = sum(item["what"] == "gap" for item in missing)
    parts = {"rooms stuck": stuck, "gaps never filled": gaps, "acknowledged edits never delivered": len(missing) - gaps}
    hops = Counter(item["hop"] for item in missing if "hop" in item)
    parts |= {f"for want of the {hop}": number for hop, number in hops.items()}
    return ", ".join(f"{number:,} {what}" for what, number in parts.items() if number)


def _hops(history: History, missing: list[dict[str, Any]]) -> Iterator[str]:
    """At which hop each of these vanished."""
    way = follow(history)
    for item in missing:
        epoch, seq = map(int, item["number"].split("/"))
        yield "delivery" if event_of_edit(item["room"], epoch, seq) in way.settled else "event"


def _members(history: History) -> Iterator[_Member]:
    arrived = _arrived(history.deliveries)
    since: dict[tuple[str, str], Position] = {}
    last: dict[tuple[str, str], Joined | Left] = {}
    lines: list[Joined | Left] = [*history.joins, *history.leaves]
    for line in sorted(lines, key=lambda line: line.at):
        member = (line.receiver, line.room)
        last[member] = line
        if not isinstance(line, Left):
            since.setdefault(member, (line.epoch, line.seq))
    end = load_end_us(history)
    for member, position in since.items():
        ended = last[member]
        until = ended.at if isinstance(ended, Left) else end
        yield _Member(
            receiver=member[0],
            room=member[1],
            since=position,
            until=min(until, end + GRACE_US) - GRACE_US,
            arrivals=arrived.get(member, _NOTHING),
        )


def _arrived(arrivals: Deliveries) -> dict[tuple[str, str], Ints]:
    """What arrived at each receiver in each room."""
    members = arrivals.receiver.astype(np.int64) * len(arrivals.rooms) + arrivals.room
    order = np.argsort(members, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(members[order])) + 1) if len(order) else []
    return {
        (arrivals.receivers[arrivals.receiver[rows[0]]], arrivals.rooms[arrivals.room[rows[0]]]): rows for rows in parts
    }


def _missing(history: History, members: tuple[_Member, ...]) -> tuple[list[dict[str, Any]], int]:
    """What members never got, and how much was owed in all."""
    stored, arrivals = _stored(history), history.deliveries
    missing: list[dict[str, Any]] = []
    owed = 0
    for member in members:
        numbers = (arrivals.epoch[member.arrivals].tolist(), arrivals.seq[member.arrivals].tolist())
        got = frozenset(zip(*numbers, strict=True))  # of one member at a time: of all they take more than the history
        newest = max(got, default=member.since)
        for position, edit, at in stored.get(member.room, ()):
            if position <= member.since or (at > member.until and position >= newest):
                continue
            owed += 1
            if position not in got:
                what = "gap" if position < newest else "missing"
                missing.append({
                    "what": what, "room": member.room, "receiver": member.receiver,
                    "number": f"{position[0]}/{position[1]}", "edit": edit, "acked_us": -1 if at == _NEVER else at,
                })  # fmt: skip
    return missing, owed


def _stored(history: History) -> dict[str, list[tuple[Position, str, int]]]:
    """Each room's log: number, edit, and when that was acknowledged (`_NEVER`: it was not)."""
    ops = history.ops
    rows = np.flatnonzero(ops.of_kind("collaboration.edit") & (ops.outcome == OK))
    texts = zip(ops.key[rows].tolist(), ops.value[rows].tolist(), ops.returned[rows].tolist(), strict=True)
    acked = {(ops.keys[key], edit): returned for key, edit, returned in texts}
    return {
        key: [((epoch, seq), edit, acked.get((key, edit), _NEVER)) for epoch, seq, edit in room.log]
        for key, room in history.audit.rooms.items()
    }


def _stuck_rooms(history: History) -> Iterator[dict[str, Any]]:
    ops, arrivals = history.ops, history.deliveries
    end = load_end_us(history)
    late = ops.of_kind("collaboration.edit") & (ops.due >= end - STUCK_US) & (ops.due < end)
    arrived = {arrivals.edits[code] for code in np.unique(arrivals.edit[arrivals.at >= end - STUCK_US]).tolist()}
    for key in np.unique(ops.key[late]).tolist():
        rows = late & (ops.key == key)
        good = rows & (ops.outcome == OK)
        edits = ops.value[good].tolist()
        if rows.sum() < STUCK_EDITS_MIN or any(edit in arrived for edit in edits):
            continue
        what = "arrived" if edits else "was acknowledged"
        detail = f"none of {int(rows.sum())} edits of the last {STUCK_US // SECOND_US} s {what}"
        yield {"what": "stuck room", "room": ops.keys[key], "detail": detail}
