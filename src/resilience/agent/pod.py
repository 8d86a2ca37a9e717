"""Finds pods on the node that the agent stands on: what the harness knows of a pod becomes a place.

A pod is named by its UID and the container that ran when the injection was planned. Its first process is the sandbox's,
the oldest of all: it holds the pod's network, and outlives restarts of containers. Which namespace a pod is in is read
from the kubelet's log folders (``<namespace>_<name>_<uid>``), so that no caller can claim another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from resilience.agent.cgroup import processes_of
from resilience.agent.error import AgentError
from resilience.agent.process import Process, is_first_of_its_namespace, look_up
from resilience.agent.withhold import keeper_of

LOGS = Path("/var/log/pods")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """The pods of this node that may be touched: those of the allowed namespaces."""

    allowed: frozenset[str]
    logs: Path = LOGS

    def request(self, injection: Mapping[str, Any]) -> dict[str, Any]:
        """An injection with all places found. Raises `AgentError` if it is about anything but pods."""
        for step in injection["steps"]:
            _require_pods(step, "primitive", list(_places(step, ("members", "member", "folders"))))
        for watch in injection["watch"]:
            _require_pods(watch, "probe", list(_places(watch, ("via", "of", "in"))))
        found: dict[str, Any] = self.located(injection)
        return found

    def located(self, value: Any) -> Any:
        """A request's JSON with a place for each pod in it. Raises `AgentError` for a pod that is not to be touched."""
        if isinstance(value, list):
            return [self.located(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        if value.get("pod_uid"):
            return self._place(value)
        return {key: self.located(item) for key, item in value.items()}

    def _place(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        self._require_allowed(pod)
        found = [(process, container) for pid, container in processes_of(pod["pod_uid"]) if (process := look_up(pid))]
        if not found:
            raise AgentError(f"{pod['name']}: nothing of pod {pod['pod_uid']} runs on this node")
        sandbox, _container = min(found, key=lambda item: (item[0].start, item[0].pid))
        server = _first([process for process, container in found if container == pod.get("container_id")])
        placed = {**pod, "init_pid": sandbox.pid, "init_start": sandbox.start, "server_pid": None, "server_start": None}
        if server is not None:
            placed |= {"server_pid": server.pid, "server_start": server.start, **_keeper(server)}
            if "data_dir" in pod:
                placed["data_dir"] = _inside(server, pod["data_dir"])
        return placed

    def _require_allowed(self, pod: Mapping[str, Any]) -> None:
        namespace = self._namespace(str(pod["pod_uid"]))
        if namespace not in self.allowed:
            raise AgentError(
                f"{pod.get('name')}: pod {pod['pod_uid']} is in namespace {namespace or '(unknown here)'}:"
                f" this agent touches {', '.join(sorted(self.allowed)) or 'none'} only"
            )

    def _namespace(self, uid: str) -> str:
        names = [entry.name.split("_") for entry in self.logs.iterdir()] if self.logs.is_dir() else []
        return next((parts[0] for parts in names if len(parts) == 3 and parts[2] == uid), "")


def _keeper(server: Process) -> dict[str, int]:
    keeper = keeper_of(server)
    return {"keeper_pid": keeper.pid, "keeper_start": keeper.start} if keeper else {}


def _inside(server: Process, folder: str) -> str:
    """A folder of a pod's, from outside. Raises `AgentError` for a path that leaves it."""
    parts = PurePosixPath(folder).parts
    if len(parts) < 2 or parts[0] != "/" or ".." in parts:
        raise AgentError(f"data_dir {folder!r}: expected an absolute path below the root")
    return f"/proc/{server.pid}/root{folder}"


def _places(part: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    for key in keys:
        found = part.get(key, ())
        yield from (found,) if isinstance(found, Mapping) else found


def _require_pods(part: Mapping[str, Any], word: str, places: list[Mapping[str, Any]]) -> None:
    """What names a process, a folder or a device of the node itself is nobody's to ask for."""
    if not places or not all(place.get("pod_uid") or place.get("here") for place in places):
        raise AgentError(f"{word} {part.get(word)!r}: on a node it has to be about pods only")


def _first(processes: list[Process]) -> Process | None:
    return next((process for process in processes if is_first_of_its_namespace(process.pid)), None)
