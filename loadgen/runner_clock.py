"""How a generator's clock stands to the runner's, and the record of it: ``<client>.clock.jsonl``.

Under the runner's kernel (the same boot id) they are one clock, and nothing is asked. Otherwise the runner is asked at
the start, each minute and at the end. The first answer moves the base of the generator's own run clock, so that its
phases are the runner's; by what the later ones differ, its record is shifted when it is read (`history.offset`).
"""

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.offset import COMPARED
from resilience.history.record import Event
from resilience.history.writer import Writer
from resilience.spec.clock import SAME, TRIPS, Offset, Trip, offset_from_trips
from resilience.spec.plan import LoadPlan

EVERY_S = 60.0
ANSWERED_WITHIN_S = 0.2
TOKEN_BYTES = 8


class RunnerClock:
    """Compares this process's clock with the runner's, from `start` to `end`."""

    def __init__(self, client: str, plan: LoadPlan, boot_id: str | None = None, every_s: float = EVERY_S) -> None:
        """Asks nobody. ``boot_id``: of this kernel."""
        self._client = client
        self._plan = plan
        self._boot_id = kernel_boot_id() if boot_id is None else boot_id
        self._every_s = every_s
        self._clock = RunClock(plan.base_ns)
        self._writer = Writer(Path(plan.directory) / f"{client}.clock.jsonl")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._each_minute, name="runner-clock", daemon=True)

    @property
    def is_ours(self) -> bool:
        """Whether the runner tells its instants by this process's kernel."""
        return bool(self._boot_id) and self._boot_id == self._plan.boot_id

    def start(self) -> RunClock:
        """The run's clock in this process. Raises `OSError` if the runner's clock cannot be had: no phase could."""
        self._writer.open()
        offset = SAME if self.is_ours else self._compared()
        if offset is None:
            self._record(None)
            asked = self._plan.clock_address or "nobody"
            raise OSError(f"under another kernel than the runner, and {asked} tells the runner's clock")
        self._clock = RunClock(self._plan.base_ns - offset.offset_ns)
        self._record(Offset(0, offset.error_ns))
        if not self.is_ours:
            self._thread.start()
        return self._clock

    def end(self) -> None:
        """Compares once more, and closes the record; a second call does nothing. Raises `OSError`."""
        if self._ended.is_set():
            return
        self._ended.set()
        if not self.is_ours:
            self._thread.join(TRIPS * ANSWERED_WITHIN_S)
            self._compare_again()
        self._writer.close()

    def _each_minute(self) -> None:
        while not self._ended.wait(self._every_s):
            with suppress(OSError):  # a disk that is full: the generator's own records say so
                self._compare_again()

    def _compare_again(self) -> None:
        """Records how far this process's run clock has come off; nothing where nobody answers, which leaves a gap."""
        offset = self._compared()
        if offset is not None:
            moved_ns = self._plan.base_ns - self._clock.base_ns
            self._record(Offset(moved_ns - offset.offset_ns, offset.error_ns))

    def _compared(self) -> Offset | None:
        """How far the runner's clock is ahead of this kernel's; None if the runner does not answer."""
        with suppress(OSError, ValueError):
            return offset_from_trips(trips(self._plan.clock_address))
        return None

    def _record(self, ahead: Offset | None) -> None:
        data: dict[str, Any] = {"process": self._client, "boot_id": self._boot_id}
        if ahead is not None:
            data |= {"offset_us": round(ahead.offset_ns / 1_000), "error_us": -(-ahead.error_ns // 1_000)}
        self._writer.write(Event(COMPARED, self._clock.now_us(), data))


def trips(address: str, number: int = TRIPS) -> Iterator[Trip]:
    """Round trips to the clock that is told at ``host:port`` (`resilience.load.clock`), those that came back.

    Raises `OSError`, `ValueError` for no address.
    """
    host, _, port = address.rpartition(":")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as link:
        link.settimeout(ANSWERED_WITHIN_S)
        link.connect((host, int(port)))
        for _ in range(number):
            with suppress(TimeoutError):
                yield _trip(link)


def _trip(link: socket.socket) -> Trip:
    token = secrets.token_bytes(TOKEN_BYTES)
    sent_ns = time.monotonic_ns()
    link.send(token)
    while True:
        answer = link.recv(64)
        got_ns = time.monotonic_ns()
        if answer[:TOKEN_BYTES] == token:  # else it is late, and belongs to an earlier trip
            return Trip(sent_ns, int.from_bytes(answer[TOKEN_BYTES:]), got_ns)
