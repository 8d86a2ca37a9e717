"""A pod is deleted; its controller makes another of its name.

::

    {"primitive": "delete", "grace_s": seconds, "pods": [place, …]}
    {"probe": "deleted", "grace_s": seconds, "pods": [place with ``address`` and ``port``, …]}

Nothing of it can be undone. Healing is that another one is ready in its place, which is waited for as for probes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.backend.machine.connection import ACCEPTED, is_known, opened
from resilience.backend.machine.control_plane import ControlPlane, Place, Pod
from resilience.backend.machine.pods import Pods

GONE_WITHIN_S = 15.0  # beside its grace: the kubelet's end of it, and its word to the API server


@dataclass(frozen=True, slots=True)
class Delete:
    """The step."""

    grace_s: int
    pods: Pods

    @classmethod
    def from_json(cls, plane: ControlPlane, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(int(data["grace_s"]), Pods(tuple(data["pods"]), plane))

    def do(self) -> None:
        """Asks for the end of those that are still the ones named. Raises `AgentError`."""
        for place in self.pods.places:
            self.pods.plane.delete(place, self.grace_s)

    def undo(self) -> None:
        """Nothing: whoever keeps the members running makes another."""

    def undone(self) -> list[Evidence]:
        """Another is ready in the place of each. Raises `AgentError`."""
        return [
            evidence(f"successor of pod {place['pod']} ({place['pod_uid'][:8]})", "ready", _succession(place, now))
            for place, now in self.pods.now()
        ]


@dataclass(slots=True)
class Deleted:
    """The probe: the pod is gone, for the API server and for an observer that could connect to it before."""

    pods: Pods
    grace_s: float
    reached: dict[str, str] = field(default_factory=dict)  # what came of a connection before, by pod

    @classmethod
    def from_json(cls, plane: ControlPlane, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        places = tuple(data["pods"])
        for place in places:
            _address(place)
        return cls(Pods(places, plane), float(data["grace_s"]))

    def prepare(self) -> None:
        """Remembers who ran, and that an observer could connect."""
        self.pods.remember()
        self.reached = self._connections(self.pods.places)

    def in_effect(self) -> list[Evidence]:
        """Each has gone."""
        return self.pods.insist(self._look, self.grace_s + GONE_WITHIN_S)

    def healed(self) -> list[Evidence]:
        """All are ready."""
        return self.pods.ready()

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> list[Evidence]:
        """Once another is ready in its place, its own address says nothing more: somebody else may be given it."""
        found = self.pods.now()
        away = [place for place, now in found if not (now and now.uid != place["pod_uid"] and now.ready)]
        now_reached = self._connections(away)
        return [
            *(self._gone(place, now) for place, now in found),
            *(self._unreached(place, now_reached[place["pod"]]) for place in away),
        ]

    def _gone(self, place: Place, now: Pod | None) -> Evidence:
        before = self.pods.before(place)
        observed = _succession(place, now)
        if before is None or not before.ready:
            observed += ", and before the injection: not there and ready"
        ok = before is not None and before.ready and (now is None or now.uid != place["pod_uid"])
        expected = "gone, or another in its place"
        return evidence(f"pod {place['pod']} ({place['pod_uid'][:8]})", expected, observed, ok=ok)

    def _unreached(self, place: Place, observed: str) -> Evidence:
        before = self.reached.get(place["pod"], "not looked at")
        ok = is_known(observed) and observed != ACCEPTED and before == ACCEPTED
        if before != ACCEPTED:
            observed += f", and before the injection: {before}"
        return evidence(f"connection from the witness to {_address(place)}", "none", observed, ok=ok)

    def _connections(self, places: tuple[Place, ...] | list[Place]) -> dict[str, str]:
        if not places:
            return {}
        plane = self.pods.plane
        said = opened(plane, plane.witness(), [_address(place) for place in places])
        return {place["pod"]: words for place, words in zip(places, said, strict=True)}


def _succession(place: Place, now: Pod | None) -> str:
    if now is None:
        return "gone, no other yet"
    if now.uid == place["pod_uid"]:
        return "still there"
    return "ready" if now.ready else "replaced, the other is not ready"


def _address(place: Place) -> str:
    return f"{place['address']}:{place['port']}"
