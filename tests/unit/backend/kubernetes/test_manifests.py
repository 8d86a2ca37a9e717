"""The manifests are what Kubernetes accepts, what a production reviewer asks for, and what the stack file says."""

import base64
import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from resilience.backend.kubernetes.manifests import NAMESPACES, SERVICES, host, image_override, settings, write
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.settings import DRAIN_S, DRAINED
from resilience.errors import SpecError
from resilience.spec.read import read_stack
from resilience.spec.stack import Stack
from services.config import Config
from services.upstream import CHECK_INTERVAL_S, CHECK_TIMEOUT_S, FAILURES_MAX
from services.web import STOP_TIMEOUT_S
from tests.unit.backend.kubernetes.kustomization import containers, rendered

OVERLAYS = PROJECT_ROOT / "stacks" / "kubernetes"
SUPPORTED = ("1.28", "1.34", "1.37")  # the oldest, the one that is tried for real, the newest
STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
IMAGES = {"redis": "registry.example/own/redis:7.2.1", "harmonyflow/resilience": "harmonyflow/resilience:abc123"}
PRIVILEGED = frozenset({"DaemonSet resilience/agent"})  # workloads that may be
OBSERVERS = {"prometheus", "redis-exporter", "node-exporter"}

Object = dict[str, Any]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """All that is applied to a kind cluster for the shipped stack."""
    folder = tmp_path_factory.mktemp("applied")
    write(folder, "kind", STACK, "s3cret", IMAGES)
    return rendered(folder)


def named(item: Object) -> str:
    return f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def workloads(objects: list[Object]) -> list[Object]:
    return [item for item in objects if containers(item)]


def complaint(item: Object, version: str) -> str:
    """What the schemas of a Kubernetes version have against an object; unknown fields too."""
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{named(item)}: {error.message}"
    return ""


@pytest.mark.parametrize("version", SUPPORTED)
def test_kubernetes_accepts_it(objects: list[Object], version: str):
    assert [why for item in objects if (why := complaint(item, version))] == []


def test_what_kubernetes_would_not_accept_is_found(objects: list[Object]):
    item = copy.deepcopy(next(item for item in objects if item["kind"] == "StatefulSet"))
    item["spec"]["replicas"] = "six"
    assert "six" in complaint(item, SUPPORTED[1])
    item["spec"]["replicas"], item["spec"]["template"]["spec"]["tolerances"] = 6, []
    assert "tolerances" in complaint(item, SUPPORTED[1])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here: what renders in its place was tested instead")
