"""How an experiment's activities act on a run: phases are held, a fault is injected, proved and healed.

Phases change twice in an experiment, and each change is announced a moment ahead: ``fault`` as the fault is injected,
once all is prepared for it, ``recovery`` as its healing begins, which may take a while. Windows are cut at the instants
that the agent recorded, not at those announced.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from resilience.backend.base import At, Evidence, Pace, Proof, Say
from resilience.chaos.session import Session
from resilience.errors import FaultError, HarnessError, StackError
from resilience.fault.base import NoTarget
from resilience.fault.injector import injection_json, new_injection_id, us_from_ns
from resilience.history.phase import AHEAD_US
from resilience.spec.fault import FaultSpec, Injection, Prelude, Target
from resilience.spec.postgresql import Manual, Runbook
from resilience.stack import postgresql_cancel, postgresql_failover, postgresql_strays

NEVER = -1
# From being asked for a fault to injecting it, at least: to resolve the target and get the agent ready. What takes
# longer on a busy machine, to start the agent's interpreter most of all, is over when the instant is announced.
PREPARE_US = 1_000_000


def hold(session: Session, phase: str, duration_s: float) -> None:
    """Returns when a phase has lasted so long since it began. Raises `FaultError` if there is no such phase to hold."""
    start = _start_of(session, phase)
    if phase == "fault":  # it lasts from the injection, however long a busy machine took to come to it
        start = max(start, *(_began_at(session, injection.id) for injection in _applied(session)))
    until = start + int(duration_s * 1_000_000)
    if phase == "fault":
        _refuse_outliving(session, until)
    try:
        session.wait_until(until)
    except BaseException:
        if phase != "fault":  # the fault's window is closed by healing, which follows whatever happens
            session.record_window(phase, start, NEVER)
        raise
    if phase == "recovery":
        session.record_window(phase, _undoing_at(session, start), max(until, session.clock.now_us()))


def inject(
    session: Session, fault: dict[str, Any], target: dict[str, Any], prelude: dict[str, Any] | None = None
) -> Injection:
    """Plans the fault and has it prepared, announces it, and injects it (its prelude, if it has one) at that instant.

    Raises `FaultError` if nothing matches the target (then nothing is touched), or if it cannot be injected.
    """
    wanted = _Wanted(
        fault=_converted(fault, FaultSpec),
        target=_converted(target, Target),
        prelude=_converted(prelude, Prelude | None),
    )
    lead_us = _us(session.platform.pace(wanted.fault, wanted.target).lead_s)
    earliest_us = session.clock.now_us() + PREPARE_US + lead_us

    def announced() -> int:
        return session.announce("fault", max(AHEAD_US, lead_us, earliest_us - session.clock.now_us()))

    try:
        injection, began_us = _inject_at(session, wanted, announced)
    except HarnessError:
        starts_at = session.board.starts_at("fault")
        if starts_at is None:  # what is done from now on is no steady state any more
            starts_at = session.announce("fault")
        _close_steady(session, starts_at)
        session.record_window("fault", starts_at, NEVER)
        raise
    _close_steady(session, began_us)
    return injection


def cancel_waiting(session: Session, for_s: float) -> int:
    """Cancels, for so long, every backend of PostgreSQL's primary that waits for a standby; how many waits that were.

    Raises `FaultError` if there is no such tier, or if it was not seen to work.
    """
    if session.platform.stack.postgresql is None:
        raise FaultError(f"cancel_waiting: the stack {session.platform.stack.name} has no PostgreSQL")
    with _step(session, "cancel_waiting") as (began_us, say):
        cancelled = postgresql_cancel.cancel_waiting(session.platform, for_s, say)
        ended_us = session.clock.now_us()
        proof = postgresql_cancel.cancellation_proof(session.platform, cancelled)
        number, evidence = len(cancelled.backends), msgspec.to_builtins(proof.evidence)
        facts = {"member": cancelled.member, "backends": number, "began_us": began_us, "ended_us": ended_us}
        session.record("cancelled", **facts, proved=proof.holds, evidence=evidence)
        if not proof.holds:
            raise StackError(
                f"backends were cancelled, and it is not seen that they waited and no longer do: {_unseen_of(proof)}"
            )
    return number


def promote(session: Session, runbook: dict[str, Any] | None = None) -> str:
    """Promotes a standby of PostgreSQL by the runbook, the operator's delay after the last fault took effect; which.

    Raises `FaultError` if there is no such tier, Patroni promotes by itself in it, nobody can be promoted, or it is not
    seen to be true.
    """
    tier = session.platform.stack.postgresql
    if tier is None:
        raise FaultError(f"promote: the stack {session.platform.stack.name} has no PostgreSQL")
    if not isinstance(tier.failover, Manual):
        raise FaultError(f"promote: in the stack {session.platform.stack.name} Patroni promotes by itself")
    wanted: Runbook = _converted(runbook or {}, Runbook)
    delay_s = tier.failover.operator_delay_s
    since = max((_took_effect_at(session, one.id) for one in _applied(session)), default=session.clock.now_us())
    session.wait_until(since + int(delay_s * 1_000_000))
    with _step(session, "promote") as (began_us, say):
        promotion = postgresql_failover.promote(session.platform, wanted, say)
        led_us = session.clock.now_us()
        promotion = postgresql_failover.turn_back(session.platform, promotion, say)
        proof = postgresql_failover.proof(session.platform, promotion, fence=wanted.fence)
        facts = msgspec.to_builtins(promotion) | msgspec.to_builtins(proof)
        instants = {"operator_delay_s": delay_s, "began_us": began_us, "led_us": led_us}
        session.record("promotion", **facts, **instants, proved=proof.holds)
        if not proof.holds:
            raise StackError(f"{promotion.member} was promoted, and is not seen to be the primary: {_unseen_of(proof)}")
    return promotion.member


def rejoin(session: Session) -> tuple[str, ...]:
    """Fences whoever takes writes beside PostgreSQL's primary, which makes it follow that; who.

    Raises `FaultError` if there is no such tier, if Patroni promotes by itself in it, if it cannot be known who the
    primary is, or if it is not seen to be the only one then.
    """
    tier = session.platform.stack.postgresql
    if tier is None:
        raise FaultError(f"rejoin: the stack {session.platform.stack.name} has no PostgreSQL")
    if not isinstance(tier.failover, Manual):
        raise FaultError(f"rejoin: in the stack {session.platform.stack.name} Patroni stops a former primary by itself")
    with _step(session, "rejoin") as (began_us, say):
        rejoined = postgresql_strays.fence_strays(session.platform, say)
        proof = rejoined.proof
        facts = msgspec.to_builtins(proof) | {"primary": rejoined.primary, "members": rejoined.members}
        session.record("rejoined", **facts, began_us=began_us, proved=proof.holds)
        if not proof.holds:
            raise StackError(f"it is not seen that {rejoined.primary} alone takes writes: {_unseen_of(proof)}")
    return rejoined.members


@contextmanager
def _step(session: Session, name: str) -> Iterator[tuple[int, Say]]:
    """Something that an operator does: when he began (us), and who puts on record at once what he has done.

    Why it was given up is on record, too, and raised as a `FaultError`.
    """
    began_us = session.clock.now_us()

    def say(event: str, data: dict[str, Any]) -> None:
        session.record(event, **data, began_us=began_us)

    try:
        yield began_us, say
    except StackError as error:
        session.record("step-failed", step=name, reason=str(error), began_us=began_us)
        raise FaultError(str(error)) from error


def _unseen_of(proof: Proof) -> str:
    """The first thing that was not as it had to be."""
    return next(
        (f"{one.what}: {one.observed}, expected {one.expected}" for one in proof.evidence if not one.ok),
        "nothing was seen",
    )


def in_effect(session: Session, when: str) -> bool:
    """Probes the last injection and records what was seen; without one there is no effect."""
    injections = session.ledger.injections()
    if not injections:
        return False
    injection = injections[-1].id
    try:
        proof = session.injector.probe(injection)
    except FaultError as error:
        proof = _unseen(error)
    evidence = msgspec.to_builtins(proof.evidence)
    session.record("effect-probed", injection=injection, when=when, in_effect=proof.holds, evidence=evidence)
    return proof.holds


def heal(session: Session, by: str) -> tuple[str, ...]:
    """Announces the recovery and ends what is open; harmless when everything has ended. Returns the ids.

    Raises `FaultError` if something cannot be ended; it stays open in the ledger.
    """
    last = session.ledger.injections()[-1:]
    first_time = session.board.starts_at("recovery") is None
    ending = session.ledger.open_injections() or (last if first_time else ())
    if not ending:
        return ()
    at_us = _announce_recovery(session, ending) if first_time else 0
    troubles = [trouble for injection in reversed(ending) if (trouble := _heal_one(session, injection.id, by, at_us))]
    if first_time:
        _close_fault(session, ending[0].id)
    if troubles:
        raise FaultError("; ".join(troubles))
    return tuple(injection.id for injection in ending)


def healed(session: Session) -> bool:
    """Whether every injection has ended, and for the last of them the opposite of its effect was seen."""
    injections = session.ledger.injections()
    if not injections or session.ledger.open_injections():
        return False
    return session.injector.heal(injections[-1].id, "request").proof.holds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What an experiment asks for."""

    fault: FaultSpec
    target: Target
    prelude: Prelude | None


