"""What goes on beside a run: a thread for each member, so that one that is silent delays nobody else's news."""

import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread

from resilience.errors import StackError

JOIN_S = 10.0


class Threads:
    """A thread for each member; what one raises is kept, and told at the end."""

    def __init__(self, what: str, work: Mapping[str, Callable[[], None]], join_s: float = JOIN_S) -> None:
        """``what`` they do, for messages; ``work`` by member has to end within ``join_s`` once `stopping` is set.

        Starts nothing.
        """
        self.stopping = Event()
        self._what = what
        self._join_s = join_s
        self._errors: list[Exception] = []
        self._threads = [
            Thread(target=self._run, args=(one,), name=f"watch-{member}", daemon=True) for member, one in work.items()
        ]

    def start(self) -> None:
        """Starts them; once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops them. Raises `ExceptionGroup` with whatever went wrong in the background."""
        self.stopping.set()
        ends_at = time.monotonic() + self._join_s
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        errors = [*self._errors, *(StackError(f"{name} did not end within {self._join_s:g} s") for name in stuck)]
        if errors:
            raise ExceptionGroup(f"{self._what} went wrong", errors)

    def rounds(self, every_s: float) -> Iterator[float]:
        """Begins a round every so many seconds, at once after one that took longer, until `stopping` is set.

        Gives when each began, on the monotonic clock.
        """
        while not self.stopping.is_set():
            began = time.monotonic()
            yield began
            self.stopping.wait(max(0.0, began + every_s - time.monotonic()))

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  the boundary of a thread: `stop` raises it in the caller
            self._errors.append(error)
