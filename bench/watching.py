"""What watching costs: the processor time of Prometheus and the exporters, at one scrape a second.

Run as ``python -m bench.watching DIRECTORY SECONDS`` it is the half of this benchmark that stands in a sandbox.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from bench.measure import Figure, Place, timed_command
from bench.stand import Stand, inside, loaded, standing

OBSERVERS = ("prometheus", "redis-exporter", "node-exporter")
WATCHED_S = 10
SETTLING_S = 5.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

Shares = dict[str, float]  # of one core, by component


def figures(place: Place) -> Iterator[Figure]:
    """Shares of a core, idle and under the default load, of each observer and of all. Raises `BenchError`."""
    timed_command(["image"])
    answer = inside("bench.watching", place, str(place.repeats))
    for state, samples in msgspec.convert(answer, dict[str, list[Shares]]).items():
        for component in OBSERVERS:
            shares = tuple(100 * sample[component] for sample in samples)
            yield Figure(name=f"{component}, {state}", unit="% of a core", values=shares)
        everybody = tuple(100 * sum(sample.values()) for sample in samples)
        yield Figure(name=f"watching in all, {state}", unit="% of a core", values=everybody)


def main() -> int:
    """Watches a stack without load, then with it, and leaves the shares of each `WATCHED_S` seconds."""
    directory, repeats = Path(sys.argv[1]), int(sys.argv[2])
    with standing(directory) as stand:
        idle = _shares(stand, repeats)
        with loaded(stand):
            under_load = _shares(stand, repeats)
    stand.answer({"idle": idle, "under load": under_load})
    return 0


def _shares(stand: Stand, repeats: int) -> list[Shares]:
    time.sleep(SETTLING_S)
    return [_share(stand) for _ in range(repeats)]


def _share(stand: Stand) -> Shares:
    before, began = _used_s(stand), time.monotonic()
    time.sleep(WATCHED_S)
    after, took_s = _used_s(stand), time.monotonic() - began
    return {component: (after[component] - before[component]) / took_s for component in before}


def _used_s(stand: Stand) -> Mapping[str, float]:
    """The processor seconds that each observer's server has used so far, all its threads together."""
    return {
        component: sum(_of_process(state.handle["server_pid"]) for state in stand.platform.states()
                       if state.component == component)
        for component in OBSERVERS
    }  # fmt: skip


def _of_process(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S  # utime and stime


if __name__ == "__main__":
    sys.exit(main())
