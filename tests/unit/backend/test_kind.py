"""The kind backend by its command lines: a small docker, kind and kubectl on PATH say what the real ones would."""

import json
from pathlib import Path

import pytest
import yaml

from resilience.agent.node import BOOT_ID
from resilience.backend import kind
from resilience.backend.kind import Kind, config_file, is_ours, require_tools
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.cluster import namespaces_up
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.deny import Deny
from resilience.backend.machine.scale import Scale
from resilience.errors import HostError, StackError
from tests.fakes import FakeCluster
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, node

QUICK = PROJECT_ROOT / "tests" / "kind-config-quick.yaml"


def tool(folder: Path, name: str, says: str = "", code: int = 0) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {folder}/{name}.asked\ncat <<'X'\n{says}\nX\nexit {code}\n")
    script.chmod(0o755)
    (folder / "cat").unlink(missing_ok=True)
    (folder / "cat").symlink_to("/bin/cat")


@pytest.mark.parametrize("missing", ["docker", "kind", "kubectl"])
def test_a_missing_tool_is_named(tools: Path, missing: str):
    for name in {"docker", "kind", "kubectl"} - {missing}:
        tool(tools, name, '{"MemTotal": 99999999999}')
    with pytest.raises(HostError, match=f"{missing} is not on PATH"):
        require_tools()


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ('{"ServerErrors": ["Cannot connect to the Docker daemon"]}', 0, "Docker is not running"),
        ("permission denied", 1, "Docker cannot be asked"),
        ("Emulate Docker CLI", 0, "says nothing that can be read"),
    ],
)
def test_docker_that_will_not_do(tools: Path, says: str, code: int, words: str):
    tool(tools, "docker", says, code)
    tool(tools, "kind")
    tool(tools, "kubectl")
    with pytest.raises(HostError, match=words):
        require_tools()


def test_tools_that_will_do(tools: Path):
    tool(tools, "docker", '{"MemTotal": 8589934592}')
    tool(tools, "kind")
    tool(tools, "kubectl")
    require_tools()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ('ERROR: failed to create cluster: failed to pull image "kindest/node:v9"', True),
        ("ERROR: failed to create cluster: port is taken", False),
    ],
)
def test_a_node_image_that_cannot_be_pulled_can_be_replaced(tools: Path, tmp_path: Path, says: str, told: bool):
    tool(tools, "kind", says, 1)
    with pytest.raises(StackError, match="failed to create cluster") as raised:
        Kind(tmp_path).create(config_file())
    assert ("KIND_NODE_IMAGE" in str(raised.value)) == told


CREATED = ["create", "cluster", "--name", "harmonyflow"]
DELETED = ["delete", "cluster", "--name", "harmonyflow"]


@pytest.mark.parametrize(
    ("trouble", "deleted"),
    [
        (StackError("'kind create cluster' did not end within 420 s"), True),
        (KeyboardInterrupt(), True),
        (StackError("ERROR: failed to create cluster: node(s) already exist for a cluster with that name"), False),
    ],
    ids=["too slow", "interrupted", "somebody else's"],
)
def test_a_cluster_that_is_half_made_is_deleted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException, deleted: bool
):
    asked: list[list[str]] = []

    def called(argv: list[str], **_how: object) -> str:
        asked.append(argv[1:5])
        if argv[1] == "create":
            raise trouble
        return ""

    monkeypatch.setattr(kind, "output", called)
    with pytest.raises(type(trouble)) as raised:
        Kind(tmp_path).create(config_file())
    assert raised.value is trouble
    assert asked == [CREATED, *([DELETED] if deleted else [])]


def test_a_half_made_cluster_that_cannot_be_deleted_is_told(tools: Path, tmp_path: Path):
    tool(tools, "kind", "ERROR: Docker is gone", 1)
    with pytest.raises(StackError, match=r"failed: .*; what was made by then is left: 'kind delete"):
        Kind(tmp_path).create(config_file())


def test_what_was_done_to_nodes_of_an_older_cluster_is_none_of_a_new_ones(tools: Path, tmp_path: Path):
    left = tmp_path / "harmonyflow-nodes" / "injections" / "test-1"
    left.mkdir(parents=True)
    tool(tools, "kind")
    Kind(tmp_path).create(config_file())
    assert not left.exists()


