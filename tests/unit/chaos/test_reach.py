"""Where an activity is done, and what each of them answers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed

from resilience.chaos import actions, probes, reach
from resilience.chaos.perform import Answer, perform
from resilience.chaos.session import SESSION_ENV
from resilience.errors import FaultError
from tests.unit.chaos.stand import stand_in


def test_by_hand_without_a_stack_each_activity_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SESSION_ENV, raising=False)
    monkeypatch.setattr(reach, "standing_dir", lambda _owner: tmp_path / "nothing")
    with pytest.raises(ActivityFailed, match="'resilience up' brings one up"):
        actions.heal()
    with pytest.raises(ActivityFailed, match="no stack is up"):
        probes.members_running()


def test_by_hand_the_request_names_activity_configuration_and_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, object]] = []

    def ask(_folder: Path, request: dict[str, object]) -> dict[str, object]:
        asked.append(request)
        return {"value": "by-hand-1", "says": ["look out"]}

    monkeypatch.delenv(SESSION_ENV, raising=False)
    monkeypatch.setattr(reach, "ask", ask)
    assert actions.inject({"kind": "noop"}, {"component": "redis"}, {"fault_s": 7.0}) == "by-hand-1"
    actions.heal()
    first, second = asked
    assert first["do"] == "activity"
    assert first["activity"] == "inject"
    assert first["arguments"] == {"fault": {"kind": "noop"}, "target": {"component": "redis"}, "prelude": None}
    assert first["configuration"] == {"fault_s": 7.0}
    assert first["caller"] == second["caller"]  # one process, one experiment
    assert caplog.messages == ["look out"] * 2


def test_an_unknown_activity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="none of that name; there are hold_phase, inject, "):
        perform(stand_in(tmp_path).session, "delete", {})


@pytest.mark.parametrize(
    ("activity", "arguments", "says"),
    [
        ("hold_phase", {"phase": "steady"}, "hold_phase: duration_s is missing; it takes phase, duration_s"),
        ("heal", {"by": "request", "at": 1}, "heal: there is no argument 'at'; it takes by"),
        ("members_running", {"of": "redis"}, "members_running: there is no argument 'of'; it takes none"),
        ("hold_phase", {"phase": "steady", "duration_s": "5"}, "hold_phase: duration_s: Expected `float`, got `str`"),
        ("inject", {"fault": "noop", "target": {}, "prelude": None}, "inject: fault: Expected `object`, got `str`"),
        ("promote", {"standby": "most-lag", "fence": "no"}, "promote: fence: Expected `bool`, got `str`"),
    ],
    ids=[
        "missing",
        "unknown",
        "unknown where there are none",
        "of another kind",
        "a fault by its name",
        "half a runbook",
    ],
)
def test_arguments_that_an_activity_does_not_take_are_named(
    tmp_path: Path, activity: str, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(FaultError, match="^" + re.escape(says)) as caught:
        perform(stand_in(tmp_path).session, activity, arguments)
    assert str(caught.value).isprintable()


def test_a_whole_number_of_seconds_is_one(tmp_path: Path) -> None:
    session = stand_in(tmp_path).session
    assert perform(session, "hold_phase", {"phase": "steady", "duration_s": 5}).value == "steady was held for 5 s"


def test_a_probe_says_why_it_is_false(tmp_path: Path) -> None:
    stand = stand_in(tmp_path)
    assert perform(stand.session, "members_running", {}) == Answer(value=True)
    stand.platform.stopped.add("session-0")
    answer = perform(stand.session, "members_running", {})
    assert answer.value is False
    assert "session-0" in answer.says[0]


def test_the_rate_is_looked_at_only_where_the_harness_drives_load(tmp_path: Path) -> None:
    session = stand_in(tmp_path).session
    assert perform(session, "load_at_rate", {}).value is False
    answer = perform(replace(session, loaded=False), "load_at_rate", {})
    assert answer.value is True
    assert "was not looked at" in answer.says[0]