def _inject_at(session: Session, wanted: _Wanted, announced: At) -> tuple[Injection, int]:
    injector = session.injector
    name = session.scenario.name
    planned_s = injector.planned_s(session.scenario.timeline.fault_s, wanted.fault, wanted.target)
    injection = injector.plan(new_injection_id(name), wanted.fault, wanted.target, planned_s, wanted.prelude)
    if isinstance(injection, NoTarget):
        session.record("no-target", target=msgspec.to_builtins(injection.target), reason=injection.reason)
        raise FaultError(f"nothing was injected: {injection.reason}")
    session.record("injecting", injection=injection_json(injection))
    injected = injector.inject(injection, announced)
    began_us = us_from_ns(session.clock, injected.began_ns)
    session.record(
        "injected",
        injection=injection.id,
        began_us=began_us,
        applied_us=us_from_ns(session.clock, injected.applied_ns),
        members=injection.members,
        nodes=injection.nodes,
    )
    return injection, began_us


def _announce_recovery(session: Session, ending: Sequence[Injection]) -> int:
    """The instant (us) at which it begins; returns when whatever ends the fault at that instant has to be asked."""
    lead_us = max(_us(_pace(session, injection).lead_s) for injection in ending)
    starts_at = session.announce("recovery", max(AHEAD_US, lead_us))
    session.wait_until(starts_at - lead_us)
    return starts_at


