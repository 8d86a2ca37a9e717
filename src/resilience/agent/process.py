"""Processes by pid and start time, and the place that a member's processes and network are found at."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from resilience.agent.cgroup import processes_of
from resilience.agent.error import AgentError

STOPPED = "T"
_GONE = frozenset("ZX")  # a zombie runs no more; it only waits to be collected
_THREADS = (
    17  # of the fields behind the name; of a process that ends, whose first thread may be a zombie before the rest
)


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; ``start`` is its start time in clock ticks since boot (field 22 of its ``stat``)."""

    pid: int
    start: int
    parent: int = field(compare=False)  # a process whose parent has ended gets another one
    state: str = field(compare=False, default="")  # as `stat` has it: R, S, D, T (stopped) …
    session: int = field(compare=False, default=0)  # the pid of its session's first process

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return look_up(self.pid) == self

    def signal(self, number: int) -> None:
        """Sends a signal to exactly this process; does nothing if it is gone, even if its pid is somebody else's."""
        with contextlib.suppress(ProcessLookupError), _pinned(self.pid) as handle:
            if not self.alive:
                return
            if handle is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)


@contextlib.contextmanager
def _pinned(pid: int) -> Iterator[int | None]:
    """A handle that keeps the number from meaning another process; None where Python was built without them."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def look_up(pid: int) -> Process | None:
    """The process that has this pid now, or None if none runs under it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    gone = fields[0] in _GONE and int(fields[_THREADS]) <= 1
    return None if gone else Process(pid, int(fields[19]), int(fields[1]), fields[0], int(fields[3]))


def is_running(pid: int | None, start: int | None) -> bool:
    """Whether that very process still runs."""
    found = look_up(pid) if pid else None
    return found is not None and found.start == start


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A member as the agent finds it; of a pod the first process is that of its sandbox (`resilience.agent.pod`)."""

    name: str
    address: str
    init_pid: int  # the first process of the member's namespaces: it holds them and is never touched
    init_start: int
    server_pid: int | None  # of the server that ran when the injection was planned
    server_start: int | None
    pod_uid: str = ""  # of a member that is a pod
    here: bool = False  # the member that the agent itself runs in: there is nothing to be entered

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Takes what it needs from a member's handle. Raises `KeyError` if something is missing."""
        return cls(
            name=str(data["name"]),
            address=str(data.get("address", "")),
            init_pid=int(data["init_pid"]),
            init_start=int(data["init_start"]),
            server_pid=data.get("server_pid"),
            server_start=data.get("server_start"),
            pod_uid=str(data.get("pod_uid", "")),
            here=bool(data.get("here", False)),
        )

    @property
    def exists(self) -> bool:
        """Whether the member's namespaces are still held."""
        return is_running(self.init_pid, self.init_start)


def servers(place: Place) -> tuple[Process, ...]:
    """Everything that runs in the member's PID namespace but what holds it; nothing if the member is gone.

    The holders are the namespace's first process and that one's oldest child: the reaping init ends with the command
    that it was given, and everything it adopted later is younger.
    """
    if not place.exists:
        return ()
    if place.pod_uid:
        return _servers_of_pod(place)
    inside = [process for process in _in_namespace_of(place.init_pid) if process.pid != place.init_pid]
    children = [process for process in inside if process.parent == place.init_pid]
    keeper = min(children, key=lambda child: (child.start, child.pid), default=None)
    return tuple(process for process in inside if process != keeper)


def _servers_of_pod(place: Place) -> tuple[Process, ...]:
    """What the pod's containers were started with, and what came of that.

    Left out are the sandbox, and what a kubelet's probe or a person runs in a container: a session of its own, which
    is gone again soon, and which a stopped server may keep waiting.
    """
    found = [(process, container) for pid, container in processes_of(place.pod_uid) if (process := look_up(pid))]
    sandbox = {container for process, container in found if process.pid == place.init_pid}
    inside = [process for process, container in found if container not in sandbox]
    sessions = {process.session for process in inside if is_first_of_its_namespace(process.pid)}
    return tuple(process for process in inside if process.session in sessions)


def is_first_of_its_namespace(pid: int) -> bool:
    """Whether it is process 1 where it lives, e.g. the one that a container was started with."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    pids = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(pids) > 1 and pids[-1] == "1"


def require(places: Sequence[Place]) -> None:
    """Raises `AgentError` if one of the members is gone."""
    for place in places:
        if not place.exists:
            raise AgentError(f"{place.name}: its first process {place.init_pid} is gone")


def _in_namespace_of(init_pid: int) -> Iterator[Process]:
    namespace = _namespace(init_pid)
    for entry in os.listdir("/proc"):  # noqa: PTH208  # names are all that is needed, thousands of times
        if not entry.isdigit() or namespace is None or _namespace(int(entry)) != namespace:
            continue
        process = look_up(int(entry))
        if process is not None:
            yield process


def _namespace(pid: int) -> tuple[int, int] | None:
    try:
        found = os.stat(f"/proc/{pid}/ns/pid")  # noqa: PTH116  # a magic link: Path adds nothing but time
    except OSError:
        return None
    return found.st_dev, found.st_ino
