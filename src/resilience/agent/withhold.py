"""Holds the restart of pods back: the process by which a container's end is known stands still.

A container runtime keeps a process beside each pod, the parent of what its containers were started with (a *shim*). As
long as that one is stopped, nobody learns that a container has ended, so none is started in its place, and the kubelet
counts no failure that it would answer with a back-off. Once it goes on, all of that happens at once.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from resilience.agent.cgroup import container_of
from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.process import STOPPED, Process, look_up


@dataclass(frozen=True, slots=True)
class Withhold:
    """``{"primitive": "withhold", "members": [{"name", "keeper_pid", "keeper_start"}, …]}``."""

    keepers: tuple[tuple[str, int, int], ...]  # member, pid, start

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` for a member whose runtime keeps no such process, `KeyError` or `ValueError`."""
        for place in data["members"]:
            if "keeper_pid" not in place:
                raise AgentError(f"{place['name']}: no process beside it tells its end, so that cannot be withheld")
        return cls(tuple((str(p["name"]), int(p["keeper_pid"]), int(p["keeper_start"])) for p in data["members"]))

    def do(self) -> None:
        """Stops them. Raises `AgentError` if one is not there."""
        for name, pid, start in self.keepers:
            keeper = _running(pid, start)
            if keeper is None:
                raise AgentError(f"{name}: what its container was started by, process {pid}, is gone")
            keeper.signal(signal.SIGSTOP)

    def undo(self) -> None:
        """Lets them go on."""
        for _name, pid, start in self.keepers:
            if (keeper := _running(pid, start)) is not None:
                keeper.signal(signal.SIGCONT)

    def undone(self) -> list[Evidence]:
        """One piece for all of them."""
        found = [(name, _running(pid, start)) for name, pid, start in self.keepers]
        left = [name for name, keeper in found if keeper is not None and keeper.state == STOPPED]
        return [evidence("restarts held back", "none", ", ".join(left) or "none")]


def keeper_of(server: Process) -> Process | None:
    """The process that a container's first one was started by, or None if its runtime keeps none beside the pod."""
    keeper = look_up(server.parent) if server.parent > 1 else None
    return None if keeper is None or _is_in_pod(keeper.pid) else keeper


def _running(pid: int, start: int) -> Process | None:
    found = look_up(pid)
    return found if found is not None and found.start == start else None


def _is_in_pod(pid: int) -> bool:
    try:
        return container_of(Path(f"/proc/{pid}/cgroup").read_text()) is not None
    except OSError:
        return False
