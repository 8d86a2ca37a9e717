"""Whether a member's server is still the one that ran before: a kill is proved by that, not by absence alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.process import Place, is_running, servers

_SUCCESSOR_WITHIN_S = 1.5
_SUCCESSOR_OF_POD_WITHIN_S = 5.0  # the kubelet looks each second, and has a container made

DEAD, REPLACED, SUCCEEDED = "dead", "replaced", "succeeded"


@dataclass(slots=True)
class Identity:
    """``{"probe": "identity", "of": place, "expect": "dead|replaced|succeeded"}``.

    ``replaced``: the server that ran before is gone, whoever runs now. ``dead``: and nothing runs in its place.
    ``succeeded``: and another one does.
    """

    place: Place
    expect: str
    ran_before: bool = field(default=False)

    @classmethod
    def from_json(cls, _injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `AgentError` or `KeyError`."""
        if data["expect"] not in {DEAD, REPLACED, SUCCEEDED}:
            raise AgentError(f"identity: expect is {data['expect']!r}: expected {DEAD}, {REPLACED} or {SUCCEEDED}")
        return cls(Place.from_json(data["of"]), data["expect"])

    def prepare(self) -> None:
        """Remembers whether the server ran."""
        self.ran_before = self._runs()

    def in_effect(self) -> list[Evidence]:
        """The server that ran is gone; another one is given a moment to be there."""
        deadline = time.monotonic() + (_SUCCESSOR_OF_POD_WITHIN_S if self.place.pod_uid else _SUCCESSOR_WITHIN_S)
        while self.expect == SUCCEEDED and not servers(self.place) and time.monotonic() < deadline:
            time.sleep(0.02)
        now = ", ".join(f"{process.pid}:{process.start}" for process in servers(self.place))
        expected = "gone" + {DEAD: ", nothing runs", REPLACED: "", SUCCEEDED: ", another runs"}[self.expect]
        observed = "runs" if self._runs() else "gone"
        observed += f", now {now}" if now else ", nothing runs"
        observed += "" if self.ran_before else ", but it did not run before the injection"
        gone = self.ran_before and not self._runs()
        as_meant = {DEAD: not now, REPLACED: True, SUCCEEDED: bool(now)}[self.expect]
        return [evidence(self._what, expected, observed, ok=gone and as_meant)]

    def healed(self) -> list[Evidence]:
        """A server runs."""
        now = servers(self.place)
        return [evidence(f"server of {self.place.name}", "runs", "runs" if now else "nothing runs")]

    def close(self) -> None:
        """Nothing is kept open."""

    @property
    def _what(self) -> str:
        return f"server {self.place.server_pid}:{self.place.server_start} of {self.place.name}"

    def _runs(self) -> bool:
        return is_running(self.place.server_pid, self.place.server_start)
