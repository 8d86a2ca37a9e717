"""A member's processes are stopped where they stand, and go on at healing."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.witness import observers
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class PauseFault:
    """See `spec.fault.Pause`: peers' connections stay open, and nothing on them is answered."""

    spec: spec.Pause

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """One step for all of the members."""
        return platform.pause_steps(aim.members)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """The same processes still there and stopped, and an observer's requests unanswered."""
        witness = observers(platform.states())[0]
        states = [platform.state(name) for name in aim.members]
        return tuple(watch.stopped(state) for state in states) + tuple(watch.mute(witness, state) for state in states)
