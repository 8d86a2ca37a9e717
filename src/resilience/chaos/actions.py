"""The actions that experiments call. Each opens the run anew: nothing is kept in memory between activities."""

from typing import Any

from resilience.chaos import play
from resilience.chaos.failing import activity
from resilience.chaos.session import open_session

__all__ = ["heal", "hold_phase", "inject"]


def hold_phase(phase: str, duration_s: float) -> str:
    """Returns when the phase (``steady``, ``fault`` or ``recovery``) has lasted for ``duration_s`` since it began."""
    with activity():
        play.hold(open_session(), phase, duration_s)
    return f"{phase} was held for {duration_s:g} s"


def inject(fault: dict[str, Any], target: dict[str, Any]) -> str:
    """Injects a fault (``kind`` and its fields) into a logical target, resolved now; the injection's id."""
    with activity():
        return play.inject(open_session(), fault, target).id


def heal(by: str = "request") -> list[str]:
    """Ends every injection that is not healed; harmless if there is none. ``by``: ``request`` or ``rollback``."""
    with activity():
        return list(play.heal(open_session(), by))
