"""Whole runs, called as a person calls them: ``resilience run`` in a process of its own, judged by what it leaves."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience.backend.local.place import cache_dir, calling_user
from tests.scenario.kill_matrix import SEED, SEED_VARIABLE
from tests.scenario.processes import secret_below
from tests.scenario.traces import MARK, Ground, Traces, added, below, files_below, ground, namespaces

RUN_TIMEOUT_S = 300.0
FAILOVER = "redis-failover"
SHORT_KILL = str(Path(__file__).parent / "files" / "short-kill.yaml")
UNREACHABLE = str(Path(__file__).parent / "files" / "unreachable.yaml")
KILLED = str(Path(__file__).parent / "killed.yaml")
SHORT = ("--set", "timeline.warmup_s=3", "--set", "timeline.steady_s=20")  # the least that a ratio is judged over
LOOK_EVERY_S = 0.5
WATCHED_TIMEOUT_S = 150.0
KEPT = {"harmonyflow", "harmonyflow/images", "harmonyflow/run.lock", "harmonyflow/sandbox"}  # in the cache folder
_TAIL_CHARACTERS = 3_000
TAKEN_RATIO = 0.1  # of the machine's processors: what its host gives to others is told from 0.05 on
TAKEN_FOR = 10  # seconds on end
PLAYED_AGAIN_MAX = 6  # runs of a session: the rest are looked at as they are


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which runs were played again, whether their tests passed or not."""
    for scenario in _played_again:
        terminalreporter.write_line(f"{scenario}: played again, since the machine's host gave much of it to others")


def pytest_report_header() -> str:
    """The seed of the kill matrix: which cells are in the sample, and when each kills."""
    return f"kill matrix: {SEED_VARIABLE}={SEED}"


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its exit code, what it printed, and its directory (None: it never came so far)."""

    code: int
    output: str
    directory: Path | None

    @property
    def verdict(self) -> dict[str, Any]:
        assert self.directory, self.output[-_TAIL_CHARACTERS:]
        verdict: dict[str, Any] = json.loads((self.directory / "verdict.json").read_text())
        return verdict

    @property
    def files(self) -> list[str]:
        """All files of the run's directory, by their paths in it."""
        assert self.directory
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())

    def findings(self, check: str) -> list[dict[str, Any]]:
        """The findings whose check begins with this."""
        return [finding for finding in self.verdict["findings"] if finding["check"].startswith(check)]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of the run's events of that name."""
        assert self.directory
        return [data for _, data in events_in(self.directory, name)]


def events_in(directory: Path, name: str) -> list[tuple[int, dict[str, Any]]]:
    """The events of a name that are on record by now: when (us), and their data."""
    path = directory / "history.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [(line[2], line[3]) for line in lines if line[0] == "event" and line[1] == name]


def machine_was_taken(directories: Iterable[Path]) -> bool:
    """Whether any of these runs has on record that the machine's host gave much of it to others for a while."""
    return any(_worst_stolen(directory) >= TAKEN_RATIO for directory in directories)


def _worst_stolen(directory: Path) -> float:
    """The greatest share that was stolen over as many seconds on end as count."""
    each = [data["steal_ratio"] for _, data in events_in(directory, "pressure")]
    return max((statistics.fmean(each[at : at + TAKEN_FOR]) for at in range(len(each) - TAKEN_FOR + 1)), default=0.0)


def with_set(*changes: str) -> list[str]:
    """The arguments of a run that is to be changed so."""
    return [word for change in changes for word in ("--set", change)]


Meanwhile = Callable[["subprocess.Popen[str]"], object]
_played_again: list[str] = []  # the scenarios of this session's runs that were


