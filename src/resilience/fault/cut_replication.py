"""PostgreSQL's standbys no longer hear from their primary, nor it from them; everything else still passes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class CutReplicationFault:
    """See `spec.fault.CutReplication`."""

    spec: spec.CutReplication

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """A table in each standby's own network, so that it lasts whatever becomes of the primary."""
        primary, standbys = _ends(aim, platform)
        return tuple(
            step for standby in standbys for step in platform.partition_steps(standby.name, [primary.name], "both")
        )

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Neither end reaches the other, and everybody else reaches the standbys, these one another.

        Of the primary no more is looked at, since that may be killed meanwhile.
        """
        primary, standbys = _ends(aim, platform)
        return (
            *(item for standby in standbys for item in _cut(primary, standby)),
            *(item for standby in standbys for item in _kept(standby, {primary.name, *aim.members}, platform)),
            *(watch.reachable(via, to) for via, to in pairwise(standbys)),
            *(watch.counter(standby) for standby in standbys),
        )


def _ends(aim: Aim, platform: FaultPlatform) -> tuple[MemberState, list[MemberState]]:
    if aim.nodes or not aim.members:
        raise FaultError("cut-replication: target.scope: expected member or component")
    if not aim.primary:
        raise FaultError("cut-replication: no PostgreSQL member takes writes that standbys could be cut off from")
    return platform.state(aim.primary), [platform.state(name) for name in aim.members]


def _cut(primary: MemberState, standby: MemberState) -> Iterator[Watch]:
    for via, to in ((primary, standby), (standby, primary)):
        yield watch.unreachable(via, to)
        yield watch.datagram(via, to, arrives=False)


def _kept(standby: MemberState, ends: set[str], platform: FaultPlatform) -> Iterator[Watch]:
    """One member of each other component, and every other standby, still reaches it."""
    others = [state for state in platform.states() if state.name not in ends and state.address]
    first = {state.component: state.name for state in reversed(others)}
    for other in others:
        if other.component == standby.component or first[other.component] == other.name:
            yield watch.reachable(other, standby)
