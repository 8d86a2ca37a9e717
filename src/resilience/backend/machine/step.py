"""What can be done to whole nodes. All of it is undone alike: the node runs, in its networks, as the others expect it.

::

    {"primitive": "power-off|freeze|isolate|reboot", "nodes": [node, …], "peers": [host, …]}

with ``node``: ``name`` (as stack files have it), ``host`` (its container), ``links``: [[network, address, MAC], …].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.step import Step
from resilience.agent.table import made
from resilience.backend.machine import neighbour
from resilience.backend.machine.control_plane import ControlPlane
from resilience.backend.machine.delete import Delete
from resilience.backend.machine.deny import Deny
from resilience.backend.machine.docker import PAUSED, RUNNING, Container, Docker, Link
from resilience.backend.machine.drain import Drain
from resilience.backend.machine.rollout import Rollout
from resilience.backend.machine.scale import Scale

WELL = "running, connected"
SILENT = "running, its links are down"
# One word in the node's own network, and nothing gets out any more, not even what its processes say as they end.
_SILENCE = "for link in /sys/class/net/eth*; do ip link set dev ${link##*/} down; done"
_FLAGS = "cat /sys/class/net/eth*/flags 2>/dev/null; true"  # a number for each link
_IFF_UP = 1  # netdevice(7): it was not switched off


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
        seen = {
            host: told(self.docker, self.docker.container(host)) if host in there else "gone" for host in self.hosts
        }
        return [
            *(evidence(f"container {host}", WELL, observed) for host, observed in seen.items()),
            evidence("nodes that keep its address in mind", "none", kept or "none"),
        ]

    @property
    def _links(self) -> list[Link]:
        return [link for links in self.hosts.values() for link in links]


def told(docker: Docker, found: Container) -> str:
    """What a node is, in words: `WELL` if nothing is done to it. Raises `AgentError`."""
    return SILENT if found.well and _is_silenced(docker, found.host) else found.told


def _is_silenced(docker: Docker, host: str) -> bool:
    flags = docker.script(host, _FLAGS).split()
    return not all(int(one, 16) & _IFF_UP for one in flags)


def put_right(docker: Docker, host: str, networks: set[str]) -> list[str]:
    """Has a node run in its networks, whatever was done to it; what that took. Raises `AgentError`.

    A power off that broke off half-way has left it silent, with its routes gone: it is switched off and on.
    """
    found = docker.container(host)
    done = []
    for network in sorted(networks - {link.network for link in found.links}):
        _change(docker, host, partial(_belongs, network), "network", "connect", network)
        done.append(f"connected with {network}")
    if told(docker, found) == SILENT:
        docker.do("kill", host)
        found = docker.container(host)
    if found.state != RUNNING:
        _change(docker, host, _runs, "unpause" if found.state == PAUSED else "start")
        done.append("let go on" if found.state == PAUSED else "started")
    return done


def _belongs(network: str, now: Container) -> bool:
    return network in {link.network for link in now.links}


def _runs(now: Container) -> bool:
    return now.state == RUNNING


def _change(docker: Docker, host: str, is_so: Callable[[Container], bool], *words: str) -> None:
    """One change, that a watchdog and whoever heals may make at the same moment: the second of them is refused."""
    try:
        docker.do(*words, host)
    except AgentError:
        if not is_so(docker.container(host)):
            raise


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


def step_of(docker: Docker, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Step:
    """See `agent.table.made`. Raises `AgentError`."""
    steps: dict[str, Callable[[str, Mapping[str, Any]], Step]] = {
        **dict.fromkeys(_DO, partial(NodeStep.from_json, docker)),
        "drain": partial(Drain.from_json, plane),
        "delete": partial(Delete.from_json, plane),
        "scale": partial(Scale.from_json, plane),
        "deny": partial(Deny.from_json, plane),
        "rollout": partial(Rollout.from_json, plane),
    }
    return made("primitive", steps, injection_id, data)
