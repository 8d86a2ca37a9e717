"""Questions to the machine, and their answers, by an object in the cluster."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.mailbox import ANSWERED_WITHIN_S_MAX, TAKEN_WITHIN_S, Clerk, Mailbox, answering
from resilience.errors import StackError
from tests.fakes import FakeConfigMap, FakeMachine

INJECTION = {"id": "test-1", "steps": [{"primitive": "freeze", "nodes": [{"name": "node-1", "host": "hf-worker"}]}]}


class Office:
    """A mailbox whose clerk looks whenever the one who asked waits."""

    def __init__(self) -> None:
        self.map = FakeConfigMap()
        self.machine = FakeMachine()
        self.api = api = Api(self.map.call, "a cluster", sleep=lambda _seconds: None, patience_s=2.0)
        self.clerk = Clerk(api, self.machine)
        self.answers = True
        self.mailbox = Mailbox(api, sleep=self._wait)

    def _wait(self, _seconds: float) -> None:
        if self.answers:
            self.clerk.answer()


@pytest.fixture
def office() -> Office:
    return Office()


def applied(office: Office) -> dict[str, Any]:
    return office.mailbox.ask("apply", {"injection": INJECTION, "parts": 2}, 5.0)


def test_a_question_is_answered(office: Office) -> None:
    assert applied(office) == {"began_ns": 7_000, "applied_ns": 8_000}
    assert office.mailbox.ask("probe", {"id": "test-1"}, 5.0)["parts"] == 2
    assert office.machine.asked == [("apply", "test-1"), ("probe", "test-1")]


def test_what_is_taken_away_is_known_before_it_is_done(office: Office) -> None:
    office.answers = False
    assert office.mailbox.hosts_of("test-1") is None
    with pytest.raises(StackError, match="the harness outside has not answered"):
        applied(office)  # its time is over before it could be told that nobody is there
    assert office.mailbox.hosts_of("test-1") == ("hf-worker",)
    assert office.mailbox.hosts_of("test-2") is None


def test_a_question_is_answered_once(office: Office) -> None:
    applied(office)
    assert not office.clerk.answer()
    assert office.machine.asked == [("apply", "test-1")]


def test_what_goes_wrong_with_the_machine_is_told(office: Office) -> None:
    office.machine.away = 1
    with pytest.raises(StackError, match="the machine under the nodes: nobody is there"):
        applied(office)
    assert applied(office)  # asked again


def test_a_harness_that_is_not_there_is_not_waited_for(office: Office) -> None:
    office.answers = False
    waits: list[float] = []
    office.mailbox = Mailbox(office.api, sleep=waits.append)
    with pytest.raises(StackError, match="is not there"):
        office.mailbox.ask("undo", {"id": "test-1"}, 75.0)
    assert sum(waits) == pytest.approx(TAKEN_WITHIN_S, abs=0.5)


@pytest.mark.parametrize("text", ["no JSON", "[1]", '"x"'])
def test_what_is_no_letter_is_no_question(office: Office, text: str) -> None:
    office.map.data["asked"] = text
    assert not office.clerk.answer()


def test_a_letter_that_is_none_is_answered_all_the_same(office: Office) -> None:
    office.map.data["asked"] = json.dumps({"token": "x", "command": "apply"})
    assert office.clerk.answer()
    assert "request" in json.loads(office.map.data["answered"])["trouble"]


@pytest.mark.parametrize("timeout_s", [float("nan"), float("inf"), 1e9, 0, "soon", None])
def test_a_pod_cannot_keep_the_harness_waiting_for_ever(office: Office, timeout_s: Any) -> None:
    letter = {"token": "x", "command": "apply", "request": {"injection": INJECTION}, "timeout_s": timeout_s}
    office.map.data["asked"] = json.dumps(letter)
    assert office.clerk.answer()
    assert json.loads(office.map.data["answered"])["trouble"]
    assert office.machine.asked == []


def test_a_machine_that_has_no_process_left_keeps_its_clerk(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_what: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(office.machine, "ask", full)
    with pytest.raises(StackError, match="temporarily unavailable"):
        applied(office)


def test_nothing_is_put_right_beside_a_question_that_is_still_being_answered(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float | None] = []
    monkeypatch.setattr("threading.Thread.join", lambda _self, timeout=None: waited_s.append(timeout))
    with answering(office.clerk):
        pass
    assert waited_s[0] is not None
    assert waited_s[0] > ANSWERED_WITHIN_S_MAX


def test_an_api_server_that_is_slow_does_not_make_a_question_last_longer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    def slow(method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        nonlocal now_s
        now_s += 0.5
        return office.map.call(method, path, query, body)

    monkeypatch.setattr("time.monotonic", lambda: now_s)
    waits: list[float] = []
    with pytest.raises(StackError, match="has not answered"):
        Mailbox(Api(slow, "a slow cluster"), sleep=waits.append).ask("probe", {"id": "test-1"}, 7.0)
    assert len(waits) == 10


def test_an_api_server_that_is_away_is_waited_for(office: Office) -> None:
    office.map.away = 2
    assert applied(office)


def test_without_the_object_no_node_is_away(office: Office) -> None:
    office.map.there = False
    assert office.mailbox.hosts_of("test-1") is None


def test_an_order_of_the_cluster_s_takes_no_node_away_and_is_the_machine_s(office: Office) -> None:
    order = {"id": "test-2", "steps": [{"primitive": "rollout", "namespace": "a", "workload": "b", "pods": []}]}
    office.mailbox.ask("apply", {"injection": order, "parts": 1}, 5.0)
    assert office.mailbox.hosts_of("test-2") == ()
