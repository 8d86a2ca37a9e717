"""A step of an injection: something done that can be undone from its description alone, any number of times."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from resilience.agent.drop import Drop
from resilience.agent.evidence import Evidence
from resilience.agent.hold import Hold
from resilience.agent.links import Links
from resilience.agent.pause import Pause
from resilience.agent.release import Release
from resilience.agent.signals import Signal
from resilience.agent.table import made
from resilience.agent.wipe import Wipe
from resilience.agent.withhold import Withhold


class Step(Protocol):
    """What every primitive can do; all raise `AgentError`."""

    def do(self) -> None:
        """Does it."""
        ...

    def undo(self) -> None:
        """Undoes it; harmless if it was never done, or is undone already."""
        ...

    def undone(self) -> list[Evidence]:
        """What shows that nothing of it is left."""
        ...


PRIMITIVES: dict[str, Callable[[str, Mapping[str, Any]], Step]] = {
    "signal": Signal.from_json,
    "pause": Pause.from_json,
    "hold": Hold.from_json,
    "withhold": Withhold.from_json,
    "release": Release.from_json,
    "wipe": Wipe.from_json,
    "links": Links.from_json,
    "drop": Drop.from_json,
}


def step_from_json(injection_id: str, data: Mapping[str, Any]) -> Step:
    """See `made`. Raises `AgentError`."""
    return made("primitive", PRIMITIVES, injection_id, data)
