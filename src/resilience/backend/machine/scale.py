"""A StatefulSet is told to keep fewer pods, and after that as many as before.

::

    {"primitive": "scale", "namespace": "…", "workload": "…", "replicas": number, "pods": [place, …]}
    {"probe": "scaled", "replicas": number, "pods": [place, …]}

How many it kept stands on the StatefulSet itself, with who changed that: so it is put back by whoever finds it, from
nothing but the cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.machine.control_plane import ControlPlane, Place, Pod, workload_path
from resilience.backend.machine.pods import Pods

SCALED_BY = "harmonyflow.dev/scaled-by"  # on a StatefulSet: the injection that changed how many pods it keeps
SCALED_FROM = "harmonyflow.dev/scaled-from"  # and how many these were
SCALED_TO = "harmonyflow.dev/scaled-to"  # and how many it was told to keep: another number is somebody else's
SCALED_WITHIN_S = 30.0  # pods that end in their grace period
_AS_BEFORE = "as many as it is to keep, ready"


class Kept(NamedTuple):
    """How many pods a StatefulSet keeps."""

    by: str  # the injection that changed it; "": none
    wanted: int
    there: int  # as its controller counts them
    ready: int
    told: bool  # whether its controller has heard of the last change

    @classmethod
    def from_object(cls, found: Object) -> Self:
        """What the API says of one."""
        status = found.get("status", {})
        return cls(
            by=_mark(found, SCALED_BY),
            wanted=found["spec"].get("replicas", 1),
            there=status.get("replicas", 0),
            ready=status.get("readyReplicas", 0),
            told=status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0),
        )

    @property
    def words(self) -> str:
        """How many there are, for whom."""
        count = f"{self.there}" if self.there == self.wanted else f"{self.there}, and {self.wanted} are wanted"
        return f"{count}{f', by {self.by}' if self.by else ''}{'' if self.told else ', before the last change'}"


@dataclass(frozen=True, slots=True)
class Scale:
    """The step."""

    injection_id: str
    workload: str
    path: str
    replicas: int
    plane: ControlPlane

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        path = workload_path(data["namespace"], data["workload"])
        return cls(injection_id, data["workload"], path, int(data["replicas"]), plane)

    def require_possible(self) -> None:
        """Raises `AgentError` where somebody has scaled it already, or where no pod would go."""
        found = self.plane.found(self.path)
        if found is None:
            raise AgentError(f"StatefulSet {self.workload}: there is none")
        kept = Kept.from_object(found)
        if kept.by:
            raise AgentError(f"StatefulSet {self.workload}: it is scaled already, by {kept.by}: {self.plane.heal}")
        if kept.wanted <= self.replicas:
            raise AgentError(
                f"StatefulSet {self.workload}: it keeps {kept.wanted} pods: scaled to {self.replicas}, none would go"
            )

    def do(self) -> None:
        """Says how many, and marks how many there were, in one change. Raises `AgentError`."""
        self.require_possible()
        was = Kept.from_object(self.plane.found(self.path) or {}).wanted
        marks = {SCALED_BY: self.injection_id, SCALED_FROM: str(was), SCALED_TO: str(self.replicas)}
        self.plane.patch(self.path, {"metadata": {"annotations": marks}, "spec": {"replicas": self.replicas}})

    def undo(self) -> None:
        """As many as before; nothing if this injection has not changed that, or if it is gone. Raises `AgentError`."""
        found = self.plane.found(self.path)
        if found and _mark(found, SCALED_BY) == self.injection_id:
            self.plane.patch(self.path, _taken_back(found))

    def undone(self) -> list[Evidence]:
        """It keeps what it is to keep, and nobody has changed that. Raises `AgentError`."""
        found = self.plane.found(self.path)
        if found is None:
            return [evidence(f"pods of {self.workload}", _AS_BEFORE, "its StatefulSet is gone")]
        kept = Kept.from_object(found)
        ok = not kept.by and kept.told and kept.there == kept.ready == kept.wanted
        return [evidence(f"pods of {self.workload}", _AS_BEFORE, f"{kept.words}, {kept.ready} ready", ok=ok)]


@dataclass(frozen=True, slots=True)
class Scaled:
    """The probe: those beyond the number are gone, the others are those from before, and the controller counts so."""

    injection_id: str
    replicas: int
    pods: Pods

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError`."""
        places = tuple(data["pods"])
        for place in places:
            _number(place)
        return cls(injection_id, int(data["replicas"]), Pods(places, plane))

    def prepare(self) -> None:
        """Remembers who ran."""
        self.pods.remember()

    def in_effect(self) -> list[Evidence]:
        """So many and no more."""
        return self.pods.insist(self._look, SCALED_WITHIN_S)

    def healed(self) -> list[Evidence]:
        """All are ready."""
        return self.pods.ready()

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> list[Evidence]:
        return [self._counted(), *(self._seen(place, now) for place, now in self.pods.now())]

    def _counted(self) -> Evidence:
        place = self.pods.places[0]
        found = self.pods.plane.found(workload_path(place["namespace"], place["workload"]))
        observed = Kept.from_object(found).words if found else "its StatefulSet is gone"
        return evidence(f"pods of {place['workload']}", f"{self.replicas}, by {self.injection_id}", observed)

    def _seen(self, place: Place, now: Pod | None) -> Evidence:
        goes, before = _number(place) >= self.replicas, self.pods.before(place)
        observed = "gone" if now is None else "still there" if now.uid == place["pod_uid"] else "another is there"
        expected = "gone" if goes else "still there"
        ok = observed == expected
        if before is None or not before.ready:
            observed, ok = f"{observed}, and before the injection: not there and ready", False
        return evidence(f"pod {place['pod']} ({place['pod_uid'][:8]})", expected, observed, ok=ok)


def _number(place: Place) -> int:
    """Of a StatefulSet's pods those with the highest numbers go first."""
    return int(place["pod"].rpartition("-")[2])


def scales(api: Api) -> dict[str, str]:
    """The StatefulSets that an injection has scaled, and which one: from nothing but the cluster. Raises `ApiError`."""
    return {_name(found): _mark(found, SCALED_BY) for found in _scaled(api)}


def take_scales_back(api: Api) -> dict[str, int]:
    """Has those keep as many pods as before, unless somebody else has changed that since; which they were, and how many
    they are to keep now. Raises `ApiError`.
    """
    done = {}
    for found in _scaled(api):
        change = _taken_back(found)
        api.patch(workload_path(found["metadata"]["namespace"], found["metadata"]["name"]), change)
        kept: Object = change.get("spec") or found["spec"]
        done[_name(found)] = int(kept.get("replicas", 1))
    return done


def _scaled(api: Api) -> list[Object]:
    return [found for found in api.items("/apis/apps/v1/statefulsets") if _mark(found, SCALED_BY)]


def _taken_back(found: Object) -> Object:
    """The change that undoes it: the number, while it is the one that the injection has set, and the marks."""
    marks: Object = {"metadata": {"annotations": {SCALED_BY: None, SCALED_FROM: None, SCALED_TO: None}}}
    was, ours = _mark(found, SCALED_FROM), str(found["spec"].get("replicas", 1)) == _mark(found, SCALED_TO)
    return {**marks, "spec": {"replicas": int(was)}} if ours and was.isdecimal() else marks


def _mark(found: Object, name: str) -> str:
    return str((found["metadata"].get("annotations") or {}).get(name, ""))


def _name(found: Object) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
