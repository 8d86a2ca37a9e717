"""Assumption about the machine: the load generators left its processors to the platform."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from resilience.check.assumption.finding import held_unless
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding
from resilience.check.window import judged_windows
from resilience.history.read import History
from resilience.history.record import PhaseWindow
from resilience.spec.scenario import Scenario

BUSY_RATIO_MIN = 0.95  # from here on the machine has nothing left
GENERATORS_SHARE_MAX = 0.5  # of the cores, where the machine has nothing left; 0.2 is usual on two cores
RECORDED_RATIO_MIN = 0.5  # of a phase's seconds; who has the processor taken away says less often how it fares


def generator_cpu(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """The generators did not take the processors that the platform needed: then it would look slower than it is."""
    del scenario
    reasons, most = [], 0.0
    for window in judged_windows(history):
        machine = tuple(_seconds(history, "pressure", window))
        used = used_cores(history, window)
        if unknown := list(_unrecorded(history, window, len(machine))):
            reasons.append(f"what {', '.join(unknown)} used was not recorded in phase {window.phase}")
            continue
        busy_ratio, cores, most_here = _mean("busy_ratio", machine), machine[0].get("cpus", 0), sum(used.values())
        most = max(most, most_here)
        if busy_ratio >= BUSY_RATIO_MIN and most_here > GENERATORS_SHARE_MAX * cores:
            reasons.append(
                f"the load generators used {most_here:.1f} of {cores} cores in phase {window.phase},"
                " and left too little for the platform"
            )
    title, allowed = "The load generators left the processors to the platform", "at most half of a machine that is busy"
    return (held_unless("generator-cpu", title, reasons, f"at most {most:.1f} cores", allowed),)


def _unrecorded(history: History, window: PhaseWindow, machine_seconds: int) -> Iterator[str]:
    """Who of the machine and the generators said too seldom what it used."""
    told = {client: len(those) for client, those in _seconds_of_clients(history, window).items()}
    least = RECORDED_RATIO_MIN * (window.end - window.start) / SECOND_US
    if machine_seconds < least:
        yield "the machine"
    yield from (client for client in history.ops.clients if told.get(client, 0) < least)


def used_cores(history: History, window: PhaseWindow) -> dict[str, float]:
    """What each generator used in a phase, in cores; one that said nothing is left out."""
    return {client: _mean("cpu_ratio", those) for client, those in _seconds_of_clients(history, window).items()}


def stolen_ratio(history: History, window: PhaseWindow) -> float:
    """The share of the machine's processor time that its host gave to others in a phase; 0 if that is not on record."""
    machine = tuple(_seconds(history, "pressure", window))
    return _mean("steal_ratio", machine) if machine else 0.0


def _seconds_of_clients(history: History, window: PhaseWindow) -> dict[str, list[dict[str, Any]]]:
    seconds: dict[str, list[dict[str, Any]]] = {}
    for second in _seconds(history, "generator", window):
        seconds.setdefault(str(second.get("client")), []).append(second)
    return seconds


def _seconds(history: History, name: str, window: PhaseWindow) -> Iterator[dict[str, Any]]:
    return (event.data for event in history.events_of(name) if window.start <= event.at < window.end)


def _mean(name: str, seconds: Any) -> float:
    return float(np.mean([second.get(name, 0.0) for second in seconds]))
