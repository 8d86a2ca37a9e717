"""All pods of a StatefulSet are replaced, one after the other: its own controller does it, and is only told to.

::

    {"primitive": "rollout", "namespace": "…", "workload": "…", "pods": [place, …]}
    {"probe": "rolled-out", "pods": [place, …]}

Nothing of it can be undone, and nothing has to be: a rollout that nobody looks after any more comes to its end by
itself, which healing waits for (`agent.job`). One that is not complete by then is not healed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from resilience.agent.evidence import Evidence, evidence
from resilience.backend.machine.control_plane import ControlPlane, Place, Pod
from resilience.backend.machine.pods import Pods

REPLACED_WITHIN_S = 30.0  # two pods in turn, each with its grace period, its start and its probes


@dataclass(frozen=True, slots=True)
class Rollout:
    """The step."""

    injection_id: str
    namespace: str
    workload: str
    plane: ControlPlane

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(injection_id, data["namespace"], data["workload"], plane)

    def do(self) -> None:
        """Changes the template by a mark. Raises `AgentError`."""
        self.plane.restart(self.namespace, self.workload, self.injection_id)

    def undo(self) -> None:
        """Nothing: what was replaced stays so."""

    def undone(self) -> list[Evidence]:
        """It is complete. Raises `AgentError`."""
        return [evidence(f"rollout of {self.workload}", "complete", self.plane.rollout(self.namespace, self.workload))]


@dataclass(frozen=True, slots=True)
class RolledOut:
    """The probe: each pod has another one in its place, and never two were away at once."""

    pods: Pods

    @classmethod
    def from_json(cls, plane: ControlPlane, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        return cls(Pods(tuple(data["pods"]), plane))

    def prepare(self) -> None:
        """Remembers who ran, and since when."""
        self.pods.remember()

    def in_effect(self) -> list[Evidence]:
        """Each was replaced, in turn."""
        return self.pods.insist(self._look, REPLACED_WITHIN_S)

    def healed(self) -> list[Evidence]:
        """All are ready."""
        return self.pods.ready()

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> list[Evidence]:
        found = self.pods.now()
        others = {pod["pod"]: now if now and now.uid != pod["pod_uid"] else None for pod, now in found}
        return [*(self._seen(pod, now) for pod, now in found), in_turn(others)]

    def _seen(self, pod: Place, now: Pod | None) -> Evidence:
        before = self.pods.before(pod)
        what, expected = f"pod {pod['pod']} ({pod['pod_uid'][:8]})", "replaced, started since"
        if before is None or before.started_at is None or not before.ready:
            return evidence(what, expected, "it was not there and ready before the injection")
        if now is None:
            return evidence(what, expected, "gone, no other yet")
        if now.uid == before.uid:
            return evidence(what, expected, "still there")
        ok = now.started_at is not None and now.started_at > before.started_at
        return evidence(what, expected, expected if ok else "replaced, the other does not run", ok=ok)


def in_turn(found: Mapping[str, Pod | None]) -> Evidence:
    """That each of those in others' places was made only after the one before it had been started.

    All at once would have been made in one second, and started later: an API server tells whole seconds.
    """
    made = sorted((pod.created_at, name, pod.started_at) for name, pod in found.items() if pod and pod.started_at)
    early = [_told(second) for first, second in pairwise(made) if second[0] <= first[2]]
    what, expected = "pods, one after the other", "each made once the other ran"
    if len(made) < len(found):
        return evidence(what, expected, f"{len(made)} of {len(found)} replaced and started")
    observed = f"{early[0]}, before the other ran" if early else ", ".join(map(_told, made))
    return evidence(what, expected, observed, ok=not early)


def _told(made: Sequence[Any]) -> str:
    return f"{made[1]} made at {made[0]:%H:%M:%S}"
