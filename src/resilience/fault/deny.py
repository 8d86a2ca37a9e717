"""A component is not let to another one any more, by a policy that was written wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from resilience.backend.base import MemberState
from resilience.errors import FaultError
from resilience.fault import watch
from resilience.fault.base import Aim, FaultPlatform, Step, Watch
from resilience.spec import fault as spec


@dataclass(frozen=True, slots=True)
class DenyFault:
    """See `spec.fault.Deny`."""

    spec: spec.Deny

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """One policy for all of the component's members."""
        return platform.deny_steps(aim.members, [state.name for state in self._others(platform.states())])

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """Between exactly these nothing is opened any more, while a witness still reaches both sides."""
        states = platform.states()
        return (watch.denied([state for state in states if state.name in aim.members], self._others(states)),)

    def _others(self, states: Sequence[MemberState]) -> list[MemberState]:
        found = [state for state in states if state.component == self.spec.to and state.running]
        if not found:
            raise FaultError(f"deny: to: no {self.spec.to} runs at the moment, so nobody could be kept from it")
        return found
