"""What the runner writes into a run's history, from all its threads."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from resilience.errors import HarnessError
from resilience.history.clock import RunClock
from resilience.history.event import NAMES
from resilience.history.record import ClockPair, Event, PhaseWindow
from resilience.history.writer import Writer
from resilience.machine import CpuTimes, pressure_between

Listener = Callable[[str, dict[str, Any]], None]
_EVERY_S = 1.0


class Notebook:
    """Appends events and phases to ``history.jsonl``; once a second also both clocks and the machine's pressure.

    ``listener`` hears of each event after it was written (the terminal's live view).
    """

    def __init__(self, writer: Writer, clock: RunClock, listener: Listener) -> None:
        """Nothing is opened before the context is entered."""
        self.clock = clock
        self._writer = writer
        self._listener = listener
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._every_second, name="notebook", daemon=True)
        self._failure: OSError | None = None

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Writes an event that happened now."""
        self.note(Event(name, self.clock.now_us(), data))

    def note(self, event: Event) -> None:
        """Writes an event."""
        assert event.name in NAMES, event.name
        with self._lock:
            self._writer.write(event)
        self._listener(event.name, event.data)

    def problem(self, error: BaseException) -> None:
        """Writes an ``error`` event for each error in it; one that nobody meant leaves its trace in ``harness.log``."""
        for cause in _causes(error):
            self.event("error", {"where": type(cause).__name__, "message": str(cause)})
            if not isinstance(cause, HarnessError):
                with self._writer.path.with_name("harness.log").open("a") as log:
                    log.writelines(traceback.format_exception(cause))

    def phase(self, phase: str, start_us: int, end_us: int) -> None:
        """Writes a phase that has ended."""
        with self._lock:
            self._writer.write(PhaseWindow(phase, start_us, end_us))

    def _every_second(self) -> None:
        before, before_s = CpuTimes.read(), time.monotonic()
        try:
            self._pair()
            while not self._ended.wait(_EVERY_S):
                after, after_s = CpuTimes.read(), time.monotonic()
                self._pair()
                self.event("pressure", pressure_between(before, after, after_s - before_s))
                before, before_s = after, after_s
        except OSError as error:  # the disk refuses: raised again where the context ends
            self._failure = error

    def _pair(self) -> None:
        with self._lock:
            self._writer.write(ClockPair(self.clock.now_us(), time.time_ns() // 1_000))

    def __enter__(self) -> Self:
        self._writer.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(5)
        self._writer.close()
        if self._failure:
            raise self._failure


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
