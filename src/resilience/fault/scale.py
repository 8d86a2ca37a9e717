"""A component is told to run fewer members, as somebody does who saves at the wrong end."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class ScaleFault:
    """See `spec.fault.Scale`."""

    spec: spec.Scale

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Whoever keeps the members running is told how many; which of them go is its own."""
        return platform.scale_steps(aim.members, self.spec.replicas)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Exactly so many are gone, and the others are the ones from before."""
        return (watch.scaled([state for state in platform.states() if state.name in aim.members], self.spec.replicas),)
