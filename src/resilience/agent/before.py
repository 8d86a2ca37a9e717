"""What a witness was answered before an injection: that somebody is silent says something only if he spoke before.

A service may be slow to answer while nothing is done to it. So it is asked a few times before, and who needed so many
looks to be heard once has to be silent for as long afterwards. Of those that stand on one node, and so fall silent with
it, one that was never heard is left to others that the same witness did hear; where it heard none, nothing is proved.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from resilience.agent.connect import TIMEOUT_S
from resilience.agent.process import Place

LOOKS_MAX = 3
LOOKS_S_MAX = LOOKS_MAX * 2 * TIMEOUT_S  # each connects and asks
ANSWERED = "answered"


@dataclass(slots=True)
class Before:
    """One witness' looks at one member."""

    word: str = field(default="not looked at")  # what came of the last look
    looks: int = field(default=0)
    instead: tuple[str, ...] = field(default=())  # others on its node that the same witness heard, where it was not

    def look(self, once: Callable[[], str]) -> None:
        """Looks until it is answered, a few times at most."""
        while self.looks < LOOKS_MAX and self.word != ANSWERED:
            self.looks += 1
            self.word = once()

    @property
    def answered(self) -> bool:
        """Whether it was heard."""
        return self.word == ANSWERED

    @property
    def patience_s(self) -> float:
        """How long it has to be silent for that to be new."""
        return TIMEOUT_S * max(1, self.looks)

    @property
    def told(self) -> str:
        """What to make of one that was not heard."""
        said = f"before the injection, in {self.looks} looks: {self.word}"
        return f"{said}; left to {', '.join(self.instead)}" if self.instead else f"nothing to be learned: {said}"


class Listening(Protocol):
    """A probe that expects silence; ``node``: what the member that it looks at falls silent with, or ""."""

    via: Place
    to: Place
    node: str
    before: Before


def rest_on_others(probes: Iterable[Listening]) -> None:
    """Has each that was not heard know whom its witness did hear on the same node."""
    probes = tuple(probes)
    for probe in probes:
        if probe.node and not probe.before.answered:
            heard = [
                one.to.name
                for one in probes
                if one.before.answered and (one.node, one.via.name) == (probe.node, probe.via.name)
            ]
            probe.before.instead = tuple(heard)
