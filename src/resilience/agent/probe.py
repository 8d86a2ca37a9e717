"""The probes of an injection: prepared before it, asked while it lasts, and asked for the opposite after healing."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from resilience.agent.before import rest_on_others
from resilience.agent.connect import Connect
from resilience.agent.counter import Counter
from resilience.agent.datagram import Datagram
from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.identity import Identity
from resilience.agent.mute import Mute
from resilience.agent.silence import Silence
from resilience.agent.stopped import Stopped
from resilience.agent.table import made
from resilience.agent.wipe import Emptied

Look = Callable[[], list[Evidence]]  # raises `AgentError` or `OSError` where nothing can be seen

_LOOK_EVERY_S = 0.2
_THREADS_MAX = 48


class Probe(Protocol):
    """One thing to look at; all but `close` raise `AgentError` or `OSError` where it cannot be seen."""

    def prepare(self) -> None:
        """Looks at it before the injection, and opens what must have been open by then."""
        ...

    def in_effect(self) -> list[Evidence]:
        """Whether it is as the injection has it."""
        ...

    def healed(self) -> list[Evidence]:
        """Whether it is as it was."""
        ...

    def close(self) -> None:
        """Lets go of what `prepare` opened."""
        ...


PROBES: dict[str, Callable[[str, Mapping[str, Any]], Probe]] = {
    "silent": Silence.from_json,
    "reachable": Connect.from_json,
    "unreachable": Connect.from_json,
    "refused": Connect.from_json,
    "datagram": Datagram.from_json,
    "identity": Identity.from_json,
    "stopped": Stopped.from_json,
    "mute": Mute.from_json,
    "emptied": Emptied.from_json,
    "counter": Counter.from_json,
}


def probe_from_json(injection_id: str, data: Mapping[str, Any]) -> Probe:
    """See `made`. Raises `AgentError`."""
    return made("probe", PROBES, injection_id, data)


def prepare(probes: Sequence[Probe]) -> None:
    """Prepares all at once; one that cannot be prepared says so when it is asked for the effect."""

    def prepared(probe: Probe) -> list[Evidence]:
        probe.prepare()
        return []

    _ask(probes, prepared)
    rest_on_others(probe for probe in probes if isinstance(probe, Silence | Mute))


def in_effect(probes: Sequence[Probe]) -> list[Evidence]:
    """Asks all at once; takes under three seconds."""
    return _ask(probes, lambda probe: probe.in_effect())


def insist(looks: Sequence[Look], within_s: float) -> list[Evidence]:
    """Takes each look until it is satisfied, all at once, for at most ``within_s`` and one last look."""
    deadline = time.monotonic() + within_s

    def satisfied(look: Look) -> list[Evidence]:
        while not _all_ok(seen := _seen(look)) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        return seen

    return _ask(looks, satisfied)


def _ask[Asked](asked: Sequence[Asked], question: Callable[[Asked], list[Evidence]]) -> list[Evidence]:
    if not asked:
        return []
    with ThreadPoolExecutor(min(len(asked), _THREADS_MAX)) as threads:
        answers = threads.map(lambda one: _seen(lambda: question(one)), asked)
        return [item for answer in answers for item in answer]


def _all_ok(seen: Sequence[Evidence]) -> bool:
    return all(item["ok"] for item in seen)


def _seen(look: Look) -> list[Evidence]:
    try:
        return look()
    except (AgentError, OSError) as error:
        return [evidence("probe", "an answer", f"{error}", ok=False)]
