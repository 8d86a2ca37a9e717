"""What an injection does to others shortly before its own steps: seen in effect meanwhile, ended right after them.

::

    prelude's steps      seen in effect       the injection's steps   prelude undone
    |────────────────────|────────────────────|───────────────────────|
    began                ╰── for_s at least ──╯                       applied

One that ``lasts`` ends with the injection instead, as the first thing of it, and is looked at whenever that is.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent import probe
from resilience.agent.evidence import Evidence
from resilience.agent.probe import Probe, probe_from_json
from resilience.agent.step import Step, step_from_json


@dataclass(slots=True)
class Prelude:
    """``{"steps": […], "watch": […], "for_s": float, "prelude": {"ends": "injected|healed"}}``.

    One of an injection that has none does and sees nothing.
    """

    steps: tuple[Step, ...] = ()
    probes: tuple[Probe, ...] = ()
    for_s: float = 0.0
    lasts: bool = False
    seen: list[Evidence] = field(default_factory=list)  # while it lasted

    @classmethod
    def from_json(cls, injection_id: str, data: Mapping[str, Any] | None) -> Self:
        """Raises `AgentError`, `KeyError` or `ValueError`."""
        if data is None:
            return cls()
        return cls(
            tuple(step_from_json(injection_id, step) for step in data["steps"]),
            tuple(probe_from_json(injection_id, item) for item in data["watch"]),
            float(data["for_s"]),
            data.get("prelude", {}).get("ends") == "healed",
        )

    def last(self) -> None:
        """Sees it in effect; returns when it has lasted, which may be later than it should if that takes longer."""
        until = time.monotonic() + self.for_s
        self.seen = [{**item, "what": f"during the prelude: {item['what']}"} for item in probe.in_effect(self.probes)]
        time.sleep(max(0.0, until - time.monotonic()))