def test_kustomize_renders_the_same(objects: list[Object], tmp_path: Path):
    write(tmp_path, "kind", STACK, "s3cret", IMAGES)
    argv = ["kubectl", "kustomize", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    theirs = {named(item): item for item in yaml.safe_load_all(done.stdout)}
    assert theirs == {named(item): item for item in objects}


def test_a_feature_that_only_kustomize_knows_is_refused(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: []\npatches: []\n")
    with pytest.raises(AssertionError, match="patches"):
        rendered(tmp_path)


def insecurities_of(item: Object) -> Iterator[str]:
    """What a workload may do that it need not."""
    spec = item["spec"]["template"]["spec"]
    if named(item) not in PRIVILEGED and spec.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield "may run as root"
    for security in (container.get("securityContext", {}) for container in containers(item)):
        if security.get("readOnlyRootFilesystem") is not True:
            yield "its root file system can be written"
        if named(item) in PRIVILEGED:
            continue
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            yield "may gain privileges"
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield "keeps capabilities"


def carelessness_of(container: Object, *, job: bool) -> Iterator[str]:
    """What a container does not say."""
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield "has no requests and limits"
    for probe in () if job else ("startupProbe", "readinessProbe", "livenessProbe"):
        if "timeoutSeconds" not in container.get(probe, {}):
            yield f"has no {probe} with a time-out"
    if ":" not in container["image"] or container["image"].endswith(":latest"):
        yield f"its image {container['image']} has no version"


def faults_of(item: Object) -> Iterator[str]:
    """What a reviewer would say of a workload."""
    spec, job = item["spec"]["template"]["spec"], item["kind"] == "Job"
    yield from insecurities_of(item)
    for container in containers(item):
        yield from carelessness_of(container, job=job)
    if "priorityClassName" not in spec:
        yield "has no priority"
    if spec.get("serviceAccountName", "default") == "default":
        yield "has no service account of its own"
    if not job and spec.get("automountServiceAccountToken") is not False:
        yield "gets a token that it does not need"
    if not spec.get("nodeSelector"):
        yield "may stand on any node"


def test_a_reviewer_has_nothing_to_say(objects: list[Object]):
    found = [f"{named(item)}: {why}" for item in workloads(objects) for why in faults_of(item)]
    assert found == []
    assert len(workloads(objects)) == 10


def test_a_reviewer_would_say_something_of_a_careless_one(objects: list[Object]):
    careless = copy.deepcopy(next(item for item in workloads(objects) if item["kind"] == "StatefulSet"))
    careless["spec"]["template"]["spec"] = {"containers": [{"name": "x", "image": "redis"}]}
    said = set(faults_of(careless))
    assert len(said) == 13


@pytest.mark.parametrize("component", DRAINED)
def test_edges_have_the_time_to_turn_away_and_to_come_back(objects: list[Object], component: str):
    """What is replaced, one after the other, is never asked in vain."""
    pod = next(
        item["spec"]["template"]["spec"]
        for item in workloads(objects)
        if named(item) == f"StatefulSet harmonyflow/{component}"
    )
    noticed_s = FAILURES_MAX * CHECK_INTERVAL_S
    assert noticed_s * 2 <= DRAIN_S
    assert pod["terminationGracePeriodSeconds"] > DRAIN_S + STOP_TIMEOUT_S
    (probe,) = (container["readinessProbe"] for container in pod["containers"])
    found_s = CHECK_TIMEOUT_S + CHECK_INTERVAL_S
    assert found_s * 2 <= (probe["successThreshold"] - 1) * probe["periodSeconds"]


def test_namespaces_deny_by_default_and_carry_the_label(objects: list[Object]):
    namespaces = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Namespace"}
    denied = {
        item["metadata"]["namespace"]
        for item in objects
        if item["kind"] == "NetworkPolicy" and item["spec"]["podSelector"] == {} and "ingress" not in item["spec"]
    }
    assert set(namespaces) == denied == set(NAMESPACES.values())
    assert all(item["metadata"]["labels"]["harmonyflow.dev/harness"] == "allowed" for item in namespaces.values())


def test_redis_is_reached_from_two_namespaces_and_its_bus_from_redis_only(objects: list[Object]):
    rules = [
        (source, port["port"])
        for item in objects
        if item["kind"] == "NetworkPolicy" and item["metadata"]["namespace"] == "redis"
        for rule in item["spec"].get("ingress", ())
        for source in rule["from"]
        for port in rule["ports"]
    ]
    elsewhere = {
        (source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], port)
        for source, port in rules
        if "namespaceSelector" in source
    }
    assert elsewhere == {("harmonyflow", "redis"), ("monitoring", "redis")}
    assert [source for source, port in rules if port == "bus"] == [
        {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "redis"}}}
    ]


def pods_of(objects: list[Object]) -> set[tuple[str, str, str]]:
    """Component, pod and its Service of everything that keeps running."""
    return {
        (item["metadata"]["labels"]["app.kubernetes.io/component"], f"{item['metadata']['name']}-{number}", service)
        for item in objects
        if item["kind"] == "StatefulSet"
        for number in range(item["spec"]["replicas"])
        for service in [f"{item['spec']['serviceName']}.{item['metadata']['namespace']}"]
    }


