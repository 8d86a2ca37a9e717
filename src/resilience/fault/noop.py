"""The fault that does nothing: its effect probe looks as hard as the others and must find nothing."""

from dataclasses import dataclass

from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class NoopFault:
    """See `spec.fault.Noop`."""

    spec: spec.Noop

    def inject(self, _aim: Aim, _platform: FaultPlatform) -> tuple[Step, ...]:
        """Nothing."""
        return ()

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """That something became of the members' servers: it did not."""
        return tuple(watch.replaced(platform.state(name)) for name in aim.members)
