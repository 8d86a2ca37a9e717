"""Clusters that the user's file names: found only if nobody else could have named them, and never made nor ended."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience.agent.node import BOOT_ID
from resilience.backend import named
from resilience.backend.kubernetes.api import Api
from resilience.backend.local.place import PROJECT_ROOT, Owner, config_dir, trouble_with_keeping
from resilience.backend.named import Named, lacks_images, lacks_nodes, named_cluster, reached, require_ours
from resilience.errors import FaultError, HostError, SpecError, StackError
from tests.named import SERVER, Home, home_in
from tests.unit.backend.kubernetes.cluster import NODES, Object, RecordedApi, node
from tests.unit.backend.test_kind import tool

ZONED = {"topology.kubernetes.io/zone": "zone-1", "harmonyflow.dev/role": "platform"}
WATCHING = {"harmonyflow.dev/role": "observer"}
RIGHT_NODES = [*(node(f"w{number}", f"node-{number}", ZONED) for number in (1, 2, 3)), node("w4", "observer", WATCHING)]
MINE = {"metadata": {"name": "x", "labels": {"harmonyflow.dev/harness": "allowed"}}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return home_in(tmp_path, monkeypatch)


def answering(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Any]) -> RecordedApi:
    """What the API of any context answers; ``found`` are the kubeconfigs that it was opened by."""
    api = RecordedApi({"/version": {"gitVersion": "v1.34.0"}, **answers})
    monkeypatch.setattr(Api, "of_context", lambda *_there, **_how: api.api())
    return api


def test_a_cluster_is_known_by_a_copy_of_what_was_looked_at(home: Home):
    cluster = named_cluster("staging")
    assert cluster.stack == "kubernetes:staging"
    assert cluster.context == "staging-admin"
    assert cluster.overlay == "plain"
    assert cluster.kubeconfig.parent == home.folder / ".cache" / "harmonyflow" / "clusters"
    assert cluster.rule == (
        f"cluster staging: {home.clusters}: staging names context staging-admin, which leads to {SERVER}"
    )
    before = cluster.kubeconfig.read_text()
    home.staging["server"] = "https://10.66.0.1:6443"  # somebody moves the context in the middle of a run
    home.write()
    assert cluster.kubeconfig.read_text() == before
    with pytest.raises(SpecError, match="leads to"):
        named_cluster("staging")


def test_the_file_is_looked_for_among_the_users_settings(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert named.names() == ("staging",)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert named.names() == ()
    with pytest.raises(SpecError, match=r"elsewhere/harmonyflow/clusters\.yaml: the file: does not exist"):
        named_cluster("staging")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert named.names() == ("staging",)
    assert config_dir(Owner(0, 0, home.folder)) == home.folder / ".config" / "harmonyflow"


def written_by_all(home: Home) -> None:
    home.clusters.chmod(0o666)


def in_a_folder_of_all(home: Home) -> None:
    home.clusters.parent.chmod(0o777)


def below_a_folder_of_a_group(home: Home) -> None:
    (home.folder / ".config").chmod(0o770)


def a_kubeconfig_of_all(home: Home) -> None:
    home.config.chmod(0o602)


def a_link_out_of_a_folder_of_all(home: Home) -> None:
    place = home.folder / "shared"
    place.mkdir()
    home.clusters.rename(place / "clusters.yaml")
    home.clusters.symlink_to(place / "clusters.yaml")
    place.chmod(0o777)


@pytest.mark.parametrize(
    "spoil",
    [
        written_by_all,
        in_a_folder_of_all,
        below_a_folder_of_a_group,
        a_kubeconfig_of_all,
        a_link_out_of_a_folder_of_all,
    ],
)
def test_what_others_could_have_written_names_nothing(home: Home, spoil):
    assert named_cluster("staging").name == "staging"
    spoil(home)
    with pytest.raises(SpecError, match="can be written by others: chmod go-w") as raised:
        named_cluster("staging")
    assert len(str(raised.value).splitlines()) == 1


def test_what_somebody_else_owns_names_nothing(home: Home):
    owner = Owner(os.getuid(), 0, home.folder)
    assert trouble_with_keeping(home.clusters, owner) == ""
    if os.getuid() == 0:  # what is root's is as good as one's own
        os.chown(home.clusters, 4_711, 0)
    assert f"{home.clusters} belongs to somebody else (user " in trouble_with_keeping(
        home.clusters, Owner(4_712, 0, home.folder)
    )


def test_a_folder_where_nobody_removes_what_is_anothers_is_good_enough(home: Home):
    home.clusters.parent.chmod(0o777 | stat.S_ISVTX)
    assert named_cluster("staging").name == "staging"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("overlay", "base", "staging.overlay: expected one of kind, plain (got 'base')"),
        ("kubeconfig", "config", "staging.kubeconfig: expected a path that begins with / or ~/"),
        ("kubeconfig", "~/none", "/none: the file: cannot be read (No such file"),
        ("kubeconfig", "/dev/null", "/dev/null: the file: "),
        ("context", "production", "leads to 'https://10.10.0.1:6443', expected"),
        ("server", "https://10.20.0.9:6443", f"leads to '{SERVER}', expected 'https://10.20.0.9:6443'"),
    ],
)
def test_an_entry_that_cannot_be_used_is_one_line(home: Home, field: str, value: str, words: str):
    home.entry[field] = value
    home.write()
    with pytest.raises(SpecError) as raised:
        named_cluster("staging")
    assert words in str(raised.value)


def test_a_cluster_that_answers_is_told_with_its_version(home: Home, monkeypatch: pytest.MonkeyPatch):
    api = answering(monkeypatch, {})
    assert reached("staging") == f"context staging-admin, {SERVER}, Kubernetes v1.34.0"
    del api.answers["/version"]
    with pytest.raises(StackError, match=rf"the cluster staging \({SERVER}\) cannot be asked: GET /version: 404"):
        named_cluster("staging").open()
    assert home.clusters.exists()


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (RIGHT_NODES, []),
        (
            RIGHT_NODES[1:],
            ["0 nodes are labelled harmonyflow.dev/role=platform,harmonyflow.dev/node=node-1, expected one"],
        ),
        ([*RIGHT_NODES, node("w5", "node-1", ZONED)], ["2 nodes are labelled harmonyflow.dev/role=platform"]),
        (
            [*RIGHT_NODES, node("w5", "node-9", ZONED)],
            ["node w5 is labelled harmonyflow.dev/role=platform, and is none"],
        ),
        (RIGHT_NODES[:3], ["0 nodes are labelled harmonyflow.dev/role=observer,harmonyflow.dev/node=observer"]),
        (
            [node("w1", "node-1", {"harmonyflow.dev/role": "platform"}), *RIGHT_NODES[1:]],
            ["node w1 has no label topology.kubernetes.io/zone"],
        ),
        ([*RIGHT_NODES, node("w6")], []),
    ],
)
def test_the_nodes_that_a_stack_stands_on_are_named_where_they_lack(nodes: list[Object], words: list[str]):
    found = list(lacks_nodes(nodes))
    assert len(found) == len(words)
    assert all(line.startswith(word) for line, word in zip(found, words, strict=True))


@pytest.mark.parametrize("config", ["kind-config.yaml", "tests/kind-config-quick.yaml"])
def test_kinds_own_nodes_are_such(config: str):
    nodes = yaml.safe_load((PROJECT_ROOT / config).read_text())["nodes"]
    assert list(lacks_nodes([{"metadata": {"name": "n", "labels": one.get("labels")}} for one in nodes])) == []


def test_an_image_that_only_this_machine_has_is_not_waited_for():
    has = {"status": {"images": [{"names": ["docker.io/harmonyflow/resilience:1f0c", "docker.io/library/redis:7"]}]}}
    nodes = [{**node("w1"), **has}, {**node("w2"), **has}]
    assert lacks_images(nodes, ["harmonyflow/resilience:1f0c", "prom/prometheus:v2"]) == []
    nodes[1] = node("w2")
    assert lacks_images(nodes, ["harmonyflow/resilience:1f0c"]) == [
        "image harmonyflow/resilience:1f0c is built here and is not on w2"
    ]


def test_the_projects_image_is_pushed_where_the_entry_says(home: Home, monkeypatch: pytest.MonkeyPatch, tools: Path):
    answering(monkeypatch, {"/api/v1/nodes": {"items": [node("w1", "node-1", ZONED)]}})
    built = {"harmonyflow/resilience": "harmonyflow/resilience:1f0c"}
    with pytest.raises(HostError, match=r"resilience:1f0c is built here and is not on w1: load it there, or have it"):
        named_cluster("staging").provided(built)
    home.entry["repository"] = "registry.example:5000/team/resilience"
    home.write()
    tool(tools, "docker")
    there = "registry.example:5000/team/resilience:1f0c"
    assert named_cluster("staging").provided(built) == {"harmonyflow/resilience": there}
    asked = (tools / "docker.asked").read_text().split()
    assert asked == ["tag", "harmonyflow/resilience:1f0c", there, "push", "--quiet", there]


def test_nothing_is_known_of_what_is_under_its_nodes(home: Home, monkeypatch: pytest.MonkeyPatch, tools: Path):
    lists = ("/apis/apps/v1/statefulsets", "/apis/networking.k8s.io/v1/networkpolicies")
    cordoned = {"metadata": {"name": "w1", "labels": {}, "annotations": {"harmonyflow.dev/cordoned-by": "test-1"}}}
    api = answering(monkeypatch, {"/api/v1/nodes": {"items": [cordoned]}, **{path: {} for path in lists}})
    cluster = named_cluster("staging")
    tool(tools, "docker", "it must not be asked", 1)
    assert cluster.broken_nodes() == ["w1 (cordoned by test-1)"]
    api.answers["/api/v1/nodes"] = NODES
    freeze = {"primitive": "freeze", "nodes": [{"name": "node-1", "host": "hf-worker"}]}
    with pytest.raises(FaultError, match="under the nodes of staging there is no machine that may be stopped"):
        cluster.machine(api.api()).require_allowed({"id": "test-1", "ttl_s": 5, "steps": [freeze], "watch": []})
    assert not (tools / "docker.asked").exists()
    assert cluster.doors(api.api()) == ()
    assert home.clusters.exists()


def test_orders_come_from_a_machine_with_the_clock_of_its_nodes(home: Home, monkeypatch: pytest.MonkeyPatch):
    observer = node("w4", "observer", WATCHING)
    observer["status"] = {"nodeInfo": {"bootID": BOOT_ID.read_text().strip()}}
    api = answering(monkeypatch, {"/api/v1/nodes": {"items": [observer]}})
    assert named_cluster("staging").machine_refused(api.api()) == ""
    observer["status"]["nodeInfo"]["bootID"] = "another"
    assert "another kernel" in named_cluster("staging").machine_refused(api.api())
    assert home.clusters.exists()


def words_of(monkeypatch: pytest.MonkeyPatch, cluster: Named) -> list[str]:
    """What kubectl is told, a line each."""
    told: list[str] = []

    def kubectl(*words: str, **_how: object) -> str:
        told.append(" ".join(words))
        return ""

    monkeypatch.setattr(cluster, "kubectl", kubectl)
    return told


@pytest.mark.usefixtures("home")
def test_only_what_is_labelled_is_taken_away(monkeypatch: pytest.MonkeyPatch):
    cluster = named_cluster("staging")
    told = words_of(monkeypatch, cluster)
    ours = "delete namespaces -l harmonyflow.dev/harness,kubernetes.io/metadata.name in"
    cluster.clear()
    assert [line.partition(" --")[0] for line in told] == [f"{ours} (harmonyflow,monitoring,postgresql,rabbitmq,redis)"]
    told.clear()
    cluster.delete()
    assert [line.partition(" --")[0] for line in told] == [
        f"{ours} (harmonyflow,monitoring,postgresql,rabbitmq,redis,resilience)",
        "delete priorityclass,clusterrole,clusterrolebinding -l harmonyflow.dev/harness",
    ]
    assert not cluster.kubeconfig.exists()


def test_what_somebody_else_has_under_our_names_is_not_overwritten():
    path = "/apis/scheduling.k8s.io/v1/priorityclasses/harmonyflow-data"
    objects = [{"kind": "PriorityClass", "metadata": {"name": "harmonyflow-data"}}, {"kind": "Service", "metadata": {}}]
    require_ours(RecordedApi({}).api(), objects)
    require_ours(RecordedApi({path: MINE}).api(), objects)
    with pytest.raises(StackError, match=r"PriorityClass harmonyflow-data is not the harness's: it has no label"):
        require_ours(RecordedApi({path: {"metadata": {"name": "x"}}}).api(), objects)
    with pytest.raises(StackError, match="namespace redis is not the harness's"):
        require_ours(RecordedApi({"/api/v1/namespaces/redis": {"metadata": {"name": "redis"}}}).api(), objects)


def test_every_overlay_has_the_same_versions():
    versions = [
        (PROJECT_ROOT / "stacks" / "kubernetes" / overlay / "kustomization.yaml").read_text().partition("images:")[2]
        for overlay in ("kind", "plain")
    ]
    assert versions[0] == versions[1] != ""
