"""What the faults of whole nodes have in common: who is lost with a node, and who sees that."""

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Watch
from resilience.fault.witness import observers


def require_nodes(kind: str, aim: Aim) -> None:
    """Raises `FaultError` unless the target is a node."""
    if not aim.nodes:
        raise FaultError(f"{kind}: target.scope: expected node, it cannot be done to a member alone")


def lost(aim: Aim, platform: FaultPlatform) -> list[MemberState]:
    """Every member that the node takes with it, by one look: they are many, and a cluster takes a while for each."""
    known = {state.name: state for state in platform.states()}
    return [known[name] for name in aim.members]


def serving(aim: Aim, platform: FaultPlatform) -> list[MemberState]:
    """Those of them that would answer."""
    return [state for state in lost(aim, platform) if state.component in watch.SERVING]


def witnesses(aim: Aim, platform: FaultPlatform) -> list[MemberState]:
    """An observer, and a running member of another platform node, if there is one."""
    nodes = set(platform.stack.nodes) - set(aim.nodes)
    elsewhere = [state for state in platform.states() if state.node in nodes and state.running]
    return [observers(platform)[0], *elsewhere[:1]]


def silence(aim: Aim, platform: FaultPlatform) -> list[Watch]:
    """No sign of life of the node's members, neither on an open nor on a new connection."""
    seeing = witnesses(aim, platform)
    return [watch.silent(via, to) for to in serving(aim, platform) for via in seeing]
