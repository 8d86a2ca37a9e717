"""A stack in the sandbox that this process runs in, with load or without: for what a whole run does not show.

A benchmark's other half, outside, starts it by `inside` and reads the answer that it has left in a file.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.measure import ROOT, BenchError, Place, timed_command
from resilience.backend.local.place import calling_user
from resilience.backend.local.platform import LocalBackend, OwnedLocalPlatform
from resilience.backend.local.sandbox import image_inside, state_dir
from resilience.fault.injector import Injector
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.history.phase import AHEAD_US, STOP, PhaseBoard
from resilience.load.running import load_running
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.stack.readiness import stack_ready
from resilience.stack.redis_cluster import live_roles, shard_layout

READY_TIMEOUT_S = 60.0
ANSWER = "answer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A stack that is up; ``directory`` is laid out as a run's."""

    scenario: Scenario
    directory: Path
    clock: RunClock
    platform: OwnedLocalPlatform
    board: PhaseBoard

    @property
    def injector(self) -> Injector:
        """What injects into it, as in a run."""
        ledger = Ledger(self.directory / "ledger.jsonl")
        return Injector(
            platform=self.platform, roles=lambda: live_roles(self.platform), ledger=ledger, clock=self.clock
        )

    def announce(self, phase: str) -> int:
        """Begins a phase in a moment; the instant (us) at which it does."""
        starts_at = self.clock.now_us() + AHEAD_US
        self.board.announce(phase, starts_at)
        return starts_at

    def answer(self, content: Any) -> None:
        """Leaves the answer for the benchmark's other half."""
        (self.directory / ANSWER).write_bytes(msgspec.json.encode(content))


@contextmanager
def standing(directory: Path, *overrides: str) -> Iterator[Stand]:
    """The stack of the scenario `baseline` while it is entered. Raises `BenchError` outside of a sandbox."""
    image = image_inside()
    if image is None:
        raise BenchError("this half of a benchmark runs in a sandbox: call 'python -m bench'")
    scenario, clock = read_scenario(ROOT, "baseline", overrides), RunClock.starting_now()
    (directory / "load").mkdir(parents=True)
    backend = LocalBackend(
        state_dir(calling_user()), image, directory / "ledger.jsonl", clock.base_ns, lambda _name, _data: None
    )
    platform = backend.up(scenario.stack, directory / "members")
    try:
        stack_ready(platform, time.monotonic() + READY_TIMEOUT_S)
        board = PhaseBoard(directory / "load" / "phases.jsonl")
        yield Stand(scenario=scenario, directory=directory, clock=clock, platform=platform, board=board)
    finally:
        platform.down()


@contextmanager
def loaded(stand: Stand) -> Iterator[None]:
    """The scenario's load on the stack, at its rate when this is entered, drained when it is left."""
    layout = shard_layout(stand.platform)
    stand.board.announce("warmup", stand.clock.now_us())
    place, clock = stand.directory / "load", stand.clock
    with load_running(
        stand.scenario, layout, stand.platform, place, clock=clock, say=lambda _name, _data: None
    ) as load:
        load.wait_for_rate()
        yield
        stand.announce(STOP)
        load.stop()


def inside(module: str, place: Place, *arguments: str) -> Any:
    """Runs a benchmark's half in a sandbox, with a new directory as its first argument; the answer that it left.

    Raises `BenchError` if it left none.
    """
    directory = place.reports / f"{module.rpartition('.')[2]}-{time.monotonic_ns()}"
    directory.mkdir()
    _, code = timed_command(["sandbox", "--", sys.executable, "-m", module, str(directory), *arguments])
    try:
        return msgspec.json.decode((directory / ANSWER).read_bytes())
    except OSError as error:
        raise BenchError(f"{module}: exit {code}, and no answer") from error
