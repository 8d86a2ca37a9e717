"""The pods that an injection names: as they were before it, and as they are now."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from resilience.agent.evidence import Evidence, evidence
from resilience.backend.machine.control_plane import ControlPlane, Place, Pod

_LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class Pods:
    """Looked at through the API server; everything raises `AgentError`."""

    places: tuple[Place, ...]
    plane: ControlPlane
    _before: dict[str, Pod | None] = field(default_factory=dict)
    _patient: bool = True

    def remember(self) -> None:
        """Looks at them before the injection."""
        self._before = {place["pod"]: now for place, now in self.now()}

    def before(self, place: Place) -> Pod | None:
        """The pod that a place names as it was before the injection; None for another one, or none."""
        found = self._before.get(place["pod"])
        return found if found and found.uid == place["pod_uid"] else None

    def now(self) -> list[tuple[Place, Pod | None]]:
        """The pods of those names as they are now, whichever they are."""
        return [(place, self.plane.pod(place)) for place in self.places]

    def insist(self, look: Callable[[], list[Evidence]], within_s: float) -> list[Evidence]:
        """What a look finds as soon as it is satisfied, or when the time is over.

        That is waited for the first time only: a later question must not keep an injection from its end.
        """
        deadline = time.monotonic() + (within_s if self._patient else 0.0)
        self._patient = False
        seen = look()
        while not all(item["ok"] for item in seen) and time.monotonic() < deadline:
            self.plane.sleep(_LOOK_EVERY_S)
            seen = look()
        return seen

    def ready(self) -> list[Evidence]:
        """That each is ready, or another of its name is."""
        return [
            evidence(f"pod {place['pod']}", "ready", "ready" if now and now.ready else "not ready")
            for place, now in self.now()
        ]
