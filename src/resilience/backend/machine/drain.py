"""A node is emptied: cordoned, and its members evicted one by one, as their disruption budgets let them go.

::

    {"primitive": "drain", "node": {"name", "host"}, "pods": [place, …]}
    {"probe": "drained", "pods": [place, …]}

with ``place``: ``pod``, ``namespace``, ``pod_uid``, ``host``, ``container``, ``workload`` (what replaces it) and
``bound`` (a volume binds it to its node). One that is bound cannot start elsewhere: it waits for its node, and while it
does, its budget may refuse to let go of another one on the same node. So much is a drain's right effect.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.backend.machine.control_plane import ControlPlane, Place, Pod
from resilience.backend.machine.pods import Pods

EVICTING_S = 12.0  # how long budgets are asked again, e.g. for the second of two members on one node
MOVED_WITHIN_S = 30.0  # an eviction, a grace period, another node's kubelet, a server's start, its probes
_AGAIN_AFTER_S = 1.0
_TAKES = "takes members"
_ASTRAY = frozenset({"fail", "fail?", "handshake", "noaddr"})  # flags that Redis gives a member that is not back


@dataclass(frozen=True, slots=True)
class Drain:
    """The step."""

    injection_id: str
    host: str
    pods: tuple[Place, ...]
    plane: ControlPlane

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(injection_id, data["node"]["host"], tuple(data["pods"]), plane)

    def do(self) -> None:
        """Cordons, and evicts whom the budgets let go; asks again for those that may be let go a moment later.

        Raises `AgentError`.
        """
        self.plane.cordon(self.host, self.injection_id)
        deadline = time.monotonic() + EVICTING_S
        left = list(self.pods)
        while left := [pod for pod in left if self.plane.evict(pod)]:
            gone = [pod for pod in self.pods if pod not in left]
            if all(waits_for_another(pod, gone) for pod in left) or time.monotonic() > deadline:
                return
            self.plane.sleep(_AGAIN_AFTER_S)

    def undo(self) -> None:
        """Uncordons; whom nothing binds to the node stays where it is now. Raises `AgentError`."""
        self.plane.uncordon(self.host, self.injection_id)

    def undone(self) -> list[Evidence]:
        """The node takes members again. Raises `AgentError`."""
        return [_cordon(self.host, _TAKES, self.plane.cordoned_by(self.host))]


@dataclass(frozen=True, slots=True)
class Drained:
    """The probe: the pods that stood on the node are gone from it, and what replaced them."""

    injection_id: str
    pods: Pods

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(injection_id, Pods(tuple(data["pods"]), plane))

    def prepare(self) -> None:
        """Remembers who stood there."""
        self.pods.remember()

    def in_effect(self) -> list[Evidence]:
        """The node is cordoned, and each pod gone from it."""
        return self.pods.insist(self._look, MOVED_WITHIN_S)

    def healed(self) -> list[Evidence]:
        """All are ready, wherever; and a Redis member that was not lost says that those of this node are back."""
        return self.pods.ready() + self._rejoined()

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> list[Evidence]:
        found = self.pods.now()
        gone = [pod for pod, now in found if now is None or now.uid != pod["pod_uid"]]
        host = self.pods.places[0]["host"]
        by = self.pods.plane.cordoned_by(host)
        cordoned = _cordon(host, f"cordoned by {self.injection_id}", by)
        return [cordoned, *(self._seen(pod, now, gone) for pod, now in found)]

    def _seen(self, pod: Place, now: Pod | None, gone: Iterable[Place]) -> Evidence:
        expected = "gone from its node" if pod["bound"] else "gone from its node, another ready elsewhere"
        if now is None:
            observed, ok = "gone, no other yet", bool(pod["bound"])
        elif now.uid == pod["pod_uid"]:
            kept = self.pods.plane.evict(pod, dry=True) if waits_for_another(pod, gone) else ""
            observed, ok = (f"kept by its budget ({kept})", True) if kept else ("still there", False)
        else:
            observed = f"gone, the other {f'on {now.host}' if now.host else 'waits'}{', ready' if now.ready else ''}"
            ok = now.host != pod["host"] and (pod["bound"] or now.ready)
        before = self.pods.before(pod)
        if before is None or not before.ready or before.host != pod["host"]:  # only then its absence says something
            observed += f", and before the injection: {'not ready there' if before else 'not there'}"
            ok = False
        return evidence(f"pod {pod['pod']} ({pod['pod_uid'][:8]})", expected, observed, ok=ok)

    def _rejoined(self) -> list[Evidence]:
        redis = [(pod, now) for pod, now in self.pods.now() if pod["container"] == "redis"]
        if not redis:
            return []
        lost = [pod for pod, _now in redis]
        said = self.pods.plane.said_by_another("redis", lost, ["redis-cli", "cluster", "nodes"])
        return [rejoined(pod["pod"], now.address if now else "", said) for pod, now in redis]


def waits_for_another(pod: Place, gone: Iterable[Place]) -> bool:
    """Whether another of the same workload was evicted and cannot be back before healing: its budget is spent."""
    return bool(pod["bound"]) and any(
        one["bound"] and (one["namespace"], one["workload"]) == (pod["namespace"], pod["workload"]) for one in gone
    )


def rejoined(name: str, address: str, said: str) -> Evidence:
    """What another member's ``CLUSTER NODES`` says of the one at an address."""
    expected = "connected, not failing"
    lines = [line.split() for line in said.splitlines()]
    found = next((words for words in lines if address and len(words) > 7 and words[1].startswith(f"{address}:")), None)
    if found is None:
        return evidence(f"{name} to another member", expected, f"not known at {address or 'no address'}")
    flags, link = found[2], found[7]
    ok = not _ASTRAY & set(flags.split(",")) and link == "connected"
    return evidence(f"{name} to another member", expected, expected if ok else f"{link}, {flags}")


def _cordon(host: str, expected: str, by: str) -> Evidence:
    return evidence(f"node {host}", expected, f"cordoned by {by}" if by else _TAKES)
