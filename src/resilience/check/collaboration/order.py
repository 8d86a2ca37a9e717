"""Order: within an epoch, edits that are fanned out reach a receiver by rising numbers, each once, under one number.

What a receiver asked for again (``replay``) may come late or twice; that is what asking is for.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from resilience.check import needs
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import FAIL, Codes, Deliveries, Flags, Ints
from resilience.history.read import History
from resilience.spec.scenario import Scenario

EVIDENCE_MAX = 200


def order(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all receivers."""
    del scenario
    arrivals = history.deliveries
    ordered = bool(arrivals.live.any())  # what was asked for has no order to keep
    evidence = [*_reordered(arrivals), *_duplicates(arrivals), *_two_edits(arrivals), *_strangers(history)]
    kinds = dict.fromkeys(item["what"] for item in evidence)
    tally = ", ".join(f"{sum(item['what'] == kind for item in evidence):,} {kind}" for kind in kinds)
    return (
        Finding(
            check="collaboration.order",
            verdict="fail" if evidence else "pass" if ordered else "inconclusive",
            title="Edits arrived in order, each once",
            measured=tally or count(len(arrivals), "arrival"),
            allowed="no reordered, duplicate or ambiguous edit",
            value=float(len(evidence)),
            unit="arrivals",
            reason=tally if evidence else "" if ordered else "no edit arrived anywhere but by asking",
            rests_on=needs.WHOLE + needs.LOAD + (() if evidence else needs.FAULT),
            evidence=tuple(evidence[:EVIDENCE_MAX]),
            evidence_total=len(evidence),
        ),
    )


def _reordered(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Edits that were fanned out to a receiver after one of a higher number of that epoch."""
    live = np.flatnonzero(arrivals.live)
    rows = live[_first_live(arrivals, live)]
    streams = (arrivals.receiver[rows], arrivals.room[rows], arrivals.epoch[rows])
    order = np.lexsort(streams)  # which keeps the order of arrival within each
    rows = rows[order]
    same = ~_differs_from_the_one_before(streams, order)[1:]
    for index in np.flatnonzero(same & (np.diff(arrivals.seq[rows]) < 0)).tolist():
        yield _item("reordered", arrivals, int(rows[index + 1]), f"after {arrivals.seq[rows[index]]}")


def _first_live(arrivals: Deliveries, live: Ints) -> Flags:
    """Which of the live arrivals bring their receiver a number for the first time."""
    columns = (arrivals.receiver, arrivals.room, arrivals.epoch, arrivals.seq)
    return np.equal(_first_alike(*(column[live] for column in columns)), np.arange(len(live)))


def _first_alike(*columns: Ints | Codes) -> Ints:
    """For each row the first one that has the same values."""
    order = np.lexsort(columns)  # stable: of equal rows the first one stays in front
    begins = np.flatnonzero(_differs_from_the_one_before(columns, order))
    first = np.empty(len(order), dtype=np.int64)
    first[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
    return first


def _differs_from_the_one_before(columns: Sequence[Ints | Codes], order: Ints) -> Flags:
    """Which rows, taken in an order, differ in any column from the one before; the first one does."""
    differs = np.zeros(len(order), dtype=np.bool_)
    differs[:1] = True
    for column in columns:
        differs[1:] |= np.diff(column[order]) != 0
    return differs


def _duplicates(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Live arrivals of a number that had come live before, and one edit that came under two numbers."""
    live = np.flatnonzero(arrivals.live)
    for row in live[~_first_live(arrivals, live)].tolist():
        yield _item("duplicate", arrivals, row, "fanned out twice")
    first = _first_alike(arrivals.room, arrivals.edit)
    other = (arrivals.epoch != arrivals.epoch[first]) | (arrivals.seq != arrivals.seq[first])
    for row in np.flatnonzero(other).tolist():
        before = first[row]
        yield _item("duplicate", arrivals, row, f"had come as {arrivals.epoch[before]}/{arrivals.seq[before]}")


def _two_edits(arrivals: Deliveries) -> Iterator[dict[str, Any]]:
    """Numbers of a room under which different edits arrived."""
    first = _first_alike(arrivals.room, arrivals.epoch, arrivals.seq)
    for row in np.flatnonzero(arrivals.edit != arrivals.edit[first]).tolist():
        yield _item("ambiguous number", arrivals, row, f"also {arrivals.edits[arrivals.edit[first[row]]]}")


def _strangers(history: History) -> Iterator[dict[str, Any]]:
    """Edits that arrived although nobody had sent them, or although their sender was told that they were refused."""
    ops, arrivals = history.ops, history.deliveries
    edits = ops.of_kind("collaboration.edit")
    sent = set(ops.value[edits].tolist())
    refused = set(ops.value[edits & (ops.outcome == FAIL)].tolist())
    strange = [code for code, edit in enumerate(arrivals.edits) if edit not in sent or edit in refused]
    for row in np.flatnonzero(np.isin(arrivals.edit, strange)).tolist():
        if arrivals.edits[arrivals.edit[row]] in refused:
            yield _item("refused but there", arrivals, row, "its sender was told that it was refused")
        else:
            yield _item("unexpected", arrivals, row, "nobody sent it")


def _item(what: str, arrivals: Deliveries, row: int, detail: str) -> dict[str, Any]:
    return {
        "what": what,
        "room": arrivals.rooms[arrivals.room[row]],
        "receiver": arrivals.receivers[arrivals.receiver[row]],
        "number": f"{arrivals.epoch[row]}/{arrivals.seq[row]}",
        "edit": arrivals.edits[arrivals.edit[row]],
        "at_us": int(arrivals.at[row]),
        "detail": detail,
    }
