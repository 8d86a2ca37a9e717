"""The stack image from nothing: in a cache folder of its own, which is removed again."""

import tempfile
from collections.abc import Iterator

from bench.measure import BenchError, Figure, Place, timed_command


def figures(place: Place) -> Iterator[Figure]:
    """Seconds from an empty cache folder to an image. Raises `BenchError` if one could not be built."""
    yield Figure(name="stack image from nothing", unit="s", values=tuple(_build_s() for _ in range(place.repeats)))


def _build_s() -> float:
    with tempfile.TemporaryDirectory(prefix="harmonyflow-bench-") as cache:
        took_s, code = timed_command(["image", "--rebuild"], {"XDG_CACHE_HOME": cache})
    if code != 0:
        raise BenchError(f"resilience image: exit {code}")
    return took_s