def test_a_cluster_is_deleted_without_a_look_at_the_users_own_kubeconfig(tools: Path, tmp_path: Path):
    cluster = Kind(tmp_path)
    cluster.kubeconfig.write_text("{}")
    tool(tools, "kind")
    cluster.delete()
    asked = (tools / "kind.asked").read_text().split()
    assert asked == ["delete", "cluster", "--name", "harmonyflow", "--kubeconfig", str(cluster.kubeconfig)]
    assert not cluster.kubeconfig.exists()


def test_a_cluster_is_found_by_its_whole_name(tools: Path, tmp_path: Path):
    tool(tools, "kind", "harmonyflow-2\nother")
    assert not Kind(tmp_path).exists()
    tool(tools, "kind", "other\nharmonyflow")
    assert Kind(tmp_path).exists()


@pytest.mark.parametrize(("held", "loads"), [("docker.io/library/redis:7", False), ("docker.io/library/redis:6", True)])
def test_only_what_a_node_lacks_is_loaded(tools: Path, tmp_path: Path, held: str, loads: bool):
    tool(tools, "kind", "harmonyflow-control-plane harmonyflow-worker harmonyflow-worker2")
    tool(tools, "docker", held)  # also the answer to whether the image is here
    assert Kind(tmp_path).images_by_node() == {
        f"harmonyflow-{node}": {held.rpartition("/")[2]} for node in ("worker", "worker2")
    }
    Kind(tmp_path).load(["redis:7"])
    asked = (tools / "kind.asked").read_text().split()
    assert ("load" in asked) == loads


def test_kubectl_is_always_told_which_cluster(tools: Path, tmp_path: Path):
    tool(tools, "kubectl", "answer")
    assert Kind(tmp_path).kubectl("get", "pods") == "answer\n"
    asked = (tools / "kubectl.asked").read_text().split()
    assert asked[asked.index("--context") + 1] == "kind-harmonyflow"
    assert asked[asked.index("--kubeconfig") + 1] == str(tmp_path / "harmonyflow.kubeconfig")
    assert any(word.startswith("--request-timeout=") for word in asked)


def test_a_command_to_the_cluster_that_fails_is_told_by_what_it_was_to_do(tools: Path, tmp_path: Path):
    tool(tools, "kubectl", "error: timed out waiting for the condition", 1)
    with pytest.raises(StackError, match=r"^'kubectl rollout status' failed: error: timed out"):
        Kind(tmp_path).wait_agents()


def test_a_command_in_a_pod_is_given_its_input(tools: Path, tmp_path: Path):
    tool(tools, "kubectl", "answer")
    assert Kind(tmp_path).run("resilience", "agent-x", ("python3", "-m", "x"), "{}\n", 30.0) == "answer\n"
    asked = (tools / "kubectl.asked").read_text().split()
    assert asked[-8:] == ["-i", "-n", "resilience", "agent-x", "--", "python3", "-m", "x"]
    assert asked[asked.index("--context") + 1] == "kind-harmonyflow"


def test_the_observers_node_has_the_processors_first(tools: Path, tmp_path: Path):
    tool(tools, "docker")
    api = RecordedApi({"/api/v1/nodes": {"items": [node("harmonyflow-worker4", "observer")]}})
    Kind(tmp_path).favour_observer(api.api())
    assert (tools / "docker.asked").read_text().split() == ["update", "--cpu-shares", "16384", "harmonyflow-worker4"]
    with pytest.raises(StackError, match="no node labelled"):
        Kind(tmp_path).favour_observer(RecordedApi({"/api/v1/nodes": {"items": []}}).api())


def test_a_cluster_of_somebody_else_is_left_alone(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "kind", "harmonyflow")
    others = RecordedApi({"/api/v1/nodes": {"items": [node("harmonyflow-control-plane")]}})
    monkeypatch.setattr(Api, "of_context", lambda _file, _context: others.api())
    with pytest.raises(StackError, match="not the harness's"):
        Kind(tmp_path).open()
    assert is_ours(NODES["items"])


