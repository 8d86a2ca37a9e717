"""What can be done to whole nodes. All of it is undone alike: the node runs, in its networks, as the others expect it.

::

    {"primitive": "power-off|freeze|isolate|reboot", "nodes": [node, …], "peers": [host, …]}

with ``node``: ``name`` (as stack files have it), ``host`` (its container), ``links``: [[network, address, MAC], …].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.step import Step
from resilience.agent.table import made
from resilience.backend.machine import neighbour
from resilience.backend.machine.docker import PAUSED, RUNNING, Docker, Link

WELL = "running, connected"
# One word in the node's own network, and nothing gets out any more, not even what its processes say as they end.
_SILENCE = "for link in /sys/class/net/eth*; do ip link set dev ${link##*/} down; done"


@dataclass(frozen=True, slots=True)
class NodeStep:
    """Something done to nodes."""

    what: str
    hosts: Mapping[str, tuple[Link, ...]]  # nodes' containers with the networks that they belong into
    peers: tuple[str, ...]  # the cluster's other nodes
    docker: Docker

    @classmethod
    def from_json(cls, docker: Docker, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError`."""
        hosts = {node["host"]: tuple(Link.from_json(link) for link in node["links"]) for node in data["nodes"]}
        return cls(data["primitive"], hosts, tuple(data["peers"]), docker)

    def do(self) -> None:
        """Does it. Raises `AgentError`."""
        if self.what != "freeze":
            neighbour.keep(self.docker, self.peers, self._links)
        for host, links in self.hosts.items():
            _DO[self.what](self.docker, host, links)
        if self.what == "reboot":
            neighbour.forget(self.docker, self.peers, self._links)

    def undo(self) -> None:
        """Puts the nodes right that there are: those of a cluster that was deleted are broken no more.

        Raises `AgentError`.
        """
        there = self.docker.names()
        for host in self.hosts.keys() & there:
            put_right(self.docker, host, {link.network for link in self.hosts[host]})
        neighbour.forget(self.docker, [peer for peer in self.peers if peer in there], self._links)

    def undone(self) -> list[Evidence]:
        """Each node runs in its networks, and nobody keeps anything in mind. Raises `AgentError`."""
        there = self.docker.names()
        kept = ", ".join(neighbour.kept(self.docker, [peer for peer in self.peers if peer in there], self._links))
        told = {host: self.docker.container(host).told if host in there else "gone" for host in self.hosts}
        return [
            *(evidence(f"container {host}", WELL, observed) for host, observed in told.items()),
            evidence("nodes that keep its address in mind", "none", kept or "none"),
        ]

    @property
    def _links(self) -> list[Link]:
        return [link for links in self.hosts.values() for link in links]


def put_right(docker: Docker, host: str, networks: set[str]) -> list[str]:
    """Has a node run in its networks, whatever was done to it; what that took. Raises `AgentError`."""
    found = docker.container(host)
    done = []
    for network in sorted(networks - {link.network for link in found.links}):
        docker.do("network", "connect", network, host)
        done.append(f"connected with {network}")
    if found.state != RUNNING:
        docker.do("unpause" if found.state == PAUSED else "start", host)
        done.append("let go on" if found.state == PAUSED else "started")
    return done


def _power_off(docker: Docker, host: str, _links: Sequence[Link]) -> None:
    docker.script(host, _SILENCE)
    docker.do("kill", host)


def _freeze(docker: Docker, host: str, _links: Sequence[Link]) -> None:
    docker.do("pause", host)


def _isolate(docker: Docker, host: str, links: Sequence[Link]) -> None:
    for link in links:
        docker.do("network", "disconnect", link.network, host)


def _reboot(docker: Docker, host: str, links: Sequence[Link]) -> None:
    _power_off(docker, host, links)
    docker.do("start", host)


_DO: Mapping[str, Callable[[Docker, str, Sequence[Link]], None]] = {
    "power-off": _power_off,
    "freeze": _freeze,
    "isolate": _isolate,
    "reboot": _reboot,
}


def step_of(docker: Docker, injection_id: str, data: Mapping[str, Any]) -> Step:
    """See `agent.table.made`. Raises `AgentError`."""
    return made("primitive", dict.fromkeys(_DO, partial(NodeStep.from_json, docker)), injection_id, data)
