"""Judging a long run again by `resilience judge`: read, judged, saved and rendered in its own process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.measure import ROOT, BenchError, Figure, Place

OPS, MANY_OPS = 1_000_000, 10_000_000
LOST = 1  # as `bench.history` has it
ACKNOWLEDGED_RATIO_MIN = 0.9  # of the ops; reads are none, and what fell into the outage was not acknowledged


class Judged(NamedTuple):
    """What one judging took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def figures(place: Place) -> Iterator[Figure]:
    """Seconds and memory. Raises `BenchError` if the run was not judged to have lost what it has lost."""
    return _figures(place, OPS, wall="at most 10 s", memory="under 1,000")


def of_many(place: Place) -> Iterator[Figure]:
    """The same of a run ten times as long."""
    return _figures(place, MANY_OPS, wall="", memory="under 2,000")


def _figures(place: Place, ops: int, *, wall: str, memory: str) -> Iterator[Figure]:
    run = _written(place.reports, ops)
    judged = [_judged(run, ops) for _ in range(place.repeats)]
    name = f"judging {ops:,} ops"
    yield Figure(name=name, unit="s", values=tuple(one.wall_s for one in judged), aim=wall)
    yield Figure(name=f"{name}: processor time", unit="s", values=tuple(one.cpu_s for one in judged))
    yield Figure(name=f"{name}: peak memory", unit="MB", values=tuple(one.peak_mb for one in judged), aim=memory)


def _written(reports: Path, ops: int) -> Path:
    argv = [sys.executable, "-m", "bench.history", str(reports), str(ops)]
    print(f"bench: writing a run of {ops:,} ops", file=sys.stderr)
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"bench.history: exit {done.returncode}")
    return Path(done.stdout.strip())


def _judged(run: Path, ops: int) -> Judged:
    argv = [sys.executable, "-m", "resilience", "judge", str(run)]
    print(f"bench: resilience judge {run}", file=sys.stderr)
    began = time.monotonic()
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - began
    _require_right(run, ops, process.returncode)
    return Judged(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def _require_right(run: Path, ops: int, code: int) -> None:
    """What was timed must have been a judgement: every check had what it needs, and the loss was found."""
    verdict = json.loads((run / "verdict.json").read_text())
    broken = [finding["reason"] for finding in verdict["findings"] if finding["verdict"] == "inconclusive"]
    measures = verdict["measures"]
    lost, acked = measures.get("durability.lost_ops"), measures.get("durability.acked_ops", 0)
    if broken or lost != LOST or acked < ACKNOWLEDGED_RATIO_MIN * ops:
        raise BenchError(f"{run}: exit {code}: {broken or f'{lost} of {acked} acknowledged writes lost, not {LOST}'}")
