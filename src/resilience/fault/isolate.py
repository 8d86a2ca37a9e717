"""A node loses its network; what runs on it runs on, alone."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.whole_node import Look, node_steps
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class IsolateFault:
    """See `spec.fault.Isolate`."""

    spec: spec.Isolate

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """All of the node's links at once."""
        return node_steps("isolate", aim, platform)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """The node's members are silent to an observer and to a member of another node."""
        return (*Look.at(aim, platform).silence(), watch.counter())
