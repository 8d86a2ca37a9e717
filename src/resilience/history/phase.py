"""The board on which phases are announced, a little ahead, to every process of the run."""

from bisect import bisect_right
from pathlib import Path

import msgspec

from resilience.history.record import Line
from resilience.history.writer import Writer

STOP = "stop"  # announced like a phase: from this instant on no op is due any more
AHEAD_US = 150_000  # a phase is announced this long before it starts, so that every generator knows it in time


class Announced(Line, frozen=True, tag="announced"):
    """A phase starts at an instant on the run's clock (us)."""

    phase: str
    starts_at: int


class PhaseBoard:
    """A file of `Announced` lines; one process at a time announces, any number look."""

    def __init__(self, path: Path) -> None:
        """``path`` need not exist yet; nothing is opened."""
        self.path = path
        self._read_bytes = 0
        self._starts: list[int] = []
        self._phases: list[str] = []
        self._decoder = msgspec.json.Decoder(Announced)

    def announce(self, phase: str, starts_at: int) -> None:
        """Makes a phase known to all who look."""
        with Writer(self.path) as writer:
            writer.write(Announced(phase, starts_at))

    def look(self) -> None:
        """Reads what was announced since the last look; call it every 20 ms or so."""
        if not self.path.exists() or self.path.stat().st_size == self._read_bytes:
            return
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            whole = file.read().rpartition(b"\n")[0]
        for line in whole.splitlines():
            announced = self._decoder.decode(line)
            self._starts.append(announced.starts_at)
            self._phases.append(announced.phase)
        self._read_bytes += len(whole) + 1 if whole else 0

    def phase_at(self, instant_us: int) -> str:
        """The phase that an instant lies in, as far as it is known by now; "" before the first."""
        index = bisect_right(self._starts, instant_us)
        return self._phases[index - 1] if index else ""

    def starts_at(self, phase: str) -> int | None:
        """When a phase starts (us), or None while it has not been announced."""
        return self._starts[self._phases.index(phase)] if phase in self._phases else None
