"""The store of runs: makes a directory for each, finds them again, and says which one is the latest."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from resilience.check.finding import Judgement
from resilience.errors import HostError, SpecError
from resilience.report.document import About
from resilience.report.run import Owner, Run
from resilience.spec.convert import show_name
from resilience.spec.scenario import Scenario

LATEST = "latest"
_SAME_SECOND_MAX = 100  # runs of one scenario and seed that may begin in the same second


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class RunStore:
    """The directory ``reports/``: ``<scenario>/<UTC>-<seed>/`` for each run, and ``latest``."""

    def __init__(self, reports_dir: Path, owner: Owner | None, now: Callable[[], datetime] = utc_now) -> None:
        """``owner`` is who called ``sudo``, or None if the files belong to this process's user anyway."""
        self.reports_dir = reports_dir
        self.owner = owner
        self._now = now

    def open(self, scenario: Scenario, about: About) -> Run:
        """Makes the directory of a new run and writes its ``spec.json``.

        Raises `HostError` when the reports' directory cannot be written.
        """
        started = self._now()
        run = Run(self._new_directory(scenario, started), self.owner)
        run.save_spec(scenario, about, started.isoformat(timespec="seconds"))
        run.take_reserve()
        for folder in (run.load_dir, run.chaos_dir, run.members_dir):
            self._make(folder)
        return run

    def save_suite(self, name: str, files: Mapping[str, bytes]) -> Path:
        """Writes the files of a suite that has ended to ``suites/<name>/<UTC>/``, its path. Raises `HostError`."""
        directory = self.reports_dir / "suites" / name / f"{self._now():%Y%m%dT%H%M%SZ}"
        self._make(directory)
        for file, content in files.items():
            try:
                (directory / file).write_bytes(content)
            except OSError as error:
                raise HostError(f"{directory / file}: cannot be written: {error.strerror}") from error
            self._own(directory / file)
        return directory

    def mark_latest(self, run: Run) -> None:
        """Points ``latest`` at a run that has a verdict, in one step; at any other, nothing happens."""
        if not run.verdict.exists():
            return
        beside = self.reports_dir / f".{LATEST}-{os.getpid()}"
        try:
            beside.unlink(missing_ok=True)
            beside.symlink_to(run.directory.relative_to(self.reports_dir))
            self._own(beside)
            beside.replace(self.reports_dir / LATEST)
        except OSError as error:
            raise HostError(f"{self.reports_dir / LATEST}: cannot be moved: {error.strerror}") from error

    def _new_directory(self, scenario: Scenario, started: datetime) -> Path:
        parent = self.reports_dir / scenario.name
        for folder in (self.reports_dir, parent):
            self._make(folder)
        stem = f"{started:%Y%m%dT%H%M%SZ}-{scenario.seed}"
        for attempt in range(1, _SAME_SECOND_MAX):
            directory = parent / (stem if attempt == 1 else f"{stem}-{attempt}")
            if self._make(directory):
                return directory
        raise HostError(f"{parent / stem}: exists {_SAME_SECOND_MAX} times over; is the clock standing still?")

    def _make(self, folder: Path) -> bool:
        """Makes a folder and its parents, unless it is there; tells whether it did."""
        if not os.path.exists(folder.parent):  # noqa: PTH110  never raises
            self._make(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        except OSError as error:
            raise HostError(
                f"{folder}: cannot be made: {error.strerror}; give another directory or make {self.reports_dir} "
                f"writable"
            ) from error
        self._own(folder)
        return True

    def _own(self, path: Path) -> None:
        if self.owner:
            os.lchown(path, self.owner.uid, self.owner.gid)


def find_run(reports_dir: Path, text: str, owner: Owner | None = None) -> Run:
    """The run that a person means: ``latest``, a scenario's name (its latest run), or a path.

    Raises `SpecError` when there is none.
    """
    for directory in (Path(text), reports_dir / text):
        if os.path.isfile(directory / "spec.json"):  # noqa: PTH113  never raises, whatever the name
            return Run(directory.resolve(), owner)
    runs = _runs_of(reports_dir / text)
    if runs:
        return Run(runs[-1].resolve(), owner)
    raise SpecError(
        f"{show_name(text)}: no run is there; expected the path of a run's directory, the name of a scenario that was "
        f"run, or '{LATEST}' (looked in {reports_dir})"
    )


def load_judgement(run_dir: Path) -> Judgement:
    """The judgement of a run; one without ``verdict.json`` is inconclusive, cut short. Raises `SpecError`."""
    return Run(run_dir).load_judgement()


def _runs_of(scenario_dir: Path) -> list[Path]:
    if not os.path.isdir(scenario_dir):  # noqa: PTH112  never raises
        return []
    return sorted(path.parent for path in scenario_dir.glob("*/spec.json"))
