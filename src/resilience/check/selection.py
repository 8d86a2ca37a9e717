"""Which ops an SLO's selector speaks of, so that Prometheus' numbers can be compared with the generator's record."""

import re

import numpy as np

from resilience.history.columns import OUTCOMES, Flags, Ops
from resilience.spec.selector import Matcher, selector_from_text

_OPS = "load_ops_total"
_DURATIONS = ("load_op_duration_seconds_bucket", "load_op_duration_seconds_count")


def rows_of_selector(ops: Ops, text: str) -> Flags | None:
    """The ops that a selector of the load's own counters counts, in all phases.

    None if it counts something else (deliveries, a metric of a server) or cannot be understood.
    """
    try:
        selector = selector_from_text(text)
    except ValueError:
        return None
    if selector.metric not in {_OPS, *_DURATIONS}:
        return None
    labels = {"client": (ops.client, ops.clients), "op": (ops.kind, ops.kinds)}
    if selector.metric == _OPS:
        labels["outcome"] = (ops.outcome, OUTCOMES)
    rows = np.ones(len(ops), dtype=np.bool_)
    for matcher in selector.matchers:
        if matcher.label in labels:
            codes, texts = labels[matcher.label]
            rows &= np.isin(codes, [code for code, text in enumerate(texts) if _matches(matcher, text)])
        elif matcher.label != "le":
            return None
    return rows


def _matches(matcher: Matcher, text: str) -> bool:
    same = re.fullmatch(matcher.value, text) is not None if "~" in matcher.op else matcher.value == text
    return same != matcher.op.startswith("!")
