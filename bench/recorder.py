"""What recording every op costs: ops for each second of processor time, with the recorder and without."""

import json
from collections.abc import Iterator
from statistics import median

from bench.measure import BenchError, Figure, Place, Timed, timed_command, timed_run

CLIENTS = ("locust", "direct")
SETTLING_S = 8  # the first seconds are left out: connections are made in them
LEAST_S = 10  # seconds that a client has to have been watched for


def figures(place: Place) -> Iterator[Figure]:
    """For each client: ops per second and core with recording, and the ratio to those without. Raises `BenchError`."""
    timed_command(["image"])
    pairs = [(_recorded(place), _unrecorded(place)) for _ in range(place.repeats)]
    for client in CLIENTS:
        with_it = tuple(ops_per_core_second(recorded, client) for recorded, _ in pairs)
        without = tuple(ops_per_core_second(unrecorded, client) for _, unrecorded in pairs)
        yield Figure(name=f"{client}: ops per second and core, recorded", unit="/s", values=with_it)
        yield Figure(name=f"{client}: ops per second and core, not recorded", unit="/s", values=without)
        ratio = median(with_it) / median(without)
        yield Figure(name=f"{client}: recorded / not recorded", unit="", values=(ratio,), aim="at least 0.95")


def _recorded(place: Place) -> Timed:
    run = timed_run("baseline", place)
    if not any(_ops_bytes(run, client) for client in CLIENTS):
        raise BenchError(f"{run.directory}: nothing was recorded (exit {run.exit_code})")
    return run


def _unrecorded(place: Place) -> Timed:
    """A run whose clients keep nothing; it is inconclusive, as it has to be."""
    run = timed_run("baseline", place, {"RESILIENCE_RECORD": "0"})
    if any(_ops_bytes(run, client) for client in CLIENTS):
        raise BenchError(f"{run.directory}: ops were recorded although none were to be")
    return run


def _ops_bytes(run: Timed, client: str) -> int:
    file = run.directory / "load" / f"{client}.ops.jsonl"
    return file.stat().st_size if file.exists() else 0


def ops_per_core_second(run: Timed, client: str) -> float:
    """Ops that ended, for each second of processor time that the client's process used."""
    try:
        seconds = list(run.events("generator", f"load/{client}.stats.jsonl"))[SETTLING_S:]
    except (OSError, json.JSONDecodeError) as error:
        raise BenchError(f"{run.directory}: no stats of {client}: {error}") from error
    busy_s = sum(data["cpu_ratio"] for data in seconds)  # one line a second
    if len(seconds) < LEAST_S or not busy_s:
        raise BenchError(f"{run.directory}: {client} was watched for {len(seconds)} s only")
    return float(sum(data["ok"] + data["fail"] + data["unknown"] for data in seconds) / busy_s)
