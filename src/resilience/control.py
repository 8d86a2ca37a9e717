"""The control of a run: which it needs, and whether there is one among the runs that are kept.

A control is a run of the scenario ``baseline`` that was judged, by whomever it was asked for. One that was broken off,
by a person or by a fault of the harness, says nothing of the platform and is none.
"""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from msgspec import to_builtins

from resilience.about import fingerprint_here
from resilience.backend.local.place import PROJECT_ROOT
from resilience.check.finding import Judgement
from resilience.errors import SpecError
from resilience.history.control import Control, read_identity
from resilience.report.document import SCHEMA
from resilience.report.run import Run
from resilience.spec.control import AGE_S_MAX, CONTROL, control_of
from resilience.spec.fingerprint import Fingerprint, differing
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario

_BROKEN_OFF = "assumption.not-interrupted"


def control_scenario(scenario: Scenario) -> Scenario:
    """What is run as the scenario's control. Raises `SpecError`."""
    return control_of(scenario, read_scenario(PROJECT_ROOT, CONTROL))


def needed_for(scenario: Scenario, servers: str) -> Fingerprint:
    """The fingerprint of the control that a scenario needs; of one without a fault its own, as a control.

    ``servers`` says which ones they are (`backend.choice.servers`). Raises `SpecError`.
    """
    control = control_scenario(scenario) if scenario.experiment else scenario
    return fingerprint_here(control, PROJECT_ROOT, servers)


def controls_in(reports_dir: Path) -> Iterator[Control]:
    """The controls that are kept there, the newest first; what another version wrote and cannot be read is left out."""
    for directory in sorted((reports_dir / CONTROL).glob("*"), reverse=True):
        control = _control_of(Run(directory))
        if control:
            yield control


def _control_of(run: Run) -> Control | None:
    identity = read_identity(run.directory)
    if identity is None or not run.verdict.exists():
        return None
    try:
        spec, judgement = run.load_spec(), run.load_judgement()
    except SpecError:
        return None
    if spec.scenario.experiment is not None or _broken_off(judgement):
        return None
    return Control(
        schema=SCHEMA,
        run=f"{CONTROL}/{run.directory.name}",
        identity=identity,
        verdict=judgement.verdict,
        headline=judgement.headline,
        findings=to_builtins(judgement.findings),
        measures=judgement.measures,
    )


def _broken_off(judgement: Judgement) -> bool:
    return any(finding.check == _BROKEN_OFF and finding.verdict != "pass" for finding in judgement.findings)


def newest(controls: Iterable[Control], needed: Fingerprint, at_utc: str) -> Control | None:
    """The newest of the controls that speaks for a run that begins at an instant, whether it passed or not.

    ``controls`` come newest first.
    """
    for control in _young(controls, at_utc):
        if control.identity.fingerprint == needed:
            return control
    return None


def why_none(controls: Iterable[Control], needed: Fingerprint, at_utc: str) -> str:
    """Why none of them does, in a few words for people."""
    for control in _young(controls, at_utc):
        return f"the newest one, {control.run}, was of {', '.join(differing(control.identity.fingerprint, needed))}"
    return "there is none of the last 24 hours"


def _young(controls: Iterable[Control], at_utc: str) -> Iterator[Control]:
    """Those that began in the 24 hours before an instant."""
    recent = takewhile(lambda control: control.age_s(at_utc) <= AGE_S_MAX, controls)
    return (control for control in recent if control.age_s(at_utc) >= 0)
