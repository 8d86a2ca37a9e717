"""What both generators share: plan, clocks, phases, recorder, the stats line of each second, and the summary."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from loadgen.metrics import LoadMetrics
from loadgen.recorder import EveryOtherSecond, Recorder
from loadgen.runner_clock import RunnerClock
from loadgen.tally import Tally
from resilience.history.phase import STOP, PhaseBoard
from resilience.history.record import Event
from resilience.history.writer import Writer
from resilience.spec.plan import LoadPlan

TICK_S = 0.02  # how often the phases are looked at and the records flushed
EXIT_STOPPED = 0
EXIT_INTERRUPTED = 130
_FIRST_PHASE = "warmup"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says at its end; ``exit`` is what its process is going to end with."""

    client: str
    sent: int
    ok: int
    fail: int
    unknown: int  # those that were unfinished among them
    unfinished: int
    dropped: int
    exit: int


def load_plan(path: Path) -> LoadPlan:
    """Reads a plan that the runner wrote. Raises `OSError` or `msgspec.MsgspecError`."""
    return msgspec.json.decode(path.read_bytes(), type=LoadPlan)


def be_punctual() -> None:
    """Runs this process before all others that want a processor, where that is permitted; before it has threads.

    A machine that is busy then slows the platform, which is measured, and not the schedule, which would spoil the run.
    """
    with suppress(PermissionError):  # without it the lag tells whether that did harm
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


class Generator:
    """One client's process, without its way of waiting: its owner calls `tick`, `second` and, once, `finish`."""

    def __init__(self, client: str, plan: LoadPlan, ops: Sequence[str]) -> None:
        """Opens the files. Raises `OSError`, also under another kernel if the runner does not tell its clock."""
        self.client = client
        self.plan = plan
        self._runner_clock = RunnerClock(client, plan)
        self.clock = self._runner_clock.start()
        self.metrics = LoadMetrics(client, ops, plan.latency_bounds_s)
        self._directory = Path(plan.directory)
        self._board = PhaseBoard(self._directory / "phases.jsonl")
        self._board.look()
        self._tally = Tally()
        sink = Writer(self._directory / f"{client}.ops.jsonl").open()
        # for the benchmark of the recorder alone
        self._halved = EveryOtherSecond(sink) if os.environ.get("RESILIENCE_RECORD") == "alternate" else None
        self.recorder = Recorder(self._halved or sink, self.clock.now_us, self.metrics, self._tally)
        self._stats = Writer(self._directory / f"{client}.stats.jsonl").open()
        self._cpu_s = time.process_time()
        self._second_at = time.monotonic()
        self._finished = False

    def phase_at(self, instant_us: int) -> str:
        """The phase that an op due at an instant belongs to."""
        return self._board.phase_at(instant_us) or _FIRST_PHASE

    def over_at(self, instant_us: int) -> bool:
        """Whether the load has been told to stop at or before an instant: nothing is due then."""
        stop_at = self._board.starts_at(STOP)
        return stop_at is not None and instant_us >= stop_at

    @property
    def over(self) -> bool:
        """Whether the instant to stop has passed."""
        return self.over_at(self.clock.now_us())

    def tick(self) -> None:
        """Looks at the phases and flushes the records; every `TICK_S`. Raises `OSError`."""
        self._board.look()
        self.recorder.flush()

    def second(self, members: int) -> None:
        """Writes the stats of the second before; ``members`` are the connections that stand. Raises `OSError`."""
        cpu_s, now = time.process_time(), time.monotonic()
        cpu_ratio = (cpu_s - self._cpu_s) / max(1e-9, now - self._second_at)
        self._cpu_s, self._second_at = cpu_s, now
        at = self.clock.now_us()
        inflight = self.recorder.inflight
        self.metrics.now(self.phase_at(at), inflight)
        data = {"client": self.client, "cpu_ratio": round(cpu_ratio, 4), "inflight": inflight, "members": members}
        if self._halved:
            data["recorded"] = self._halved.next_second()
        self._stats.write(Event("generator", at, data | self._tally.second()))

    def finish(self, exit_code: int) -> None:
        """Books what is unfinished, flushes, and writes the summary; a second call does nothing. Raises `OSError`."""
        if self._finished:
            return
        self._finished = True
        self.recorder.book_unfinished()
        self.recorder.close()
        self._stats.close()
        summary = self._summary(exit_code)
        beside = self._directory / f".{self.client}.summary.json"
        beside.write_bytes(msgspec.json.encode(summary))
        beside.rename(self._directory / f"{self.client}.summary.json")
        self._runner_clock.end()

    def _summary(self, exit_code: int) -> Summary:
        tally = self._tally
        return Summary(
            client=self.client,
            sent=tally.sent_total,
            ok=tally.total("ok"),
            fail=tally.total("fail"),
            unknown=tally.total("unknown"),
            unfinished=tally.unfinished_total,
            dropped=tally.dropped_total,
            exit=exit_code,
        )
