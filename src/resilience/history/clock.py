"""The run's clock: one monotonic base that every process under this kernel shares.

A process under another kernel (another boot id) has a clock of its own: what it records is shifted onto this one
(`history.offset`).
"""

import time
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def kernel_boot_id(path: Path = BOOT_ID) -> str:
    """Of the kernel that this process tells its instants by; "" where that cannot be known."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class RunClock:
    """Instants of a run, in microseconds since its base on the kernel's monotonic clock.

    The base travels as a number (``base_ns``), so that the load generator, the chaos process and the runner agree.
    """

    base_ns: int

    @classmethod
    def starting_now(cls) -> "RunClock":
        """A clock whose base is this moment."""
        return cls(time.monotonic_ns())

    def now_us(self) -> int:
        """Microseconds since the base."""
        return (time.monotonic_ns() - self.base_ns) // 1_000

    def monotonic_s_from_us(self, instant_us: int) -> float:
        """Converts microseconds since the base to a value of `time.monotonic`."""
        return (instant_us + self.base_ns // 1_000) / 1_000_000
