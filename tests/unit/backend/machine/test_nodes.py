"""Which nodes may suffer, and what has to be known of them before."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.backend.machine.docker import Docker, docker_under
from resilience.backend.machine.nodes import Nodes
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

ROLES = {
    "hf-control-plane": "control-plane", "hf-worker": "worker", "hf-worker2": "worker", "hf-worker4": "worker"
}  # fmt: skip


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker("hf", ROLES)


def nodes(docker: FakeDocker, *allowed: str, cluster: FakeCluster | None = None) -> Nodes:
    return Nodes(
        cluster="hf",
        allowed=frozenset(allowed or ("hf-worker", "hf-worker2")),
        docker=Docker(docker.run),
        plane=(cluster or FakeCluster({})).plane(),
    )


def injection(host: str = "hf-worker", **changes: Any) -> dict[str, Any]:
    named = [{"name": "node-1", "host": host}]
    step, watch = {"primitive": "freeze", "nodes": named}, {"probe": "node", "nodes": named, "after": "freeze"}
    return {"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": [watch], **changes}


def test_all_that_is_needed_to_undo_it_is_known_before(docker: FakeDocker) -> None:
    docker.states["hf-worker2"] = "exited"  # cannot be told anything
    (step,) = nodes(docker).request(injection())["steps"]
    assert step["nodes"][0]["links"] == [["kind", "172.30.0.3", "02:42:ac:1e:00:02"]]
    assert step["peers"] == ["hf-control-plane", "hf-worker4"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("hf-worker4", "no fault may touch it; those that may suffer: hf-worker, hf-worker2"),
        ("hf-control-plane", "no fault may touch it"),
        ("somebody-elses", "no fault may touch it"),
    ],
    ids=["the observers", "the control plane", "a stranger"],
)
def test_a_node_that_is_not_to_be_touched(docker: FakeDocker, host: str, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        nodes(docker).request(injection(host))


@pytest.mark.parametrize("host", ["hf-control-plane", "somebody-elses"])
def test_what_is_no_worker_of_the_cluster_is_not_touched_whoever_allows_it(docker: FakeDocker, host: str) -> None:
    with pytest.raises(AgentError, match="it is no worker of the kind cluster hf"):
        nodes(docker, host).request(injection(host))


def test_a_node_that_something_is_done_to_already(docker: FakeDocker) -> None:
    docker.states["hf-worker"] = "paused"
    with pytest.raises(AgentError, match="it is paused, connected already: 'resilience heal --stack kind'"):
        nodes(docker).request(injection())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"ttl_s": 4_000.0}, "at most 3600 s"), ({"ttl_s": 0}, "at most 3600 s"), ({"prelude": {"x": 1}}, "no prelude")],
)
def test_what_is_refused(docker: FakeDocker, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AgentError, match=words):
        nodes(docker).request(injection(**changes))
    assert docker.done == []


def drain(cluster: FakeCluster, host: str = "hf-worker") -> dict[str, Any]:
    pods = [cluster.place("session-0")]
    step = {"primitive": "drain", "node": {"name": "node-1", "host": host}, "pods": pods}
    return {"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": [{"probe": "drained", "pods": pods}]}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster({"session-0": "hf-worker", "session-1": "hf-worker2"})


def test_what_the_cluster_is_asked_for_is_told_as_it_is(docker: FakeDocker, cluster: FakeCluster) -> None:
    assert nodes(docker, cluster=cluster).request(drain(cluster)) == drain(cluster)


@pytest.mark.parametrize("host", ["hf-worker4", "hf-control-plane"])
def test_no_other_node_is_drained(docker: FakeDocker, cluster: FakeCluster, host: str) -> None:
    with pytest.raises(AgentError, match="no fault may touch it"):
        nodes(docker, cluster=cluster).request(drain(cluster, host))


@pytest.mark.parametrize(("by", "whose"), [("", "somebody else"), ("test-0", "test-0")])
def test_a_node_that_is_cordoned_already(docker: FakeDocker, cluster: FakeCluster, by: str, whose: str) -> None:
    cluster.plane().cordon("hf-worker", by)
    with pytest.raises(AgentError, match=f"cordoned already, by {whose}: 'resilience heal --stack kind'"):
        nodes(docker, cluster=cluster).request(drain(cluster))


def test_pods_of_somebody_else_s_namespace(docker: FakeDocker, cluster: FakeCluster) -> None:
    cluster.labels.clear()
    with pytest.raises(AgentError, match=r"namespace a: it has no label harmonyflow\.dev/harness"):
        nodes(docker, cluster=cluster).request(drain(cluster))


def test_a_workload_of_somebody_else_s_namespace(docker: FakeDocker, cluster: FakeCluster) -> None:
    """The pods that it names are the harness's, what it would scale is not."""
    pods = [cluster.place(name) for name in cluster.pods if name.startswith("session")]
    step = {"primitive": "scale", "namespace": "kube-system", "workload": "session", "replicas": 0, "pods": pods}
    with pytest.raises(AgentError, match=r"namespace kube-system"):
        nodes(docker, cluster=cluster).request({"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": []})


