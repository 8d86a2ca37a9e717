"""Small real classes that stand for the world in tests."""

from collections.abc import Mapping

from resilience.backend.base import MemberState
from resilience.errors import StackError
from resilience.spec.stack import Stack


class FakePlatform:
    """A `Platform` whose members are wherever the test says: addresses and running or not, by name."""

    def __init__(self, stack: Stack, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.stack = stack
        self.addresses = dict(addresses)
        self.stopped: set[str] = set()
        self._secrets = dict(secrets)

    def states(self) -> tuple[MemberState, ...]:
        return tuple(self.state(member.name) for member in self.stack.members)

    def state(self, name: str) -> MemberState:
        if name not in self.addresses:
            raise StackError(f"there is no member {name}")
        member, running = self.stack.member(name), name not in self.stopped
        return MemberState(
            name=name,
            component=member.component,
            node=member.node,
            address=self.addresses[name],
            running=running,
            identity=f"{name}:1" if running else "",
            restarts=0,
        )

    def secret(self, name: str) -> str:
        return self._secrets[name]