def test_what_to_do_about_a_cluster_that_does_not_answer_is_told(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tool(tools, "kind")
    monkeypatch.setattr(Api, "of_context", lambda _file, _context: RecordedApi({}, away=99).api())
    with pytest.raises(StackError, match="away; if it is broken for good, 'kind delete cluster --name harmonyflow'"):
        Kind(tmp_path).open()


def test_a_cordon_of_ours_is_a_broken_node_and_is_taken_back(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tool(tools, "kind", "harmonyflow")
    tool(tools, "docker")
    cluster = FakeCluster({})
    cluster.nodes["hf-control-plane"] = node("hf-control-plane", labels={"harmonyflow.dev/cluster": "resilience"})
    monkeypatch.setattr(Api, "of_context", lambda _file, _context: Api(cluster.call, "a cluster"))
    assert Kind(tmp_path).broken_nodes() == []
    cluster.plane().cordon("hf-worker", "test-1")
    cluster.nodes["hf-worker2"]["spec"]["unschedulable"] = True  # a person's
    assert Kind(tmp_path).broken_nodes() == ["hf-worker (cordoned by test-1)"]
    assert Kind(tmp_path).put_nodes_right() == ["node hf-worker: takes members again"]
    assert Kind(tmp_path).broken_nodes() == []
    assert cluster.nodes["hf-worker2"]["spec"] == {"unschedulable": True}


def test_a_scale_of_ours_is_told_and_taken_back(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "docker")
    cluster = FakeCluster({"session-0": "hf-worker", "session-1": "hf-worker"})
    step = {"namespace": "a", "workload": "session", "replicas": 0}
    Scale.from_json(cluster.plane(), "test-1", step).do()
    monkeypatch.setattr(Kind, "open", lambda _self: Api(cluster.call, "a cluster"))
    assert Kind(tmp_path).broken_nodes() == ["StatefulSet a/session (scaled by test-1)"]
    assert Kind(tmp_path).put_nodes_right() == ["StatefulSet a/session: keeps 2 pods again"]
    assert Kind(tmp_path).broken_nodes() == []


def test_a_denial_of_ours_is_told_and_taken_back(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "docker")
    cluster = FakeCluster({})
    who = {"namespace": "a", "component": "session", "to_namespace": "b", "to_component": "redis"}
    Deny.from_json(cluster.plane(), "test-1", who).do()
    monkeypatch.setattr(Kind, "open", lambda _self: Api(cluster.call, "a cluster"))
    assert Kind(tmp_path).broken_nodes() == ["NetworkPolicy a/test-1 (denies for test-1)"]
    assert Kind(tmp_path).put_nodes_right() == ["NetworkPolicy a/test-1: deleted"]
    assert Kind(tmp_path).broken_nodes() == []


def test_a_cordon_is_taken_back_although_docker_is_away(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "docker", "cannot connect", 1)
    cluster = FakeCluster({})
    cluster.plane().cordon("hf-worker", "test-1")
    monkeypatch.setattr(Kind, "open", lambda _self: Api(cluster.call, "a cluster"))
    with pytest.raises(StackError, match=r"could not be put right: .*; node hf-worker: takes members again"):
        Kind(tmp_path).put_nodes_right()
    assert "unschedulable" not in cluster.nodes["hf-worker"]["spec"]


def namespace(name: str, *, ours: bool = True, phase: str = "Active") -> dict[str, object]:
    labels = {"harmonyflow.dev/harness": "allowed"} if ours else {}
    return {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}


def test_the_stacks_namespaces():
    assert namespaces_up(RecordedApi({}).api()) == []
    there = RecordedApi({"/api/v1/namespaces/redis": namespace("redis")})
    assert namespaces_up(there.api()) == ["redis"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (namespace("redis", ours=False), "not the harness's"),
        (namespace("redis", phase="Terminating"), "still being ended"),
    ],
)
def test_namespaces_that_are_not_touched(found: dict[str, object], words: str):
    with pytest.raises(StackError, match=words):
        namespaces_up(RecordedApi({"/api/v1/namespaces/redis": found}).api())


def test_what_keeps_a_namespace_from_its_end_is_told():
    found = namespace("redis", phase="Terminating")
    conditions = [
        ("NamespaceDeletionDiscoveryFailure", "False", "All resources successfully discovered"),
        ("NamespaceContentRemaining", "True", "Some resources are remaining: pods. has 1 resource instances"),
        ("NamespaceFinalizersRemaining", "False", "All content-preserving finalizers finished"),
    ]
    told = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    found["status"] = {"phase": "Terminating", "conditions": told}
    words = r"redis is still being ended \(Some resources are remaining: pods\. has 1 resource instances\): try again"
    with pytest.raises(StackError, match=words):
        namespaces_up(RecordedApi({"/api/v1/namespaces/redis": found}).api())


@pytest.mark.parametrize("file", [config_file(), QUICK])
def test_the_shipped_clusters_have_three_zones_and_a_tainted_observer(file: Path):
    content = yaml.safe_load(file.read_text())
    nodes = content["nodes"]
    assert is_ours([{"metadata": {"labels": one["labels"]}} for one in nodes])
    names = [one["labels"].get("harmonyflow.dev/node") for one in nodes]
    assert names == [None, "node-1", "node-2", "node-3", "observer"]
    assert len({one["labels"]["topology.kubernetes.io/zone"] for one in nodes[1:4]}) == 3
    taints = yaml.safe_load(nodes[4]["kubeadmConfigPatches"][0])["nodeRegistration"]["taints"]
    assert taints == [{"key": "harmonyflow.dev/role", "value": "observer", "effect": "NoSchedule"}]
    assert all(mapping["listenAddress"] == "127.0.0.1" for mapping in nodes[4]["extraPortMappings"])


def test_only_the_tests_cluster_detects_quickly():
    shipped, quick = (yaml.safe_load(file.read_text()) for file in (config_file(), QUICK))
    assert "kubeadmConfigPatches" not in shipped
    assert "node-monitor-grace-period" in quick.pop("kubeadmConfigPatches")[0]
    assert shipped == quick


INSPECTED = [
    {
        "Name": f"/harmonyflow-{name}",
        "State": {"Status": state, "StartedAt": "2026-11-25T10:00:00Z"},
        "NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.2", "MacAddress": "02:42:ac:12:00:02"}}},
        "Config": {"Labels": {"io.x-k8s.kind.cluster": "harmonyflow", "io.x-k8s.kind.role": role}},
    }
    for name, role, state in (("control-plane", "control-plane", "paused"), ("worker", "worker", "paused"))
]


