"""What Docker says of nodes' containers, beside what their peers see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.agent.probe import Probe
from resilience.agent.table import made
from resilience.backend.machine.control_plane import ControlPlane
from resilience.backend.machine.delete import Deleted
from resilience.backend.machine.deny import Denied
from resilience.backend.machine.docker import Container, Docker
from resilience.backend.machine.drain import Drained
from resilience.backend.machine.rollout import RolledOut
from resilience.backend.machine.scale import Scaled
from resilience.backend.machine.step import WELL

_EXPECTED = {
    "power-off": "exited",
    "freeze": "paused",
    "isolate": "running, without a network",
    "reboot": "started again",
}


@dataclass(slots=True)
class NodeState:
    """``{"probe": "node", "nodes": [node, …], "after": "power-off|freeze|isolate|reboot"}``."""

    after: str
    hosts: tuple[str, ...]
    docker: Docker
    before: dict[str, Container] = field(default_factory=dict)

    @classmethod
    def from_json(cls, docker: Docker, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(data["after"], tuple(node["host"] for node in data["nodes"]), docker)

    def prepare(self) -> None:
        """Remembers what they were."""
        self.before = self._found()

    def in_effect(self) -> list[Evidence]:
        """Each is what this makes of it, and was well before."""
        return [self._seen(one, self.before.get(one.host)) for one in self._found().values()]

    def healed(self) -> list[Evidence]:
        """Each runs in its networks."""
        return [evidence(f"container {one.host}", WELL, one.told) for one in self._found().values()]

    def close(self) -> None:
        """Nothing is kept open."""

    def _seen(self, now: Container, before: Container | None) -> Evidence:
        expected = _EXPECTED[self.after]
        if self.after == "reboot":
            again = before is not None and now.started_at != before.started_at
            observed = expected if again and now.well else f"{now.told}, {'' if again else 'not '}started again"
        else:
            observed = now.told if self.after == "isolate" else now.state
        if before is None or not before.well:
            observed += f", and before the injection: {before.told if before else 'not looked at'}"
        return evidence(f"container {now.host}", expected, observed)

    def _found(self) -> dict[str, Container]:
        return {host: self.docker.container(host) for host in self.hosts}


def probe_of(docker: Docker, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Probe:
    """See `agent.table.made`. Raises `AgentError`."""
    probes: dict[str, Callable[[str, Mapping[str, Any]], Probe]] = {
        "node": partial(NodeState.from_json, docker),
        "drained": partial(Drained.from_json, plane),
        "deleted": partial(Deleted.from_json, plane),
        "scaled": partial(Scaled.from_json, plane),
        "denied": partial(Denied.from_json, plane),
        "rolled-out": partial(RolledOut.from_json, plane),
    }
    return made("probe", probes, injection_id, data)
