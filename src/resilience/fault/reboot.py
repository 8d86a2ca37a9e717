"""A node loses its power for as long as it takes to switch it on again."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.whole_node import Look, node_steps
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class RebootFault:
    """See `spec.fault.Reboot`."""

    spec: spec.Reboot

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Off and on."""
        return node_steps("reboot", aim, platform)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """No server that ran on the node runs any more, whether another does or not yet."""
        return tuple(watch.replaced(state) for state in Look.at(aim, platform).lost)
