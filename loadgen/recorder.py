"""The recorder: every op of one client, on record before it is sent and again when it ends.

Ops that are open when the generator ends are booked ``unknown`` with the error ``unfinished``; an op whose end is
missing altogether (the generator was killed) means the same to whoever reads the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loadgen.metrics import LoadMetrics
from loadgen.tally import Tally
from resilience.history.record import Answered, Dropped, Invoked, Line, Outcome, Returned

UNFINISHED = "unfinished"


class LineSink(Protocol):
    """Where lines go; `history.writer.Writer` is the real one."""

    def append(self, line: Line) -> None:
        """Adds a line to the buffer."""
        ...

    def flush(self) -> None:
        """Writes what is buffered."""
        ...

    def close(self) -> None:
        """Flushes and ends."""
        ...


class EveryOtherSecond:
    """Keeps the lines of every other second only, so that what keeping them costs is seen within one run."""

    def __init__(self, sink: LineSink) -> None:
        """Begins with a second that is kept."""
        self.keeps = True
        self._sink = sink

    def append(self, line: Line) -> None:
        """Adds the line, or forgets it."""
        if self.keeps:
            self._sink.append(line)

    def flush(self) -> None:
        """Writes what is buffered, if this second is kept."""
        if self.keeps:
            self._sink.flush()

    def next_second(self) -> bool:
        """Ends a second, and says whether it was kept."""
        self._sink.flush()
        self.keeps = not self.keeps
        return not self.keeps

    def close(self) -> None:
        """Flushes and ends."""
        self._sink.close()


@dataclass(slots=True)
class Op:
    """An op on its way; ``stream`` is the part of the load whose rate it counts for."""

    id: int
    kind: str
    phase: str
    stream: str
    due: int


OnEnd = Callable[[Op, Outcome, float, str], None]


def _nobody(_op: Op, _outcome: Outcome, _latency_s: float, _error: str) -> None:
    """The listener that is there when nobody asked to be told."""


class Recorder:
    """Writes ops, and keeps the counts and metrics in step with what was written."""

    def __init__(self, sink: LineSink, now_us: Callable[[], int], metrics: LoadMetrics, tally: Tally) -> None:
        """``now_us`` is the run's clock. ``on_end`` may be set by one listener that is told of each op's end."""
        self.on_end: OnEnd = _nobody
        self._sink = sink
        self._now_us = now_us
        self._metrics = metrics
        self._tally = tally
        self._open: dict[int, Op] = {}
        self._ids = 0

    @property
    def inflight(self) -> int:
        """How many ops have no answer yet."""
        return len(self._open)

    def invoked(self, *, stream: str, kind: str, key: str, value: str, group: int, phase: str, due: int) -> Op:
        """Books an op that is about to be sent, and returns it for `returned`."""
        self._ids += 1
        called = self._now_us()
        op = Op(self._ids, kind, phase, stream, due)
        self._open[op.id] = op
        self._sink.append(Invoked(op.id, kind, key, value, group, phase, due, called))
        lag_s = max(0, called - due) / 1e6
        self._metrics.op_sent(lag_s)
        self._tally.sent(lag_s)
        return op

    def returned(self, op: Op, outcome: Outcome, version: int = -1, epoch: int = -1, error: str = "") -> None:
        """Books the end of an op; ignored if it has been booked (its time ran out, then the answer came)."""
        self._end(op, Returned(op.id, outcome, self._now_us(), version, epoch, error))

    def answered(self, op: Op, outcome: Outcome, stood: str, error: str = "") -> None:
        """Books the end of an op that reads, with what its answer speaks of; ignored as `returned` is."""
        self._end(op, Answered(op.id, outcome, self._now_us(), stood, error))

    def _end(self, op: Op, end: Returned | Answered) -> None:
        if self._open.pop(op.id, None) is None:
            return
        now, outcome, error = end.returned, end.outcome, end.error
        self._sink.append(end)
        latency_s = (now - op.due) / 1e6
        self._metrics.op_ended(op.kind, op.phase, outcome, latency_s)
        self._tally.ended(op.stream, outcome)
        self.on_end(op, outcome, latency_s, error)

    def dropped(self, kind: str, phase: str, due: int) -> None:
        """Books an arrival that was due and for which there was no place."""
        self._sink.append(Dropped(kind, phase, due))
        self._metrics.op_dropped()
        self._tally.dropped_total += 1

    def write(self, line: Line) -> None:
        """Appends a line that is no op: what a receiver saw."""
        self._sink.append(line)

    def book_unfinished(self) -> None:
        """Books all open ops as unknown: nothing is to be sent any more."""
        for op in list(self._open.values()):
            self._tally.unfinished_total += 1
            self._metrics.op_unfinished()
            self.returned(op, "unknown", error=UNFINISHED)

    def flush(self) -> None:
        """Brings everything booked so far to the file; to be called at least every 50 ms. Raises `OSError`."""
        self._sink.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._sink.close()
