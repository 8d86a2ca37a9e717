"""The same histories of registers judged by Porcupine and by ours, side by side, in ops a second of processor time.

Porcupine (`main.go`) is built with the machine's own Go, and runs as a program of its own. It stops at the first
register that contradicts itself, so the history that is timed has none; that both find the one that is planted in
another is asked first.
"""

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench.measure import ROOT, BenchError, Figure, Place, rates
from bench.registers import OPS, SEARCHED, WRITE, Made, as_history, broken, made
from resilience.check.linearizability import INITIAL
from resilience.check.registers import registers
from resilience.history.read import History
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario

BUILD_TIMEOUT_S = 300
RUN_TIMEOUT_S = 600


def figures(place: Place) -> Iterator[Figure]:
    """Ops a second of both. Raises `BenchError` without Go, or where the two disagree."""
    program = _built(place.reports)
    scenario = read_scenario(ROOT, "postgresql-baseline")
    for what, ops, swaps in (("reads and writes", OPS, False), ("a quarter compare-and-sets", SEARCHED, True)):
        planted, sound = (made(ops, swaps=swaps, stale=stale) for stale in (True, False))
        verdicts = [_judged(program, one)[0] for one in (planted, sound)]
        history = as_history(sound)
        found = [_broken(scenario, one) for one in (as_history(planted), history)]
        if verdicts != ["Illegal", "Ok"] or found != [1, 0]:
            raise BenchError(f"{what}: Porcupine says {verdicts}, ours has found {found}")
        theirs = tuple(ops / _judged(program, sound)[1] for _ in range(place.repeats))
        found_none = partial(_broken, scenario, history)
        ours = rates(place, ops, found_none, 0)
        yield Figure(name=f"{what}, {ops:,} ops: Porcupine", unit="ops/s", values=theirs)
        yield Figure(name=f"{what}, {ops:,} ops: ours", unit="ops/s", values=ours)


def _broken(scenario: Scenario, history: History) -> int:
    return broken(registers(scenario, history))


def _built(into: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise BenchError("there is no Go on this machine, which Porcupine is built with")
    program = into / "porcupine"
    folder = Path(__file__).resolve().parent
    done = subprocess.run(
        [go, "build", "-o", str(program), "."], cwd=folder, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BenchError(f"go build: {done.stderr.strip()}")
    return program


def _judged(program: Path, ops: Made) -> tuple[str, float]:
    """Porcupine's verdict, and the processor seconds that it took."""
    stood = np.where(ops.kind == WRITE, INITIAL, ops.stood)
    rows = np.stack([ops.key, ops.kind, stood, ops.value, ops.called, ops.returned], axis=1)
    done = subprocess.run(
        [str(program)], input=rows.astype("<i8").tobytes(), capture_output=True, timeout=RUN_TIMEOUT_S, check=False
    )
    verdict, _, took = done.stdout.decode().partition(" ")
    if done.returncode != 0 or not took:
        raise BenchError(f"porcupine: exit {done.returncode}: {done.stderr.decode().strip()}")
    return verdict, float(took)
