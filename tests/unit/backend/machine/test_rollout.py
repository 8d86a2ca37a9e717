"""A rolling restart: each is replaced, one after the other, and nothing else proves it."""

from typing import Any

import pytest

from resilience.backend.machine.docker import Docker
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.rollout import REPLACED_WITHIN_S
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

PODS = ("session-0", "session-1")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster({"session-0": "hf-worker", "session-1": "hf-worker2"})
    monkeypatch.setattr("time.monotonic", lambda: float(made.now.timestamp()))
    return made


class Rollout:
    """One injection of it, on a cluster."""

    def __init__(self, cluster: FakeCluster) -> None:
        docker, pods = Docker(FakeDocker("hf", {}).run), [cluster.place(name) for name in PODS]
        step = {"primitive": "rollout", "namespace": "a", "workload": "session", "pods": pods}
        self.step = step_of(docker, cluster.plane(), "test-1", step)
        self.probe = probe_of(docker, cluster.plane(), "test-1", {"probe": "rolled-out", "pods": pods})
        self.probe.prepare()


def failed(found: list[Any]) -> dict[str, str]:
    return {item["what"].split(" (")[0]: item["observed"] for item in found if not item["ok"]}


def test_it_is_done_proved_and_healed(cluster: FakeCluster) -> None:
    rollout = Rollout(cluster)
    rollout.step.do()
    assert failed(rollout.step.undone()) == {"rollout of session": "0 of 2 replaced, 2 ready"}
    seen = rollout.probe.in_effect()
    assert failed(seen) == {}
    assert seen[-1]["observed"] == "session-1 made at 10:00:05, session-0 made at 10:00:11"
    rollout.step.undo()
    assert failed(rollout.step.undone()) == {}
    assert failed(rollout.probe.healed()) == {}


def test_a_restart_that_did_nothing_is_not_proved(cluster: FakeCluster) -> None:
    began = cluster.now
    rollout = Rollout(cluster)
    assert failed(rollout.probe.in_effect()) == {
        "pod session-0": "still there", "pod session-1": "still there",
        "pods, one after the other": "0 of 2 replaced and started",
    }  # fmt: skip
    assert (cluster.now - began).total_seconds() == pytest.approx(REPLACED_WITHIN_S, abs=1.0)
    again = cluster.now
    rollout.probe.in_effect()
    assert cluster.now == again, "it is waited for once: the injection has to end in time"


def test_all_at_once_is_no_rolling_restart(cluster: FakeCluster) -> None:
    cluster.at_once = True
    rollout = Rollout(cluster)
    rollout.step.do()
    assert failed(rollout.probe.in_effect()) == {
        "pods, one after the other": "session-1 made at 10:00:05, before the other ran"
    }


def test_one_that_was_left_is_not_proved_and_not_healed(cluster: FakeCluster) -> None:
    rollout = Rollout(cluster)
    rollout.step.do()
    cluster.sleep(1.0)
    cluster.restarts, left = [], cluster.restarts
    assert failed(rollout.probe.in_effect()) == {
        "pod session-0": "still there", "pods, one after the other": "1 of 2 replaced and started",
    }  # fmt: skip
    cluster.restarts = left
    assert failed(rollout.step.undone()) == {"rollout of session": "1 of 2 replaced, 2 ready"}


def test_one_that_does_not_get_ready_is_not_healed(cluster: FakeCluster) -> None:
    cluster.starts = False
    rollout = Rollout(cluster)
    rollout.step.do()
    rollout.probe.in_effect()
    assert failed(rollout.probe.healed()) == {"pod session-0": "not ready", "pod session-1": "not ready"}


def test_one_that_has_no_other_in_its_place(cluster: FakeCluster) -> None:
    rollout = Rollout(cluster)
    for host in cluster.HOSTS:
        cluster.plane().cordon(host, "")
    del cluster.pods["session-0"]
    cluster.pods["session-1"] = cluster._made("session-1", "", number=2, ready=False)
    assert failed(rollout.probe.in_effect()) == {
        "pod session-0": "gone, no other yet", "pod session-1": "replaced, the other does not run",
        "pods, one after the other": "0 of 2 replaced and started",
    }  # fmt: skip


def test_who_was_not_ready_before_proves_nothing(cluster: FakeCluster) -> None:
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker", number=1, ready=False)
    rollout = Rollout(cluster)
    rollout.step.do()
    assert failed(rollout.probe.in_effect()) == {"pod session-0": "it was not there and ready before the injection"}


def test_it_is_told_once_for_one_injection(cluster: FakeCluster) -> None:
    assert cluster.plane().rollout("a", "session") == "complete"
    Rollout(cluster).step.undo()
    assert cluster.restarts == []
