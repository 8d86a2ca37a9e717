"""How long anything of a run is left after `kill -9` of its supervisor, or of its sandbox's first process."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping

from bench.measure import ROOT, BenchError, Figure, Place, timed_command
from resilience.agent.process import look_up
from tests.scenario.traces import MARK, Seen, Traces, namespaces

UP_WITHIN_S = 60
GONE_WITHIN_S = 30
LOOK_EVERY_S = 0.1
POLL_S = 0.001
Choice = Callable[[int, list[Seen]], int]  # the victim, from the supervisor's pid and the run's processes


def _first_process(_supervisor: int, processes: list[Seen]) -> int:
    return next(seen.pid for seen in processes if seen.argv[0].endswith("/tini-static") and "resilience" in seen.argv)


VICTIMS: Mapping[str, Choice] = {
    "the supervisor": lambda supervisor, _processes: supervisor,
    "the sandbox's first process": _first_process,
}


def figures(place: Place) -> Iterator[Figure]:
    """Seconds from the kill to the end of the last process and namespace. Raises `BenchError`."""
    timed_command(["image"])
    for name, choice in VICTIMS.items():
        values = tuple(_left_s(choice, place) for _ in range(place.repeats))
        yield Figure(name=f"kill -9 of {name}, to nothing left", unit="s", values=values, aim="0.2 s")


def _left_s(choice: Choice, place: Place) -> float:
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "resilience", "run", "baseline", "--reports", str(place.reports)]
    run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL)
    try:
        traces = Traces(mark)
        processes = _under_load(run, traces, place)
        return _gone_s(choice(run.pid, processes), {seen.pid for seen in processes}, run, traces.made)
    finally:
        run.terminate()
        run.wait(GONE_WITHIN_S)


def _under_load(run: "subprocess.Popen[bytes]", traces: Traces, place: Place) -> list[Seen]:
    """The processes of a run whose load has begun."""
    begun = set(place.reports.glob("baseline/*/load/phases.jsonl"))
    deadline = time.monotonic() + UP_WITHIN_S
    while set(place.reports.glob("baseline/*/load/phases.jsonl")) <= begun:
        if run.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"baseline: no load after {UP_WITHIN_S} s, exit {run.poll()}")
        time.sleep(LOOK_EVERY_S)
    return traces.look()


def _gone_s(victim: int, processes: set[int], run: "subprocess.Popen[bytes]", made: set[str]) -> float:
    """Kills the victim; seconds until the last process but the supervisor, and the last namespace, are gone."""
    waited_for = processes - {run.pid} | {victim}
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while (at := time.monotonic()) < began + GONE_WITHIN_S:
        if not any(map(look_up, waited_for)) and not made & namespaces():
            return at - began
        time.sleep(POLL_S)
    raise BenchError(f"baseline: something is left {GONE_WITHIN_S} s after its process {victim} was killed")
