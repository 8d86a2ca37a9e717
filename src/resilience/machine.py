"""The machine that a run is on: what it is, and how busy it is while the run goes on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def machine_facts(proc: Path = _PROC) -> dict[str, Any]:
    """Kernel, processors, memory and boot id: what makes two runs comparable."""
    memory = next((line for line in _text(proc / "meminfo").splitlines() if line.startswith("MemTotal:")), "")
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count() or 0,
        "memory_bytes": int(memory.split()[1]) * 1024 if memory else 0,
        "boot_id": _text(proc / "sys/kernel/random/boot_id").strip(),
    }


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Processor time of the whole machine since it started, in clock ticks, and the time some task waited, in us."""

    busy: int
    steal: int
    total: int
    waited_us: int
    cpus: int  # cores that are switched on

    @classmethod
    def read(cls, proc: Path = _PROC) -> "CpuTimes":
        """The times now. Where the kernel has no pressure figures, ``waited_us`` stays 0."""
        lines = [line.split() for line in _text(proc / "stat").splitlines()]
        ticks = [int(text) for text in lines[0][1:9]]
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        some = _text(proc / "pressure/cpu").splitlines()[:1]
        waited_us = int(some[0].rpartition("total=")[2]) if some else 0
        cpus = sum(words[0].startswith("cpu") for words in lines[1:])
        return cls(user + nice + system + irq + softirq, steal, sum(ticks), waited_us, cpus)


def pressure_between(before: CpuTimes, after: CpuTimes, elapsed_s: float) -> dict[str, float]:
    """The data of a ``pressure`` event: shares of the machine's time between two readings, 0 to 1, and its cores."""
    total = max(after.total - before.total, 1)
    return {
        "cpus": after.cpus,
        "busy_ratio": round((after.busy - before.busy) / total, 4),
        "steal_ratio": round((after.steal - before.steal) / total, 4),
        "cpu_some_ratio": round(min((after.waited_us - before.waited_us) / 1e6 / max(elapsed_s, 1e-6), 1.0), 4),
    }


def disk_full(folder: Path) -> bool:
    """Whether not one block is left where the folder is, for this user. Where that cannot be asked, it is not."""
    try:
        space = os.statvfs(folder)
    except OSError:
        return False
    left = space.f_bfree if os.geteuid() == 0 else space.f_bavail  # some blocks are root's alone
    return space.f_blocks > 0 and left == 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
