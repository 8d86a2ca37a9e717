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
        """Held back before the kill, so that no server is started on data that is about to go; then let go."""
        wipe = platform.wipe_steps(aim.members) if self.spec.data == "gone" else ()
        return (
            *platform.hold_steps(aim.members),
            *platform.kill_steps(aim.members, "KILL"),
            *wipe,
            *platform.release_steps(aim.members, self.spec.delay_s),
        )

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """A changed identity, a server that runs, and no file of the data that was there."""
        states = [platform.state(name) for name in aim.members]
        emptied = tuple(watch.emptied(state) for state in states) if self.spec.data == "gone" else ()
        return tuple(watch.succeeded(state) for state in states) + emptied
