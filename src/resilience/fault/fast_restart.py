"""A member's server is killed and is back before anybody has noticed, with its data or without."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class FastRestartFault:
    """See `spec.fault.FastRestart`."""

    spec: spec.FastRestart

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """What restarts servers is the backend's, and so is how quickly it can be done, or not."""
        return platform.restart_steps(aim.members, self.spec.delay_s, wiped=self.spec.data == "gone")

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """A changed identity, a server that runs, and no file of the data that was there."""
        states = [platform.state(name) for name in aim.members]
        emptied = tuple(watch.emptied(state) for state in states) if self.spec.data == "gone" else ()
        return tuple(watch.succeeded(state) for state in states) + emptied
