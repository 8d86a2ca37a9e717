"""Asks the agents of a cluster: by ``exec`` into their pods, one line of JSON each way.

Every command may be given twice (`resilience.agent.node`), so a connection that breaks half-way is tried again, at a
pod that may have taken the other's place, until the patience is over.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from resilience.agent.node import NAMESPACES as TOUCHED
from resilience.backend.base import ToldBy
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.manifests import COMPONENT, NAMESPACES, PLATFORM_NODES
from resilience.backend.kubernetes.split import MACHINE, WITNESS
from resilience.backend.machine.desk import Machine
from resilience.errors import FaultError, StackError
from resilience.spec.clock import SAME, Offset, Trip, offset_from_trips

PATIENCE_S = 30.0  # how long an agent may be away
_AGAIN_AFTER_S = 1.0
_CLOCK_TIMEOUT_S = 10.0

Json = dict[str, Any]
# namespace, pod, command, seconds: the boot id of its kernel, and round trips to its clock
Trips = Callable[[str, str, tuple[str, ...], float], tuple[str, tuple[Trip, ...]]]
Run = Callable[[str, str, tuple[str, ...], str, float], str]  # namespace, pod, command, its input, seconds: its output


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentClock:
    """An agent's clock: under which kernel, and how far it is ahead of this process's; None: that is not known."""

    agent: str
    boot_id: str
    offset: Offset | None

    def theirs(self, at_ns: int) -> int:
        """An instant of ours on its clock; 0, which is at once, where nobody knows."""
        return at_ns + self.offset.offset_ns if at_ns and self.offset else 0

    def ours(self, at_ns: int) -> int:
        """An instant of its on our clock; now, by when it has passed, where nobody knows."""
        return at_ns - self.offset.offset_ns if self.offset else time.monotonic_ns()

    @property
    def told_by(self) -> ToldBy:
        """What is on record of it."""
        error_ns = self.offset.error_ns if self.offset else None
        return ToldBy(process=f"agent of {self.agent}", boot_id=self.boot_id, error_ns=error_ns)


class Agents:
    """The agents of one cluster, by the node that each stands on, the witness, and the machine under the nodes."""

    def __init__(
        self,
        api: Api,
        run: Run,
        *,
        trips: Trips | None = None,
        machine: Machine | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``run`` executes a command in a pod; raises `StackError`, `HostError`. Without ``machine`` nothing can be
        done to nodes, without ``trips`` no clock of another kernel is known.
        """
        self._trips = trips
        self._machine = machine
        self._api = api
        self._run = run
        self._sleep = sleep
        self._patience_s = patience_s

    def names(self) -> list[str]:
        """All that there have to be, whether they run or not: one on each platform node, and the witness.

        Raises `ApiError`.
        """
        return [*(node["metadata"]["name"] for node in self._api.items("/api/v1/nodes", PLATFORM_NODES)), WITNESS]

    def all(self) -> list[str]:
        """Those, and the machine under the nodes. Raises `ApiError`."""
        return [*self.names(), *([MACHINE] if self._machine else [])]

    def running(self) -> list[str]:
        """Those of all that can be asked now. Raises `ApiError`."""
        return [*self._pods(), *([MACHINE] if self._machine else [])]

    def hosts_of(self, injection_id: str) -> tuple[str, ...] | None:
        """The nodes that an injection of the machine's takes away with their agents, None for any other injection.

        Raises `FaultError` if nobody can tell.
        """
        try:
            return self._machine.hosts_of(injection_id) if self._machine else None
        except StackError as error:
            raise FaultError(f"injection {injection_id}: which nodes it is done to cannot be known: {error}") from error

    def clocks(self, agents: Iterable[str], boot_id: str) -> dict[str, AgentClock]:
        """How the clocks of these agents stand to that of this process's kernel, which has this boot id.

        Which kernel an agent is under is its node's own word (the API server's); only those under another one are
        asked for their clock, all at the same time. Raises `ApiError`.
        """
        nodes = {node["metadata"]["name"]: node for node in self._api.items("/api/v1/nodes", PLATFORM_NODES)}
        kernels = {agent: _boot_id(nodes.get(agent, {})) or boot_id for agent in agents}
        with ThreadPoolExecutor(max(1, len(kernels))) as threads:
            clocks = threads.map(lambda agent: self._clock(agent, kernels[agent], boot_id), kernels)
            return dict(zip(kernels, clocks, strict=True))

    def _clock(self, agent: str, kernel: str, ours: str) -> AgentClock:
        if kernel == ours:
            return AgentClock(agent=agent, boot_id=ours, offset=SAME)
        unknown = AgentClock(agent=agent, boot_id=kernel, offset=None)
        argv = ("python3", "-m", "resilience.agent.node", "clock")
        try:
            pods = self._pods()
            if self._trips is None or agent not in pods:
                return unknown
            metadata = pods[agent]["metadata"]
            told, trips = self._trips(metadata["namespace"], metadata["name"], argv, _CLOCK_TIMEOUT_S)
        except StackError:
            return unknown
        return AgentClock(agent=agent, boot_id=told, offset=offset_from_trips(trips))

    def witness_address(self) -> str:
        """Where the witness looks from. Raises `FaultError` if there is none."""
        if WITNESS not in (pods := self._pods()):
            raise FaultError("no witness runs on the observer node, so nothing could be proved from there")
        return str(pods[WITNESS]["status"]["podIP"])

    def addresses(self) -> dict[str, str]:
        """The names of those that run, by their pods' addresses. Raises `ApiError`."""
        return {str(pod["status"].get("podIP")): name for name, pod in self._pods().items()}

    def touched(self) -> dict[str, tuple[str, ...]]:
        """The namespaces that the agent of each node was told to touch, and no others. Raises `ApiError`."""
        return {name: _namespaces(pod) for name, pod in self._pods().items() if name != WITNESS}

    def _pods(self) -> dict[str, Object]:
        found = {}
        for component in ("agent", WITNESS):
            for pod in self._api.items(f"/api/v1/namespaces/{NAMESPACES[component]}/pods", f"{COMPONENT}={component}"):
                if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                    found[WITNESS if component == WITNESS else pod["spec"]["nodeName"]] = pod
        return found

    def ask(self, agent: str, command: str, request: Mapping[str, Any], timeout_s: float) -> Json:
        """One agent's answer. Raises `FaultError`: the agent's own, or that it cannot be asked; `HostError`."""
        waited_s = 0.0  # an attempt that hangs takes of the patience, too
        while True:
            began = time.monotonic()
            try:
                answer = self._ask_once(agent, command, request, timeout_s)
                break
            except (StackError, ValueError) as error:
                if waited_s >= self._patience_s:
                    raise FaultError(f"the agent of {agent} cannot be asked: {error}") from error
            waited_s += time.monotonic() - began + _AGAIN_AFTER_S
            self._sleep(_AGAIN_AFTER_S)
        if "error" in answer:
            raise FaultError(f"agent of {agent}: {answer['error']}")
        return answer

    def ask_all(
        self,
        requests: Mapping[str, Mapping[str, Any]],
        command: str,
        timeout_s: float,
        *,
        machine_timeout_s: float | None = None,
    ) -> dict[str, Json | FaultError]:
        """What each of them answers, asked at the same time; an error is an answer, too.

        ``machine_timeout_s``: where the machine may take longer than agents.
        """
        machine_s = timeout_s if machine_timeout_s is None else machine_timeout_s

        def ask(agent: str) -> Json | FaultError:
            try:
                return self.ask(agent, command, requests[agent], machine_s if agent == MACHINE else timeout_s)
            except FaultError as error:
                return error

        with ThreadPoolExecutor(max(1, len(requests))) as threads:
            return dict(zip(requests, threads.map(ask, requests), strict=True))

    def _ask_once(self, agent: str, command: str, request: Mapping[str, Any], timeout_s: float) -> Json:
        if agent == MACHINE:
            if self._machine is None:
                raise FaultError("this process was given no way to the machine under the nodes")
            return self._machine.ask(command, request, timeout_s)
        pods = self._pods()
        if agent not in pods:
            raise StackError(f"no agent runs there (those that run: {', '.join(pods) or 'none'})")
        metadata = pods[agent]["metadata"]
        argv = ("python3", "-m", "resilience.agent.node", command)
        text = self._run(metadata["namespace"], metadata["name"], argv, json.dumps(request) + "\n", timeout_s)
        answer: Json = json.loads(text)
        return answer


def _boot_id(node: Mapping[str, Any]) -> str:
    return str(node.get("status", {}).get("nodeInfo", {}).get("bootID", ""))


def _namespaces(agent: Object) -> tuple[str, ...]:
    told = [item.get("value", "") for item in agent["spec"]["containers"][0].get("env", ()) if item["name"] == TOUCHED]
    return tuple(sorted(name.strip() for name in ",".join(told).split(",") if name.strip()))
