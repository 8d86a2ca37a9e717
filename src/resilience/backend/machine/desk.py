"""How the harness on the machine under a cluster's nodes has things done to them, and what it knows of that."""

import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from resilience.agent.error import AgentError
from resilience.backend.machine import neighbour
from resilience.backend.machine.control_plane import ControlPlane, plane_of
from resilience.backend.machine.docker import KIND, RUNNING, WORKER, Docker, docker_under
from resilience.backend.machine.nodes import Nodes
from resilience.backend.machine.step import WELL, put_right, told
from resilience.backend.tool import output
from resilience.errors import FaultError, StackError

Json = dict[str, Any]
Call = Callable[[str, Mapping[str, Any], float], Json]  # a command, its request, seconds: the answer


class Machine(Protocol):
    """The machine under the nodes, to whoever injects, wherever that one stands."""

    def ask(self, command: str, request: Mapping[str, Any], timeout_s: float) -> Json:
        """Its answer. Raises `StackError` if it cannot be asked; `ValueError`."""
        ...

    def hosts_of(self, injection_id: str) -> tuple[str, ...] | None:
        """The nodes that an injection takes away, by their containers, and None if it was not for the machine."""
        ...


class Desk:
    """The `Machine` that this process itself stands on."""

    def __init__(
        self,
        cluster: str,
        state: Path,
        kubeconfig: Path,
        allowed: Callable[[], Collection[str]],
        *,
        docker: Docker | None = None,
        plane: ControlPlane | None = None,
        stack: str = KIND,
        context: str = "",
    ) -> None:
        """``state`` is kept there from run to run; ``allowed`` says which nodes may suffer, by their own names.

        ``stack`` is what people ask for the cluster by; nodes are containers on kind alone. ``context``: in the
        kubeconfig; kind's own by default.
        """
        self._stack = stack
        self._context = context or f"kind-{cluster}"
        self._docker = docker or docker_under(stack)
        self._plane = plane or plane_of(stack, self._context, kubeconfig)
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._state = state
        self._allowed = allowed

    def ask(self, command: str, request: Mapping[str, Any], timeout_s: float) -> Json:
        """See `Machine`; a process of its own does it, since an injection's daemon is forked off that one."""
        who = [self._stack, self._cluster, self._context, str(self._kubeconfig)]
        words = [command, str(self._state), *who, ",".join(sorted(self._allowed()))]
        argv = [sys.executable, "-m", "resilience.backend.machine", *words]
        answer: Json = json.loads(output(argv, timeout_s=timeout_s, text=json.dumps(request) + "\n"))
        return answer

    def hosts_of(self, injection_id: str) -> tuple[str, ...] | None:
        """See `Machine`."""
        try:
            told = json.loads((self._state / "injections" / injection_id / "request.json").read_text())
        except FileNotFoundError:
            return None
        return hosts_in(told["injection"])

    def require_allowed(self, injection: Mapping[str, Any]) -> None:
        """Raises `FaultError` if it would refuse an injection; does nothing."""
        allowed = frozenset(self._allowed())
        nodes = Nodes(cluster=self._cluster, allowed=allowed, docker=self._docker, plane=self._plane)
        try:
            nodes.request(injection)
        except AgentError as error:
            raise FaultError(str(error)) from error


def hosts_in(injection: Mapping[str, Any]) -> tuple[str, ...]:
    """The nodes that an injection is done to, by their containers."""
    return tuple(sorted({node["host"] for step in injection["steps"] for node in step.get("nodes", ())}))


def broken_nodes(docker: Docker, cluster: str) -> dict[str, str]:
    """A cluster's workers that something is done to, whoever did it, and what each is. Raises `StackError`."""
    try:
        found = {one.host: told(docker, one) for one in docker.nodes(cluster) if one.role == WORKER}
    except AgentError as error:
        raise StackError(f"nodes of the kind cluster {cluster}: {error}") from error
    return {host: words for host, words in found.items() if words != WELL}


def put_all_right(docker: Docker, cluster: str) -> dict[str, list[str]]:
    """Puts every worker of a cluster right, from nothing but what Docker says; what that took, by node.

    Raises `StackError`, when all were tried.
    """
    troubles: list[str] = []
    done: dict[str, list[str]] = {}
    try:
        found = docker.nodes(cluster)
        networks = {link.network for one in found if one.role != WORKER for link in one.links}
        for one in found:
            if one.role == WORKER:
                done[one.host] = _put_right(docker, one.host, networks, troubles)
        neighbour.forget_all(docker, [one.host for one in docker.nodes(cluster) if one.state == RUNNING])
    except AgentError as error:
        troubles.append(str(error))
    if troubles:
        raise StackError(f"nodes of the kind cluster {cluster} could not be put right: {'; '.join(troubles)}")
    return {host: steps for host, steps in done.items() if steps}


def _put_right(docker: Docker, host: str, networks: set[str], troubles: list[str]) -> list[str]:
    try:
        return put_right(docker, host, networks)
    except AgentError as error:
        troubles.append(f"{host}: {error}")
        return []
