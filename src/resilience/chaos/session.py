"""The run that a chaos process belongs to, opened anew by each activity: all that lasts between them is on disk."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from resilience.backend.choice import BACKENDS, attach
from resilience.errors import FaultError
from resilience.fault.base import FaultPlatform
from resilience.fault.injector import Injector
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.history.phase import AHEAD_US, PhaseBoard
from resilience.history.record import Event, PhaseWindow
from resilience.history.writer import Writer
from resilience.spec.scenario import Scenario
from resilience.stack.postgresql import live_roles as postgresql_roles
from resilience.stack.rabbitmq import queue_roles
from resilience.stack.redis_cluster import live_roles

SESSION_ENV = "RESILIENCE_SESSION"


class SessionFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner tells the chaos process (``session.json``)."""

    run_dir: str
    state_dir: str
    base_ns: int
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run, as its chaos process sees it."""

    run_dir: Path
    scenario: Scenario
    clock: RunClock
    board: PhaseBoard
    platform: FaultPlatform
    injector: Injector
    sleep: Callable[[float], None] = time.sleep
    loaded: bool = True  # whether the harness drives load in it

    def announce(self, phase: str, ahead_us: int = AHEAD_US) -> int:
        """Tells every generator that a phase begins in a moment; the instant (us) at which it does."""
        starts_at = self.clock.now_us() + ahead_us
        self.board.announce(phase, starts_at)
        self.board.look()
        self.record("phase-announced", phase=phase, starts_at=starts_at)
        return starts_at

    def wait_until(self, instant_us: int) -> None:
        """Returns at that instant, or at once if it has passed."""
        self.sleep(max(0, instant_us - self.clock.now_us()) / 1_000_000)

    @property
    def ledger(self) -> Ledger:
        """The run's ledger."""
        return self.injector.ledger

    def record(self, name: str, **data: Any) -> None:
        """Appends an event to the run's history."""
        self._write(Event(name, self.clock.now_us(), data))

    def record_window(self, phase: str, start_us: int, end_us: int) -> None:
        """Appends the window of a phase that has ended (-1: that never did)."""
        self._write(PhaseWindow(phase, start_us, end_us))

    def _write(self, line: Event | PhaseWindow) -> None:
        _append(self.run_dir, line)


def open_session(environment: Mapping[str, str] = os.environ) -> Session:
    """The session that the environment names. Raises `FaultError` outside of a run, `StackError` without a stack."""
    path = environment.get(SESSION_ENV, "")
    if not path:
        raise FaultError(f"{SESSION_ENV} is not set: experiments are run by 'resilience run', not by hand")
    try:
        file = msgspec.json.decode(Path(path).read_bytes(), type=SessionFile)
        scenario = _scenario(Path(file.run_dir))
    except (OSError, msgspec.MsgspecError) as error:
        raise FaultError(f"{path}: no session: {error}") from error
    if file.backend not in BACKENDS:
        raise FaultError(f"{path}: backend: expected one of {', '.join(BACKENDS)} (got {file.backend!r})")
    platform = attach(file.backend, Path(file.state_dir))
    return session_on(platform, Path(file.run_dir), scenario, RunClock(file.base_ns))


def session_on(platform: FaultPlatform, run_dir: Path, scenario: Scenario, clock: RunClock) -> Session:
    """A session on a platform that is at hand."""

    def say(name: str, data: dict[str, Any]) -> None:
        _append(run_dir, Event(name, clock.now_us(), data))

    injector = Injector(
        platform=platform,
        roles=lambda: (*live_roles(platform), *postgresql_roles(platform)),
        queue_roles=lambda: queue_roles(platform),
        ledger=Ledger(run_dir / "ledger.jsonl"),
        clock=clock,
        say=say,
    )
    board = PhaseBoard(run_dir / "load" / "phases.jsonl")
    board.look()
    return Session(run_dir=run_dir, scenario=scenario, clock=clock, board=board, platform=platform, injector=injector)


def _append(run_dir: Path, line: Event | PhaseWindow) -> None:
    with Writer(run_dir / "history.jsonl") as writer:
        writer.write(line)


def _scenario(run_dir: Path) -> Scenario:
    spec = msgspec.json.decode((run_dir / "spec.json").read_bytes())
    return msgspec.convert(spec["scenario"], Scenario)
