"""Which nodes may suffer: the workers of one cluster that carry the platform, and of those only what is well now; and
which pods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilience.agent.error import AgentError
from resilience.backend.machine.control_plane import ControlPlane
from resilience.backend.machine.deny import Deny
from resilience.backend.machine.docker import WORKER, Container, Docker
from resilience.backend.machine.scale import Scale

TTL_S_MAX = 3_600.0
_POSSIBLE: Mapping[str, type[Scale | Deny]] = {"scale": Scale, "deny": Deny}  # what the cluster may not allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The nodes of a cluster; ``allowed`` are the containers of those that may suffer."""

    cluster: str
    allowed: frozenset[str]
    docker: Docker
    plane: ControlPlane

    def request(self, injection: Mapping[str, Any]) -> dict[str, Any]:
        """An injection with all that is needed to undo it. Raises `AgentError` for a node that is not to be touched."""
        if injection.get("prelude"):
            raise AgentError("a node's fault has no prelude")
        if not 0 < float(injection["ttl_s"]) <= TTL_S_MAX:
            raise AgentError(f"ttl_s: {injection['ttl_s']}: expected at most {TTL_S_MAX:g} s for a node")
        found = {one.host: one for one in self.docker.nodes(self.cluster)}
        parts = [*injection["steps"], *injection["watch"]]
        hit = {node["host"] for part in parts for node in part.get("nodes", ())}
        drained = {step["node"]["host"] for step in injection["steps"] if "node" in step}
        deleted = {pod["host"] for step in injection["steps"] if step["primitive"] == "delete" for pod in step["pods"]}
        if hit and not self.docker.under_nodes:
            raise AgentError(
                f"node {min(hit)}: under the nodes of {self.cluster} there is no machine that may be stopped"
            )
        for host in hit | drained | deleted:
            self._require(host, found.get(host))
        for host in drained:
            self._require_uncordoned(host)
        named = {part["namespace"] for part in parts if "namespace" in part}
        for space in named | {pod["namespace"] for part in parts for pod in part.get("pods", ())}:
            self.plane.require_ours(space)
        for step in injection["steps"]:
            if kind := _POSSIBLE.get(step["primitive"]):
                kind.from_json(self.plane, injection["id"], step).require_possible()
        links = {host: [list(link) for link in found[host].links] for host in hit}
        peers = [host for host, one in found.items() if one.well and host not in hit]
        return {
            **injection,
            "steps": [_with_links(step, links, peers=peers) for step in injection["steps"]],
            "watch": [_with_links(watch, links) for watch in injection["watch"]],
        }

    def _require(self, host: str, found: Container | None) -> None:
        if host not in self.allowed:
            others = ", ".join(sorted(self.allowed)) or "none"
            raise AgentError(f"node {host}: no fault may touch it; those that may suffer: {others}")
        if not self.docker.under_nodes:
            return
        if found is None or found.cluster != self.cluster or found.role != WORKER:
            raise AgentError(f"node {host}: it is no worker of the kind cluster {self.cluster}")
        if not found.well:
            raise AgentError(f"node {host}: it is {found.told} already: {self.plane.heal} puts it right")

    def _require_uncordoned(self, host: str) -> None:
        """Healing a drain of somebody else's would let the node take pods that this one wanted kept away."""
        if by := self.plane.cordoned_by(host):
            raise AgentError(f"node {host}: it is cordoned already, by {by}: {self.plane.heal}, or uncordon it")


def _with_links(part: Mapping[str, Any], links: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A part that is about whole nodes with what Docker knows of them; any other as it is."""
    if "nodes" not in part:
        return dict(part)
    return {**part, "nodes": [{**node, "links": links[node["host"]]} for node in part["nodes"]], **more}
