"""What a run could leave on a machine: processes, namespaces, mounts, links, rules, files."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from resilience.agent.process import look_up

MARK = "RESILIENCE_TEST_MARK"  # in the environment of a run, and of all that does not get an environment of its own
LEFT_TIMEOUT_S = 5.0


class Seen(NamedTuple):
    """A process of a run."""

    pid: int
    argv: tuple[str, ...]


def below(pid: int) -> set[int]:
    """A process and all below it."""
    found, todo = set(), [pid]
    while todo:
        parent = todo.pop()
        found.add(parent)
        for thread in Path(f"/proc/{parent}/task").glob("[0-9]*/children"):
            try:
                todo += [int(child) for child in thread.read_text().split()]
            except OSError:
                continue
    return found


def argv_of(pid: int) -> tuple[str, ...]:
    """A process's command line; nothing if it is gone."""
    return tuple(_read(pid, "cmdline").decode(errors="replace").split("\0")[:-1])


def above(pid: int) -> list[int]:
    """Those that a process comes from, its parent first, as far as they are still there."""
    found: list[int] = []
    while (process := look_up(pid)) and process.parent:
        pid = process.parent
        found.append(pid)
    return found


def namespaces(pids: Iterable[int] | None = None) -> set[str]:
    """Every namespace that one of these processes is in, or holds open; None: that any process of this machine does.

    One that has ended and waits to be collected holds none, though its PID namespace can still be read.
    """
    running = [Path("/proc", str(pid)) for pid in (_pids() if pids is None else pids) if look_up(pid)]
    links = [link for process in running for link in (*process.glob("ns/*"), *process.glob("fd/*"))]
    return {target for link in links if ":[" in (target := _target(link)) and not target.startswith(_NO_NAMESPACE)}


_NO_NAMESPACE = ("socket:", "pipe:", "anon_inode:")


def namespaces_of(pid: int) -> set[str]:
    """The namespaces that a process is in; none if it is gone."""
    return {target for link in Path(f"/proc/{pid}/ns").glob("*") if (target := _target(link))}


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


@dataclass(frozen=True)
class Ground:
    """Where a run is started: namespaces of the test's own, so that nobody else on this machine changes what it sees.

    An ordinary user cannot make them; then it is the machine itself.
    """

    pid: int  # a process in them
    enter: tuple[str, ...]  # what a command is to begin with to run in them

    def machine(self) -> dict[str, Counter[str]]:
        """What no run may leave anything in: host name, mounts, links, addresses, routes, rules, line by line."""
        return {name: self._told(command) for name, command in _MACHINE.items() if shutil.which(command[0])}

    def _told(self, command: tuple[str, ...]) -> Counter[str]:
        """What a command says, without the lines in which iptables-save tells the time and counts packets."""
        text = subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False).stdout
        return Counter(line.partition(" [")[0] for line in text.splitlines() if not line.startswith("#"))


_MACHINE = {
    "host name": ("hostname",),
    "mounts": ("cat", "/proc/self/mounts"),
    "links": ("ip", "-oneline", "link", "show"),
    "addresses": ("ip", "-oneline", "address", "show"),
    "routes": ("ip", "route", "show", "table", "all"),
    "rules": ("nft", "--stateless", "list", "ruleset"),
    "iptables": ("iptables-save",),
}


@contextmanager
def ground() -> Iterator[Ground]:
    """A ground of the test's own while it is entered."""
    if os.geteuid() != 0:
        yield Ground(os.getpid(), ())
        return
    holder = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "--ipc", "sleep", "infinity"])
    try:
        deadline = time.monotonic() + LEFT_TIMEOUT_S
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < deadline, "no namespaces of the test's own"
            time.sleep(0.01)
        enter = ("nsenter", "--target", str(holder.pid), "--net", "--mount", "--uts", "--ipc", "--")
        yield Ground(holder.pid, enter)
    finally:
        holder.kill()
        holder.wait()


def added(before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]]) -> dict[str, list[str]]:
    """What is there that was not; what has gone says nothing: a mount does when others remove its folder."""
    return {name: sorted(lines - before[name]) for name, lines in after.items() if lines - before[name]}


class Traces:
    """Follows all that belongs to one run: by a mark in the environment, and by the namespaces that it makes.

    The servers of members have an environment of their own, so they are known by their namespaces. `look` has to be
    called now and then, and before the run ends.

    The kernel gives the number of a namespace that has gone to the next one, which may be that of another sandbox. So
    nothing counts as the run's that comes from a process which is neither the run's nor one that this test comes from;
    an orphan does: it comes to one of the latter.
    """

    def __init__(self, mark: str, *outside: int) -> None:
        """``outside``: processes whose namespaces are not the run's."""
        self._mark = f"{MARK}={mark}".encode()
        self._outside = namespaces_of(os.getpid()).union(*map(namespaces_of, outside))
        self._origin = {os.getpid(), *above(os.getpid())}
        self.made: set[str] = set()

    def look(self) -> list[Seen]:
        """The processes that belong to the run now."""
        pids = _pids()
        marked = {pid for pid in pids if self._mark in _read(pid, "environ").split(b"\0")}
        for pid in marked:
            self.made |= namespaces_of(pid) - self._outside
        found = marked | {pid for pid in pids if namespaces_of(pid) & self.made}
        return [Seen(pid, argv_of(pid)) for pid in found if not self._of_others(above(pid), found)]

    def left(self, within_s: float = LEFT_TIMEOUT_S) -> list[str]:
        """What is still there, after a while (s); nothing, if the run has gone as it should."""
        deadline = time.monotonic() + within_s
        while (left := self._there()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def _there(self) -> list[str]:
        seen = [seen for seen in self.look() if look_up(seen.pid)]
        ours = {process.pid for process in seen}
        holders = [pid for pid in _pids() if pid in ours or not self._of_others([pid, *above(pid)], ours)]
        return [f"{pid} {' '.join(argv)}" for pid, argv in seen] + sorted(self.made & namespaces(holders))

    def _of_others(self, origin: Iterable[int], ours: Collection[int]) -> bool:
        return any(pid not in ours and pid not in self._origin for pid in origin)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile, or somebody else's
        return b""


def files_below(folder: Path) -> set[str]:
    """All that is below a folder, as paths from there; links are not followed."""
    return {
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }
