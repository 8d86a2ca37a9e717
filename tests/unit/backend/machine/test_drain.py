"""A drain: who is evicted, who may stay, what proves it, and who takes the cordon back."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.backend.machine.control_plane import cordons, take_cordons_back
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.drain import EVICTING_S, MOVED_WITHIN_S, rejoined
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

NODE_1 = ("redis-cluster-0", "redis-cluster-3", "session-0")
BACK = "\n".join(f"id{number} 10.244.2.{number}:6379@16379 slave id1 0 0 1 connected" for number in (0, 3))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster(
        dict.fromkeys(NODE_1, "hf-worker") | {"redis-cluster-1": "hf-worker2", "session-1": "hf-worker2"}
    )
    monkeypatch.setattr("time.monotonic", lambda: float(made.now.timestamp()))
    made.said = BACK
    return made


class Drained:
    """One injection of it, on a cluster."""

    def __init__(self, cluster: FakeCluster, names: tuple[str, ...] = NODE_1) -> None:
        docker, pods = Docker(FakeDocker("hf", {}).run), [cluster.place(name) for name in names]
        node = {"name": "node-1", "host": "hf-worker"}
        step = {"primitive": "drain", "node": node, "pods": pods}
        self.step = step_of(docker, cluster.plane(), "test-1", step)
        self.probe = probe_of(docker, cluster.plane(), "test-1", {"probe": "drained", "pods": pods})
        self.probe.prepare()


def observed(found: list[Any]) -> dict[str, str]:
    return {item["what"].split(" (")[0]: item["observed"] for item in found}


def failed(found: list[Any]) -> dict[str, str]:
    return observed([item for item in found if not item["ok"]])


def test_it_is_done_proved_undone_and_healed(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    drained.step.do()
    assert cluster.nodes["hf-worker"]["spec"] == {"unschedulable": True}
    seen = drained.probe.in_effect()
    assert failed(seen) == {}
    assert observed(seen) == {
        "node hf-worker": "cordoned by test-1",
        "pod redis-cluster-0": "gone, the other waits",
        "pod redis-cluster-3": "kept by its budget (redis-cluster-3: 429 its disruption budget)",
        "pod session-0": "gone, the other on hf-worker2, ready",
    }
    drained.step.undo()
    assert cluster.nodes["hf-worker"]["spec"] == {}
    assert failed(drained.step.undone()) == {}
    assert failed(drained.probe.healed()) == {"pod redis-cluster-0": "not ready", "redis-cluster-0 to another member": (
        "not known at no address"
    ), "redis-cluster-3 to another member": "not known at 10.244.1.3"}  # fmt: skip
    cluster.sleep(1.0)
    cluster.said += "\nid9 10.244.1.3:6379@16379 master - 0 0 1 connected"
    assert failed(drained.probe.healed()) == {}


def test_a_drain_that_evicted_nobody_is_not_proved(cluster: FakeCluster) -> None:
    cluster.evicts = False
    drained = Drained(cluster)
    drained.step.do()
    assert failed(drained.probe.in_effect()) == {f"pod {name}": "still there" for name in NODE_1}


def test_without_its_step_nothing_is_proved(cluster: FakeCluster) -> None:
    seen = failed(Drained(cluster).probe.in_effect())
    assert seen == {f"pod {name}": "still there" for name in NODE_1} | {"node hf-worker": "takes members"}


def test_a_service_has_to_run_elsewhere(cluster: FakeCluster) -> None:
    cluster.starts = False
    drained = Drained(cluster)
    drained.step.do()
    began = cluster.now
    assert failed(drained.probe.in_effect()) == {"pod session-0": "gone, the other on hf-worker2"}
    assert (cluster.now - began).total_seconds() == pytest.approx(MOVED_WITHIN_S, abs=1.0)
    again = cluster.now
    drained.probe.in_effect()
    assert cluster.now == again, "it is waited for once: the injection has to end in time"


def test_a_service_on_the_same_node_again_is_no_drain(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    drained.step.do()
    drained.step.undo()
    cluster.sleep(1.0)
    seen = failed(drained.probe.in_effect())
    assert seen["node hf-worker"] == "takes members"
    assert seen["pod session-0"] == "gone, the other on hf-worker, ready"
    assert seen["pod redis-cluster-0"] == "gone, the other on hf-worker, ready"


def test_a_member_that_its_budget_does_not_keep_has_to_go(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    drained.step.do()
    cluster.pods["redis-cluster-0"] = cluster._made("redis-cluster-0", "hf-worker2", number=2)  # so one may be away
    assert failed(drained.probe.in_effect()) == {"pod redis-cluster-3": "still there"}


def test_a_budget_that_is_spent_by_somebody_else_excuses_nobody(cluster: FakeCluster) -> None:
    cluster.pods["redis-cluster-1"] = cluster._made("redis-cluster-1", "hf-worker2", number=1, ready=False)
    drained, began = Drained(cluster), cluster.now
    drained.step.do()
    assert (cluster.now - began).total_seconds() == pytest.approx(EVICTING_S, abs=1.5), "it is asked again"
    assert set(failed(drained.probe.in_effect())) == {"pod redis-cluster-0", "pod redis-cluster-3"}


def test_two_of_one_service_go_one_after_the_other(cluster: FakeCluster) -> None:
    cluster.homes["session-1"] = "hf-worker"
    cluster.pods["session-1"] = cluster._made("session-1", "hf-worker", number=1)
    drained = Drained(cluster, (*NODE_1, "session-1"))
    drained.step.do()
    assert failed(drained.probe.in_effect()) == {}


def test_who_was_not_there_before_proves_nothing(cluster: FakeCluster) -> None:
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker", number=1, ready=False)
    cluster.pods["session-1"] = cluster._made("session-1", "hf-worker2", number=1)
    drained = Drained(cluster)
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker2", number=2)
    drained.step.do()
    assert failed(drained.probe.in_effect()) == {
        "pod session-0": "gone, the other on hf-worker2, ready, and before the injection: not ready there"
    }


@pytest.mark.parametrize(("status", "ends"), [(403, True), (0, False), (404, False)])
def test_a_server_that_refuses(cluster: FakeCluster, status: int, ends: bool) -> None:
    cluster.broken["POST"] = status
    drained = Drained(cluster)
    if ends:
        with pytest.raises(AgentError, match="refused by the test"):
            drained.step.do()
    else:
        drained.step.do()
        assert len(failed(drained.probe.in_effect())) == len(NODE_1)


@pytest.mark.parametrize("status", [0, 403, 500])
def test_only_a_budget_excuses_a_pod_that_stays(cluster: FakeCluster, status: int) -> None:
    drained = Drained(cluster)
    drained.step.do()
    cluster.broken["POST"] = status
    with pytest.raises(AgentError, match="refused by the test"):
        drained.probe.in_effect()


def test_a_server_that_is_away_is_an_error_of_the_agent(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    cluster.broken["GET"] = cluster.broken["PATCH"] = 0
    with pytest.raises(AgentError, match="refused by the test"):
        drained.step.do()
    with pytest.raises(AgentError, match="refused by the test"):
        drained.step.undo()


@pytest.mark.parametrize("whose", ["test-2", ""])
def test_what_somebody_else_has_cordoned_stays_so(cluster: FakeCluster, whose: str) -> None:
    cluster.plane().cordon("hf-worker", whose)
    drained = Drained(cluster)
    drained.step.undo()
    assert cluster.nodes["hf-worker"]["spec"] == {"unschedulable": True}
    assert failed(drained.step.undone()) == {"node hf-worker": f"cordoned by {whose or 'somebody else'}"}


def test_a_node_that_is_gone_is_cordoned_no_more(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    drained.step.do()
    del cluster.nodes["hf-worker"]
    drained.step.undo()


def test_cordons_are_found_and_taken_back_from_nothing_but_the_cluster(cluster: FakeCluster) -> None:
    api = cluster.plane()._api
    cluster.nodes["hf-worker2"]["spec"]["unschedulable"] = True  # a person's
    Drained(cluster).step.do()
    assert cordons(api) == {"hf-worker": "test-1"}
    assert take_cordons_back(api) == {"hf-worker": "test-1"}
    assert cordons(api) == {}
    assert [node["spec"] for node in cluster.nodes.values()] == [{}, {"unschedulable": True}]


@pytest.mark.parametrize(
    ("flags", "link", "ok"),
    [
        ("slave", "connected", True),
        ("master", "connected", True),
        ("master,fail", "connected", False),
        ("slave,fail?", "connected", False),
        ("slave", "disconnected", False),
        ("handshake", "connected", False),
    ],
)
def test_a_member_is_back_when_another_says_so(flags: str, link: str, ok: bool) -> None:
    said = f"id 10.244.2.0:6379@16379 {flags} - 0 0 1 {link} 0-100"
    assert rejoined("redis-cluster-0", "10.244.2.0", said)["ok"] is ok


@pytest.mark.parametrize(("address", "said"), [("", BACK), ("10.244.2", BACK), ("10.244.2.0", ""), ("x", "x y")])
def test_a_member_that_nobody_knows_is_not_back(address: str, said: str) -> None:
    assert not rejoined("redis-cluster-0", address, said)["ok"]


def test_nobody_left_to_be_asked(cluster: FakeCluster) -> None:
    drained = Drained(cluster)
    for name in ("redis-cluster-1", "session-1"):
        cluster.pods[name] = cluster._made(name, "hf-worker2", number=1, ready=False)
    cluster.pods["session-0"] = cluster._made("session-0", "hf-worker", number=1, ready=False)
    with pytest.raises(AgentError, match="no other member is ready to be asked"):
        drained.probe.healed()
