"""The half of `bench.outage` that stands in a sandbox: pauses of known length, and what the direct client made of them.

Each length has a shard of its own, so that all three are measured at the same time. How long a server really stood
still is what the kernel says of its main thread, asked every millisecond. The node time-out is so long that nobody is
replaced, and the load besides the direct client so small that a server has no heap of work when it goes on: with the
default load it takes its time for that, and then the shard was really away for longer.

Run as ``python -m bench.pauses DIRECTORY REPEATS``.
"""

import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Self

import msgspec

from bench.measure import BenchError
from bench.stand import Stand, loaded, standing
from loadgen.generator import be_punctual
from resilience.check.outage import outages
from resilience.fault.injector import Injector
from resilience.history.clock import RunClock
from resilience.history.read import History, read_history
from resilience.history.record import PhaseWindow
from resilience.history.writer import Writer
from resilience.spec.fault import Injection, Pause, Target
from resilience.spec.scenario import Scenario

LENGTHS_S = {1: 0.5, 2: 2.0, 3: 8.0}  # by shard
OVERRIDES = (
    "redis.cluster_node_timeout_ms=60000",
    "load.session_rate_ops_per_s=3",
    "load.edit_rate_ops_per_s=1",
    "load.rooms=1",
)
STEADY_S = 15.0  # in which the check learns what gaps are usual
BETWEEN_S = 1.0
LOOK_EVERY_S = 0.001


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One pause in seconds: as it was, within what the kernel was asked, and as the check found it (0: not at all)."""

    planned_s: float
    true_least_s: float
    true_most_s: float
    found_s: float
    error_s: float  # by how much it may have been shorter, as the check says

    @property
    def true_s(self) -> float:
        """The middle of what the looks leave open."""
        return (self.true_least_s + self.true_most_s) / 2

    @property
    def covered(self) -> bool:
        """Whether the true length lies in the interval that the check states."""
        return self.found_s >= self.true_least_s and self.found_s - self.error_s <= self.true_most_s


class _Still(msgspec.Struct, frozen=True, kw_only=True):
    """A server stood still; the looks around its stop and its going on, in us."""

    going: int
    stopped: int
    still_stopped: int
    going_again: int


class _Watch(Thread):
    """Looks all the time at what the kernel says of the servers."""

    def __init__(self, pids: Mapping[int, int], clock: RunClock) -> None:
        super().__init__()
        self.seen: dict[int, list[_Still]] = {group: [] for group in pids}
        self._pids = pids
        self._clock = clock
        self._ended = Event()

    def run(self) -> None:
        be_punctual()
        last = dict.fromkeys(self._pids, self._clock.now_us())
        stops: dict[int, tuple[int, int]] = {}
        while not self._ended.wait(LOOK_EVERY_S):
            for group, pid in self._pids.items():
                stopped, now = _stopped(pid), self._clock.now_us()
                if stopped and group not in stops:
                    stops[group] = (last[group], now)
                elif not stopped and group in stops:
                    before, after = stops.pop(group)
                    still = _Still(going=before, stopped=after, still_stopped=last[group], going_again=now)
                    self.seen[group].append(still)
                last[group] = now

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def main() -> int:
    """Pauses, judges, and leaves a list of `Measured`."""
    directory, repeats = Path(sys.argv[1]), int(sys.argv[2])
    with standing(directory, *OVERRIDES) as stand:
        with loaded(stand), Writer(directory / "history.jsonl") as history:
            steady = stand.announce("steady")
            time.sleep(STEADY_S)
            fault = stand.clock.now_us()
            history.write(PhaseWindow("steady", steady, fault))
            seen = _paused(stand, repeats)
            history.write(PhaseWindow("fault", fault, stand.clock.now_us()))
        found = read_history(directory)
        stand.answer([_measured(stand.scenario, found, group, still) for group in seen for still in seen[group]])
    return 0


def _paused(stand: Stand, repeats: int) -> dict[int, list[_Still]]:
    """Pauses each shard's primary so often; when each stood still."""
    injector, platform = stand.injector, stand.platform
    plans = {group: _plan(injector, group) for group in LENGTHS_S}  # now: later one cannot ask who is primary
    pids = {group: platform.state(plan.members[0]).handle["server_pid"] for group, plan in plans.items()}
    with _Watch(pids, stand.clock) as watch, ThreadPoolExecutor(len(plans)) as pool:
        for series in [pool.submit(_pause, injector, plan, LENGTHS_S[n], repeats) for n, plan in plans.items()]:
            series.result()
    return watch.seen


def _plan(injector: Injector, group: int) -> Injection:
    target = Target(component="redis", role="primary", shard=group)
    plan = injector.plan(f"bench-pause-{group}", Pause(), target, LENGTHS_S[group])
    if not isinstance(plan, Injection):
        raise BenchError(f"shard {group}: {plan.reason}")
    return plan


def _pause(injector: Injector, plan: Injection, length_s: float, repeats: int) -> None:
    for number in range(repeats):
        injection = msgspec.structs.replace(plan, id=f"{plan.id}-{number}")
        injected = injector.inject(injection)
        time.sleep(max(0.0, injected.applied_ns / 1e9 + length_s - time.monotonic()))
        injector.heal(injection.id, "request")
        time.sleep(BETWEEN_S)


def _measured(scenario: Scenario, history: History, group: int, still: _Still) -> Measured:
    found = [item for item in outages(scenario, history, group) if _overlap(item.start, item.end, still) > 0]
    outage = max(found, key=lambda item: _overlap(item.start, item.end, still), default=None)
    return Measured(
        planned_s=LENGTHS_S[group],
        true_least_s=(still.still_stopped - still.stopped) / 1e6,
        true_most_s=(still.going_again - still.going) / 1e6,
        found_s=outage.length_s if outage else 0.0,
        error_s=outage.error_s if outage else 0.0,
    )


def _overlap(start: int, end: int, still: _Still) -> int:
    return min(end, still.going_again) - max(start, still.going)


if __name__ == "__main__":
    sys.exit(main())
