from pathlib import Path

import pytest

from resilience.backend.kubernetes.platform import KubernetesPlatform, member_state, node_names, ready_nodes, secret_in
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.spec.read import read_stack
from tests.unit.backend.kubernetes.cluster import HOSTS, NODES, Object, RecordedApi, node, pod, pods_path

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")


def cluster(redis: list[Object]) -> RecordedApi:
    return RecordedApi(
        {
            "/api/v1/nodes": NODES,
            pods_path("redis"): {"items": redis},
            pods_path("harmonyflow"): {
                "items": [pod("session-0", component="session", namespace="harmonyflow", host="hf-worker3")]
            },
            pods_path("monitoring"): {"items": []},
        }
    )


def redis_pods() -> list[Object]:
    return [pod(f"redis-cluster-{number}", host=HOSTS[number // 2]) for number in range(6)]


def test_members_are_pods_in_the_order_of_the_stack_file():
    platform = KubernetesPlatform(cluster(list(reversed(redis_pods()))).api(), STACK, str)
    states = platform.states()
    assert [state.name for state in states] == [member.name for member in STACK.members]
    assert [state.node for state in states[:6]] == ["node-1", "node-1", "node-2", "node-2", "node-3", "node-3"]
    assert platform.state("session-0").node == "node-3"
    assert {shard.primary for shard in platform.stack.shards} | {
        shard.replicas[0] for shard in platform.stack.shards
    } == {state.name for state in states[:6]}


def test_a_member_without_a_pod_does_not_run():
    state = KubernetesPlatform(cluster(redis_pods()).api(), STACK, str).state("edge-0")
    assert (state.running, state.identity, state.address) == (False, "", "")


def test_a_pod_that_only_bears_the_name_is_no_member():
    impostor = pod("redis-cluster-0", component="cache")
    assert not KubernetesPlatform(cluster([impostor]).api(), STACK, str).state("redis-cluster-0").running


def test_no_such_member():
    with pytest.raises(StackError, match="no such member"):
        KubernetesPlatform(cluster([]).api(), STACK, str).state("redis-cluster-9")


def test_a_restart_of_the_container_is_another_identity():
    nodes = node_names(NODES["items"])
    before, after = (member_state(pod("redis-cluster-0", restarts=number), nodes) for number in (0, 1))
    assert before.identity != after.identity
    assert before.identity.split("/")[0] == after.identity.split("/")[0]  # the pod is the same
    assert after.restarts == 1


@pytest.mark.parametrize(
    "broken",
    [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}, {"ip": ""}],
)
def test_what_does_not_run(broken: dict[str, Object]):
    state = member_state(pod("redis-cluster-0", **broken), {})  # type: ignore[arg-type]
    assert not state.running
    assert state.identity == ""


def test_a_node_without_a_label_has_its_own_name():
    assert node_names([{"metadata": {"name": "ip-10-0-0-1"}}]) == {"ip-10-0-0-1": "ip-10-0-0-1"}


def test_secrets_are_files(tmp_path: Path):
    (tmp_path / "redis-password").write_text("s3cret")
    assert secret_in(tmp_path)("redis-password") == "s3cret"
    with pytest.raises(StackError, match="secret other"):
        secret_in(tmp_path)("other")


ENDED = {"terminated": {"exitCode": 137, "finishedAt": "2026-11-25T12:00:03Z", "containerID": "containerd://0ab"}}


def test_how_a_container_ended_is_known_before_and_after_it_runs_again():
    nodes = node_names(NODES["items"])
    down, again = pod("redis-cluster-0", state=ENDED), pod("redis-cluster-0", restarts=1)
    again["status"]["containerStatuses"][0]["lastState"] = ENDED
    for shown in (down, again):
        handle = member_state(shown, nodes).handle
        assert [handle[key] for key in ("last_exit", "ended_at", "ended_id")] == [137, "2026-11-25T12:00:03Z", "0ab"]


def test_which_nodes_are_ready():
    ready, away, unheard = (node(f"hf-{number}", f"node-{number}") for number in (1, 2, 3))
    ready["status"] = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "PIDPressure", "status": "False"}]}
    away["status"] = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    assert ready_nodes([ready, away, unheard]) == {"node-1": True, "node-2": False, "node-3": False}


def test_whether_a_member_is_ready_is_known():
    assert member_state(pod("redis-cluster-0"), {}).handle["ready"]
    assert not member_state(pod("redis-cluster-0", ready=False), {}).handle["ready"]


def test_what_replaces_a_pod_and_what_binds_it_to_its_node_are_known():
    one = pod("redis-cluster-0")
    nodes = node_names(NODES["items"])
    assert [member_state(one, nodes).handle[key] for key in ("workload", "bound")] == ["", False]
    one["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "redis-cluster"}]
    one["spec"]["volumes"] = [{"name": "config"}, {"name": "data", "persistentVolumeClaim": {"claimName": "x"}}]
    assert [member_state(one, nodes).handle[key] for key in ("workload", "bound")] == ["redis-cluster", True]
    one["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "witness-1"}]
    assert member_state(one, nodes).handle["workload"] == ""
