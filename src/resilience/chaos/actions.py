"""The actions that experiments call. Each opens the run anew: nothing is kept in memory between activities.

``configuration`` is the experiment's own; the Chaos Toolkit hands it in. It counts where no run says how long phases
last.
"""

from typing import Any

from resilience.chaos.reach import call

__all__ = ["cancel_waiting", "heal", "hold_phase", "inject", "promote", "rejoin"]


def hold_phase(phase: str, duration_s: float, configuration: dict[str, Any] | None = None) -> str:
    """Returns when the phase (``steady``, ``fault`` or ``recovery``) has lasted for ``duration_s`` since it began."""
    said: str = call("hold_phase", configuration, phase=phase, duration_s=duration_s)
    return said


def inject(
    fault: dict[str, Any],
    target: dict[str, Any],
    configuration: dict[str, Any] | None = None,
    prelude: dict[str, Any] | None = None,
) -> str:
    """Injects a fault (``kind`` and its fields) into a logical target, resolved now; the injection's id.

    ``prelude`` (``fault``, ``target``, ``for_s``) is done to somebody else before it, and ends with the injection.
    """
    injection: str = call("inject", configuration, fault=fault, target=target, prelude=prelude)
    return injection


def cancel_waiting(for_s: float) -> int:
    """Cancels, for so long, every backend of PostgreSQL's primary that waits for a standby; how many. Fails if none
    waited, or if one waits on.
    """
    cancelled: int = call("cancel_waiting", for_s=for_s)
    return cancelled


def promote(standby: str = "least-lag", fence: bool = True) -> str:  # noqa: FBT001, FBT002  the toolkit names it
    """Promotes a standby of PostgreSQL as the runbook says, so long after the injection as an operator takes to begin;
    which. ``standby`` and ``fence``: see `spec.postgresql.Runbook`. Fails if nobody could be, or if it was not seen to
    take writes.
    """
    promoted: str = call("promote", standby=standby, fence=fence)
    return promoted


def rejoin() -> list[str]:
    """Fences every member of PostgreSQL that takes writes beside the primary, so that it follows that; which."""
    fenced: list[str] = call("rejoin")
    return fenced


def heal(by: str = "request") -> list[str]:
    """Ends every injection that is not healed; harmless if there is none. ``by``: ``request`` or ``rollback``."""
    ended: list[str] = call("heal", by=by)
    return ended
