"""Compares a measured number with what an objective allows."""

import operator
from collections.abc import Callable
from typing import Literal

Op = Literal["gte", "lte", "gt", "lt"]
_HOLDS: dict[Op, Callable[[float, float], bool]] = {
    "gte": operator.ge,
    "lte": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
}
SIGNS: dict[Op, str] = {"gte": "≥", "lte": "≤", "gt": ">", "lt": "<"}


def holds(measured: float, op: Op, target: float) -> bool:
    """Whether a number keeps an objective."""
    return _HOLDS[op](measured, target)