class Resilience:
    """The command, with reports in a folder of the test's.

    It takes no control unless ``control`` says so (``auto``): many tests are about runs that are inconclusive anyway.
    """

    def __init__(
        self,
        reports: Path,
        control: str = "none",
        environment: Mapping[str, str] = os.environ,
        enter: Sequence[str] = (),
    ) -> None:
        """``enter`` is what the command is to begin with."""
        self.reports = reports
        self.control = control
        self.environment = environment
        self.enter = enter
        self._before: set[Path] = set()  # runs that were there when the test began
        self._started: list[subprocess.Popen[str]] = []

    def start(self, scenario: str, *arguments: str) -> "subprocess.Popen[str]":
        run = [sys.executable, "-m", "resilience", "run", scenario, "--reports", str(self.reports)]
        run += ["--control", self.control, *arguments]
        process = subprocess.Popen(
            [*self.enter, *run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
            env=self.environment,
        )  # fmt: skip
        self._started.append(process)
        return process

    def wait(
        self, process: "subprocess.Popen[str]", timeout_s: float = RUN_TIMEOUT_S, look: Callable[[], Any] = list
    ) -> Ended:
        """Waits for a run's end; ``look`` is called twice a second meanwhile."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                output, _ = process.communicate(timeout=LOOK_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"the run has not ended after {timeout_s} s"
                look()
        directories = self.directories()
        return Ended(process.returncode, output, directories[-1] if directories else None)

    def judge(self, directory: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "resilience", "judge", str(directory), "--reports", str(self.reports)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=self.environment)

    def run(self, scenario: str, *arguments: str, meanwhile: Meanwhile | None = None) -> Ended:
        """A run, from its beginning to its end; ``meanwhile`` is what somebody does to it.

        One that its machine was taken from is played again, since nothing follows from it: that is the machine's doing,
        and which of the reasons for a verdict it adds depends on the moment. It is set aside, and the summary says so.
        """
        ended = self._played(scenario, *arguments, meanwhile=meanwhile)
        while ended.code and machine_was_taken(self.directories()) and len(_played_again) < PLAYED_AGAIN_MAX:
            _played_again.append(scenario)
            print(ended.output[-_TAIL_CHARACTERS:])  # noqa: T201  shown if the test fails
            self._set_aside()
            ended = self._played(scenario, *arguments, meanwhile=meanwhile)
        return ended

    def _played(self, scenario: str, *arguments: str, meanwhile: Meanwhile | None) -> Ended:
        process = self.start(scenario, *arguments)
        if meanwhile:
            meanwhile(process)
        return self.wait(process)

    def _set_aside(self) -> None:
        """Moves this test's runs out of the reports: none of them is anybody's control."""
        for directory in self.directories():
            aside = self.reports.with_name(f"{self.reports.name}-taken") / directory.parent.name
            aside.mkdir(parents=True, exist_ok=True)
            directory.rename(aside / directory.name)

    def directories(self) -> Sequence[Path]:
        """The runs of this test, in the order in which they began."""
        return sorted(set(self._all_directories()) - self._before, key=lambda directory: directory.name)

    def run_of(self, scenario: str) -> Path | None:
        """This test's first run of a scenario, as soon as it is recorded."""
        return next((directory for directory in self.directories() if directory.parent.name == scenario), None)

    def _all_directories(self) -> Iterator[Path]:
        return (path.parent for path in self.reports.glob("*/*/spec.json"))

    def keep(self, run: Path) -> None:
        """Copies a run of somebody else's into the reports, as if it had been there before."""
        kept = self.reports / run.parent.name / run.name
        shutil.copytree(run, kept)
        self._before.add(kept)

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def resilience(tmp_path: Path) -> Iterator[Resilience]:
    """The command with empty reports."""
    command = Resilience(tmp_path / "reports")
    yield command
    command.end()


@dataclass(frozen=True)
class First:
    """The first run that somebody plays on a machine, and what was seen of it from outside."""

    command: Resilience
    ended: Ended
    secrets: Collection[bytes]  # the password of its stack
    left: Collection[str]  # the namespaces that were there after it and not before


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[First]:
    """`redis-failover` where there was no run before: it takes the control of the default stack and load."""
    command, before = Resilience(tmp_path_factory.mktemp("first"), control="auto"), namespaces()
    secrets: set[bytes] = set()

    def look_for_the_secret(process: "subprocess.Popen[str]") -> None:
        def is_seen() -> bool:
            if command.run_of(FAILOVER):  # its control has ended, whose stack had another one
                secrets.update(filter(None, (secret_below(pid) for pid in below(process.pid))))
            return bool(secrets) or process.poll() is not None

        secrets.clear()  # so had a run that is played again
        wait_for("the stack's password exists", is_seen, RUN_TIMEOUT_S)

    ended = command.run(FAILOVER, meanwhile=look_for_the_secret)
    yield First(command, ended, frozenset(secrets), namespaces() - before)
    command.end()


@pytest.fixture(scope="session")
def control(first_run: First) -> Path:
    """The directory of that control, which is real and serves all tests."""
    said = first_run.ended.output[-_TAIL_CHARACTERS:]
    controls = [directory for directory in first_run.command.directories() if directory.parent.name == "baseline"]
    assert len(controls) == 1, said
    assert json.loads((controls[0] / "verdict.json").read_text())["verdict"] == "pass", said
    return controls[0]


@pytest.fixture(scope="session")
def failed_control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ended, Path]]:
    """A run whose control cannot pass, and the directory of that control."""
    command = Resilience(tmp_path_factory.mktemp("unreachable"), control="auto")
    ended = command.run(UNREACHABLE)
    control = command.run_of("baseline")
    assert control, ended.output[-_TAIL_CHARACTERS:]
    yield ended, control
    command.end()


