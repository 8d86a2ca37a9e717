"""What the runner writes into a run's history, from all its threads."""

import errno
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from resilience.errors import HarnessError, HostError
from resilience.history.clock import RunClock
from resilience.history.event import NAMES
from resilience.history.record import ClockPair, Event, Line, PhaseWindow
from resilience.history.writer import Writer
from resilience.machine import CpuTimes, disk_full, pressure_between
from resilience.report.run import PLACE_ADVICE

Listener = Callable[[str, dict[str, Any]], None]
_EVERY_S = 1.0


class Notebook:
    """Appends events and phases to ``history.jsonl``; once a second also both clocks and the machine's pressure.

    ``listener`` hears of each event after it was written (the terminal's live view). A disk that refuses, or is seen to
    be full, is noted like any other event; what could not be written is kept, and tried again with the next line.
    """

    def __init__(self, writer: Writer, clock: RunClock, listener: Listener, advice: str = PLACE_ADVICE) -> None:
        """Nothing is opened before the context is entered. ``advice``: what helps where the disk is full."""
        self._advice = advice
        self.clock = clock
        self._writer = writer
        self._listener = listener
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._every_second, name="notebook", daemon=True)
        self._refused: HostError | None = None
        self._walls_s: list[float] = []  # the earliest and the latest that the wall clock showed

    def require_disk(self) -> None:
        """Raises `HostError` if the disk is full or refused a line: what goes on from here would not be on record."""
        if self._refused:
            raise self._refused

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Writes an event that happened now."""
        self.note(Event(name, self.clock.now_us(), data))

    def note(self, event: Event) -> None:
        """Writes an event."""
        assert event.name in NAMES, event.name
        self._write(event)
        self._listener(event.name, event.data)

    def problem(self, error: BaseException) -> None:
        """Writes an ``error`` event for each error in it; one that nobody meant leaves its trace in ``harness.log``."""
        for cause in _causes(error):
            self.event("error", _told(cause))
            if not isinstance(cause, HarnessError):
                with suppress(OSError), self._writer.path.with_name("harness.log").open("a") as log:
                    log.writelines(traceback.format_exception(cause))

    def phase(self, phase: str, start_us: int, end_us: int) -> None:
        """Writes a phase that has ended."""
        self._write(PhaseWindow(phase, start_us, end_us))

    def _every_second(self) -> None:
        before, before_s = CpuTimes.read(), time.monotonic()
        self._pair()
        while not self._ended.wait(_EVERY_S):
            after, after_s = CpuTimes.read(), time.monotonic()
            self._pair()
            self.event("pressure", pressure_between(before, after, after_s - before_s))
            before, before_s = after, after_s

    def wall_range_s(self) -> tuple[float, float]:
        """The earliest and the latest instant that the wall clock showed (s since 1970), also if it was stepped."""
        self._pair()
        return self._walls_s[0], self._walls_s[-1]

    def _pair(self) -> None:
        pair = ClockPair(self.clock.now_us(), time.time_ns() // 1_000)
        self._write(pair)
        seen = (*self._walls_s, pair.wall / 1e6)
        self._walls_s = [min(seen), max(seen)]
        if disk_full(self._writer.path.parent):
            # this file may go on for a while in its last block, and the generators' cannot
            with self._lock:
                self._refuse(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _write(self, line: Line) -> None:
        with self._lock:
            self._writer.append(line)
            try:
                self._writer.flush()
            except OSError as error:
                self._refuse(error)

    def _refuse(self, error: OSError) -> None:
        if self._refused is None:
            self._refused = self._refusal(error)
            self._writer.append(Event("error", self.clock.now_us(), _told(self._refused)))

    def __enter__(self) -> Self:
        self._writer.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        try:
            self._writer.close()
        except OSError as refused:
            raise self._refusal(refused) from refused

    def _refusal(self, error: OSError) -> HostError:
        return HostError(
            f"{self._writer.path}: cannot be written: {error.strerror}; the run ended there, and what was recorded is"
            f" kept: {self._advice}"
        )


def _told(error: BaseException) -> dict[str, str]:
    """The data of an ``error`` event."""
    return {"where": type(error).__name__, "message": str(error)}


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
