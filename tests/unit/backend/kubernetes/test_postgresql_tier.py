"""PostgreSQL in a cluster, beside what `test_tiers` asks of every tier."""

import base64
import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.postgresql_tier import PASSWORD, settings
from resilience.backend.kubernetes.wal_archive import PORT
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.server import NOT_COLLECTED
from resilience.backend.settings import prometheus_yml
from resilience.spec.read import read_stack
from resilience.spec.stack import PORTS
from tests.unit.backend.kubernetes.cluster import NODES
from tests.unit.backend.kubernetes.kustomization import containers, rendered
from tests.unit.backend.kubernetes.test_manifests import named, secret, written

STACK = read_stack(PROJECT_ROOT, "stacks/local/postgresql.yaml")
SERVERS = ("StatefulSet postgresql/postgresql-primary", "StatefulSet postgresql/postgresql-replica")
ON_EACH_NODE = (*SERVERS, "StatefulSet postgresql/pgbouncer")
COMPONENT = "app.kubernetes.io/component"

Object = dict[str, Any]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """All that is applied to a kind cluster for the shipped stack with the tier."""
    return rendered(written(tmp_path_factory.mktemp("applied"), stack=STACK))


@pytest.fixture(scope="module")
def by_name(objects: list[Object]) -> dict[str, Object]:
    return {named(item): item for item in objects}


