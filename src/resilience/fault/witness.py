"""Who sees a fault from a third point of view."""

from collections.abc import Sequence

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.spec.stack import OBSERVER


def observers(states: Sequence[MemberState]) -> list[MemberState]:
    """The members of the node that no fault may touch. Raises `FaultError` if there is none: nothing could be proved.

    Some of them may have no server at the moment; a network of their own is all that a witness needs.
    """
    found = [state for state in states if state.node == OBSERVER]
    if not found:
        raise FaultError(f"no member on node {OBSERVER} that could witness a fault")
    return found
