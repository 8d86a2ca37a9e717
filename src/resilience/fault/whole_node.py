"""What the faults of whole nodes have in common: who is lost with a node, and who sees that."""

from dataclasses import dataclass
from typing import Self

from resilience.backend.base import MemberState, NodeFault
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.witness import observers


def require_nodes(kind: str, aim: Aim) -> None:
    """Raises `FaultError` unless the target is a node."""
    if not aim.nodes:
        raise FaultError(f"{kind}: target.scope: expected node, it cannot be done to a member alone")


def node_steps(kind: NodeFault, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
    """What the backend does to whole nodes. Raises `FaultError` unless the target is a node."""
    require_nodes(kind, aim)
    return platform.node_steps(kind, aim.nodes, aim.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Members as one look finds them: a cluster takes a while for each."""

    lost: tuple[MemberState, ...]  # all that the node takes with it
    witnesses: tuple[MemberState, ...]  # an observer, and a running member of another platform node, if there is one

    @classmethod
    def at(cls, aim: Aim, platform: FaultPlatform) -> Self:
        """Looks once. Raises `FaultError` if there is no observer."""
        states = platform.states()
        nodes = set(platform.stack.nodes) - set(aim.nodes)
        elsewhere = [state for state in states if state.node in nodes and state.running]
        return cls(
            lost=tuple(state for state in states if state.name in aim.members),
            witnesses=(observers(states)[0], *elsewhere[:1]),
        )

    @property
    def pairs(self) -> list[tuple[MemberState, MemberState]]:
        """Who looks at whom: each witness at each lost member that would answer."""
        return [(via, to) for to in self.lost if to.component in watch.SERVING for via in self.witnesses]

    def silence(self) -> list[Watch]:
        """No sign of life of the node's members, neither on an open nor on a new connection."""
        return [{**watch.silent(via, to), "node": to.node} for via, to in self.pairs]

    def muteness(self) -> list[Watch]:
        """No request to the node's members is answered."""
        return [{**watch.mute(via, to), "node": to.node} for via, to in self.pairs]
