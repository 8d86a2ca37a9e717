"""A member's pod is deleted, and whoever keeps the members running makes another."""

from dataclasses import dataclass

from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class DeleteFault:
    """See `spec.fault.Delete`."""

    spec: spec.Delete

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """One order; what comes in its place is not ours to decide."""
        if aim.nodes or len(aim.members) != 1:
            raise FaultError("delete: target.scope: expected member, exactly one")
        return platform.delete_steps(aim.members, self.spec.grace_s)

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """It is gone, to the cluster and to an observer; another one in its place is not the same."""
        return (watch.deleted([state for state in platform.states() if state.name in aim.members], self.spec.grace_s),)
