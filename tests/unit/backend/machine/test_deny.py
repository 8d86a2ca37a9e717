"""A component that is kept from another one: exactly that, by a policy that nothing else depends on."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.backend.machine.deny import DENIED_WITHIN_S, Deny, denials, take_denials_back
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker
from tests.unit.backend.kubernetes.test_manifests import SUPPORTED, complaint

WHO = {"namespace": "a", "component": "session", "to_namespace": "a", "to_component": "redis"}
CUT = {f"connection from {via} to {to}" for via in ("session-0", "session-1") for to in ("redis-2", "redis-3")}
POLICY = "NetworkPolicy test-1"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    names = ("session-0", "session-1", "redis-2", "redis-3", "edge-4")
    made = FakeCluster(dict.fromkeys(names, "hf-worker"))
    monkeypatch.setattr("time.monotonic", lambda: float(made.now.timestamp()))
    return made


class Denial:
    """One injection of it, on a cluster."""

    def __init__(self, cluster: FakeCluster, name: str = "test-1") -> None:
        docker, pods = Docker(FakeDocker("hf", {}).run), [cluster.place(f"session-{number}") for number in (0, 1)]
        others = [cluster.place(f"redis-{number}") for number in (2, 3)]
        self.step = step_of(docker, cluster.plane(), name, {"primitive": "deny", **WHO, "pods": pods})
        self.probe = probe_of(docker, cluster.plane(), name, {"probe": "denied", "pods": pods, "others": others})
        self.probe.prepare()


def observed(found: list[Any]) -> dict[str, str]:
    return {item["what"]: item["observed"] for item in found}


def failed(found: list[Any]) -> dict[str, str]:
    return observed([item for item in found if not item["ok"]])


def test_it_is_done_proved_undone_and_healed(cluster: FakeCluster) -> None:
    denial = Denial(cluster)
    denial.step.do()
    seen = denial.probe.in_effect()
    assert failed(seen) == {}
    witnessed = {f"connection from witness-0 to {to}" for to in ("redis-2", "redis-3", "session-0", "session-1")}
    expected = dict.fromkeys(CUT, "timed out") | dict.fromkeys(witnessed, "accepted")
    assert observed(seen) == expected | {POLICY: "there"}
    assert failed(denial.step.undone()) == {POLICY: "there"}
    assert failed(denial.probe.healed()) == dict.fromkeys(CUT, "timed out")
    denial.step.undo()
    denial.step.undo()
    assert failed(denial.step.undone() + denial.probe.healed()) == {}
    assert cluster.policies == {}


def test_without_its_step_nothing_is_proved(cluster: FakeCluster) -> None:
    denial, began = Denial(cluster), cluster.now
    assert failed(denial.probe.in_effect()) == dict.fromkeys(CUT, "accepted") | {POLICY: "gone"}
    assert (cluster.now - began).total_seconds() == pytest.approx(DENIED_WITHIN_S, abs=1.0)
    again = cluster.now
    denial.probe.in_effect()
    assert cluster.now == again, "it is waited for once: the injection has to end in time"


def test_a_policy_that_nobody_enforces_is_not_proved(cluster: FakeCluster) -> None:
    cluster.enforces = False
    denial = Denial(cluster)
    denial.step.do()
    assert failed(denial.probe.in_effect()) == dict.fromkeys(CUT, "accepted")


def test_who_is_gone_is_not_denied(cluster: FakeCluster) -> None:
    """A witness that is let there cannot connect either."""
    denial = Denial(cluster)
    denial.step.do()
    del cluster.pods["redis-3"]
    assert failed(denial.probe.in_effect()) == {"connection from witness-0 to redis-3": "no route to host"}


def test_a_policy_that_denies_more_is_told(cluster: FakeCluster) -> None:
    denial = Denial(cluster)
    denial.step.do()
    cluster.policies["test-1"]["spec"]["podSelector"] = {}
    assert failed(denial.probe.in_effect()) == {
        f"connection from witness-0 to {to}": "timed out" for to in ("redis-2", "redis-3")
    }


def test_what_could_not_be_opened_before_proves_nothing(cluster: FakeCluster) -> None:
    other = Denial(cluster, "test-2")
    other.step.do()
    denial = Denial(cluster)
    other.step.undo()
    denial.step.do()
    assert failed(denial.probe.in_effect()) == dict.fromkeys(CUT, "timed out, and before the injection: timed out")


def test_a_pod_that_was_made_again_is_looked_for_where_it_is(cluster: FakeCluster) -> None:
    denial = Denial(cluster)
    cluster.pods["redis-2"] = cluster._made("redis-2", "hf-worker", number=2)
    assert failed(denial.probe.healed()) == {}


def test_a_policy_that_governs_egress_would_add_up(cluster: FakeCluster) -> None:
    denial = Denial(cluster)
    cluster.policies = {"default": {"metadata": {"name": "default"}, "spec": {"policyTypes": ["Ingress"]}}}
    step = Deny.from_json(cluster.plane(), "test-1", WHO)
    step.require_possible()
    specs: tuple[dict[str, Any], ...] = ({"policyTypes": ["Ingress", "Egress"]}, {"egress": [{}]})
    for spec in specs:
        cluster.policies["default"]["spec"] = spec
        with pytest.raises(AgentError, match="NetworkPolicy default governs egress in namespace a"):
            denial.step.do()
    assert list(cluster.policies) == ["default"]


def test_somebody_else_s_denial_is_left_alone(cluster: FakeCluster) -> None:
    Denial(cluster, "test-2").step.do()
    denial = Denial(cluster)
    with pytest.raises(AgentError, match="NetworkPolicy test-2: its injection has not ended"):
        denial.step.do()
    denial.step.undo()
    assert list(cluster.policies) == ["test-2"]


def test_it_is_found_and_taken_back_from_nothing_but_the_cluster(cluster: FakeCluster) -> None:
    api = cluster.plane()._api
    assert (denials(api), take_denials_back(api)) == ({}, [])
    Denial(cluster).step.do()
    assert denials(api) == {"a/test-1": "test-1"}
    assert take_denials_back(api) == ["a/test-1"]
    assert cluster.policies == {}


def test_a_server_that_refuses(cluster: FakeCluster) -> None:
    denial = Denial(cluster)
    cluster.broken["POST"] = 403
    with pytest.raises(AgentError, match="refused by the test"):
        denial.step.do()
    cluster.broken["POST"] = 409
    denial.step.do()


@pytest.mark.parametrize("version", SUPPORTED)
def test_kubernetes_accepts_the_policy(cluster: FakeCluster, version: str) -> None:
    assert complaint(Deny.from_json(cluster.plane(), "session-denied-redis-1f0c9a44", WHO).policy, version) == ""
