"""A tier's manifests are what Kubernetes accepts, what a production reviewer asks for, and what the stack file says."""

import base64
import shutil
import subprocess
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from resilience.backend.kubernetes.images import DEBIAN, wanted_by
from resilience.backend.kubernetes.manifests import NAMESPACES, host
from resilience.backend.kubernetes.needs import needs_of
from resilience.backend.kubernetes.tiers import (
    NOTHING_MORE,
    TIERS,
    Extent,
    all_settings,
    clients_of,
    manifests_of,
    tiers_of,
)
from resilience.backend.kubernetes.workload import run_objects
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.rabbitmq_settings import NEEDED_PLUGINS, rabbitmq_conf
from resilience.backend.settings import DRAIN_S
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.stack import GRPC_PORT, Stack
from services.config import Config
from tests.unit.backend.kubernetes.kustomization import containers, rendered
from tests.unit.backend.kubernetes.test_manifests import (
    OBSERVERS,
    RIGHTS,
    SUPPORTED,
    carried,
    complaint,
    configs_of,
    faults_of,
    members_of,
    named,
    pods_of,
    rights,
    secret,
    secrets_named,
    service_secrets,
    standing_of,
    told_on_local,
    with_short_names,
    workloads,
    written,
)
from tests.unit.backend.kubernetes.test_manifests import STACK as SHIPPED
from tests.unit.backend.kubernetes.test_needs import NODES

Object = dict[str, Any]

STACKS = {  # one for each tier, by its name
    name: read_stack(PROJECT_ROOT, f"stacks/local/{name}.yaml")
    for name in ("postgresql", "rabbitmq", "content", "personalization")
}
SERVICES = ("content", "personalization")  # those that are no stores: their stacks have both tiers of these
RIGHTS_OF: Mapping[str, dict[tuple[str, str, str], set[str]]] = {  # as `RIGHTS`: what a tier's accounts may do beside
    "rabbitmq": {
        ("rabbitmq-init", "rabbitmq", "pods"): {"get", "list"},
        ("rabbitmq-init", "", "nodes"): {"get", "list"},
        ("runner", "rabbitmq", "pods"): {"get", "list"},
        ("runner", "rabbitmq", "pods/log"): {"get", "list"},
    },
    "postgresql": {
        ("runner", "postgresql", "pods"): {"get", "list"},
        ("runner", "postgresql", "pods/log"): {"get", "list"},
        **{("runner", "postgresql", f"services/pgbouncer-{number}-writes"): {"patch"} for number in range(3)},
    },
}


@pytest.fixture(scope="module", params=STACKS)
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def applied(tier: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp(tier), stack=STACKS[tier])


@pytest.fixture
def objects(applied: Path) -> list[Object]:
    """All that is applied to a kind cluster for a stack with the tier."""
    return rendered(applied)


def test_each_tier_is_looked_at_here():
    assert set(STACKS) == set(TIERS)
    for name, stack in STACKS.items():
        assert tiers_of(stack) == (("postgresql", "rabbitmq", name) if name in SERVICES else (name,))
    assert tiers_of(SHIPPED) == ()


