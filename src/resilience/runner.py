"""Runs one scenario, from its stack to its verdict: the imperative shell around the pure judgement.

::

    open the run's directory                                save0: spec.json, control.json
    play the scenario on its stage (`stage`)                save1: history.jsonl and all that is beside it
    judge what there is, also after an error or Ctrl-C      save2: verdict.json, timeline.json
    render                                                  junit.xml, report.html
"""

import time
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from resilience.about import about
from resilience.backend.base import Undone
from resilience.backend.choice import is_in_place, servers_here
from resilience.backend.local.place import PROJECT_ROOT, calling_user
from resilience.backend.local.sandbox import announce, image_inside, state_dir
from resilience.chaos.session import SESSION_ENV, open_session
from resilience.check.compose import checks_of, judge
from resilience.check.finding import Judgement
from resilience.check.timeline import timeline
from resilience.control import control_scenario, controls_in, needed_for, newest
from resilience.errors import HarnessError, SpecError
from resilience.fault.injector import Injector, heal_all
from resilience.history.clock import RunClock
from resilience.history.read import read_history
from resilience.history.writer import Writer
from resilience.interrupt import Interrupted, interruptible
from resilience.notebook import Notebook
from resilience.report.html import html_page
from resilience.report.junit import junit_file
from resilience.report.live import LiveBoard, LiveState, live_view
from resilience.report.run import Owner, Run
from resilience.report.store import RunStore
from resilience.report.terminal import plain, verdict_screen
from resilience.spec.convert import did_you_mean, refuse
from resilience.spec.fingerprint import Fingerprint
from resilience.spec.scenario import Scenario
from resilience.stage import Stage, show_event


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its judgement, and the exit code of what cut it short (0: nothing did)."""

    judgement: Judgement
    cut_short_code: int


def run(scenario: Scenario, store: RunStore, console: Console, rerun: str, *, as_control: bool = False) -> Outcome:
    """Runs a scenario in the place that this process stands in, and judges it. Raises `HostError`.

    ``as_control`` runs its control instead, and leaves ``latest`` where it is.
    """
    scenario = control_scenario(scenario) if as_control else scenario
    with opened(scenario, store, rerun, needed_for(scenario, servers_here())) as record:
        announce(record.directory)
        console.print(plain(f"{scenario.name}: {scenario.title} (seed {scenario.seed}) → {record.directory}"))
        code = played(record, console)
        return Outcome(judge_run(record, None if as_control else store, console), code)


def opened(scenario: Scenario, store: RunStore, rerun: str, needed: Fingerprint) -> Run:
    """The directory of a new run, with all that is known before it begins. Raises `HostError`."""
    record = store.open(scenario, about(PROJECT_ROOT, rerun, needed))
    if scenario.experiment and (
        control := newest(controls_in(store.reports_dir), needed, record.load_spec().started_utc)
    ):
        record.save_control(control)  # passed or not
    return record


def played(record: Run, console: Console) -> int:
    """Plays the scenario of a run that was opened, here, where its platform is at hand; what goes wrong is on record.

    Returns the exit code of what cut it short, 0 if nothing did. Raises `HostError`.
    """
    clock = RunClock.starting_now()
    scenario = record.load_spec().scenario
    board = LiveBoard(_first_state(scenario))
    with (
        live_view(console, board.read, time.monotonic),
        Notebook(Writer(record.history), clock, partial(show_event, board), record.advice) as notebook,
    ):
        code = _played(Stage(scenario, record, notebook, board), notebook, board)
        notebook.event("ended", {})
        return code


def _first_state(scenario: Scenario) -> LiveState:
    now_s = time.monotonic()
    return LiveState(scenario=scenario.name, phase_began_s=now_s, run_began_s=now_s)


def _played(stage: Stage, notebook: Notebook, board: LiveBoard) -> int:
    try:
        with interruptible(board.note):
            stage.play()
    except Interrupted as interrupted:
        notebook.event("interrupted", {"signal": interrupted.signal.name})
        return interrupted.exit_code
    except Exception as error:  # noqa: BLE001  the run's boundary: whatever it was, what was recorded is judged
        notebook.problem(error)
        return HarnessError.exit_code
    return HarnessError.exit_code if stage.troubled else 0


def judge_run(record: Run, store: RunStore | None, console: Console) -> Judgement:
    """Judges what is recorded of a run, saves and shows the judgement, and renders the report.

    ``store``: where ``latest`` is moved to this run, or None to leave it.
    """
    record.give_reserve()  # where the run was cut short, it is still there
    spec = record.load_spec()
    try:
        history = read_history(record.directory)
    except OSError as error:
        raise SpecError(f"{error.filename}: cannot be read: {error.strerror}") from error
    judgement = judge(spec.scenario, history)
    record.save_judgement(judgement, timeline(spec.scenario, history))
    junit_file(record)
    page = html_page(record)
    record.hand_over()
    if store:
        store.mark_latest(record)
    console.print(verdict_screen(judgement, page, spec.rerun))
    return judgement


def require_known_checks(scenario: Scenario) -> None:
    """Raises `SpecError` if the scenario names a check, or a finding as a known weakness, that it has nothing for."""
    checks = checks_of(scenario)
    for name in scenario.checks:
        if name not in checks:
            raise refuse(scenario.file, "checks", f"expected one of {', '.join(checks)}", name)
    findings = {*checks, *(f"slo.{slo.name}" for slo in scenario.slos)}
    for index, weakness in enumerate(scenario.known_weaknesses):
        if weakness.finding not in findings:
            expected = f"expected a check or slo.NAME{did_you_mean(weakness.finding, findings)}"
            raise refuse(scenario.file, f"known_weaknesses[{index}].finding", expected, weakness.finding)


def in_place() -> bool:
    """Whether this process stands where a run of its backend plays."""
    return is_in_place()


def in_sandbox() -> bool:
    """Whether this process runs in a sandbox."""
    return image_inside() is not None


def owner_of_reports() -> Owner | None:
    """Whom a run's files belong to, where that is not this process's user."""
    user = calling_user()
    return Owner(user.uid, user.gid) if user.needs_handing_over else None


def heal_here(console: Console) -> int:
    """In a sandbox where a stack is up: heals what its ledger says is open. Returns the exit code."""
    file = state_dir(calling_user()) / "session.json"
    if not file.exists():
        console.print(plain("nothing to heal: no stack is up here"))
        return 0
    return heal_open(open_session({SESSION_ENV: str(file)}).injector, console)


def heal_open(injector: Injector, console: Console) -> int:
    """Heals what is open, a line for each; the exit code is 4 if one of them is not seen to have ended."""
    proved: list[bool] = []

    def heard(injection: str, undone: Undone) -> None:
        proved.append(undone.proof.holds)
        console.print(plain(f"{injection}: healed{'' if undone.proof.holds else ', but it is not proved'}"))

    try:
        heal_all(injector, heard)
    except ExceptionGroup as group:
        for error in group.exceptions:
            console.print(plain(f"not healed: {error}"), soft_wrap=True)
        return HarnessError.exit_code
    return 0 if all(proved) else HarnessError.exit_code
