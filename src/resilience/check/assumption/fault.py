"""Assumptions about the fault: it was injected, proved twice, healed and proved healed, and the experiment ended."""

from collections.abc import Iterator
from typing import Any

from resilience.check.assumption.finding import held_unless
from resilience.check.fault import SECOND_US, Applied, begun, injections
from resilience.check.finding import Finding
from resilience.check.text import ended_text
from resilience.history.ledger import Booked
from resilience.history.read import History
from resilience.spec.scenario import Experiment, Scenario

BORDER_US = SECOND_US // 2
BEFORE = " (before)"  # what the failed probes of a steady state are marked with that was asked for before the fault
_UNASKED = {"ttl": "its time to live", "restart": "an agent that was started again", "leave": "an agent that left"}
_MOMENTS = {"injected": "after it was injected", "before-heal": "before it was healed"}


def fault_proved(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Each injection was seen in effect from a third point of view, at its beginning and just before healing."""
    title = "The fault was in effect"
    if scenario.experiment is None:
        return (held_unless("fault-proved", title, _unasked(history), measured="no fault in this scenario"),)
    reasons = [f"nothing matched the target {event.data.get('target')}" for event in history.events_of("no-target")]
    applied = injections(history)
    missing = [injection for injection in begun(history) if injection not in {one.id for one in applied}]
    reasons += [f"that {injection} was begun is all that is on record of it" for injection in missing]
    if not applied and not reasons:
        reasons.append(f"no injection is on record{_why_none(history)}")
    for injection in applied:
        reasons += _unproved(injection, history)
        reasons += _applied_otherwise(injection, history)
    measured = f"{len(applied)} injected"
    return (held_unless("fault-proved", title, reasons, measured, "proved after injecting and before healing"),)


def _why_none(history: History) -> str:
    """An experiment whose steady state is not met before its fault ends at once."""
    ended = history.events_of("experiment")
    unmet = [str(name) for name in ended[-1].data.get("failed") or () if str(name).endswith(BEFORE)] if ended else []
    return f": the experiment found no steady state to begin with: {', '.join(unmet)}" if unmet else ""


def _unasked(history: History) -> Iterator[str]:
    return (f"{injection} was begun, and the scenario asks for no fault" for injection in begun(history))


def _unproved(injection: Applied, history: History) -> Iterator[str]:
    """A probe proves something while the injection lasts; before and after it there was nothing to see."""
    lasting = [
        event.data
        for event in history.events_of("effect-probed")
        if event.data.get("injection") == injection.id
        and injection.applied <= event.at <= (event.at if injection.undoing is None else injection.undoing)
    ]
    for when, moment in _MOMENTS.items():
        probes = [probe for probe in lasting if probe.get("when") == when]
        if not probes:
            yield f"{injection.id} was not probed {moment}"
        elif not any(probe.get("in_effect") and _all_seen(probe) for probe in probes):
            yield f"{injection.id} was not in effect {moment}: {_first_failed(probes[-1])}"


def _booked(injection: str, state: str, history: History) -> tuple[Booked, ...]:
    """What the ledger says of an injection in one state."""
    return tuple(line for line in history.ledger if (line.injection, line.state) == (injection, state))


def _applied_otherwise(injection: Applied, history: History) -> Iterator[str]:
    """Ledger and events tell the same instants, since both are the agent's."""
    booked = {(line.began_us, line.at_us) for line in _booked(injection.id, "applied", history)}
    if (injection.began, injection.applied) not in booked:
        yield f"the ledger does not say that {injection.id} was applied at {injection.applied / SECOND_US:.1f} s"


def _all_seen(answer: dict[str, Any]) -> bool:
    """Whether there is evidence, and all of it is as expected: what an answer says of itself is not enough."""
    evidence = answer.get("evidence") or ()
    return bool(evidence) and all(item.get("ok") for item in evidence)


def _first_failed(answer: dict[str, Any]) -> str:
    evidence = answer.get("evidence") or ()
    for item in evidence:
        if not item.get("ok"):
            return f"{item.get('what')}: expected {item.get('expected')}, observed {item.get('observed')}"
    return "the probe says so" if evidence else "no evidence"


def fault_healed(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Each injection was ended on request, seen to have ended, and closed in the ledger."""
    title = "The fault was healed"
    left = [f"{name} is still open in the ledger" for name in begun(history) if not _booked(name, "healed", history)]
    if scenario.experiment is None:
        return (held_unless("fault-healed", title, left, measured="no fault in this scenario"),)
    applied = injections(history)
    reasons = [reason for injection in applied for reason in _unhealed(injection, history)]
    reasons += [reason for injection in applied for reason in _elsewhere(injection, history)]
    reasons += left
    return (held_unless("fault-healed", title, reasons, f"{len(applied)} injected", "each healed on request"),)


def _unhealed(injection: Applied, history: History) -> Iterator[str]:
    name, booked = injection.id, _booked(injection.id, "healed", history)
    answers = [event.data for event in history.events_of("healed") if event.data.get("injection") == name]
    if not answers:
        yield f"the healing of {name} is not on record"
    elif not any(answer.get("healed") and _all_seen(answer) for answer in answers):
        yield f"{name} was not proved healed: {_first_failed(answers[-1])}"
    if injection.healed is not None and booked:
        yield from _ended_otherwise(injection, injection.healed, booked)
    for word in sorted(({answer.get("by", "") for answer in answers} | {line.by for line in booked}) & set(_UNASKED)):
        yield f"{name} was ended by {_UNASKED[word]}, not on request"


def _ended_otherwise(injection: Applied, healed: int, booked: tuple[Booked, ...]) -> Iterator[str]:
    """Ledger and events tell the same instants of the end, too."""
    lines = [line for line in booked if line.at_us == healed]
    if not lines:
        yield f"the ledger does not say that {injection.id} was healed at {healed / SECOND_US:.1f} s"
    elif injection.undoing is not None and injection.undoing not in {line.undoing_us for line in lines}:
        yield f"the ledger does not say that undoing {injection.id} began at {injection.undoing / SECOND_US:.1f} s"
    if injection.undoing is not None and injection.undoing > healed:
        yield f"undoing {injection.id} is said to have begun after it was healed"


def _elsewhere(injection: Applied, history: History) -> Iterator[str]:
    """An injection that is not the fault phase's: the phase is cut at its instants."""
    window = history.window("fault")
    if window is None or injection.undoing is None:
        return
    ended = "was healed" if injection.undoing == injection.healed else "began to be healed"
    for what, at, border in (("began", injection.began, window.start), (ended, injection.undoing, window.end)):
        if abs(at - border) > BORDER_US:
            early = "before" if at < border else "after"
            border_of = "beginning" if border == window.start else "end"
            yield f"{injection.id} {what} {abs(at - border) / SECOND_US:.1f} s {early} the {border_of} of phase fault"


def experiment_completed(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Chaos Toolkit carried the whole experiment out, none of its activities failed, and an operator did his part."""
    title = "The experiment was carried out"
    if scenario.experiment is None:
        return (held_unless("experiment-completed", title, (), measured="no experiment in this scenario"),)
    events = history.events_of("experiment")
    reasons = list(_experiment_reasons(events[-1].data)) if events else ["the experiment's end is not on record"]
    reasons += [f"{event.data['step']}: {event.data['reason']}" for event in history.events_of("step-failed")]
    reasons += _not_done(scenario.experiment, history)
    measured = str(events[-1].data.get("status", "")) if events else ""
    return (held_unless("experiment-completed", title, reasons, measured, "completed"),)


def _not_done(experiment: Experiment, history: History) -> Iterator[str]:
    """What an operator is to do while the fault lasts or once it has ended, and what nobody saw him do."""
    promoted = any(event.data.get("proved") for event in history.events_of("promotion"))
    cancelled = (event.data for event in history.events_of("cancelled"))
    if experiment.promotes and not promoted:
        yield "that a standby was promoted is not on record"
    if experiment.rejoins and not any(event.data.get("proved") for event in history.events_of("rejoined")):
        yield "that nobody takes writes beside the primary any more is not on record"
    if experiment.cancels and not any(data.get("proved") and data.get("backends") for data in cancelled):
        yield "that anybody who waited was cancelled is not on record"


def _experiment_reasons(data: dict[str, Any]) -> Iterator[str]:
    if data.get("exit") != 0 and data.get("status") == "completed" and not data.get("deviated"):
        yield f"Chaos Toolkit {ended_text(data.get('exit'))}, though its journal says that all is well"
    if data.get("failed"):
        yield f"these of its activities failed: {', '.join(map(str, data['failed']))}"
    if data.get("status") == "no-journal":
        yield f"Chaos Toolkit {ended_text(data.get('exit'))} and left no journal"
    elif data.get("status") != "completed":
        yield f"its journal says {data.get('status')!r}"
