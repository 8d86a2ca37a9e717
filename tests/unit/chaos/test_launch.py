from pathlib import Path
from typing import Any

import pytest

from resilience.backend.base import Pace
from resilience.backend.kubernetes.injector import AGENTS, DRAIN, NODES, ROLLOUT
from resilience.chaos.launch import HEAL_WITHIN_S, ChaosProcess, ChaosResult, result_from_journal
from resilience.errors import FaultError
from resilience.fault.injector import lasts_s
from tests.unit.chaos.stand import SCENARIO


def probe(name: str, *, met: bool = True, status: str = "succeeded", func: str = "shards_replicated") -> dict[str, Any]:
    activity = {"name": name, "type": "probe", "provider": {"type": "python", "func": func}}
    return {"activity": activity, "status": status, "tolerance_met": met}


def entry(name: str, kind: str = "action", **rest: Any) -> dict[str, Any]:
    return {"activity": {"name": name, "type": kind}, "status": "succeeded", **rest}


MET = {"steady_state_met": True, "probes": [probe("a")]}


def journal(**changes: Any) -> dict[str, Any]:
    states = {"before": MET, "after": MET, "during": []}
    whole = {"status": "completed", "deviated": False, "steady_states": states, "run": [], "rollbacks": []}
    return whole | changes


CLEAN = ChaosResult(status="completed", deviated=False, exit=0, failed=(), interrupted=False)


def test_a_clean_run() -> None:
    run = [entry("inject"), entry("in effect", "probe", output=True)]
    assert result_from_journal(journal(run=run), 0) == CLEAN


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"run": [entry("inject") | {"status": "failed"}]}, ("inject",)),
        ({"run": [{"activity": {"name": "hold"}}]}, ("hold",)),
        ({"run": [entry("in effect", "probe", output=False)]}, ("in effect",)),
        ({"rollbacks": [entry("heal") | {"status": "failed"}]}, ("heal",)),
        ({"steady_states": {"before": {"probes": [probe("a", met=False)]}, "after": None}}, ("a (before)",)),
        ({"steady_states": {"before": MET, "after": {"probes": [probe("a", status="failed")]}}}, ("a (after)",)),
        (
            {"steady_states": {"before": MET, "after": {"probes": [probe("a", met=False, func="load_at_rate")]}}},
            ("a (after)",),
        ),
        (
            {"steady_states": {"before": None, "after": MET}},
            ("the steady state, of which no probe is on record (before)",),
        ),
        (
            {"steady_states": {"before": MET, "after": {"probes": []}}},
            ("the steady state, of which no probe is on record (after)",),
        ),
        ({"steady_states": None}, ("the steady state, of which no probe is on record (before)",)),
    ],
    ids=[
        "failed injection",
        "interrupted activity",
        "no effect",
        "failed rollback",
        "gate not met",
        "probe raised",
        "load too slow afterwards",
        "never asked before",
        "never asked afterwards",
        "never asked at all",
    ],
)
def test_what_an_exit_code_of_0_hides(changes: dict[str, Any], failed: tuple[str, ...]) -> None:
    assert result_from_journal(journal(**changes), 0).failed == failed


def test_a_platform_that_is_not_well_afterwards_is_a_deviation_and_no_failure_of_the_experiment() -> None:
    states = {"before": {"probes": [probe("a")]}, "after": {"probes": [probe("a"), probe("b", met=False)]}}
    result = result_from_journal(journal(deviated=True, steady_states=states), 1)
    assert result == ChaosResult(status="completed", deviated=True, exit=1, failed=(), interrupted=False)


def test_without_a_journal() -> None:
    result = result_from_journal({}, -9)
    assert (result.status, result.exit, result.failed) == ("no-journal", -9, ())


def test_an_interrupted_run() -> None:
    result = result_from_journal(journal(status="interrupted", steady_states={"before": MET, "after": None}), 1)
    assert (result.interrupted, result.failed) == (True, ())


@pytest.mark.parametrize("pace", [AGENTS, NODES, DRAIN, ROLLOUT])
def test_an_experiment_may_take_what_its_orders_are_under_way(tmp_path: Path, pace: Pace) -> None:
    """Asked for ahead, proved late, looked at again, its end asked for ahead: then all healing may take its time."""
    assert SCENARIO.experiment is not None
    timeline = SCENARIO.timeline
    chaos = ChaosProcess(SCENARIO.experiment, timeline, tmp_path, tmp_path / "session.json")
    held_s = timeline.steady_s + timeline.recovery_s
    assert chaos.deadline_s > held_s + pace.lead_s + lasts_s(timeline.fault_s, pace) + HEAL_WITHIN_S


def test_nothing_can_be_asked_before_the_start(tmp_path: Path) -> None:
    assert SCENARIO.experiment is not None
    chaos = ChaosProcess(SCENARIO.experiment, SCENARIO.timeline, tmp_path, tmp_path / "session.json")
    assert chaos.deadline_s > SCENARIO.timeline.steady_s + SCENARIO.timeline.fault_s + SCENARIO.timeline.recovery_s
    with pytest.raises(FaultError, match="not been started"):
        chaos.poll()
