import pytest
import yaml

from resilience.backend.kind import config_file
from resilience.backend.kubernetes.needs import Needs, images_of, needs_of, nodes_by_role
from resilience.backend.kubernetes.workload import run_objects
from resilience.backend.local.place import PROJECT_ROOT
from tests.unit.backend.kubernetes.cluster import Object
from tests.unit.backend.kubernetes.kustomization import rendered

NODES = {"platform": 3, "observer": 1}
GIB, MIB = 1024**3, 1024**2


def workload(kind: str, memory: str = "64Mi", cpu: str = "100m", role: str = "platform", **spec: object) -> Object:
    container = {"name": "x", "image": "x:1", "resources": {"requests": {"memory": memory, "cpu": cpu}}}
    pod = {"nodeSelector": {"harmonyflow.dev/role": role}, "containers": [container]}
    return {"kind": kind, "spec": pod if kind == "Pod" else {"template": {"spec": pod}, **spec}}


def claim(storage: str) -> Object:
    return {"kind": "PersistentVolumeClaim", "spec": {"resources": {"requests": {"storage": storage}}}}


@pytest.mark.parametrize(
    ("objects", "memory_bytes", "node_processors", "storage_bytes"),
    [
        ([workload("Pod")], 64 * MIB, 0.1 / 3, 0),
        ([workload("Job", memory="1G", cpu="2")], 10**9, 2 / 3, 0),
        ([workload("StatefulSet", replicas=6)], 6 * 64 * MIB, 0.2, 0),
        ([workload("Deployment", replicas=0)], 0, 0, 0),
        ([workload("DaemonSet")], 3 * 64 * MIB, 0.1, 0),
        ([workload("Pod", cpu="1", role="observer"), workload("DaemonSet", cpu="300m")], 4 * 64 * MIB, 1, 0),
        ([workload("StatefulSet", replicas=2, volumeClaimTemplates=[claim("1Gi")])], 2 * 64 * MIB, 0.2 / 3, 2 * GIB),
        ([claim("4Gi"), {"kind": "Namespace", "metadata": {}}], 0, 0, 4 * GIB),
        ([], 0, 0, 0),
    ],
    ids=["pod", "job", "replicas", "none of them", "one a node", "fullest node", "claim of each", "claim", "nothing"],
)
def test_requests_are_summed(objects: list[Object], memory_bytes: int, node_processors: float, storage_bytes: int):
    found = needs_of(objects, NODES)
    assert (found.memory_bytes, found.storage_bytes) == (memory_bytes, storage_bytes)
    assert found.node_processors == pytest.approx(node_processors)


def test_what_asks_for_nothing_needs_nothing():
    item = workload("Pod")
    del item["spec"]["containers"][0]["resources"]
    assert needs_of([item], NODES) == Needs(memory_bytes=0, node_processors=0, storage_bytes=0)


def test_what_the_shipped_stack_and_a_run_ask_for():
    objects = [*rendered(PROJECT_ROOT / "stacks" / "kubernetes" / "kind"), *run_objects("harmonyflow/resilience")]
    nodes = nodes_by_role(yaml.safe_load(config_file().read_text()))
    assert nodes == NODES
    # by hand: 6 Redis at 64 Mi, 6 services at 96, Prometheus 256, two exporters and a witness at 32, 3 agents at 32,
    # the init job 64, the runner's two containers and two loads at 64
    memory = 6 * 64 + 6 * 96 + 256 + 3 * 32 + 3 * 32 + 64 + 4 * 64
    found = needs_of(objects, nodes)
    assert found.memory_bytes == memory * MIB
    assert found.node_processors == pytest.approx(3 * 0.05 + 0.02 + 0.2 + 0.05 + 2 * 0.5)  # the observers' node
    assert found.storage_bytes == 10 * GIB  # six of Redis, and that of the record
    assert {image.partition(":")[0] for image in images_of(objects)} == {
        "redis", "prom/prometheus", "prom/node-exporter", "oliver006/redis_exporter", "harmonyflow/resilience"
    }  # fmt: skip


@pytest.mark.parametrize(("workers", "asked"), [(1, 0.5), (2, 2 * 0.3), (4, 4 * 0.3)])
def test_what_the_processes_of_a_load_ask_for(workers: int, asked: float):
    found = needs_of(run_objects("harmonyflow/resilience", workers), NODES)
    assert found.node_processors == pytest.approx(0.2 + 0.05 + 0.5 + asked)  # runner, records, direct client
    assert found.memory_bytes == (3 + workers) * 64 * MIB