def test_pods_are_the_members_of_the_stack_file(objects: list[Object]):
    running = {member for member in STACK.members if member.component not in {"loadgen", "direct-client"}}
    assert pods_of(objects) == {
        (
            member.component,
            member.name,
            f"{SERVICES.get(member.component, member.component)}.{NAMESPACES[member.component]}",
        )
        for member in running
    }


def test_observers_stand_apart(objects: list[Object]):
    for item in (one for one in workloads(objects) if one["kind"] == "StatefulSet"):
        observer = item["metadata"]["name"] in OBSERVERS
        assert item["spec"]["template"]["spec"]["nodeSelector"] == {
            "harmonyflow.dev/role": "observer" if observer else "platform"
        }


def test_images_are_replaced_by_name(objects: list[Object]):
    used = {container["image"] for item in workloads(objects) for container in containers(item)}
    assert set(IMAGES.values()) <= used
    assert "prom/prometheus:v2.53.3" in used


@pytest.mark.parametrize("image", ["redis", "redis:", ":7", "redis@7", "host:5000/redis", "redis: 7", ""])
def test_what_is_no_image_is_refused(image: str):
    with pytest.raises(SpecError, match="repository:tag"):
        image_override("redis", image)


@pytest.mark.parametrize(
    ("image", "entry"),
    [
        ("redis:7", {"newName": "redis", "newTag": "7"}),
        ("host:5000/redis:7", {"newName": "host:5000/redis", "newTag": "7"}),
        ("redis@sha256:00ff", {"newName": "redis", "digest": "sha256:00ff"}),
    ],
)
def test_what_is_an_image(image: str, entry: dict[str, str]):
    assert image_override("redis", image) == {"name": "redis", **entry}


def test_servers_get_what_the_stack_file_says():
    stack = msgspec.structs.replace(STACK, redis=msgspec.structs.replace(STACK.redis, cluster_node_timeout_ms=1234))
    made = {named(item): item["data"] for item in settings(stack, "s3cret")}
    conf = base64.b64decode(made["Secret redis/redis-config"]["redis.conf"]).decode().splitlines()
    assert "cluster-node-timeout 1234" in conf
    assert "requirepass s3cret" in conf
    assert not [line for line in conf if line.startswith("cluster-announce-ip")]  # the pod's own, by its command line
    assert msgspec.json.decode(made["ConfigMap redis/stack"]["stack.json"], type=Stack) == stack
    configs = made["ConfigMap harmonyflow/services"]
    drains = {name: msgspec.json.decode(config, type=Config).drain_s for name, config in configs.items()}
    assert {name.partition("-")[0]: drain_s for name, drain_s in drains.items()} == {
        "session": DRAIN_S,
        "collaboration": DRAIN_S,
        "edge": 0.0,  # its clients look at no health: they try the other one when it refuses a connection
    }
    edge = msgspec.json.decode(configs["edge-1.json"], type=Config)
    assert edge.upstreams["session"][0] == "session-0.session.harmonyflow.svc.cluster.local:8080"
    targets = yaml.safe_load(made["ConfigMap monitoring/prometheus"]["prometheus.yml"])["scrape_configs"]
    redis = next(job for job in targets if job["job_name"] == "redis")
    passwords = json.loads(base64.b64decode(made["Secret monitoring/redis-exporter"]["passwords.json"]))
    assert {target["targets"][0] for target in redis["static_configs"]} == set(passwords)


def test_secrets_are_for_the_owner_only_and_in_no_config_map(tmp_path: Path):
    write(tmp_path / "x", "kind", STACK, "s3cret", {})
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0
    assert (tmp_path / "x" / "settings.yaml").stat().st_mode & 0o077 == 0
    assert not [
        named(item) for item in settings(STACK, "s3cret") if item["kind"] == "ConfigMap" and "s3cret" in str(item)
    ]


def test_hosts_are_names_in_the_cluster():
    assert host(STACK.member("redis-cluster-3")) == "redis-cluster-3.redis-cluster.redis.svc.cluster.local"
    assert host(STACK.member("loadgen")) == "loadgen.load.monitoring.svc.cluster.local"
