"""What an SLO's selector speaks of, so that Prometheus' numbers can be compared with the generator's record."""

import re

import numpy as np

from resilience.history.columns import OK, OUTCOMES, Flags, Ops, of_codes
from resilience.history.read import History
from resilience.history.record import DELIVERED_IN_TIME_US
from resilience.spec.selector import Matcher, Selector, selector_from_text

_OPS = "load_ops_total"
_DURATIONS = ("load_op_duration_seconds_bucket", "load_op_duration_seconds_count")
_DELIVERIES = "load_deliveries_total"


def recorded_total(history: History, text: str, phase: str, room_members: int) -> int | None:
    """What a selector of the load's own counters must have come to in a phase: ops, or deliveries of edits.

    None if it counts something else (a metric of a server) or cannot be understood. ``room_members``: how many members
    each room has.
    """
    rows = rows_of_selector(history.ops, text)
    if rows is not None:
        return int((rows & history.ops.in_phase(phase)).sum())
    selector = _parsed(text)
    if selector is None or selector.metric != _DELIVERIES or selector.without("outcome"):
        return None
    acked = history.ops.of_kind("collaboration.edit") & history.ops.in_phase(phase) & (history.ops.outcome == OK)
    totals = {"expected": int(acked.sum()) * room_members, "delivered": _delivered_in_time(history, acked)}
    meant = (outcome for outcome in totals if all(_matches(matcher, outcome) for matcher in selector.matchers))
    return sum(totals[outcome] for outcome in meant)


def _delivered_in_time(history: History, acked: Flags) -> int:
    """To how many receivers these edits came in time, each counted once for each of them."""
    ops, arrivals = history.ops, history.deliveries
    last = dict(zip(ops.value[acked].tolist(), (ops.returned[acked] + DELIVERED_IN_TIME_US).tolist(), strict=True))
    until = np.array([last.get(edit, -1) for edit in arrivals.edits], dtype=np.int64)
    in_time = arrivals.at <= until[arrivals.edit]
    pairs = arrivals.edit[in_time].astype(np.int64) * len(arrivals.receivers) + arrivals.receiver[in_time]
    return len(np.unique(pairs))


def rows_of_selector(ops: Ops, text: str) -> Flags | None:
    """The ops that a selector of the load's own counters counts, in all phases.

    None if it counts something else, or cannot be understood.
    """
    selector = _parsed(text)
    if selector is None or selector.metric not in {_OPS, *_DURATIONS}:
        return None
    labels = {"client": (ops.client, ops.clients), "op": (ops.kind, ops.kinds)}
    if selector.metric == _OPS:
        labels["outcome"] = (ops.outcome, OUTCOMES)
    rows = np.ones(len(ops), dtype=np.bool_)
    for matcher in selector.matchers:
        if matcher.label in labels:
            codes, texts = labels[matcher.label]
            rows &= of_codes(codes, [_matches(matcher, text) for text in texts])
        elif matcher.label != "le":
            return None
    return rows


def _parsed(text: str) -> Selector | None:
    try:
        return selector_from_text(text)
    except ValueError:
        return None


def _matches(matcher: Matcher, text: str) -> bool:
    same = re.fullmatch(matcher.value, text) is not None if "~" in matcher.op else matcher.value == text
    return same != matcher.op.startswith("!")
