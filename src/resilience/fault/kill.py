"""The end of members' servers, sudden or asked for, with or without the platform's restart policy."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.fault.witness import observers
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class KillFault:
    """See `spec.fault.Kill`: peers see the end of their connections within milliseconds, and refusals after that."""

    spec: spec.Kill

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """Held back first, so that nothing is started between the kill and the hold."""
        hold = () if self.spec.restart else platform.hold_steps(aim.members)
        return (*hold, *platform.kill_steps(aim.members, self.spec.signal))

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """A changed identity; without a restart also that nothing runs, and that an observer is refused."""
        states = [platform.state(name) for name in aim.members]
        if self.spec.restart:
            return tuple(watch.replaced(state) for state in states)
        witness = observers(platform.states())[0]
        gone = tuple(watch.dead(state) for state in states)
        return gone + tuple(watch.refused(witness, state) for state in states)