@pytest.fixture
def beside_control(resilience: Resilience, control: Path) -> Resilience:
    """The command with that control in its reports, as if this person had run it; another one is taken if need be."""
    resilience.keep(control)
    resilience.control = "auto"
    return resilience


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not after {timeout_s} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Watched:
    """A run of its own world: its home, cache and temporary folders are the test's, and all its traces are followed."""

    resilience: Resilience
    folder: Path
    traces: Traces
    ground: Ground
    before: Mapping[str, Counter[str]]

    def start(self) -> "subprocess.Popen[str]":
        return self.resilience.start(KILLED)

    def wait(self, process: "subprocess.Popen[str]") -> Ended:
        return self.resilience.wait(process, WATCHED_TIMEOUT_S, self.traces.look)

    def directory(self) -> Path | None:
        """Where the run is recorded, as soon as it is."""
        return next(iter(self.resilience.directories()), None)

    def nothing_is_left(self) -> None:
        """Asserts that the machine is as it was, but for the run's directory and what belongs into the cache."""
        assert len(self.traces.made) >= 5, "its namespaces were never seen, so nothing is known of them"
        assert self.traces.left() == []
        assert added(self.before, self.ground.machine()) == {}
        assert {name: files_below(self.folder / name) for name in ("home", "tmp")} == {"home": set(), "tmp": set()}
        assert files_below(self.folder / "cache") <= KEPT


@pytest.fixture(scope="session")
def killed_control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The control of `killed.yaml`: real, and one for all, so that no run of it is inconclusive for want of one."""
    killed = yaml.safe_load(Path(KILLED).read_text())
    load = {f"load.{field}": value for field, value in killed["load"].items()}
    changes = [f"{field}={value}" for field, value in (killed["set"] | load).items()]
    command = Resilience(tmp_path_factory.mktemp("killed-control"))
    ended = command.run("baseline", *SHORT, *with_set(*changes))
    assert ended.directory, ended.output[-_TAIL_CHARACTERS:]
    assert ended.verdict["verdict"] == "pass", ended.output[-_TAIL_CHARACTERS:]
    return ended.directory


@pytest.fixture
def watched(tmp_path: Path, killed_control: Path) -> Iterator[Watched]:
    for name in ("home", "tmp", "cache/harmonyflow"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "cache/harmonyflow/images").symlink_to(cache_dir(calling_user()) / "images")
    mark = uuid.uuid4().hex
    own = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache"}
    environment = {**os.environ, MARK: mark, **{name: str(tmp_path / folder) for name, folder in own.items()}}
    with ground() as place:
        command = Resilience(tmp_path / "reports", "auto", environment, place.enter)
        command.keep(killed_control)
        yield Watched(command, tmp_path, Traces(mark, place.pid), place, place.machine())
        command.end()
