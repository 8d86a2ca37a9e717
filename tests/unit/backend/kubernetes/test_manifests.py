"""The manifests are what Kubernetes accepts, what a production reviewer asks for, and what the stack file says."""

import base64
import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from resilience.backend.kubernetes.cluster import AGENTS
from resilience.backend.kubernetes.manifests import (
    HARNESS,
    NAMESPACES,
    PASSWORD_SECRET,
    SERVICE_SECRETS,
    SERVICES,
    host,
    image_override,
    overlay_folder,
    settings,
    write,
)
from resilience.backend.kubernetes.tiers import TIERS, all_settings, manifests_of, tiers_of
from resilience.backend.kubernetes.workload import MACHINE
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.named import PATHS
from resilience.backend.settings import DRAIN_S, DRAINED, own_settings, service_json
from resilience.errors import SpecError
from resilience.spec.read import read_stack
from resilience.spec.stack import GENERATORS, Collaboration, Member, Stack
from services.config import Config
from services.upstream import CHECK_INTERVAL_S, CHECK_TIMEOUT_S, FAILURES_MAX
from services.web import STOP_TIMEOUT_S
from tests.unit.backend.kubernetes.kustomization import containers, rendered

OVERLAYS = PROJECT_ROOT / "stacks" / "kubernetes"
SUPPORTED = ("1.28", "1.34", "1.37")  # the oldest, the one that is tried for real, the newest
STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
IMAGES = {"redis": "registry.example/own/redis:7.2.1", "harmonyflow/resilience": "harmonyflow/resilience:abc123"}
PRIVILEGED = frozenset({"DaemonSet resilience/agent"})  # workloads that may be
OBSERVERS = {"prometheus", "redis-exporter", "postgres-exporter", "node-exporter"}

Object = dict[str, Any]


def secret(name: str) -> str:
    return f"s3cret-of-{name}"


