"""Views: at the end everybody in a room has what is stored, and nothing else.

What a member lacks is a matter of ``delivery``. Here it is what it has beyond the log: an edit that reached it, was
rolled back by a failover, and that nobody took from it again. A member that is told to resynchronise drops all that it
has beyond the number it is told; one that comes back names what it has, and so drops nothing.
"""

from collections.abc import Iterator
from typing import Any

from resilience.check import needs
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.read import History
from resilience.history.record import Joined, Left
from resilience.spec.scenario import Scenario

EVIDENCE_MAX = 200


def views(scenario: Scenario, history: History) -> Finding:
    """One finding over all members of all rooms."""
    strange = list(_beyond_the_log(history))
    viewers = len({(item["receiver"], item["room"]) for item in strange})
    members = len(_there_at_the_end(history))
    judged = members > 0 and len(history.deliveries) > 0
    return Finding(
        check="convergence.views",
        verdict="fail" if strange else "pass" if judged else "inconclusive",
        title="Every member of a room ends with what is stored",
        measured=f"{viewers:,} of {count(members, 'member')} have {count(len(strange), 'edit')} that are not stored",
        allowed="none",
        value=float(viewers),
        unit="members",
        reason=f"the first: {strange[0]['edit']} at {strange[0]['receiver']}" if strange else "" if judged else _NOBODY,
        rests_on=needs.WHOLE + needs.LOAD + needs.rooms(scenario.stack) + needs.FAULT,
        evidence=tuple(strange[:EVIDENCE_MAX]),
        evidence_total=len(strange),
    )


_NOBODY = "nobody was in a room at the end, or no edit arrived"


def _beyond_the_log(history: History) -> Iterator[dict[str, Any]]:
    """Edits that a member still had at the end, and that its room's log has not."""
    arrivals = history.deliveries
    stored = {(room.key, *row) for room in history.audit.rooms.values() for row in room.log}
    there = _there_at_the_end(history)
    cuts = _cuts(history)
    columns = (arrivals.receiver, arrivals.room, arrivals.epoch, arrivals.seq, arrivals.edit, arrivals.at)
    for code, place, epoch, seq, text, at in zip(*(column.tolist() for column in columns), strict=True):
        receiver, room, edit = arrivals.receivers[code], arrivals.rooms[place], arrivals.edits[text]
        if (room, epoch, seq, edit) in stored or (receiver, room) not in there or room not in history.audit.rooms:
            continue
        if not any(cut_at >= at and seq > cut for cut_at, cut in cuts.get((receiver, room), ())):
            yield {
                "what": "not stored", "room": room, "receiver": receiver, "number": f"{epoch}/{seq}", "edit": edit,
                "at_us": at,
            }  # fmt: skip


def _cuts(history: History) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """When each member took up again, and from which sequence number (which counts on through epochs)."""
    cuts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for line in history.joins:
        cuts.setdefault((line.receiver, line.room), []).append((line.at, line.seq))
    return cuts


def _there_at_the_end(history: History) -> frozenset[tuple[str, str]]:
    """Members that were in their room when the load ended; who is away is told when it comes back."""
    last: dict[tuple[str, str], Joined | Left] = {}
    lines: list[Joined | Left] = [*history.leaves, *history.joins]  # a resynchronisation leaves and joins at once
    for line in sorted(lines, key=lambda line: line.at):
        last[line.receiver, line.room] = line
    return frozenset(member for member, line in last.items() if not isinstance(line, Left) or line.why == "stop")
