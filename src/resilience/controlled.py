"""Runs what is wanted beside its control, which is taken first if it is missing.

A control is a run of the ordinary kind in the same reports, and its time is not that of the run that needs it. One
that did not pass is taken again by the next command, not by the same one: a suite has one for each fingerprint.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from resilience.backend.choice import DEFAULT, servers
from resilience.check.text import duration
from resilience.control import control_scenario, controls_in, needed_for, newest, why_none
from resilience.errors import ControlError, HostError
from resilience.history.control import Control
from resilience.machine import CpuTimes, pressure_between
from resilience.outside import INTERRUPTED_CODES, Ended, RunOutside, Wanted
from resilience.spec.control import CONTROL
from resilience.spec.fingerprint import Fingerprint
from resilience.spec.scenario import Scenario

SPARE = timedelta(minutes=1)  # so that a control is not too old a moment later, when the run begins
SET_UP_S = 20.0  # what a run takes besides its phases, as people are told

Say = Callable[[str], None]


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def controlled(run_one: RunOutside, stack: str, say: Say) -> "Controlled":
    """Runs for a command that begins now; ``stack``: what people ask for theirs by. Raises `HostError`."""
    return Controlled(run_one=run_one, servers=servers(stack), began=utc_now(), say=say)


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """Runs one after the other for one command; called with what is wanted it returns how that ended."""

    run_one: RunOutside
    servers: str  # which ones they are (`backend.choice.servers`)
    began: datetime  # the command
    say: Say
    now: Callable[[], datetime] = utc_now
    cpu_times: Callable[[], CpuTimes] = CpuTimes.read

    def __call__(self, wanted: Wanted) -> Ended:
        """Raises `ControlError` if a control is needed and cannot be taken, and whatever the run itself raises."""
        scenario = wanted.read()
        if scenario.experiment is not None and wanted.control == "auto":
            stopped = self._with_control(wanted, scenario)
            if stopped:
                return stopped
        began, before = time.monotonic(), self.cpu_times()
        ended = self.run_one(wanted)
        took_s = time.monotonic() - began
        return replace(ended, took_s=took_s, machine=pressure_between(before, self.cpu_times(), took_s))

    def _with_control(self, wanted: Wanted, scenario: Scenario) -> Ended | None:
        """Sees to it that there is a control; how the command ends if somebody ended it meanwhile, else None."""
        needed = needed_for(scenario, self.servers)
        found = self._newest(wanted, needed)
        if found is None or not self._counts(found):
            stopped = self._take(wanted, scenario, self._why(wanted, needed, found))
            if stopped:
                return stopped
            found = self._newest(wanted, needed)
        if found is None or found.verdict != "pass":
            said = (
                f"{found.run} did not pass ({found.headline})"
                if found
                else "the harness or the machine was changed meanwhile"
            )
            self.say(
                f"control: {said}: {scenario.name} will be inconclusive, unless it loses or corrupts data, which is"
                f" found all the same; going on"
            )
        return None

    def _newest(self, wanted: Wanted, needed: Fingerprint) -> Control | None:
        return newest(controls_in(wanted.reports), needed, self._soon())

    def _soon(self) -> str:
        return (self.now() + SPARE).isoformat()

    def _counts(self, control: Control) -> bool:
        """Whether it need not be taken again: it passed, or it was taken since this command began."""
        return control.verdict == "pass" or control.age_s(self.began.isoformat(timespec="seconds")) <= 0

    def _why(self, wanted: Wanted, needed: Fingerprint, found: Control | None) -> str:
        if found:
            return f"the newest one, {found.run}, did not pass"
        return why_none(controls_in(wanted.reports), needed, self._soon())

    def _take(self, wanted: Wanted, scenario: Scenario, why: str) -> Ended | None:
        self.say(f"control: {why}: {_taking(scenario)}")
        ended = self.run_one(replace(wanted, control="only"))
        if ended.code in INTERRUPTED_CODES:
            self.say(f"control: it was ended, so {scenario.name} was not run")
            return Ended(code=ended.code, directory=None, judgement=None)
        if ended.judgement is None or ended.code == ControlError.exit_code:
            where = f"; see {ended.directory}" if ended.directory else ""
            raise ControlError(
                f"the control of {scenario.name} could not be run (exit {ended.code}), so nothing was broken{where}"
            )
        return None


def control_plan(scenario: Scenario, reports: Path, stack: str = DEFAULT) -> str:
    """What a run of the scenario on this stack would do about its control, in a line. Raises `SpecError`."""
    if scenario.experiment is None:
        return "none: nothing is broken, so that this run may itself be one"
    try:
        needed, now = needed_for(scenario, servers(stack)), utc_now()
    except HostError as error:
        return f"{error}: {_taking(scenario)}"
    found = newest(controls_in(reports), needed, now.isoformat())
    if found is None:
        return f"{why_none(controls_in(reports), needed, now.isoformat())}: {_taking(scenario)}"
    known = f"{found.run}: {found.verdict}, begun {duration(found.age_s(now.isoformat()))} ago"
    return known if found.verdict == "pass" else f"{known}: {_taking(scenario)}"


def _taking(scenario: Scenario) -> str:
    length_s = control_scenario(scenario).timeline.total_s + SET_UP_S
    return f"{CONTROL} is run on this stack and load first, about {length_s:.0f} s, not part of the run's own time"
