"""Resolves a logical target at the moment of injection."""

from collections.abc import Sequence

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault.base import Aim, MemberRole, NoTarget, QueueRole, QueueRoles, Roles, StandbyRole, no_queues
from resilience.spec.fault import Target
from resilience.spec.stack import OBSERVER, OUTSIDE

HAVE_ROLES = frozenset({"redis", "postgresql"})
_WAITED_FOR = {"sync": {"sync", "quorum"}, "async": {"async", "potential"}}  # what the primary says of such standbys


def resolve(
    target: Target, states: Sequence[MemberState], roles: Roles, queue_roles: QueueRoles = no_queues
) -> Aim | NoTarget:
    """The first running member that the target means, in the order of the stack file, the node that holds it, or all
    that it means.

    ``roles`` and ``queue_roles`` are asked only if the target needs them. Raises `FaultError` for a node that no fault
    may touch, and what they raise.
    """
    named, primary = [state for state in states if state.component == target.component], ""
    if target.component in HAVE_ROLES and (target.role != "any" or target.shard is not None):
        mine = [role for role in roles() if role.member in {state.name for state in named}]
        wanted = _meant(target, mine)
        named = [state for state in named if state.name in wanted]
        primary = _primary(target, mine)
    if target.queue is not None:
        wanted = _of_queue(target, queue_roles())
        named = [state for state in named if state.name in wanted]
    running = [state for state in named if state.running]
    if not running:
        return NoTarget(target=target, reason=_reason(target, named))
    if target.scope == "component":
        return Aim(members=tuple(state.name for state in named), primary=primary)
    if target.scope == "member":
        return Aim(members=(running[0].name,), primary=primary)
    return _whole_node(running[0].node, states)


def _meant(target: Target, roles: Sequence[MemberRole]) -> set[str]:
    meant = [role for role in roles if target.shard in {None, role.group} and target.role in {"any", role.role}]
    if target.standby is not None:
        meant = _standbys(target.standby, [role for role in meant if isinstance(role, StandbyRole)])
    return {role.member for role in meant}


def _standbys(sort: str, standbys: list[StandbyRole]) -> list[MemberRole]:
    """Those of a sort; how far one lags of which that is not known is behind every other."""
    if sort in _WAITED_FOR:
        return [role for role in standbys if role.synchrony in _WAITED_FOR[sort]]
    by_lag = sorted(standbys, key=lambda role: float("inf") if role.lag_bytes is None else role.lag_bytes)
    return [*by_lag[-1:]] if sort == "most-lag" else [*by_lag[:1]]


def _primary(target: Target, roles: Sequence[MemberRole]) -> str:
    """Whom PostgreSQL's replicas stream from, "" if nobody or if none of them is meant."""
    if (target.component, target.role) != ("postgresql", "replica"):
        return ""
    return next((role.member for role in roles if role.role == "primary"), "")


def _of_queue(target: Target, roles: Sequence[QueueRole]) -> set[str]:
    return {role.member for role in roles if role.queue == target.queue and role.role == target.role}


def _whole_node(node: str, states: Sequence[MemberState]) -> Aim:
    if node in {OBSERVER, OUTSIDE}:
        raise FaultError(f"target: node {node} is no platform node, and no fault may touch it")
    return Aim(members=tuple(state.name for state in states if state.node == node), nodes=(node,))


def _reason(target: Target, named: Sequence[MemberState]) -> str:
    wanted = target.component if target.role == "any" else f"{target.component} {target.role}"
    wanted += "" if target.shard is None else f" of shard {target.shard}"
    wanted += "" if target.queue is None else f" of {target.queue}"
    wanted += "" if target.standby is None else f" ({target.standby})"
    if not named:
        return f"no {wanted} at the moment"
    return f"no {wanted} runs at the moment ({', '.join(state.name for state in named)} do not)"
