"""Turns the harness's errors into Chaos Toolkit's, so that a failed activity is booked as failed."""

import contextlib
from collections.abc import Iterator

from chaoslib.exceptions import ActivityFailed

from resilience.errors import HarnessError


@contextlib.contextmanager
def activity() -> Iterator[None]:
    """Within it a `HarnessError` becomes an `ActivityFailed` with the same words."""
    try:
        yield
    except HarnessError as error:
        raise ActivityFailed(str(error)) from error
