"""A node is emptied, as people do before they work on it: its members are evicted, and start elsewhere if they may."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.whole_node import require_nodes
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class DrainFault:
    """See `spec.fault.Drain`."""

    spec: spec.Drain

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Who evicts, and who is allowed to stay, is the backend's."""
        require_nodes("drain", aim)
        return platform.drain_steps(aim.nodes, aim.members)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """What stood on the node is gone from it: a drain that evicted nobody is none."""
        return (watch.drained([state for state in platform.states() if state.name in aim.members]),)
