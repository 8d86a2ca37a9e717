"""The stack of all tiers up to its first good request, image cached: Redis, PostgreSQL, RabbitMQ and their services."""

from collections.abc import Iterator

from bench.measure import BenchError, Figure, Place, Timed, timed_command, timed_run

SCENARIO = "session-events-baseline"


def figures(place: Place) -> Iterator[Figure]:
    """Seconds. Raises `BenchError` if a run on it did not pass: what came up was no whole stack then."""
    timed_command(["image"])
    took_s = tuple(_up_s(timed_run(SCENARIO, place)) for _ in range(place.repeats))
    yield Figure(name=f"stack of {SCENARIO} up to first good request", unit="s", values=took_s, aim="at most 30 s")


def _up_s(run: Timed) -> float:
    if run.exit_code != 0:
        raise BenchError(f"{run.directory}: no pass (exit {run.exit_code}), so its time says nothing")
    return run.stack_up_s()
