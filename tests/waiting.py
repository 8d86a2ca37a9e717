"""Waiting in tests of real things: a deadline, and a condition that is looked at until it holds."""

import time
from collections.abc import Callable
from typing import Any

from resilience.errors import StackError


def until(condition: Callable[[], Any], within_s: float = 20.0, every_s: float = 0.02) -> Any:
    """What the condition returns as soon as that counts as true. Fails after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"the condition never held within {within_s:g} s"
        time.sleep(every_s)
    return found


def wait_seen[Found](what: str, look: Callable[[], Found], within_s: float, every_s: float = 1.0) -> Found:
    """What a look finds as soon as that counts as true.

    A look that raises `StackError` has seen nothing, neither that it is so nor that it is not: a cluster that is busy
    may not answer in time. Fails after the deadline, with what the last look came to.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            found = look()
        except StackError as error:
            came_to = f"failed: {error}"
        else:
            if found:
                return found
            came_to = f"found {found!r}"
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s; the last look {came_to}"
        time.sleep(every_s)
