"""A node loses its power: silence first, then the end of its processes, so that nobody hears a last word."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.whole_node import Look, node_steps
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class PowerOffFault:
    """See `spec.fault.PowerOff`."""

    spec: spec.PowerOff

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """What a node's power switch is, is the backend's."""
        return node_steps("power-off", aim, platform)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Every member of the node is dead, and silent to an observer and to a member of another node."""
        seen = Look.at(aim, platform)
        return (*(watch.dead(state) for state in seen.lost), *seen.silence(), watch.counter())
