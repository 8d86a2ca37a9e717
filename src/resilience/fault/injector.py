"""Injects, proves and heals: the only way by which faults reach a platform.

The order is fixed: planned in the ledger, then applied, then applied in the ledger; undone, then healed in the ledger.
So whatever breaks off in between, the ledger names what may still be in effect.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from resilience.backend.base import At, Evidence, Injected, Pace, Proof, Say, ToldBy, Undone, at_once, unheard
from resilience.errors import FaultError, HarnessError
from resilience.fault.base import FaultPlatform, NoTarget, QueueRoles, Roles, no_queues
from resilience.fault.ledger import Entry, Ledger
from resilience.fault.registry import fault_from_spec
from resilience.fault.target import resolve
from resilience.history.clock import RunClock
from resilience.spec.fault import FaultSpec, Injection, Prelude, PreludeInjection, Target

TTL_SPARE_S = 10.0
TTL_SPARE_RATIO = 0.25


def new_injection_id(scenario: str) -> str:
    """An id that no other injection has, e.g. ``redis-failover-1f0c9a44``."""
    return f"{scenario}-{secrets.token_hex(4)}"


def ttl_s(planned_s: float) -> float:
    """How long an injection may live that is planned to last so long."""
    return planned_s + max(TTL_SPARE_S, TTL_SPARE_RATIO * planned_s)


def lasts_s(fault_s: float, pace: Pace) -> float:
    """How long an injection lasts at most that is held for so long, or until it is proved, if that takes longer.

    After that it is looked at once more, and its end is asked for, and is under way.
    """
    return max(fault_s, pace.proof_s) + pace.look_s + pace.lead_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Works faults out for one platform; only looks, so that a plan and a run cannot mean different members."""

    platform: FaultPlatform
    roles: Roles
    queue_roles: QueueRoles = no_queues

    def planned_s(self, fault_s: float, fault: FaultSpec, target: Target) -> float:
        """How long an injection of that kind lasts here at most; see `lasts_s`."""
        return lasts_s(fault_s, self.platform.pace(fault, target))

    def plan(
        self, injection_id: str, fault: FaultSpec, target: Target, planned_s: float, prelude: Prelude | None = None
    ) -> Injection | NoTarget:
        """Resolves the target now and works out what has to be done; only looks. Raises `FaultError`, `StackError`."""
        aim = resolve(target, self.platform.states(), self.roles, self.queue_roles)
        if isinstance(aim, NoTarget):
            return aim
        before = self._plan_prelude(prelude)
        if isinstance(before, NoTarget):
            return before
        kind = fault_from_spec(fault)
        return Injection(
            id=injection_id,
            fault=fault,
            target=target,
            members=aim.members + (before.members if before else ()),
            nodes=aim.nodes,
            ttl_s=ttl_s(planned_s),
            steps=kind.inject(aim, self.platform),
            watch=kind.effect(aim, self.platform),
            prelude=before,
        )

    def _plan_prelude(self, prelude: Prelude | None) -> PreludeInjection | NoTarget | None:
        if prelude is None:
            return None
        aim = resolve(prelude.target, self.platform.states(), self.roles, self.queue_roles)
        if isinstance(aim, NoTarget):
            return aim
        kind = fault_from_spec(prelude.fault)
        return PreludeInjection(
            prelude=prelude,
            members=aim.members,
            for_s=prelude.for_s,
            steps=kind.inject(aim, self.platform),
            watch=kind.effect(aim, self.platform),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Injector(Planner):
    """Carries faults out on one platform and keeps its ledger."""

    ledger: Ledger
    clock: RunClock
    say: Say = unheard  # hears of the clocks that instants are from (event `clock-compared`)

    def inject(self, injection: Injection, at_us: At = at_once) -> Injected:
        """Puts the injection into the ledger, has it prepared, applies it at the instant that ``at_us`` names then (or
        later, if that has passed) and says when.

        Raises `FaultError`; then it has been undone, or is still open in the ledger.
        """
        self.ledger.append(Entry(at_us=self.clock.now_us(), injection=injection.id, state="planned", spec=injection))
        try:
            injected = self.platform.apply(injection_json(injection), lambda: self.clock.base_ns + at_us() * 1_000)
        except FaultError:
            self.heal(injection.id, "request")  # books it as ended; where that raises too, it stays open
            raise
        self._compared(injected.told_by)
        self.ledger.append(
            Entry(
                at_us=us_from_ns(self.clock, injected.applied_ns),
                injection=injection.id,
                state="applied",
                began_us=us_from_ns(self.clock, injected.began_ns),
            )
        )
        return injected

    def probe(self, injection_id: str) -> Proof:
        """Whether it is in effect. Raises `FaultError` if that cannot be seen."""
        return self.platform.probe(injection_id)

    def heal(self, injection_id: str, by: str, at_us: int = 0) -> Undone:
        """Ends the injection at ``at_us``, or later if that has passed, and closes it in the ledger.

        Harmless if it has ended. One that was applied, and that no agent knows of any more, is not proved to have
        ended. Raises `FaultError`.
        """
        undone = self.platform.undo(injection_id, self.clock.base_ns + at_us * 1_000 if at_us else 0)
        if not undone.known and self.ledger.last(injection_id, "applied"):
            undone = msgspec.structs.replace(undone, proof=_forgotten(injection_id))
        if self.ledger.last(injection_id, "healed") is None:
            self._compared(undone.told_by)
            at_us, began_us = (us_from_ns(self.clock, at_ns) for at_ns in (undone.healed_ns, undone.began_ns))
            why = by if undone.by == "request" else undone.by  # what ended it earlier than anybody asked
            self.ledger.append(Entry(at_us=at_us, injection=injection_id, state="healed", by=why, began_us=began_us))
        return undone

    def _compared(self, told_by: ToldBy | None) -> None:
        """Says by whose clock instants were told; they are on this process's already, as far as that is known."""
        if told_by is None:
            return
        data: dict[str, Any] = {"process": told_by.process, "boot_id": told_by.boot_id}
        if told_by.error_ns is not None:
            data |= {"offset_us": 0, "error_us": -(-told_by.error_ns // 1_000)}
        self.say("clock-compared", data)


def _forgotten(injection_id: str) -> Proof:
    """That nobody can tell what became of an injection."""
    what, told = f"injection {injection_id}, which was applied", "no agent knows of it"
    return Proof(evidence=(Evidence(what=what, expected="ended by its agent", observed=told, ok=False),))


def us_from_ns(clock: RunClock, instant_ns: int) -> int:
    """Converts a value of `time.monotonic_ns` to microseconds on the run's clock."""
    return (instant_ns - clock.base_ns) // 1_000


def injection_json(injection: Injection) -> dict[str, object]:
    """The injection as plain JSON."""
    data: dict[str, object] = msgspec.to_builtins(injection)
    return data


def heal_all(injector: Injector, heard: Callable[[str, Undone], None], by: str = "heal-all") -> None:
    """Ends every open injection, newest first; ``heard`` hears of each that has ended, once all were tried.

    Raises `ExceptionGroup` of `HarnessError` with what failed, be it that the platform did not answer; what ``heard``
    raises keeps nothing from being healed.
    """
    ended: list[tuple[str, Undone]] = []
    troubles: list[HarnessError] = []
    for injection in reversed(injector.ledger.open_injections()):
        try:
            ended.append((injection.id, injector.heal(injection.id, by)))
        except HarnessError as error:
            troubles.append(error)
    for injection_id, undone in ended:
        heard(injection_id, undone)
    if troubles:
        raise ExceptionGroup("injections that could not be healed", troubles)
