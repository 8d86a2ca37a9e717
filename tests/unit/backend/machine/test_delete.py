"""The deletion of a pod: gone for the API server and for an observer, and nothing else proves it."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.backend.machine.delete import GONE_WITHIN_S
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

POD = "pod session-0"
WITNESSED = "connection from the witness to 10.244.1.0:8080"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster({"session-0": "hf-worker", "session-1": "hf-worker2"})
    monkeypatch.setattr("time.monotonic", lambda: float(made.now.timestamp()))
    return made


class Deletion:
    """One injection of it, on a cluster."""

    def __init__(self, cluster: FakeCluster, grace_s: int = 0) -> None:
        docker, pods = Docker(FakeDocker("hf", {}).run), [cluster.place("session-0")]
        data = {"grace_s": grace_s, "pods": pods}
        self.step = step_of(docker, cluster.plane(), "test-1", {"primitive": "delete", **data})
        self.probe = probe_of(docker, cluster.plane(), "test-1", {"probe": "deleted", **data})
        self.probe.prepare()


def observed(found: list[Any]) -> dict[str, str]:
    return {item["what"].split(" (")[0]: item["observed"] for item in found}


def failed(found: list[Any]) -> dict[str, str]:
    return observed([item for item in found if not item["ok"]])


def test_it_is_done_proved_and_healed(cluster: FakeCluster) -> None:
    deletion, began = Deletion(cluster), cluster.now
    deletion.step.do()
    assert failed(deletion.step.undone()) == {"successor of pod session-0": "gone, no other yet"}
    seen = deletion.probe.in_effect()
    assert (failed(seen), cluster.now) == ({}, began), "it is gone at once"
    assert observed(seen) == {POD: "gone, no other yet", WITNESSED: "no route to host"}
    assert failed(deletion.probe.healed()) == {POD: "not ready"}
    deletion.step.undo()
    cluster.sleep(1.0)
    assert observed(deletion.probe.in_effect()) == {POD: "ready"}, "its address may be somebody else's by now"
    assert failed(deletion.step.undone() + deletion.probe.healed()) == {}


def test_without_its_step_nothing_is_proved(cluster: FakeCluster) -> None:
    deletion, began = Deletion(cluster), cluster.now
    assert failed(deletion.probe.in_effect()) == {POD: "still there", WITNESSED: "accepted"}
    assert (cluster.now - began).total_seconds() == pytest.approx(GONE_WITHIN_S, abs=1.0)
    again = cluster.now
    deletion.probe.in_effect()
    assert cluster.now == again, "it is waited for once: the injection has to end in time"


def test_a_deletion_that_was_accepted_and_not_done_is_not_proved(cluster: FakeCluster) -> None:
    cluster.deletes = False
    deletion = Deletion(cluster, grace_s=5)
    deletion.step.do()
    assert failed(deletion.probe.in_effect()) == {POD: "still there", WITNESSED: "accepted"}
    assert failed(deletion.step.undone()) == {"successor of pod session-0": "still there"}


def test_its_grace_is_waited_for(cluster: FakeCluster) -> None:
    deletion, began = Deletion(cluster, grace_s=20), cluster.now
    deletion.step.do()
    assert "session-0" in cluster.pods
    assert failed(deletion.probe.in_effect()) == {}
    assert cluster.now > began


def test_a_server_that_still_answers_there_is_not_gone(cluster: FakeCluster) -> None:
    cluster.kept_ports.add("10.244.1.0")
    cluster.starts = False
    deletion = Deletion(cluster)
    deletion.step.do()
    assert failed(deletion.probe.in_effect()) == {WITNESSED: "accepted"}


def test_who_was_not_ready_or_not_reached_before_proves_nothing(cluster: FakeCluster) -> None:
    cluster.pods["session-0"]["status"]["conditions"][0]["status"] = "False"
    cluster.starts = False
    deletion = Deletion(cluster)
    deletion.probe.reached["session-0"] = "timed out"  # type: ignore[attr-defined]
    deletion.step.do()
    assert failed(deletion.probe.in_effect()) == {
        POD: "replaced, the other is not ready, and before the injection: not there and ready",
        WITNESSED: "no route to host, and before the injection: timed out",
    }


def test_nobody_who_could_look(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    deletion = Deletion(cluster)
    deletion.step.do()
    cluster.starts = False
    monkeypatch.setattr(cluster, "_connection", lambda _via, _to: "one line\ntoo many")
    assert failed(deletion.probe.in_effect()) == {WITNESSED: "not known: witness-0 said 2 lines"}
    cluster.witness["status"]["conditions"][0]["status"] = "False"
    with pytest.raises(AgentError, match="the witness on the observers' node is not ready"):
        deletion.probe.in_effect()


def test_another_of_that_name_is_left_alone(cluster: FakeCluster) -> None:
    deletion = Deletion(cluster)
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker", number=5)
    deletion.step.do()
    assert cluster.pods["session-0"]["metadata"]["uid"] == "uid-session-0-5"


@pytest.mark.parametrize("status", [0, 403])
def test_a_server_that_refuses(cluster: FakeCluster, status: int) -> None:
    deletion = Deletion(cluster)
    cluster.broken["DELETE"] = status
    with pytest.raises(AgentError, match="refused by the test"):
        deletion.step.do()
