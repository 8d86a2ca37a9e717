"""One run as it is started from outside of the place that it plays in: what is wanted, and what became of it."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from resilience import cluster_run, runner, supervise
from resilience.backend.choice import DEFAULT, NAMED, able
from resilience.backend.kubernetes.tiers import NOTHING_MORE, Extent
from resilience.backend.local.place import PROJECT_ROOT
from resilience.check.finding import Judgement
from resilience.control import control_scenario
from resilience.errors import SpecError, StackError
from resilience.interrupt import Interrupted, interruptible
from resilience.report.store import RunStore, find_run, load_judgement
from resilience.report.terminal import console_for, plain
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario

VERDICT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
INTERRUPTED_CODES = (130, 143)
UNJUDGED_CODES = (2, 4, *INTERRUPTED_CODES)  # what a run inside ends with by itself, whatever its verdict

TakeControl = Literal["auto", "only", "none"]  # what to do about a run's control: `Wanted.control`


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run that somebody wants: a scenario's name or file, changes to it, a seed (None: the scenario's own).

    ``control``: ``auto`` takes the control first if it is missing, ``none`` does not, ``only`` runs the control alone.
    """

    scenario: str
    overrides: Sequence[str]
    seed: int | None
    reports: Path
    control: TakeControl = "auto"

    @property
    def arguments(self) -> list[str]:
        """The command line that asks for it."""
        seed = [] if self.seed is None else ["--seed", str(self.seed)]
        sets = [word for override in self.overrides for word in ("--set", override)]
        control = [] if self.control == "auto" else ["--control", self.control]
        return ["run", self.scenario, *sets, *seed, *control, "--reports", str(self.reports.absolute())]

    def read(self) -> Scenario:
        """The scenario, with all changes made. Raises `SpecError`."""
        seed = () if self.seed is None else (f"seed={self.seed}",)
        return read_scenario(PROJECT_ROOT, self.scenario, (*self.overrides, *seed))

    def rerun(self, seed: int, stack: str) -> str:
        """The command that repeats it on a stack, as a shell takes it: people copy it from the report."""
        sets = [word for override in self.overrides for word in ("--set", override)]
        control = [] if self.control == "auto" else ["--control", self.control]
        place = [] if stack == DEFAULT else ["--stack", stack]
        return shlex.join(["resilience", "run", self.scenario, *sets, "--seed", str(seed), *place, *control])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: its exit code, and its directory and judgement if it came so far.

    ``took_s`` is its own time, from its start to its report: without the control that may have been taken for it.
    ``machine`` is how busy the machine was meanwhile, as a ``pressure`` event says it (`machine.pressure_between`).
    """

    code: int
    directory: Path | None
    judgement: Judgement | None
    took_s: float = 0.0
    machine: Mapping[str, float] = field(default_factory=dict)


RunOutside = Callable[[Wanted], Ended]


def require_possible(scenario: Scenario, stack: str) -> None:
    """Raises `SpecError` for a fault, a prelude's too, that nobody carries out on this stack."""
    experiment = scenario.experiment
    if experiment is None:
        return
    for fault in (experiment.fault, *([experiment.prelude.fault] if experiment.prelude else [])):
        if stack.partition(":")[0] not in (stacks := able(fault)):
            kind = fault.__struct_config__.tag
            others = " or ".join(f"{name}:NAME" if name == NAMED else name for name in stacks)
            raise SpecError(f"{experiment.file}: fault {kind} is not possible on {stack}: use --stack {others}")


def prepared(stack: str, reports: Path, *, break_lock: bool = False, scenarios: Sequence[Scenario] = ()) -> RunOutside:
    """Makes ready, with progress, what runs on this stack need; returns what runs one, reported below ``reports``.

    ``break_lock``: a cluster's stale lock is broken; it has to have room for each of ``scenarios``. Raises
    `HostError`, `StackError`.
    """
    if stack == DEFAULT:
        return _local(reports)
    extent = Extent.of(scenarios) if scenarios else NOTHING_MORE
    place = cluster_run.prepared(reports, break_lock=break_lock, extent=extent, where=stack)
    return partial(_run_in_cluster, place=place)


def _local(reports: Path) -> RunOutside:
    image = supervise.image_root()
    supervise.require_machine(reports)
    return partial(_run_in_sandbox, image=image)


def _run_in_cluster(wanted: Wanted, place: cluster_run.ClusterPlace) -> Ended:
    """Runs in a cluster's pod; what came back of it is judged here. Raises `HostError`, `SpecError`, `StackError`."""
    scenario, only = wanted.read(), wanted.control == "only"
    asked = cluster_run.Asked(
        scenario=control_scenario(scenario) if only else scenario,
        store=RunStore(wanted.reports, runner.owner_of_reports()),
        rerun=wanted.rerun(scenario.seed, place.where),
        as_control=only,
    )
    try:
        with interruptible(lambda text: print(f"resilience: {text}", file=sys.stderr)):  # noqa: T201
            outcome, directory = place.run(asked)
    except Interrupted as interrupted:  # before the run began, or after its record was taken; the lock is let go
        return Ended(code=interrupted.exit_code, directory=None, judgement=None)
    ended_by_itself = outcome.cut_short_code in UNJUDGED_CODES
    code = outcome.cut_short_code if ended_by_itself else VERDICT_CODES[outcome.judgement.verdict]
    return Ended(code=code, directory=directory, judgement=outcome.judgement)


def _run_in_sandbox(wanted: Wanted, image: Path) -> Ended:
    """Runs in a sandbox; judges what was recorded if the run inside could not.

    An exit code alone is not believed: that of a sandbox that was killed may be 1. Raises `HostError`, and `StackError`
    if the sandbox was killed before anything was recorded.
    """
    code, directory = supervise.run_inside(wanted.arguments, image)
    if directory is None:
        if code not in UNJUDGED_CODES:
            raise StackError(f"the sandbox was ended before the run recorded anything (exit {code}); run it again")
        return Ended(code=code, directory=None, judgement=None)
    judgement = _complete(directory, code)
    if judgement is None:
        return _cut_short(directory, code, wanted)
    return Ended(code=code, directory=directory, judgement=judgement)


def _complete(directory: Path, code: int) -> Judgement | None:
    """The judgement of a run that has come to its own end, None for one that has not: it is rendered last."""
    if not (directory / "verdict.json").exists() or not (directory / "report.html").exists():
        return None
    judgement = load_judgement(directory)
    return judgement if code in {VERDICT_CODES[judgement.verdict], *UNJUDGED_CODES} else None


def _cut_short(directory: Path, code: int, wanted: Wanted) -> Ended:
    """The run inside did not come to its own end: what it recorded is judged and rendered here."""
    console = console_for(sys.stderr)
    console.print(plain(f"resilience: the run was ended from outside (exit {code}); judging what was recorded"))
    store = None if wanted.control == "only" else RunStore(wanted.reports, runner.owner_of_reports())
    judgement = runner.judge_run(find_run(wanted.reports, str(directory)), store, console)
    code = code if code in INTERRUPTED_CODES else VERDICT_CODES[judgement.verdict]
    return Ended(code=code, directory=directory, judgement=judgement)
