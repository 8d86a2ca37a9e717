"""Small real classes that stand for the world in tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from resilience.backend.base import Evidence, Injected, MemberState, Proof, Undone
from resilience.errors import FaultError, HostError, StackError
from resilience.outside import Ended, Wanted
from resilience.spec.stack import Stack


class FakePlatform:
    """A `Platform` whose members are wherever the test says: addresses and running or not, by name."""

    def __init__(self, stack: Stack, addresses: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.stack = stack
        self.addresses = dict(addresses)
        self.stopped: set[str] = set()
        self.restarts: dict[str, int] = {}
        self.last_words: dict[str, str] = {}
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
            restarts=self.restarts.get(name, 0),
            last_words=self.last_words.get(name),
        )

    def secret(self, name: str) -> str:
        return self._secrets[name]


class FakeFaultPlatform(FakePlatform):
    """A platform whose agent only counts: what it was told, in order, and what the test has it answer."""

    def __init__(self, stack: Stack) -> None:
        addresses = {member.name: f"198.18.0.{number}" for number, member in enumerate(stack.members, start=1)}
        super().__init__(stack, addresses, {})
        self.told: list[tuple[str, str]] = []  # (what, injection)
        self.works = True  # whether injections take effect
        self.heals = True  # whether the opposite of the effect is seen after healing
        self.refuses: set[str] = set()  # what raises: apply, probe, undo
        self.ended_by: dict[str, str] = {}
        self.now_ns = 0  # of the answers' instants

    def node_links_step(self, nodes: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return (
            {"primitive": "links", "devices": [member.name for member in self.stack.members if member.node in nodes]},
        )

    def kill_steps(self, members: Sequence[str], signal: str) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "signal", "signal": signal, "members": list(members)},)

    def pause_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "pause", "members": list(members)},)

    def wipe_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "wipe", "folders": list(members)},)

    def release_steps(self, members: Sequence[str], after_s: float) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "release", "dirs": list(members), "after_s": after_s},)

    def hold_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "hold", "dirs": list(members)},)

    def partition_steps(self, member: str, others: Sequence[str], direction: str) -> tuple[dict[str, Any], ...]:
        return ({"primitive": "drop", "member": member, "others": list(others), "direction": direction},)

    def apply(self, injection: Mapping[str, Any], at_ns: int = 0) -> Injected:
        self._tell("apply", injection["id"])
        began_ns = max(self.now_ns, at_ns)
        return Injected(began_ns=began_ns, applied_ns=began_ns + 2_000_000)

    def probe(self, injection_id: str) -> Proof:
        self._tell("probe", injection_id)
        return self._proof(ok=self.works and injection_id not in self.ended_by)

    def undo(self, injection_id: str) -> Undone:
        self._tell("undo", injection_id)
        by = self.ended_by.setdefault(injection_id, "request")
        return Undone(healed_ns=self.now_ns, by=by, proof=self._proof(ok=self.heals))

    def _tell(self, what: str, injection_id: str) -> None:
        self.told.append((what, injection_id))
        if what in self.refuses:
            raise FaultError(f"{what} {injection_id}: refused by the test")

    def _proof(self, *, ok: bool) -> Proof:
        return Proof(evidence=(Evidence(what="fake", expected="seen", observed="seen" if ok else "not", ok=ok),))


class FakeRuns:
    """Runs that end as the test says, in order; an error is raised."""

    def __init__(self, ends: Sequence[Ended | HostError]) -> None:
        self.wanted: list[Wanted] = []
        self.said: list[str] = []
        self._ends = list(ends)

    def __call__(self, wanted: Wanted) -> Ended:
        self.wanted.append(wanted)
        ended = self._ends.pop(0)
        if isinstance(ended, HostError):
            raise ended
        return ended
