"""A node loses its power: silence first, then the end of its processes, so that nobody hears a last word."""

from dataclasses import dataclass

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.witness import observers
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class PowerOffFault:
    """See `spec.fault.PowerOff`."""

    spec: spec.PowerOff

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Holds, then all links in one transaction, then the kill; healing takes them back the other way round."""
        if not aim.nodes:
            raise FaultError("power-off: target.scope: expected node, a member alone has no power switch")
        return (
            *platform.hold_steps(aim.members),
            *platform.node_links_step(aim.nodes),
            *platform.kill_steps(aim.members, "KILL"),
        )

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Every member of the node is dead, and silent to an observer and to a member of another node."""
        lost = [platform.state(name) for name in aim.members]
        witnesses = [observers(platform)[0], *_elsewhere(aim, platform)]
        silence = [watch.silent(via, to) for to in lost if to.component in watch.SERVING for via in witnesses]
        return (*(watch.dead(state) for state in lost), *silence, watch.counter())


def _elsewhere(aim: Aim, platform: FaultPlatform) -> list[MemberState]:
    """A running member of another platform node, if there is one."""
    nodes = set(platform.stack.nodes) - set(aim.nodes)
    return [state for state in platform.states() if state.node in nodes and state.running][:1]
