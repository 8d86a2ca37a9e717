"""Waiting in tests of real things: a deadline, and a condition that is looked at until it holds."""

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], within_s: float = 20.0, every_s: float = 0.02) -> Any:
    """What the condition returns as soon as that counts as true. Fails after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"the condition never held within {within_s:g} s"
        time.sleep(every_s)
    return found
