"""What recording every op costs: ops for each second of processor time, with the recorder and without.

A machine's speed changes from run to run by more than recording costs, so both are measured in the same run: ops are
recorded in every other second, and each such second is compared with the one after it.
"""

import json
from collections.abc import Iterator
from itertools import batched

from bench.measure import BenchError, Figure, Place, Timed, timed_command, timed_run

CLIENTS = ("locust", "direct")
SETTLING_S = 8  # the first seconds are left out: connections are made in them
LEAST_PAIRS = 10  # seconds that were recorded, each with one after it that was not


def figures(place: Place) -> Iterator[Figure]:
    """For each client: ops per second and core with recording, and the ratio to those without. Raises `BenchError`."""
    timed_command(["image"])
    runs = [timed_run("baseline", place, {"RESILIENCE_RECORD": "alternate"}) for _ in range(place.repeats)]
    for client in CLIENTS:
        pairs = [pair for run in runs for pair in pairs_of(run, client)]
        recorded = tuple(with_it for with_it, _ in pairs)
        unrecorded = tuple(without for _, without in pairs)
        ratios = tuple(with_it / without for with_it, without in pairs)
        yield Figure(name=f"{client}: ops per second and core, recorded", unit="/s", values=recorded)
        yield Figure(name=f"{client}: ops per second and core, not recorded", unit="/s", values=unrecorded)
        yield Figure(name=f"{client}: recorded / not recorded", unit="", values=ratios, aim="at least 0.95")


def pairs_of(run: Timed, client: str) -> list[tuple[float, float]]:
    """Ops that ended for each second of the client's processor time: in a recorded second, and in the one after it.

    Raises `BenchError` if the client was not watched for long enough.
    """
    try:
        seconds = list(run.events("generator", f"load/{client}.stats.jsonl"))[SETTLING_S:]
    except (OSError, json.JSONDecodeError) as error:
        raise BenchError(f"{run.directory}: no stats of {client}: {error}") from error
    watched = seconds if seconds and seconds[0]["recorded"] else seconds[1:]
    pairs = [tuple(map(_ops_per_core_second, pair)) for pair in batched(watched, 2) if len(pair) == 2]
    kept = [(with_it, without) for with_it, without in pairs if with_it and without]
    if len(kept) < LEAST_PAIRS:
        raise BenchError(f"{run.directory}: {client} was watched for {len(seconds)} s only")
    return kept


def _ops_per_core_second(second: dict[str, float]) -> float:
    ops = second["ok"] + second["fail"] + second["unknown"]
    return ops / second["cpu_ratio"] if second["cpu_ratio"] else 0.0
