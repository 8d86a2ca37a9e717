"""All members of a component are replaced one after the other, as a new version or a new setting has it done."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class RollingRestartFault:
    """See `spec.fault.RollingRestart`."""

    spec: spec.RollingRestart

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Whoever keeps the members running is told to replace them; in which order is its own."""
        return platform.rollout_steps(aim.members)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Each has been replaced, and never two at once."""
        return (watch.rolled_out([state for state in platform.states() if state.name in aim.members]),)
