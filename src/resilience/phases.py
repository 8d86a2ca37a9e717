"""Plays a run's phases over a running load: by the experiment if there is one, else by the clock alone."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from resilience.chaos.launch import HEAL_WITHIN_S, ChaosProcess, ChaosResult
from resilience.history.phase import AHEAD_US, STOP, PhaseBoard
from resilience.notebook import Notebook
from resilience.spec.scenario import Experiment, Scenario

LOOK_EVERY_S = 0.1

Look = Callable[[], None]  # shows where the run is; called several times a second


class Phases:
    """The phases of one run: announced on the board, written into the history when they end."""

    def __init__(self, scenario: Scenario, board: PhaseBoard, notebook: Notebook, look: Look) -> None:
        """Announces nothing."""
        self._scenario = scenario
        self._board = board
        self._notebook = notebook
        self._look = look

    def begin(self, phase: str, ahead_us: int = AHEAD_US) -> int:
        """Announces a phase; returns the instant at which it begins (us)."""
        starts_at = self._notebook.clock.now_us() + ahead_us
        self._board.announce(phase, starts_at)
        self._notebook.event("phase-announced", {"phase": phase, "starts_at": starts_at})
        return starts_at

    def warm_up(self, began_us: int) -> None:
        """Lets the load run for as long as the scenario says before anything counts."""
        self._hold_until(began_us + int(self._scenario.timeline.warmup_s * 1e6))

    def by_clock(self, warmup_us: int) -> None:
        """Plays ``steady`` (and what else has a length) without any fault."""
        timeline = self._scenario.timeline
        lengths = {"steady": timeline.steady_s, "fault": timeline.fault_s, "recovery": timeline.recovery_s}
        before, before_us = "warmup", warmup_us
        for phase, length_s in lengths.items():
            if length_s > 0:
                start_us = self.begin(phase)
                self._notebook.phase(before, before_us, start_us)
                before, before_us = phase, start_us
                self._hold_until(start_us + int(length_s * 1e6))
        self._notebook.phase(before, before_us, self._notebook.clock.now_us())

    def by_experiment(self, experiment: Experiment, folder: Path, session: Path, warmup_us: int) -> None:
        """Runs the experiment, which announces and records the phases itself. An interrupt is handed on to it once."""
        chaos = ChaosProcess(experiment, self._scenario.timeline, folder, session)
        chaos.start()
        try:
            result = self._follow(chaos)
        except BaseException:
            chaos.interrupt()
            self._note(chaos.wait(HEAL_WITHIN_S))
            raise
        finally:
            self._end_warmup(warmup_us)
        self._note(result)

    def _follow(self, chaos: ChaosProcess) -> ChaosResult:
        deadline = time.monotonic() + chaos.deadline_s
        while chaos.poll() is None and time.monotonic() < deadline:
            self._look()
            time.sleep(LOOK_EVERY_S)
        return chaos.wait(0)

    def _note(self, result: ChaosResult) -> None:
        data = msgspec.to_builtins(result)
        data.pop("interrupted")
        self._notebook.event("experiment", data)

    def _end_warmup(self, warmup_us: int) -> None:
        self._board.look()
        steady_us = self._board.starts_at("steady")
        self._notebook.phase("warmup", warmup_us, -1 if steady_us is None else steady_us)

    def _hold_until(self, instant_us: int) -> None:
        while (left_us := instant_us - self._notebook.clock.now_us()) > 0:
            self._look()
            time.sleep(min(LOOK_EVERY_S, left_us / 1e6))


def current(board: PhaseBoard, now_us: int) -> tuple[str, int]:
    """The phase that an instant lies in and when it began; ``starting`` before the first, ``ending`` after the last."""
    board.look()
    phase = board.phase_at(now_us) or "starting"
    began_us = board.starts_at(phase)
    return ("ending" if phase == STOP else phase, began_us if began_us is not None else 0)