def written(folder: Path, overlay: str = "kind", stack: Stack = STACK) -> Path:
    """What is applied to a cluster for a stack."""
    resources = [overlay_folder(overlay), *map(manifests_of, tiers_of(stack))]
    write(folder, resources, all_settings(stack, secret), IMAGES)
    return folder


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """All that is applied to a kind cluster for the shipped stack."""
    return rendered(written(tmp_path_factory.mktemp("applied")))


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
    argv = ["kubectl", "kustomize", str(written(tmp_path))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    theirs = {named(item): item for item in yaml.safe_load_all(done.stdout)}
    assert theirs == {named(item): item for item in objects}


def test_a_feature_that_only_kustomize_knows_is_refused(tmp_path: Path):
    (tmp_path / "kustomization.yaml").write_text("resources: []\npatches: []\n")
    with pytest.raises(AssertionError, match="patches"):
        rendered(tmp_path)


def test_in_a_cluster_that_others_have_made_no_door_is_opened(objects: list[Object], tmp_path: Path):
    """And what stands outside of namespaces is marked, so that it can be told from theirs and taken away."""
    found = rendered(written(tmp_path, "plain"))
    assert [why for item in found for version in SUPPORTED if (why := complaint(item, version))] == []
    doors = {
        "Service monitoring/prometheus-door",
        "Service harmonyflow/edge-door",
        "NetworkPolicy monitoring/prometheus-door",
    }
    assert {named(item) for item in objects} - {named(item) for item in found} == doors
    assert {item["spec"].get("type", "ClusterIP") for item in found if item["kind"] == "Service"} == {"ClusterIP"}
    everywhere = [item for item in found if "namespace" not in item["metadata"]]
    assert {item["kind"] for item in everywhere} == {"Namespace", *PATHS}
    assert [named(item) for item in everywhere if HARNESS not in item["metadata"].get("labels", {})] == []


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
def test_edges_have_the_time_to_turn_away_and_to_come_back(component: str):
    """What is replaced, one after the other, is never asked in vain."""
    everything = [item for folder in (overlay_folder("base"), *map(manifests_of, TIERS)) for item in rendered(folder)]
    pod = next(
        item["spec"]["template"]["spec"]
        for item in workloads(everything)
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
    assert set(namespaces) == denied == {*(NAMESPACES[member.component] for member in STACK.members), AGENTS}
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


def selected(item: Object) -> Object:
    """The labels that an object means pods by."""
    labels: Object = item["spec"]["selector"]["matchLabels"]
    return labels


def carried(objects: list[Object]) -> list[Object]:
    """The workloads that carry the platform, of which there are several pods to be spread."""
    return [
        item
        for item in workloads(objects)
        if item["kind"] == "StatefulSet" and item["metadata"]["name"] not in OBSERVERS
    ]


def standing_of(item: Object, objects: list[Object]) -> Iterator[str]:
    """What a workload of several pods lacks so that one node, or one eviction, does not take them all."""
    spreads = item["spec"]["template"]["spec"].get("topologySpreadConstraints", ())
    even = [one for one in spreads if one["maxSkew"] == 1 and _means(one["labelSelector"]["matchLabels"], item)]
    keys = {one["topologyKey"] for one in even}
    if "topology.kubernetes.io/zone" not in keys:
        yield "its pods may all stand in one zone"
    budgets = [
        one
        for one in objects
        if one["kind"] == "PodDisruptionBudget"
        and one["metadata"]["namespace"] == item["metadata"]["namespace"]
        and _means(selected(one), item)
    ]
    if [_kept(one["spec"], item["spec"]["replicas"]) for one in budgets] != [item["spec"]["replicas"] - 1]:
        yield "more than one of its pods may be evicted at once, or none"


def _kept(budget: Object, replicas: int) -> int:
    """How many pods of so many a budget keeps."""
    kept: int = budget["minAvailable"] if "minAvailable" in budget else replicas - budget["maxUnavailable"]
    return kept


def _means(labels: Object, item: Object) -> bool:
    """Whether labels mean a workload's pods and no other component's: PostgreSQL's servers are two workloads."""
    return "app.kubernetes.io/component" in labels and labels.items() <= selected(item).items()


def test_no_node_and_no_eviction_takes_all_of_a_service(objects: list[Object]):
    found = [f"{named(item)}: {why}" for item in carried(objects) for why in standing_of(item, objects)]
    assert found == []
    assert {item["metadata"]["name"] for item in carried(objects)} == {
        "redis-cluster", "session", "collaboration", "edge",
    }  # fmt: skip
    careless = copy.deepcopy(carried(objects)[0])
    careless["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["maxSkew"] = 6
    careless["spec"]["replicas"] = 7
    careless["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = "others"
    assert len(list(standing_of(careless, objects))) == 2


def test_each_node_has_two_redis_members_or_the_scheduler_refuses(objects: list[Object]):
    """Which of them are pairs is decided afterwards: see `placement`."""
    (redis,) = [item for item in carried(objects) if item["metadata"]["name"] == "redis-cluster"]
    spreads = redis["spec"]["template"]["spec"]["topologySpreadConstraints"]
    strict = {one["topologyKey"] for one in spreads if one["whenUnsatisfiable"] == "DoNotSchedule"}
    assert strict == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert redis["spec"]["replicas"] == 2 * len(STACK.nodes)


RIGHTS = {  # account, namespace ("": the whole cluster), resource: what it may do to it
    ("redis-cluster-init", "redis", "pods"): {"get", "list"},
    ("redis-cluster-init", "", "nodes"): {"get", "list"},
    ("runner", "", "nodes"): {"get", "list"},
    ("runner", "redis", "pods"): {"get", "list"},
    ("runner", "redis", "pods/log"): {"get", "list"},
    ("runner", "harmonyflow", "pods"): {"get", "list"},
    ("runner", "harmonyflow", "pods/log"): {"get", "list"},
    ("runner", "resilience", "pods"): {"get", "list"},
    ("runner", "resilience", "pods/exec"): {"create", "get"},
    ("runner", "monitoring", "pods"): {"get", "list"},
    ("runner", "monitoring", "pods/log"): {"get", "list"},
    ("runner", "monitoring", "events"): {"get", "list"},
    ("runner", "monitoring", "pods/exec"): {"create", "get"},
    ("runner", "monitoring", "jobs"): {"create", "get", "delete"},
    ("runner", "monitoring", f"configmaps/{MACHINE}"): {"get", "patch"},
}


def rights(objects: list[Object]) -> dict[tuple[str, str, str], set[str]]:
    """What each service account may do, by the roles that it is bound to."""
    rules = {named(item): item["rules"] for item in objects if item["kind"] in {"Role", "ClusterRole"}}
    return {
        (account["name"], binding["metadata"].get("namespace", ""), f"{resource}{name}"): set(rule["verbs"])
        for binding in objects
        if binding["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        for account in binding["subjects"]
        for rule in rules[_role(binding)]
        for resource in rule["resources"]
        for name in [f"/{one}" for one in rule.get("resourceNames", ())] or [""]
    }


def _role(binding: Object) -> str:
    meant = binding["roleRef"]
    space = binding["metadata"]["namespace"] if meant["kind"] == "Role" else ""
    return f"{meant['kind']} {space}/{meant['name']}"


def test_every_account_has_the_least_rights(objects: list[Object]):
    assert rights(objects) == RIGHTS
    greedy = copy.deepcopy(objects)
    next(item for item in greedy if item["kind"] == "Role")["rules"][0]["verbs"].append("delete")
    assert rights(greedy) != RIGHTS


def pods_of(objects: list[Object]) -> set[tuple[str, str, str]]:
    """Component, pod and its Service of everything that keeps running."""
    return {
        (item["metadata"]["labels"]["app.kubernetes.io/component"], f"{item['metadata']['name']}-{number}", service)
        for item in objects
        if item["kind"] == "StatefulSet"
        for number in range(item["spec"]["replicas"])
        for service in [f"{item['spec']['serviceName']}.{item['metadata']['namespace']}"]
    }


def members_of(stack: Stack) -> set[tuple[str, str, str]]:
    """The same of the members of a stack file."""
    return {
        (
            member.component,
            member.name,
            f"{SERVICES.get(member.component, member.component)}.{NAMESPACES[member.component]}",
        )
        for member in stack.members
        if member.component not in GENERATORS
    }


def test_pods_are_the_members_of_the_stack_file(objects: list[Object]):
    assert pods_of(objects) == members_of(STACK)


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
    made = {named(item): item["data"] for item in settings(stack, secret)}
    conf = base64.b64decode(made["Secret redis/redis-config"]["redis.conf"]).decode().splitlines()
    assert "cluster-node-timeout 1234" in conf
    assert "requirepass s3cret-of-redis-password" in conf
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


def configs_of(made: Iterable[Object]) -> dict[str, str]:
    """What services and edges are told, by member."""
    (found,) = [item for item in made if named(item) == "ConfigMap harmonyflow/services"]
    return {name.removesuffix(".json"): text for name, text in found["data"].items()}


def told_on_local(stack: Stack, member: Member) -> str:
    """What the same member is told where members are processes, with the same place for its secrets."""

    def name_of(one: Member) -> str:
        return one.name

    def file(name: str) -> str:
        return f"{SERVICE_SECRETS}/{name}"

    own = own_settings(stack, member, name_of, file)
    return service_json(stack, member, name_of, file(PASSWORD_SECRET), own).decode()


def with_short_names(text: str, stack: Stack) -> str:
    for member in stack.members:
        text = text.replace(host(member), member.name)
    return text


EVERYTHING_STORED = msgspec.structs.replace(
    read_stack(PROJECT_ROOT, "stacks/local/whole.yaml"),
    collaboration=Collaboration(log="postgresql", fanout="rabbitmq"),
)


@pytest.mark.parametrize("stack", [STACK, EVERYTHING_STORED], ids=lambda stack: stack.name)
def test_services_are_told_what_they_are_told_on_local_but_for_hosts(stack: Stack):
    configs = configs_of(settings(stack, secret))
    told = [member for component in (*DRAINED, "edge") for member in stack.of(component)]
    assert {name: with_short_names(text, stack) for name, text in configs.items()} == {
        member.name: told_on_local(stack, member) for member in told
    }
    assert all(msgspec.json.decode(text, type=Config) for text in configs.values())


def service_secrets(objects: list[Object]) -> dict[str, set[str]]:
    """The files that the pods of each service find where it looks for passwords, by component."""
    held = {named(item): set(item["data"]) for item in objects if item["kind"] == "Secret"}
    found: dict[str, set[str]] = {}
    for item in carried(objects):
        spec = item["spec"]["template"]["spec"]
        mounts = {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", ())
                  if mount["mountPath"] == SERVICE_SECRETS}  # fmt: skip
        for volume in spec.get("volumes", ()):
            if volume["name"] in mounts:
                space, name = item["metadata"]["namespace"], volume["secret"]["secretName"]
                found[item["metadata"]["name"]] = held[f"Secret {space}/{name}"]
    return found


def secrets_named(configs: Mapping[str, str]) -> dict[str, set[str]]:
    """The files that the configurations of each service name as passwords, by component; an edge asks no store."""
    found: dict[str, set[str]] = {}
    for member, text in configs.items():
        if (component := member.rpartition("-")[0]) != "edge":
            found.setdefault(component, set()).update(re.findall(rf'"{SERVICE_SECRETS}/([^"]+)"', text))
    return found


@pytest.mark.parametrize("stack", [STACK, EVERYTHING_STORED], ids=lambda stack: stack.name)
def test_each_service_finds_the_passwords_that_it_is_told_of_and_no_others(stack: Stack, tmp_path: Path):
    found = service_secrets(rendered(written(tmp_path, stack=stack)))
    assert found == secrets_named(configs_of(settings(stack, secret)))
    assert set(found) == {"session", "collaboration"}
    stores = {"redis", "postgresql", "rabbitmq"} if stack.has_outbox else {"redis"}
    assert set().union(*found.values()) == {f"{store}-password" for store in stores}


def test_secrets_are_for_the_owner_only_and_in_no_config_map(tmp_path: Path):
    written(tmp_path / "x")
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0
    assert (tmp_path / "x" / "settings.yaml").stat().st_mode & 0o077 == 0
    assert not [
        named(item) for item in settings(STACK, secret) if item["kind"] == "ConfigMap" and "s3cret" in str(item)
    ]


def test_hosts_are_names_in_the_cluster():
    assert host(STACK.member("redis-cluster-3")) == "redis-cluster-3.redis-cluster.redis.svc.cluster.local"
    assert host(STACK.member("loadgen")) == "loadgen.load.monitoring.svc.cluster.local"


def test_each_process_of_the_load_is_scraped():
    stack = STACK.with_workers(3)
    made = {named(item): item for item in settings(stack, secret)}["ConfigMap monitoring/prometheus"]["data"]
    jobs = {job["job_name"]: job for job in yaml.safe_load(made["prometheus.yml"])["scrape_configs"]}
    scraped = {target["labels"]["member"]: target["targets"] for target in jobs["loadgen"]["static_configs"]}
    assert scraped == {
        name: [f"{name}.load.monitoring.svc.cluster.local:9646"] for name in ("loadgen", "loadgen-1", "loadgen-2")
    }
