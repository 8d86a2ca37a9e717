"""A scaled StatefulSet: exactly those beyond the number gone, and put back by whoever finds it."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.scale import SCALED_WITHIN_S, scales, take_scales_back
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

FIRST, SECOND, SET = "pod session-0", "pod session-1", "pods of session"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster({"session-0": "hf-worker", "session-1": "hf-worker2", "edge-0": "hf-worker"})
    monkeypatch.setattr("time.monotonic", lambda: float(made.now.timestamp()))
    return made


class Scaled:
    """One injection of it, on a cluster."""

    def __init__(self, cluster: FakeCluster, replicas: int = 1, name: str = "test-1") -> None:
        docker, pods = Docker(FakeDocker("hf", {}).run), [cluster.place(f"session-{number}") for number in (0, 1)]
        data = {"replicas": replicas, "pods": pods}
        step = {"primitive": "scale", "namespace": "a", "workload": "session", **data}
        self.step = step_of(docker, cluster.plane(), name, step)
        self.probe = probe_of(docker, cluster.plane(), name, {"probe": "scaled", **data})
        self.probe.prepare()


def observed(found: list[Any]) -> dict[str, str]:
    return {item["what"].split(" (")[0]: item["observed"] for item in found}


def failed(found: list[Any]) -> dict[str, str]:
    return observed([item for item in found if not item["ok"]])


def test_it_is_done_proved_undone_and_healed(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    scaled.step.do()
    seen = scaled.probe.in_effect()
    assert failed(seen) == {}
    assert observed(seen) == {SET: "1, by test-1", FIRST: "still there", SECOND: "gone"}
    assert failed(scaled.step.undone()) == {SET: "1, by test-1, 1 ready"}
    scaled.step.undo()
    assert failed(scaled.step.undone()) == {SET: "1, and 2 are wanted, before the last change, 1 ready"}
    assert failed(scaled.probe.healed()) == {SECOND: "not ready"}
    cluster.sleep(1.0)
    assert failed(scaled.step.undone() + scaled.probe.healed()) == {}
    assert cluster.sets["session"]["metadata"]["annotations"] == {}


@pytest.mark.parametrize("heal", ["by the injection", "by whoever finds it"])
def test_what_somebody_else_has_scaled_since_stays(cluster: FakeCluster, heal: str) -> None:
    scaled = Scaled(cluster)
    scaled.step.do()
    cluster.sets["session"]["spec"]["replicas"] = 5
    if heal == "by the injection":
        scaled.step.undo()
    else:
        assert take_scales_back(cluster.plane()._api) == {"a/session": 5}
    assert cluster.sets["session"]["spec"]["replicas"] == 5
    assert cluster.sets["session"]["metadata"]["annotations"] == {}


def test_a_mark_that_says_nothing_is_taken_away(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    scaled.step.do()
    cluster.sets["session"]["metadata"]["annotations"]["harmonyflow.dev/scaled-from"] = "two"
    assert take_scales_back(cluster.plane()._api) == {"a/session": 1}
    assert cluster.sets["session"]["metadata"]["annotations"] == {}


def test_down_to_none(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster, 0)
    scaled.step.do()
    assert observed(scaled.probe.in_effect()) == {SET: "0, by test-1", FIRST: "gone", SECOND: "gone"}
    assert "edge-0" in cluster.pods


def test_without_its_step_nothing_is_proved(cluster: FakeCluster) -> None:
    scaled, began = Scaled(cluster), cluster.now
    assert failed(scaled.probe.in_effect()) == {SET: "2", SECOND: "still there"}
    assert (cluster.now - began).total_seconds() == pytest.approx(SCALED_WITHIN_S, abs=1.0)
    again = cluster.now
    scaled.probe.in_effect()
    assert cluster.now == again, "it is waited for once: the injection has to end in time"


def test_a_controller_that_does_not_work_is_not_proved(cluster: FakeCluster) -> None:
    cluster.scales = False
    scaled = Scaled(cluster)
    scaled.step.do()
    assert failed(scaled.probe.in_effect()) == {
        SET: "2, and 1 are wanted, by test-1, before the last change", SECOND: "still there",
    }  # fmt: skip


def test_somebody_else_s_scale_proves_nothing(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    Scaled(cluster, name="test-2").step.do()
    assert failed(scaled.probe.in_effect()) == {SET: "1, by test-2"}
    with pytest.raises(AgentError, match="scaled already, by test-2"):
        scaled.step.do()
    scaled.step.undo()
    assert scales(cluster.plane()._api) == {"a/session": "test-2"}


def test_one_that_is_replaced_beside_it_is_told(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    scaled.step.do()
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker", number=2)
    assert failed(scaled.probe.in_effect()) == {FIRST: "another is there"}


def test_who_was_not_ready_before_proves_nothing(cluster: FakeCluster) -> None:
    cluster.pods["session-1"]["status"]["conditions"][0]["status"] = "False"
    scaled = Scaled(cluster)
    scaled.step.do()
    assert failed(scaled.probe.in_effect()) == {SECOND: "gone, and before the injection: not there and ready"}


@pytest.mark.parametrize(("replicas", "words"), [(2, "it keeps 2 pods: scaled to 2"), (3, "it keeps 2 pods")])
def test_nothing_would_go(cluster: FakeCluster, replicas: int, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        Scaled(cluster, replicas).step.do()


def test_it_is_found_and_taken_back_from_nothing_but_the_cluster(cluster: FakeCluster) -> None:
    api = cluster.plane()._api
    assert (scales(api), take_scales_back(api)) == ({}, {})
    Scaled(cluster).step.do()
    assert scales(api) == {"a/session": "test-1"}
    assert take_scales_back(api) == {"a/session": 2}
    assert (scales(api), cluster.sets["session"]["spec"]["replicas"]) == ({}, 2)


def test_a_stateful_set_that_is_gone_is_scaled_no_more(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    scaled.step.do()
    cluster.pods.clear()
    cluster.sets.clear()
    scaled.step.undo()
    assert failed(scaled.step.undone()) == {SET: "its StatefulSet is gone"}
    assert failed(scaled.probe.in_effect())[SET] == "its StatefulSet is gone"
    with pytest.raises(AgentError, match="there is none"):
        scaled.step.do()


def test_a_server_that_refuses(cluster: FakeCluster) -> None:
    scaled = Scaled(cluster)
    cluster.broken["PATCH"] = 403
    with pytest.raises(AgentError, match="refused by the test"):
        scaled.step.do()