def test_a_pod_of_another_node_is_not_deleted(docker: FakeDocker, cluster: FakeCluster) -> None:
    place = cluster.place(next(iter(cluster.pods)))
    step = {"primitive": "delete", "grace_s": 0, "pods": [{**place, "host": "hf-worker4"}]}
    with pytest.raises(AgentError, match="node hf-worker4: no fault may touch it"):
        nodes(docker, cluster=cluster).request({"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": []})
    assert nodes(docker, cluster=cluster).request(
        {"id": "test-1", "ttl_s": 35.0, "steps": [{**step, "pods": [place]}], "watch": []}
    )


def test_what_is_scaled_already_is_not_scaled_again(docker: FakeDocker, cluster: FakeCluster) -> None:
    pods = [cluster.place(name) for name in cluster.pods if name.startswith("session")]
    step = {"primitive": "scale", "namespace": "a", "workload": "session", "replicas": 0, "pods": pods}
    wanted = {"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": []}
    assert nodes(docker, cluster=cluster).request(wanted) == wanted
    step_of(Docker(docker.run), cluster.plane(), "test-2", step).do()
    with pytest.raises(AgentError, match="StatefulSet session: it is scaled already, by test-2"):
        nodes(docker, cluster=cluster).request(wanted)


def test_what_another_policy_allows_is_not_denied(docker: FakeDocker, cluster: FakeCluster) -> None:
    who = {"namespace": "a", "component": "session", "to_namespace": "a", "to_component": "redis"}
    step = {"primitive": "deny", **who, "pods": [cluster.place(name) for name in cluster.pods]}
    wanted = {"id": "test-1", "ttl_s": 35.0, "steps": [step], "watch": []}
    assert nodes(docker, cluster=cluster).request(wanted) == wanted
    cluster.policies["theirs"] = {"metadata": {"name": "theirs"}, "spec": {"policyTypes": ["Egress"]}}
    with pytest.raises(AgentError, match="NetworkPolicy theirs governs egress in namespace a"):
        nodes(docker, cluster=cluster).request(wanted)


def bare(cluster: FakeCluster) -> Nodes:
    """The nodes of a cluster under which there is nothing of this machine's."""
    plane = cluster.plane(stack="kubernetes:mine")
    allowed = frozenset(("hf-worker", "hf-worker2"))
    return Nodes(cluster="mine", allowed=allowed, docker=docker_under("kubernetes:mine"), plane=plane)


def test_without_a_machine_under_the_nodes_none_is_stopped(cluster: FakeCluster) -> None:
    with pytest.raises(
        AgentError, match="node hf-worker: under the nodes of mine there is no machine that may be stop"
    ):
        bare(cluster).request(injection())


def test_without_a_machine_under_the_nodes_orders_go_on(cluster: FakeCluster) -> None:
    assert bare(cluster).request(drain(cluster)) == drain(cluster)
    with pytest.raises(AgentError, match="node hf-worker4: no fault may touch it"):
        bare(cluster).request(drain(cluster, "hf-worker4"))
    cluster.plane().cordon("hf-worker", "test-0")
    with pytest.raises(AgentError, match="cordoned already, by test-0: 'resilience heal --stack kubernetes:mine'"):
        bare(cluster).request(drain(cluster))
    assert docker_under("kubernetes:mine").names() == set()
    with pytest.raises(AgentError, match="no containers of this machine"):
        docker_under("kubernetes:mine").do("kill", "hf-worker")
    assert docker_under("kind").under_nodes
