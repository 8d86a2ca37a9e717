"""What all benchmarks share: figures with their medians, and the command `resilience` as something to be timed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND_TIMEOUT_S = 1_800
NOTHING_SET: Mapping[str, str] = MappingProxyType({})


class BenchError(Exception):
    """A benchmark could not be measured: one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing measured several times; ``aim`` says what was hoped for, in words."""

    name: str
    unit: str
    values: tuple[float, ...]
    aim: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        low, high = min(self.values), max(self.values)
        shown = (f"{median(self.values):.2f} {self.unit}".strip(), f"{low:.2f} to {high:.2f}", str(len(self.values)))
        return (self.name, *shown, self.aim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a benchmark keeps its runs, and how often it repeats each."""

    reports: Path
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A run that is over: how long the whole command took, its exit code, and what it recorded."""

    took_s: float
    exit_code: int
    directory: Path

    def spec(self) -> Any:
        """The run's ``spec.json``."""
        return json.loads((self.directory / "spec.json").read_text())

    def verdict(self) -> Any:
        """The run's ``verdict.json``. Raises `BenchError` if it has none."""
        path = self.directory / "verdict.json"
        if not path.exists():
            raise BenchError(f"{self.directory}: no verdict (exit {self.exit_code})")
        return json.loads(path.read_text())

    def stack_up_s(self) -> float:
        """How long its stack took until the first good request. Raises `BenchError` if that never came."""
        for data in self.events("stack-up"):
            return float(data["took_s"])
        raise BenchError(f"{self.directory}: the stack never answered (exit {self.exit_code})")

    def events(self, name: str, file: str = "history.jsonl") -> Iterator[dict[str, Any]]:
        """The data of all events of a name in one of the run's files, in order."""
        for line in (self.directory / file).read_text().splitlines():
            record = json.loads(line)
            if record[:2] == ["event", name]:
                yield record[3]


def timed_run(
    scenario: str, place: Place, environment: Mapping[str, str] = NOTHING_SET, options: Iterable[str] = ()
) -> Timed:
    """Runs a scenario as a person would. Raises `BenchError` if it has no recorded run to show."""
    folder = place.reports / scenario
    before = set(folder.glob("*"))
    took_s, code = timed_command(["run", scenario, "--reports", str(place.reports), *options], environment)
    made = sorted(set(folder.glob("*")) - before)
    if not made:
        raise BenchError(f"resilience run {scenario}: exit {code}, and no run directory in {folder}")
    return Timed(took_s=took_s, exit_code=code, directory=made[-1])


def timed_command(arguments: Iterable[str], environment: Mapping[str, str] = NOTHING_SET) -> tuple[float, int]:
    """Runs ``resilience`` with these arguments; seconds and exit code."""
    argv = [sys.executable, "-m", "resilience", *arguments]
    print(f"bench: resilience {' '.join(argv[3:])}", file=sys.stderr)
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **environment}, stdout=sys.stderr, timeout=COMMAND_TIMEOUT_S, check=False
    )
    return time.monotonic() - began, done.returncode


def rates(place: Place, ops: int, found: Callable[[], int], expected: int = 1) -> tuple[float, ...]:
    """Ops a second of processor time, each time that it is measured. Raises `BenchError` if not so many were found."""
    return tuple(_rate(ops, found, expected) for _ in range(place.repeats))


def _rate(ops: int, found: Callable[[], int], expected: int) -> float:
    began = time.process_time()
    number = found()
    took_s = time.process_time() - began
    _require(number, expected)
    return ops / took_s


def _require(number: int, expected: int) -> None:
    if number != expected:
        raise BenchError(f"{number} were found where {expected} is planted")


def peaks(place: Place, module: str, check: str, ops: int) -> Figure:
    """The most memory of ``python -m MODULE CHECK OPS``, which prints it. Raises `BenchError` if it could not tell."""
    values = tuple(_peak(module, check, ops) for _ in range(place.repeats))
    return Figure(name=f"{check}, {ops:,} ops: peak memory", unit="MB", values=values, aim="under 2,000")


def _peak(module: str, check: str, ops: int) -> float:
    argv = [sys.executable, "-m", module, check, str(ops)]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise BenchError(f"{module} {check}: exit {done.returncode}")
    return float(done.stdout)


def peak_mb(found: Callable[[], int], expected: int = 1) -> float:
    """The most memory that this process had at once while it looked; what it looks at counts, how it was made does not.

    Raises `BenchError` if not so many were found.
    """
    own = Path("/proc/self")
    (own / "clear_refs").write_text("5")  # sets the highest mark back
    _require(found(), expected)
    (mark,) = (line for line in (own / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(mark.split()[1]) * 1024 / 1e6


def table(figures: Iterable[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = [("measured", "median", "from to", "times", "aim"), *(figure.row for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