def test_workers_that_something_is_done_to_are_named(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool(tools, "docker", json.dumps(INSPECTED))
    lists = ("/apis/apps/v1/statefulsets", "/apis/networking.k8s.io/v1/networkpolicies")
    answers = {"/api/v1/nodes": NODES, **{path: {} for path in lists}}
    monkeypatch.setattr(Kind, "open", lambda _self: RecordedApi(answers).api())
    assert Kind(tmp_path).broken_nodes() == ["harmonyflow-worker (paused, connected)"]
    assert "label=io.x-k8s.kind.cluster=harmonyflow" in (tools / "docker.asked").read_text().split()


def test_only_nodes_that_carry_the_platform_may_suffer(tools: Path, tmp_path: Path):
    tool(tools, "docker", json.dumps(INSPECTED))
    desk = Kind(tmp_path).machine(RecordedApi({"/api/v1/nodes": NODES}).api())
    observers = {"primitive": "freeze", "nodes": [{"name": "observer", "host": "hf-worker4"}]}
    injection = {"id": "test-1", "ttl_s": 5, "steps": [observers], "watch": []}
    request = {"injection": injection, "parts": 1, "at_ns": 0, "boot_id": BOOT_ID.read_text().strip()}
    words = "node hf-worker4: no fault may touch it; those that may suffer: hf-worker, hf-worker2, hf-worker3"
    assert desk.ask("apply", request, 30.0) == {"error": words}


def test_a_docker_that_is_gone_is_told(tools: Path, tmp_path: Path):
    tool(tools, "docker", "cannot connect", 1)
    with pytest.raises(StackError, match="nodes of the kind cluster harmonyflow: 'docker ps --all' failed"):
        Kind(tmp_path).broken_nodes()
