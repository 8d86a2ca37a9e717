"""Order: within an epoch, edits that are fanned out reach a receiver by rising numbers, each once, under one number.

What a receiver asked for again (``replay``) may come late or twice; that is what asking is for.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from resilience.check import needs
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import FAIL, Deliveries, Ints
from resilience.history.read import History
from resilience.spec.scenario import Scenario

EVIDENCE_MAX = 200


def order(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all receivers."""
    del scenario
    arrivals = history.deliveries
    evidence = [*_reordered(arrivals), *_duplicates(arrivals), *_two_edits(arrivals), *_strangers(history)]
    kinds = dict.fromkeys(item["what"] for item in evidence)
    tally = ", ".join(f"{sum(item['what'] == kind for item in evidence):,} {kind}" for kind in kinds)
    return (
        Finding(
            check="collaboration.order",
            verdict="fail" if evidence else "pass" if len(arrivals) else "inconclusive",
            title="Edits arrived in order, each once",
            measured=tally or count(len(arrivals), "arrival"),
            allowed="no reordered, duplicate or ambiguous edit",
            value=float(len(evidence)),
            unit="arrivals",
            reason=tally if evidence else "" if len(arrivals) else "no edit arrived anywhere",
            rests_on=needs.WHOLE + needs.LOAD + (() if evidence else needs.FAULT),
            evidence=tuple(evidence[:EVIDENCE_MAX]),
            evidence_total=len(evidence),
        ),
    )


def _reordered(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Edits that were fanned out to a receiver after one of a higher number of that epoch."""
    rows = _first_live(arrivals)
    by = np.lexsort((rows, arrivals.epoch[rows], arrivals.room[rows], arrivals.receiver[rows]))
    rows = rows[by]
    if not len(rows):
        return
    same = _same_stream(arrivals, rows)
    for index in np.flatnonzero(same & (np.diff(arrivals.seq[rows]) < 0)).tolist():
        yield _item("reordered", arrivals, int(rows[index + 1]), f"after {arrivals.seq[rows[index]]}")


def _same_stream(arrivals: Deliveries, rows: Ints) -> Any:
    columns = (arrivals.receiver, arrivals.room, arrivals.epoch)
    return np.all([np.diff(column[rows]) == 0 for column in columns], axis=0)


def _numbers(arrivals: Deliveries, rows: Ints) -> Any:
    columns = (arrivals.receiver, arrivals.room, arrivals.epoch, arrivals.seq)
    return np.stack([column[rows].astype(np.int64) for column in columns], axis=1)


def _first_live(arrivals: Deliveries) -> Ints:
    """The live arrivals that bring their receiver a number for the first time."""
    live = np.flatnonzero(arrivals.live)
    _, first = np.unique(_numbers(arrivals, live), axis=0, return_index=True)
    return live[np.sort(first)]


def _duplicates(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Live arrivals of a number that had come live before, and one edit that came under two numbers."""
    live = np.flatnonzero(arrivals.live)
    for row in np.setdiff1d(live, _first_live(arrivals)).tolist():
        yield _item("duplicate", arrivals, row, "fanned out twice")
    numbers: dict[tuple[int, str], tuple[int, int]] = {}
    columns = (arrivals.room, arrivals.edit, arrivals.epoch, arrivals.seq)
    for row, (room, edit, epoch, seq) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        if numbers.setdefault((room, edit), (epoch, seq)) != (epoch, seq):
            before = numbers[room, edit]
            yield _item("duplicate", arrivals, row, f"had come as {before[0]}/{before[1]}")


def _two_edits(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Numbers of a room under which different edits arrived."""
    edits: dict[tuple[int, int, int], str] = {}
    columns = (arrivals.room, arrivals.epoch, arrivals.seq, arrivals.edit)
    for row, (room, epoch, seq, edit) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        if edits.setdefault((room, epoch, seq), edit) != edit:
            yield _item("ambiguous number", arrivals, row, f"also {edits[room, epoch, seq]}")


def _strangers(history: History) -> Iterator[dict[str, Any]]:
    """Edits that arrived although nobody had sent them, or although their sender was told that they were refused."""
    ops, arrivals = history.ops, history.deliveries
    edits = ops.of_kind("collaboration.edit")
    sent = set(ops.value[edits].tolist())
    refused = set(ops.value[edits & (ops.outcome == FAIL)].tolist())
    for row, edit in enumerate(arrivals.edit.tolist()):
        if edit not in sent:
            yield _item("unexpected", arrivals, row, "nobody sent it")
        elif edit in refused:
            yield _item("refused but there", arrivals, row, "its sender was told that it was refused")


def _item(what: str, arrivals: Deliveries, row: int, detail: str) -> dict[str, Any]:
    return {
        "what": what,
        "room": arrivals.rooms[arrivals.room[row]],
        "receiver": arrivals.receivers[arrivals.receiver[row]],
        "number": f"{arrivals.epoch[row]}/{arrivals.seq[row]}",
        "edit": str(arrivals.edit[row]),
        "at_us": int(arrivals.at[row]),
        "detail": detail,
    }