@pytest.mark.parametrize("version", SUPPORTED)
def test_kubernetes_accepts_it(tier: str, version: str):
    """What the tier adds; the rest is looked at where every stack's is."""
    added = [*rendered(manifests_of(tier)), *all_settings(STACKS[tier], secret)]
    assert [why for item in added if (why := complaint(item, version))] == []


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here: what renders in its place was tested instead")
def test_kustomize_renders_the_same(objects: list[Object], applied: Path):
    argv = ["kubectl", "kustomize", str(applied)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert {named(item): item for item in yaml.safe_load_all(done.stdout)} == {named(item): item for item in objects}


def test_a_reviewer_has_nothing_to_say(tier: str, objects: list[Object]):
    assert [f"{named(item)}: {why}" for item in workloads(objects) for why in faults_of(item)] == []
    assert [item for item in workloads(objects) if item["metadata"]["namespace"] == NAMESPACES[tier]]


def test_no_node_and_no_eviction_takes_all_of_it(objects: list[Object]):
    assert [f"{named(item)}: {why}" for item in carried(objects) for why in standing_of(item, objects)] == []


def test_every_account_has_the_least_rights(tier: str, objects: list[Object]):
    beside = [RIGHTS_OF.get(name, {}) for name in tiers_of(STACKS[tier])]
    assert rights(objects) == dict(ChainMap(RIGHTS, *beside))


def test_its_namespaces_deny_by_default_and_carry_the_labels(objects: list[Object]):
    namespaces = {
        item["metadata"]["name"]: item["metadata"]["labels"] for item in objects if item["kind"] == "Namespace"
    }
    denied = {
        item["metadata"]["namespace"]
        for item in objects
        if item["kind"] == "NetworkPolicy" and item["spec"]["podSelector"] == {} and "ingress" not in item["spec"]
    }
    assert set(namespaces) == denied
    assert {labels["harmonyflow.dev/harness"] for labels in namespaces.values()} == {"allowed"}


def test_agents_touch_what_carries_the_platform(objects: list[Object]):
    (agent,) = [
        container for item in workloads(objects) if item["kind"] == "DaemonSet" for container in containers(item)
    ]
    touched = next(one["value"] for one in agent["env"] if one["name"] == "AGENT_NAMESPACES").split(",")
    assert {item["metadata"]["namespace"] for item in carried(objects)} <= set(touched)


def test_pods_are_the_members_of_the_stack_file(tier: str, objects: list[Object]):
    assert pods_of(objects) == members_of(STACKS[tier])


def test_observers_stand_apart(objects: list[Object]):
    for item in (one for one in workloads(objects) if one["kind"] == "StatefulSet"):
        observer = item["metadata"]["name"] in OBSERVERS
        role = item["spec"]["template"]["spec"]["nodeSelector"]["harmonyflow.dev/role"]
        assert role == ("observer" if observer else "platform")


def test_its_images_are_its_own_and_have_a_counterpart_of_debian(tier: str):
    used = {
        container["image"].partition(":")[0] for item in rendered(manifests_of(tier)) for container in containers(item)
    }
    assert set(TIERS[tier].images) <= used & set(DEBIAN)
    assert set(wanted_by([tier])) - set(wanted_by([])) == set(TIERS[tier].images)


def test_no_secret_is_in_a_config_map(tier: str):
    made = list(all_settings(STACKS[tier], secret))
    assert [named(item) for item in made if item["kind"] == "ConfigMap" and "s3cret" in str(item)] == []
    for item in (one for one in made if one["metadata"]["name"].endswith("-password")):
        assert base64.b64decode(item["data"]["password"]).decode() == secret(item["metadata"]["name"])


def test_what_a_run_of_several_scenarios_may_take():
    plain = read_scenario(PROJECT_ROOT, "baseline", ["load.workers=3"])
    queues = read_scenario(PROJECT_ROOT, "rabbitmq-baseline")
    assert Extent.of([plain]) == Extent(workers=3)
    assert Extent.of([plain, queues]) == Extent(workers=3, tiers=("rabbitmq",))


def test_all_tiers_find_room_on_the_observers_node_of_two_processors():
    """What scrapes, and the runner with its clients."""
    folders = [PROJECT_ROOT / "stacks" / "kubernetes" / "kind", *map(manifests_of, TIERS)]
    objects = [item for folder in folders for item in rendered(folder)]
    found = needs_of([*objects, *run_objects("harmonyflow/resilience", NOTHING_MORE.workers, clients_of(TIERS))], NODES)
    assert found.node_processors < 1.9


def test_a_service_has_no_client_of_its_own_but_those_of_what_it_needs():
    articles = Extent.of([read_scenario(PROJECT_ROOT, "content-kill")])
    assert set(articles.tiers) == {"postgresql", "rabbitmq", "content"}
    assert clients_of(articles.tiers) == ["postgresql-client", "rabbitmq-client"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_what_it_is_told_on_local_and_edges_know_it(service: str):
    stack = STACKS[service]
    made = list(all_settings(stack, secret))
    configs = configs_of(made)
    for member in stack.of(service):
        assert with_short_names(configs[member.name], stack) == told_on_local(stack, member)
        assert msgspec.json.decode(configs[member.name], type=Config).drain_s == DRAIN_S
    edge = msgspec.json.decode(configs["edge-0"], type=Config)
    first = f"{service}-0.{service}.harmonyflow.svc.cluster.local:8080"
    assert edge.upstreams[service][0] == first


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_finds_the_passwords_that_it_is_told_of_and_no_others(service: str, tmp_path: Path):
    stack = STACKS[service]
    found = service_secrets(rendered(written(tmp_path, stack=stack)))
    assert found == secrets_named(configs_of(all_settings(stack, secret)))
    assert found[service] == {"redis-password", "postgresql-password", "rabbitmq-password"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_reached_by_the_edge_and_by_observers_only(service: str):
    policies = [item for item in rendered(manifests_of(service)) if item["kind"] == "NetworkPolicy"]
    (policy,) = [item for item in policies if item["metadata"]["name"] == service]
    (rule,) = policy["spec"]["ingress"]
    assert set(map(whose, rule["from"])) == {"edge", "namespace monitoring"}
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]


def test_whose_a_session_is_is_asked_by_personalization_only():
    """By gRPC, on a port of the session service that no other policy opens."""
    policies = [item for item in rendered(manifests_of("personalization")) if item["kind"] == "NetworkPolicy"]
    (policy,) = [item for item in policies if item["metadata"]["name"] != "personalization"]
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "session"}}
    (rule,) = policy["spec"]["ingress"]
    assert (list(map(whose, rule["from"])), rule["ports"]) == (
        ["personalization"],
        [{"protocol": "TCP", "port": GRPC_PORT}],
    )
    stack = STACKS["personalization"]
    configs = configs_of(all_settings(stack, secret))
    own = msgspec.json.decode(configs["personalization-0"], type=Config).personalization
    assert own is not None
    assert own.sessions == tuple(f"{host(one)}:{GRPC_PORT}" for one in stack.of("session"))
    assert msgspec.json.decode(configs["session-0"], type=Config).grpc_port == GRPC_PORT