def _heal_one(session: Session, injection: str, by: str, at_us: int) -> str:
    """Heals and records it; what went wrong, or ""."""
    session.record("healing", injection=injection)
    try:
        undone = session.injector.heal(injection, by, at_us)
    except FaultError as error:
        evidence = msgspec.to_builtins(_unseen(error).evidence)
        never = {"began_us": NEVER, "healed_us": NEVER}
        session.record("healed", injection=injection, healed=False, by=by, **never, evidence=evidence)
        return str(error)
    booked = session.ledger.last(injection, "healed")
    session.record(
        "healed",
        injection=injection,
        healed=undone.proof.holds,
        by=booked.by if booked else by,
        began_us=us_from_ns(session.clock, undone.began_ns),
        healed_us=us_from_ns(session.clock, undone.healed_ns),
        evidence=msgspec.to_builtins(undone.proof.evidence),
    )
    return ""


def _start_of(session: Session, phase: str) -> int:
    start = session.board.starts_at(phase)
    if phase == "fault" and not _applied(session):
        raise FaultError("phase fault: nothing was injected, so there is nothing to hold")
    if start is not None:
        return start
    if phase != "steady":
        raise FaultError(f"phase {phase}: it has not begun, so it cannot be held")
    return session.announce(phase)


def _applied(session: Session) -> Sequence[Injection]:
    injections = session.ledger.injections()
    return [injection for injection in injections if session.ledger.last(injection.id, "applied")]


def _began_at(session: Session, injection: str) -> int:
    applied = session.ledger.last(injection, "applied")
    return applied.began_us if applied else NEVER


def _took_effect_at(session: Session, injection: str) -> int:
    applied = session.ledger.last(injection, "applied")
    return applied.at_us if applied else NEVER


def _refuse_outliving(session: Session, until_us: int) -> None:
    """It has to live until it has been looked at once more."""
    for injection in _applied(session):
        applied = session.ledger.last(injection.id, "applied")
        if applied and applied.at_us + _us(injection.ttl_s) < until_us + _us(_pace(session, injection).look_s):
            raise FaultError(
                f"phase fault: the experiment plans longer than {injection.id} may live ({injection.ttl_s:g} s)"
            )


def _pace(session: Session, injection: Injection) -> Pace:
    return session.platform.pace(injection.fault, injection.target)


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _undoing_at(session: Session, otherwise: int) -> int:
    """When the undoing of the last injection began (us)."""
    last = session.ledger.injections()[-1:]
    entry = session.ledger.last(last[0].id, "healed") if last else None
    return entry.undoing_us if entry else otherwise


def _close_steady(session: Session, end_us: int) -> None:
    start = session.board.starts_at("steady")
    if start is not None:
        session.record_window("steady", start, end_us)


def _close_fault(session: Session, injection: str) -> None:
    began, ended = _began_at(session, injection), session.ledger.last(injection, "healed")
    start = session.board.starts_at("fault") if began == NEVER else began
    if start is not None:
        session.record_window("fault", start, ended.undoing_us if ended else NEVER)


def _converted(data: dict[str, Any] | None, kind: Any) -> Any:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise FaultError(f"experiment: {error}") from error


def _unseen(error: FaultError) -> Proof:
    return Proof(evidence=(Evidence(what="agent", expected="an answer", observed=str(error), ok=False),))
