"""A node stands still with everything on it, and goes on at healing as if no time had passed."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.whole_node import Look, node_steps
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class FreezeFault:
    """See `spec.fault.Freeze`."""

    spec: spec.Freeze

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Everything on the node in one step."""
        return node_steps("freeze", aim, platform)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Every member is stopped, and leaves requests of an observer and of another node unanswered.

        That a connection is opened says nothing: the kernel does that, and here it is not the node's own.
        """
        seen = Look.at(aim, platform)
        return (*(watch.stopped(state) for state in seen.lost), *seen.muteness())
