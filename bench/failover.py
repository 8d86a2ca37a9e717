"""A whole run of `redis-failover`: the stack up to its first good request, and all of it against its phases."""

from collections.abc import Iterator

from bench.measure import BenchError, Figure, Place, Timed, timed_command, timed_run

SCENARIO = "redis-failover"


def figures(place: Place) -> Iterator[Figure]:
    """Seconds to the first good request, and the ratio of a run's time to its phases. Raises `BenchError`."""
    timed_command(["image"])
    control = timed_run("baseline", place)  # the one that a fault's run would take first is not its own time
    if control.exit_code != 0:  # nor is the one that it would take instead
        raise BenchError(f"{control.directory}: the control did not pass (exit {control.exit_code})")
    runs = [timed_run(SCENARIO, place) for _ in range(place.repeats)]
    yield Figure(
        name="stack up to first good request",
        unit="s",
        values=tuple(run.stack_up_s() for run in runs),
        aim="at most 10 s",
    )
    yield Figure(name=f"whole {SCENARIO} run / its phases", unit="", values=tuple(map(_ratio, runs)), aim="under 1.25")


def _ratio(run: Timed) -> float:
    if run.exit_code != 0:
        raise BenchError(f"{run.directory}: no pass (exit {run.exit_code}), so its time says nothing")
    phases_s: float = sum(run.spec()["scenario"]["timeline"].values())
    return run.took_s / phases_s
