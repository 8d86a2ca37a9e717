"""A command that runs beside the runner in a pod of its own, as the runner sees it through their common folder."""

import fcntl
import signal
import time
from collections.abc import Callable
from pathlib import Path

from resilience.backend.kubernetes.beside import EXIT, LOCK, SIGNAL, STARTED, whole_file
from resilience.errors import StackError

STARTED_WITHIN_S = 60.0
LOST = -signal.SIGKILL  # what a command is taken to have ended with whose pod is gone
_KILLED_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.05


class Neighbour:
    """See `backend.base.Process`."""

    def __init__(self, name: str, folder: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        """``folder`` is the one that `beside` was given."""
        self.name = name
        self._folder = folder
        self._sleep = sleep

    def wait_started(self, why_not: Callable[[], str], within_s: float = STARTED_WITHIN_S) -> None:
        """Returns once the command was started. Raises `StackError` with what ``why_not`` says."""
        for _ in range(round(within_s / _LOOK_EVERY_S)):
            if (self._folder / STARTED).exists():
                return
            self._sleep(_LOOK_EVERY_S)
        raise StackError(f"{self.name} was not started within {within_s:g} s: {why_not() or 'nobody says why'}")

    def poll(self) -> int | None:
        """Its exit code, or None while it runs; `LOST` if its pod was ended before it could say."""
        alive = self._is_kept()  # looked at first: whoever keeps it writes the code before it goes
        code = self._code()
        return code if code is not None or alive else LOST

    def interrupt(self) -> None:
        """Asks it to end (SIGTERM)."""
        whole_file(self._folder / SIGNAL, "TERM")

    def wait(self, timeout_s: float) -> int:
        """Waits for its end, kills it after the time-out; the exit code (negative: the signal's number)."""
        code = self._ended_within(timeout_s)
        if code is None:
            whole_file(self._folder / SIGNAL, "KILL")
            code = self._ended_within(_KILLED_WITHIN_S)
        return LOST if code is None else code

    def _ended_within(self, timeout_s: float) -> int | None:
        for _ in range(max(1, round(timeout_s / _LOOK_EVERY_S))):
            if (code := self.poll()) is not None:
                return code
            self._sleep(_LOOK_EVERY_S)
        return self.poll()

    def _code(self) -> int | None:
        path = self._folder / EXIT
        return int(path.read_text()) if path.exists() else None

    def _is_kept(self) -> bool:
        with (self._folder / LOCK).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
