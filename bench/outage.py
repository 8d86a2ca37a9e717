"""How well outages are measured: primaries that stand still for a known time, judged by the check of outages itself."""

from collections.abc import Iterator

import msgspec

from bench.measure import BenchError, Figure, Place, timed_command
from bench.pauses import LENGTHS_S, Measured
from bench.stand import inside

PAUSES_OF_EACH = 20


def figures(place: Place) -> Iterator[Figure]:
    """For each length how far the check was off, in ms, and how far at most. Raises `BenchError` if it missed one."""
    timed_command(["image"])
    measured = msgspec.convert(inside("bench.pauses", place, str(PAUSES_OF_EACH)), list[Measured])
    for length_s in LENGTHS_S.values():
        pauses = [pause for pause in measured if pause.planned_s == length_s]
        missed = [pause for pause in pauses if not pause.found_s]
        if missed or len(pauses) != PAUSES_OF_EACH:
            raise BenchError(f"{len(missed)} of {len(pauses)} pauses of {length_s:g} s were not found to be outages")
        off_ms = tuple(1_000 * (pause.found_s - pause.true_s) for pause in pauses)
        yield Figure(
            name=f"outage of {length_s:g} s, measured less true", unit="ms", values=off_ms, aim="median 20, worst 50"
        )
        bound_ms = tuple(1_000 * pause.error_s for pause in pauses)
        yield Figure(name=f"outage of {length_s:g} s, stated error", unit="ms", values=bound_ms)
        yield Figure(
            name=f"outage of {length_s:g} s, true length within what is stated",
            unit="",
            values=tuple(float(pause.covered) for pause in pauses),
            aim="1 for all",
        )
    yield Figure(
        name="true length of a pause, left open by the looks",
        unit="ms",
        values=tuple(1_000 * (pause.true_most_s - pause.true_least_s) for pause in measured),
    )