def apart_from(item: Object) -> list[Object]:
    """The labels of whom its pods never share a node with."""
    affinity = item["spec"]["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
    rules = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", ())
    return [rule["labelSelector"]["matchLabels"] for rule in rules if rule["topologyKey"] == "kubernetes.io/hostname"]


@pytest.mark.parametrize("name", ON_EACH_NODE)
def test_one_stands_on_each_platform_node(by_name: dict[str, Object], name: str):
    """Of both sets of servers, so each keeps away from what both have in common."""
    pod = by_name[name]["spec"]["template"]
    common = {"app.kubernetes.io/part-of": "harmonyflow", COMPONENT: pod["metadata"]["labels"][COMPONENT]}
    assert apart_from(by_name[name]) == [common]
    assert pod["spec"]["nodeSelector"] == {"harmonyflow.dev/role": "platform"}
    budget = by_name[f"PodDisruptionBudget postgresql/{common[COMPONENT]}"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, common)


def probe(by_name: dict[str, Object], name: str, kind: str) -> Object:
    (container,) = by_name[name]["spec"]["template"]["spec"]["containers"]
    found: Object = container[kind]
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_no_probe_ends_a_server_that_recovers_or_is_being_made(by_name: dict[str, Object], name: str):
    """`pg_isready` says 1 of one that answers and takes nobody yet: only readiness waits for more."""
    for kind in ("startupProbe", "livenessProbe"):
        assert probe(by_name, name, kind)["exec"]["command"][-1].endswith("; test $? -lt 2")
    assert "$?" not in probe(by_name, name, "readinessProbe")["exec"]["command"][-1]
    making = probe(by_name, name, "startupProbe")
    assert making["periodSeconds"] * making["failureThreshold"] >= 86_400
    living = probe(by_name, name, "livenessProbe")
    assert living["periodSeconds"] * living["failureThreshold"] >= 90  # as long as Redis' servers are given


def test_it_is_reached_by_applications_observers_and_among_themselves_only(by_name: dict[str, Object]):
    def peers(policy: str) -> set[str]:
        (rule,) = by_name[f"NetworkPolicy postgresql/{policy}"]["spec"]["ingress"]
        return {next(iter(one.values()))["matchLabels"].popitem()[1] for one in copy.deepcopy(rule["from"])}

    assert peers("postgresql") == {"harmonyflow", "monitoring", "pgbouncer", "postgresql"}
    assert peers("pgbouncer") == {"harmonyflow", "monitoring"}
    assert peers("wal-archive") == {"postgresql"}
    assert by_name["NetworkPolicy postgresql/default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}


def files(item: Object) -> dict[str, str]:
    return {name: base64.b64decode(text).decode() for name, text in item["data"].items()}


def test_servers_get_what_the_stack_file_says(by_name: dict[str, Object]):
    given = files(by_name["Secret postgresql/postgresql"])
    for member in STACK.of("postgresql"):
        assert f"cluster_name = '{member.name}'" in given[f"{member.name}.postgresql.conf"]
        assert f"host='wal-archive.postgresql.svc.cluster.local' port='{PORT}'" in given[f"{member.name}.archive.sh"]
        first, *others = given[f"{member.name}.arguments"].split()
        assert {first, *others, member.name} == {one.name for one in STACK.of("postgresql")}
        assert member.name not in others


def test_each_takes_its_own_files_and_no_other_may_read_them(by_name: dict[str, Object]):
    """A name in the Secret is the member's, and the file's behind it; libpq reads no password that a group can read."""
    for name, secret_of in zip(ON_EACH_NODE, ("postgresql", "postgresql", "pgbouncer"), strict=True):
        (container,) = by_name[name]["spec"]["template"]["spec"]["containers"]
        (script,) = container["args"]
        assert 'for file in /given/"$(uname -n)".*' in script
        assert "umask 077" in script
        read = set(re.findall(r"/config/([a-z_.]+)", script)) - {"arguments"}
        assert all(f"{by_name[name]['metadata']['name']}-0.{file}" in by_name[f"Secret postgresql/{secret_of}"]["data"]
                   for file in read)  # fmt: skip


def test_a_server_begins_with_its_own_files_and_without_the_lock_of_a_container_that_is_gone(
    by_name: dict[str, Object], tmp_path: Path
):
    (container,) = by_name[SERVERS[0]]["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("$(uname -n)", "postgresql-primary-0")
    for folder in ("given", "config", "data/postgresql"):
        (tmp_path / folder).mkdir(parents=True)
        script = script.replace(f"/{folder}", f"{tmp_path}/{folder}")
    (tmp_path / "data/postgresql/postmaster.pid").write_text("1\n")
    (tmp_path / "data/postgresql").chmod(0o770)
    for name, text in {"start.sh": 'echo "$@"', "arguments": "a b", "pgpass": "x"}.items():
        (tmp_path / "given" / f"postgresql-primary-0.{name}").write_text(text)
    (tmp_path / "given" / "postgresql-replica-0.pgpass").write_text("another's")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "a b\n"
    assert (tmp_path / "config" / "pgpass").read_text() == "x"
    assert (tmp_path / "config" / "pgpass").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "data/postgresql").iterdir()) == []
    assert (tmp_path / "data/postgresql").stat().st_mode & 0o777 == 0o700


def test_a_pgbouncer_leads_writes_to_the_primary_and_the_rest_to_its_node(by_name: dict[str, Object]):
    given = files(by_name["Secret postgresql/pgbouncer"])
    for member in STACK.of("pgbouncer"):
        databases = given[f"{member.name}.databases.ini"]
        assert f"harmonyflow = host={member.name}-writes.postgresql.svc.cluster.local port=5432" in databases
        assert "beside = host=postgresql-beside.postgresql.svc.cluster.local port=5432" in databases
        spec = by_name[f"Service postgresql/{member.name}-writes"]["spec"]
        assert spec["selector"] == {"statefulset.kubernetes.io/pod-name": "postgresql-primary-0"}
    assert by_name["Service postgresql/postgresql-beside"]["spec"]["internalTrafficPolicy"] == "Local"


def test_another_primary_is_led_to_by_one_change(by_name: dict[str, Object]):
    changes: list[tuple[str, str, Any]] = []

    def call(method: str, path: str, _query: Any, body: Any) -> bytes:
        changes.append((method, path, body))
        return json.dumps(NODES).encode()

    KubernetesPlatform(Api(call, "a cluster"), STACK, str).lead_writes("pgbouncer-1", "postgresql-replica-0")
    selector = {"statefulset.kubernetes.io/pod-name": "postgresql-replica-0"}
    path = "/api/v1/namespaces/postgresql/services/pgbouncer-1-writes"
    assert changes[-1] == ("PATCH", path, {"spec": {"selector": selector}})
    assert set(selector) == set(by_name["Service postgresql/pgbouncer-1-writes"]["spec"]["selector"])


def test_passwords_are_in_secrets_only_and_where_they_are_needed(objects: list[Object]):
    said = secret(PASSWORD)
    held = {named(item) for item in objects if item["kind"] == "Secret" and said in str(files(item))}
    assert held == {
        "Secret postgresql/postgresql", "Secret postgresql/pgbouncer", "Secret monitoring/postgres-exporter",
        "Secret monitoring/postgresql-password",
    }  # fmt: skip
    assert not [named(item) for item in settings(STACK, secret) if item["kind"] != "Secret" and said in str(item)]


def test_the_exporter_is_asked_for_each_member_and_leaves_out_what_it_does_on_local(by_name: dict[str, Object]):
    (container,) = containers(by_name["StatefulSet monitoring/postgres-exporter"])
    left_out = {word.removeprefix("--no-collector.") for word in container["args"] if "no-collector" in word}
    assert left_out == set(NOT_COLLECTED)
    text = prometheus_yml(STACK, lambda one: one.name)
    targets = next(job for job in yaml.safe_load(text)["scrape_configs"] if job["job_name"] == "postgresql")
    assert len(targets["static_configs"]) == len(STACK.of("postgresql"))


def test_ports_are_those_that_everybody_knows(by_name: dict[str, Object]):
    for name, component in zip(ON_EACH_NODE, ("postgresql", "postgresql", "pgbouncer"), strict=True):
        (container,) = containers(by_name[name])
        assert [port["containerPort"] for port in container["ports"]] == [PORTS[component]]
    (archive,) = containers(by_name["Deployment postgresql/wal-archive"])
    (port,) = by_name["Service postgresql/wal-archive"]["spec"]["ports"]
    assert archive["ports"][0]["containerPort"] == port["port"] == PORT
