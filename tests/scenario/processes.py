"""The processes of a run as they are seen from outside of its sandbox, to break one of them, or to look into it."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.scenario.kill_matrix import VICTIMS
from tests.scenario.traces import argv_of, below


def the(victim: str, supervisor: int) -> int:
    """The one process of a run that is what the kill matrix calls so."""
    found = [pid for pid in below(supervisor) if (argv := argv_of(pid)) and VICTIMS[victim].known_by(argv)]
    assert len(found) == 1, (victim, [argv_of(pid) for pid in found])
    return found[0]


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stops a process while it is entered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        os.kill(_parent_of(pid), signal.SIGCONT)  # nsenter, which stops with what it runs, and would not collect it


def _parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nPPid:")[2].split()[0])


def from_inside(supervisor: int, pid_inside: int) -> int:
    """The pid out here of the process that has that pid in the run's sandbox."""
    for pid in below(supervisor):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        numbers = next(line for line in status if line.startswith("NSpid:")).split()[1:]
        if numbers[1:2] == [str(pid_inside)]:
            return pid
    raise AssertionError(f"no process of the run has the pid {pid_inside} in its sandbox")


def drop_what_comes_from(init: int, addresses: Sequence[str]) -> None:
    """Has a member's network drop what comes from these addresses, by a rule that is nobody's of the harness.

    ``init``: the process that holds the member's namespaces. The rule comes after the harness's own.
    """
    rules = f"""table inet stray {{
        chain input {{
            type filter hook input priority 100; policy accept;
            ip saddr {{ {", ".join(addresses)} }} drop
        }}
    }}"""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", "--target", str(init), *user, "--net"]
    subprocess.run([*enter, "nft", "-f", "-"], input=rules, text=True, check=True)


def secret_below(pid: int) -> bytes:
    """The password of the stack whose sandbox a process is in; nothing if it is in none, or that has none yet."""
    try:
        mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    except OSError:
        return b""
    for line in mounts:
        source, folder = line.split()[:2]
        file = Path(f"/proc/{pid}/root{folder}/secrets/redis-password")
        if source == "harmonyflow":
            try:
                return file.read_bytes()
            except OSError:
                return b""
    return b""