def test_prometheus_asks_each_service():
    for service in SERVICES:
        made = {named(item): item for item in all_settings(STACKS[service], secret)}
        config = yaml.safe_load(made["ConfigMap monitoring/prometheus"]["data"]["prometheus.yml"])
        (job,) = [one for one in config["scrape_configs"] if one["job_name"] == service]
        assert [target["targets"] for target in job["static_configs"]] == [
            [f"{service}-{number}.{service}.harmonyflow.svc.cluster.local:8080"] for number in range(2)
        ]


def rabbitmq(objects: list[Object]) -> Object:
    (found,) = [item for item in objects if named(item) == "StatefulSet rabbitmq/rabbitmq"]
    return found


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return rendered(written(tmp_path_factory.mktemp("queues"), stack=STACKS["rabbitmq"]))


def test_each_node_has_one_rabbitmq_member_or_the_scheduler_refuses(queues: list[Object]):
    pod = rabbitmq(queues)["spec"]["template"]
    (apart,) = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert apart["labelSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert rabbitmq(queues)["spec"]["replicas"] == len(STACKS["rabbitmq"].nodes)


def test_what_members_tell_each_other_they_tell_nobody_else(queues: list[Object]):
    """Nor to the tools that people call in a member, which other members answer to directly."""
    allowed: dict[str, set[str]] = {}
    for item in queues:
        if item["kind"] != "NetworkPolicy" or item["metadata"]["namespace"] != "rabbitmq":
            continue
        for rule in item["spec"].get("ingress", ()):
            for port in rule["ports"]:
                last = f" to {port['endPort']}" if "endPort" in port else ""
                allowed.setdefault(f"{port['port']}{last}", set()).update(map(whose, rule["from"]))
    assert allowed == {
        "amqp": {"namespace harmonyflow", "namespace monitoring"},
        "management": {"namespace monitoring", "rabbitmq-init"},
        "metrics": {"namespace monitoring"},
        "epmd": {"rabbitmq"},
        "distribution": {"rabbitmq"},
        "35672 to 35682": {"rabbitmq"},
    }


def whose(peer: Object) -> str:
    if "namespaceSelector" in peer:
        return f"namespace {peer['namespaceSelector']['matchLabels']['kubernetes.io/metadata.name']}"
    return str(peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"])


def test_members_have_the_configuration_of_every_other_backend():
    """By the same names: what tells a member by an Erlang node's needs to know of no backend."""
    stack: Stack = STACKS["rabbitmq"]
    made = {named(item): item for item in all_settings(stack, secret)}
    files = {
        name: base64.b64decode(data).decode() for name, data in made["Secret rabbitmq/rabbitmq-config"]["data"].items()
    }
    on_local = rabbitmq_conf(stack, lambda member: member.name, "/config/definitions.json").splitlines()
    differing = set(files["rabbitmq.conf"].splitlines()) - set(on_local)
    assert {line for line in differing if not line.startswith("#")} == {
        "cluster_formation.discovery_retry_limit = 1200"  # members start when their nodes have pulled the image
    }
    assert secret("rabbitmq-password") not in str(files), "members know it by its hash alone"
    assert files["erlang.cookie"] == secret("rabbitmq-cookie")
    pod = rabbitmq(rendered(manifests_of("rabbitmq")))["spec"]["template"]["spec"]
    assert pod["dnsConfig"]["searches"] == ["rabbitmq.rabbitmq.svc.cluster.local"]
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert {"rabbitmq.conf", "enabled_plugins"} <= {
        value.removeprefix("/config/") for value in environment.values() if value.startswith("/config/")
    }
    assert {"rabbitmq.conf", "definitions.json", "enabled_plugins", "erlang.cookie", "start.sh"} == set(files)
    assert pod["containers"][0]["args"] == list(NEEDED_PLUGINS)


def test_its_client_finds_members_by_their_names():
    *_others, job = run_objects("harmonyflow/resilience", 1, ["rabbitmq-client"])
    searched = job["spec"]["template"]["spec"]["dnsConfig"]["searches"]
    assert searched == ["rabbitmq.rabbitmq.svc.cluster.local"]


def test_prometheus_asks_the_plugin_of_each_member():
    made = {named(item): item for item in all_settings(STACKS["rabbitmq"], secret)}
    config = yaml.safe_load(made["ConfigMap monitoring/prometheus"]["data"]["prometheus.yml"])
    (job,) = [one for one in config["scrape_configs"] if one["job_name"] == "rabbitmq"]
    assert [target["targets"] for target in job["static_configs"]] == [
        [f"rabbitmq-{number}.rabbitmq.rabbitmq.svc.cluster.local:15692"] for number in range(3)
    ]


def test_a_member_starts_with_its_own_cookie_and_no_plugin_that_it_does_not_need(tmp_path: Path):
    home, sbin, plugins = (tmp_path / name for name in ("home", "server/sbin", "server/plugins"))
    for folder in (home, sbin, *(plugins / name for name in ("ra-2.14.0", "rabbit-4.0.5", "rabbitmq_top-4.0.5"))):
        folder.mkdir(parents=True)
    (plugins / "rabbitmq_management-4.0.5").mkdir()
    (plugins / "README").touch()
    (tmp_path / "erlang.cookie").write_text("s3cret")
    server = sbin / "rabbitmq-server"
    server.write_text(
        '#!/bin/sh\nls "$RABBITMQ_PLUGINS_DIR"; stat -c %a "$HOME/.erlang.cookie"; cat "$HOME/.erlang.cookie"\n'
    )
    server.chmod(0o755)
    text = (PROJECT_ROOT / "stacks" / "rabbitmq" / "start.sh").read_text().replace("/config/", f"{tmp_path}/")
    for _time in ("first", "after a restart of the container"):
        done = subprocess.run(
            ["sh", "-c", text, "sh", "rabbitmq_management"],
            env={"HOME": str(home), "PATH": f"{sbin}:/usr/bin:/bin"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split() == ["ra-2.14.0", "rabbit-4.0.5", "rabbitmq_management-4.0.5", "400", "s3cret"]
