"""Ctrl-C and SIGTERM during a run: the first one ends it, healed and reported; later ones change nothing."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Somebody asked the run to end."""

    def __init__(self, number: int) -> None:
        """``number`` is the signal's."""
        super().__init__(signal.Signals(number).name)
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def interruptible(again: Callable[[str], None]) -> Iterator[None]:
    """While it is entered the first SIGINT or SIGTERM raises `Interrupted` in the main thread.

    Those that follow are answered by ``again`` with a line, so that what heals and collects is never cut short.
    """
    taken: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        taken.append(number)
        if len(taken) == 1:
            raise Interrupted(number)
        again("ending: healing, collecting and judging what there is")

    before = {number: signal.signal(number, handle) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Alarm:
    """Ends what the main thread does, from any other one, as SIGTERM would; until it is switched off."""

    def __init__(self) -> None:
        """Rings by itself never."""
        self._on = True
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Ends it."""
        with self._lock:
            if self._on:
                os.kill(os.getpid(), signal.SIGTERM)

    def off(self) -> None:
        """From here on nobody is disturbed."""
        with self._lock:
            self._on = False
