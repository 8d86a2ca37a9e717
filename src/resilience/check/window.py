"""The phases that are judged."""

from collections.abc import Iterator

from resilience.history.read import History
from resilience.history.record import PhaseWindow

JUDGED = ("steady", "fault", "recovery")


def judged_windows(history: History) -> Iterator[PhaseWindow]:
    """Their windows, in the order of time; one without any length is left out."""
    return (window for window in history.windows if window.phase in JUDGED and window.end > window.start)
