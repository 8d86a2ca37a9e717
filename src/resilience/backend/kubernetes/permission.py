"""By which rule a pod or a node of a cluster may suffer, looked up before anything is done.

What is done is refused by whoever does it: the agent of a node, which knows its namespaces (`agent.pod`), and the
machine under the nodes (`backend.machine.nodes`). Here the same is told in words, or refused as they would.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.manifests import HARNESS, NODE, PLATFORM_NODES
from resilience.errors import FaultError
from resilience.spec.stack import OBSERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Who may suffer in a cluster, as it is at one moment; everything raises `FaultError` for who may not."""

    nodes: Mapping[str, Object]  # by their own names
    namespaces: Mapping[str, Object]
    touched: Mapping[str, Sequence[str]]  # the namespaces that the agent of each node touches

    @classmethod
    def of_cluster(cls, api: Api, agents: Agents) -> Self:
        """Asks the cluster. Raises `ApiError`."""
        return cls(
            nodes={node["metadata"]["name"]: node for node in api.items("/api/v1/nodes")},
            namespaces={space["metadata"]["name"]: space for space in api.items("/api/v1/namespaces")},
            touched=agents.touched(),
        )

    def rules(self, members: Iterable[MemberState], hosts: Sequence[str]) -> Iterator[str]:
        """A line for each node that fails whole, and for each member that suffers, with it or alone."""
        for host in hosts:
            yield self._node(host)
        for state in members:
            yield self._taken_along(state) if state.handle.get("host") in hosts else self._pod(state)

    def _node(self, host: str) -> str:
        labels = self.nodes.get(host, {"metadata": {}})["metadata"].get("labels", {})
        key, _, value = PLATFORM_NODES.partition("=")
        if labels.get(key) != value or labels.get(NODE) == OBSERVER:
            raise FaultError(f"node {host}: it is not labelled {PLATFORM_NODES}, so no fault may touch it")
        return f"{labels.get(NODE, host)} ({host}): labelled {PLATFORM_NODES}, and not the observers' node"

    def _taken_along(self, state: MemberState) -> str:
        """It goes with its node, whatever any agent may touch."""
        return f"{_named(state)}: {self._labelled(state)}; it goes with {state.node}"

    def _pod(self, state: MemberState) -> str:
        """Its node is one that an agent stands on, which knows its namespace."""
        host, namespace = state.handle.get("host", ""), state.handle.get("namespace", "")
        self._node(host)
        if namespace not in self.touched.get(host, ()):
            may = ", ".join(self.touched.get(host, ())) or "none, since none runs there"
            raise FaultError(f"{_named(state)}: the agent of {host} does not touch namespace {namespace} (only: {may})")
        its_agent = f"{state.node} is a platform node, and its agent may touch that namespace"
        return f"{_named(state)}: {self._labelled(state)}; {its_agent}"

    def _labelled(self, state: MemberState) -> str:
        name = state.handle.get("namespace", "")
        if HARNESS not in self.namespaces.get(name, {"metadata": {}})["metadata"].get("labels", {}):
            raise FaultError(f"{_named(state)}: namespace {name} is not the harness's: it has no label {HARNESS}")
        return f"namespace {name} is labelled {HARNESS}"


def _named(state: MemberState) -> str:
    handle = state.handle
    return f"{state.name} (pod {handle.get('namespace')}/{handle.get('pod')} on {handle.get('host')})"


def besides(pods: Iterable[Object], states: Iterable[MemberState], hosts: Sequence[str]) -> list[str]:
    """The pods that go with nodes and are no members."""
    members = {state.handle.get("pod_uid") for state in states}
    return sorted(
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in pods
        if pod["spec"].get("nodeName") in hosts
        and pod["metadata"]["uid"] not in members
        and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
    )
