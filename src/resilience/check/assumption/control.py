"""Assumption about the control: the same platform, on the same machine, was well while nothing was broken."""

from collections.abc import Iterator

from msgspec import ValidationError, convert
from msgspec.structs import replace

from resilience.check.assumption.finding import held_unless
from resilience.check.finding import Finding, worst
from resilience.check.text import duration
from resilience.history.control import Control, Identity
from resilience.history.read import History
from resilience.spec.control import AGE_S_MAX, CONTROL
from resilience.spec.fingerprint import differing
from resilience.spec.scenario import Scenario

_ALLOWED = f"a {CONTROL} that passed, with the same fingerprint, at most {duration(AGE_S_MAX)} before"
_MISSING = "there is no control: 'resilience run' takes one that is missing, unless it is told not to"


def control(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A run with a fault has a control with its fingerprint that began in the 24 hours before it, and passed."""
    title = "The platform was well while nothing was broken"
    if scenario.experiment is None:
        return (held_unless("control", "Nothing is broken, so that no control is needed", ()),)
    taken, own = history.control, history.identity
    if taken is None:
        return (held_unless("control", title, [_MISSING], "none", _ALLOWED),)
    if own is None:
        reason = "what this run was made with is not on record, so that no control can be compared"
        return (held_unless("control", title, [reason], _measured(taken, None), _ALLOWED),)
    age_s = _age_s(taken, own)
    found = held_unless("control", title, _reasons(taken, own, age_s), _measured(taken, age_s), _ALLOWED)
    evidence = {"what": "control", "run": taken.run, "verdict": taken.verdict, "age_s": age_s}
    return (replace(found, evidence=(evidence,), evidence_total=1),)


def _age_s(taken: Control, own: Identity) -> float | None:
    try:
        return taken.age_s(own.started_utc)
    except ValueError:
        return None


def _measured(taken: Control, age_s: float | None) -> str:
    age = "" if age_s is None else f", {duration(age_s)} before this run" if age_s >= 0 else ", begun after this run"
    return f"{taken.run}: {taken.verdict}{age}"


def _reasons(taken: Control, own: Identity, age_s: float | None) -> Iterator[str]:
    if taken.verdict != "pass":
        yield f"the control {taken.run} did not pass: {taken.headline}"
    elif (found := _found(taken)) != "pass":
        yield f"the control {taken.run} says that it passed, its findings are {found}"
    if taken.run.partition("/")[0] != CONTROL:
        yield f"the control {taken.run} is no run of {CONTROL}"
    if different := differing(taken.identity.fingerprint, own.fingerprint):
        yield f"the control {taken.run} was of {', '.join(different)}"
    if taken.identity.versions != own.versions or not own.versions:
        yield f"the control's servers were {_said(taken.identity)}, this run's are {_said(own)}"
    if age_s is None:
        yield "how old the control is cannot be told from what is on record"
    elif not 0 < age_s <= AGE_S_MAX:
        yield f"the control began {duration(abs(age_s))} {'before' if age_s > 0 else 'after'} this run"


def _found(taken: Control) -> str:
    """What a control's findings come to, whatever it says itself."""
    try:
        return worst(finding.counts_as for finding in convert(taken.findings, tuple[Finding, ...]))
    except ValidationError as error:
        return f"unreadable: {error}"


def _said(identity: Identity) -> str:
    versions = (f"{component} {', '.join(found)}" for component, found in identity.versions.items())
    return "; ".join(versions) or "not on record"
