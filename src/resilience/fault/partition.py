"""Packets between a member and others are dropped, in one direction or both; everything else still passes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec
from resilience.spec.stack import OBSERVER, OUTSIDE


@dataclass(frozen=True, slots=True)
class PartitionFault:
    """See `spec.fault.Partition`: a member is cut from its peers, from its clients, or from all."""

    spec: spec.Partition

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """One table in the member's own network."""
        target = _target(aim, platform)
        cut, _kept = self._sides(target, platform)
        if not cut:
            raise FaultError(f"partition: {target.name} has no {self.spec.cut_from} to be cut from")
        return platform.partition_steps(target.name, [other.name for other in cut], self.spec.direction)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Each direction between exactly the intended pairs, and that all others still reach one another."""
        target = _target(aim, platform)
        cut, kept = self._sides(target, platform)
        return (
            *(item for other in cut for item in self._cut(other, target)),
            *(watch.reachable(other, target) for other in kept),
            *_untouched([other for other in cut if other.running and other.component in watch.SERVING]),
            watch.counter(target),
        )

    def _cut(self, other: MemberState, target: MemberState) -> Iterator[Watch]:
        """A connection needs both directions, so it is lost in any case; datagrams tell which of them is cut."""
        yield watch.unreachable(other, target)
        yield watch.datagram(other, target, arrives=self.spec.direction == "out")
        yield watch.datagram(target, other, arrives=self.spec.direction == "in")

    def _sides(self, target: MemberState, platform: FaultPlatform) -> tuple[list[MemberState], list[MemberState]]:
        """Those the target is cut from, and those it is not; a member without an address is nowhere."""
        others = [state for state in platform.states() if state.name != target.name and state.address]
        peers = [state for state in others if state.component == target.component]
        clients = [state for state in others if state.component != target.component]
        sides = {"peers": (peers, clients), "clients": (clients, peers), "all": (others, [])}
        return sides[self.spec.cut_from]


def _target(aim: Aim, platform: FaultPlatform) -> MemberState:
    if aim.nodes or len(aim.members) != 1:
        raise FaultError("partition: target.scope: expected member, exactly one")
    target = platform.state(aim.members[0])
    if target.node in {OBSERVER, OUTSIDE}:
        raise FaultError(f"partition: {target.name} stands {target.node}: expected a member on a platform node")
    return target


def _untouched(members: list[MemberState]) -> Iterator[Watch]:
    """Each of those that are cut from the target still reaches the next."""
    for via, to in pairwise(members):
        yield watch.reachable(via, to)
