"""A recorder on a clock that stands where a test puts it, with lines kept in a list."""

from loadgen.metrics import LoadMetrics
from loadgen.recorder import Recorder
from loadgen.tally import Tally
from resilience.history.record import Line

OPS = ("session.update", "collaboration.join", "collaboration.edit")


class StillClock:
    """A run's clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def now_us(self) -> int:
        return self.us


class ListSink:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.flushed = 0

    def append(self, line: Line) -> None:
        self.lines.append(line)

    def flush(self) -> None:
        self.flushed = len(self.lines)

    def close(self) -> None:
        self.flush()


class Rig:
    """A recorder and everything around it."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.sink = ListSink()
        self.metrics = LoadMetrics("locust", OPS, (0.1, 0.5))
        self.tally = Tally()
        self.recorder = Recorder(self.sink, self.clock.now_us, self.metrics, self.tally)

    def send(self, due: int, kind: str = "session.update", phase: str = "steady"):
        return self.recorder.invoked(stream="session", kind=kind, key="s-1", value="v", group=2, phase=phase, due=due)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)
