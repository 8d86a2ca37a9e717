"""Whole runs, called as a person calls them: ``resilience run`` in a process of its own, judged by what it leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RUN_TIMEOUT_S = 300.0
SHORT_KILL = str(Path(__file__).parent / "files" / "short-kill.yaml")
_TAIL_CHARACTERS = 3_000


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

    def findings(self, check: str) -> list[dict[str, Any]]:
        """The findings whose check begins with this."""
        return [finding for finding in self.verdict["findings"] if finding["check"].startswith(check)]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of the run's events of that name."""
        assert self.directory
        lines = [json.loads(line) for line in (self.directory / "history.jsonl").read_text().splitlines()]
        return [line[3] for line in lines if line[0] == "event" and line[1] == name]


class Resilience:
    """The command, with reports in a folder of the test's.

    It takes no control unless ``control`` says so (``auto``): many tests are about runs that are inconclusive anyway.
    """

    def __init__(self, reports: Path, control: str = "none") -> None:
        self.reports = reports
        self.control = control
        self._before: set[Path] = set()  # runs that were there when the test began
        self._started: list[subprocess.Popen[str]] = []

    def start(self, scenario: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "resilience", "run", scenario, "--reports", str(self.reports)]
        command += ["--control", self.control, *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
        )
        self._started.append(process)
        return process

    def wait(self, process: "subprocess.Popen[str]", timeout_s: float = RUN_TIMEOUT_S) -> Ended:
        output, _ = process.communicate(timeout=timeout_s)
        directories = self.directories()
        return Ended(process.returncode, output, directories[-1] if directories else None)

    def run(self, scenario: str, *arguments: str) -> Ended:
        return self.wait(self.start(scenario, *arguments))

    def directories(self) -> Sequence[Path]:
        """The runs of this test, in the order in which they began."""
        return sorted(set(self._all_directories()) - self._before, key=lambda directory: directory.name)

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


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Resilience, Ended]]:
    """A run with a fault where there was no run before: it takes the control of the default stack and load."""
    command = Resilience(tmp_path_factory.mktemp("first"), control="auto")
    yield command, command.run(SHORT_KILL)
    command.end()


@pytest.fixture(scope="session")
def control(first_run: tuple[Resilience, Ended]) -> Path:
    """The directory of that control, which is real and serves all tests."""
    command, ended = first_run
    controls = [directory for directory in command.directories() if directory.parent.name == "baseline"]
    assert len(controls) == 1, ended.output[-_TAIL_CHARACTERS:]
    assert json.loads((controls[0] / "verdict.json").read_text())["verdict"] == "pass", ended.output[-_TAIL_CHARACTERS:]
    return controls[0]


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


def below(pid: int) -> set[int]:
    """A process and all below it."""
    found, todo = set(), [pid]
    while todo:
        parent = todo.pop()
        found.add(parent)
        try:
            todo += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except OSError:
            continue
    return found


def namespaces() -> set[str]:
    """Every namespace that some process of this machine is in."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            found.add(os.readlink(link))
        except OSError:
            continue
    return found
