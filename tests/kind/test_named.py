"""A real cluster that a file names: the kind cluster itself, under another name and without what is under its nodes."""

import json
from pathlib import Path

import pytest
import yaml

from resilience import cluster_cli, cluster_plan
from resilience.backend.kubernetes.images import PROJECT
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.named import lacks_nodes, named_cluster, reached
from resilience.errors import SpecError
from resilience.spec.read import read_scenario
from tests.kind.conftest import Field

pytestmark = pytest.mark.kind
WHERE = "kubernetes:mine"


@pytest.fixture
def named(field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Field:
    """The cluster with a file that names it."""
    kubeconfig = field.cluster.kubeconfig
    (leads_to,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    entry = {
        "kubeconfig": str(kubeconfig),
        "context": field.cluster.context,
        "server": leads_to["cluster"]["server"],
    }
    folder = tmp_path / "harmonyflow"
    folder.mkdir()
    (folder / "clusters.yaml").write_text(json.dumps({"mine": entry, "moved": {**entry, "server": "https://[::1]:1"}}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return field


@pytest.mark.usefixtures("named")
def test_it_answers_and_has_the_nodes_that_a_stack_stands_on() -> None:
    assert "Kubernetes v1." in reached("mine")
    cluster = named_cluster("mine")
    api = cluster.open()
    assert list(lacks_nodes(api.items("/api/v1/nodes"))) == []
    assert cluster.machine_refused(api) == ""
    assert cluster.broken_nodes() == []
    with pytest.raises(SpecError, match=r"leads to 'https://127.*', expected 'https://\[::1\]:1'"):
        named_cluster("moved")


def test_its_nodes_say_that_they_have_the_image_that_runs_on_them(named: Field) -> None:
    (agent, *_others) = named_cluster("mine").open().items("/api/v1/namespaces/resilience/pods")
    image = agent["spec"]["containers"][0]["image"]
    assert image.startswith(f"{PROJECT}:")
    assert named_cluster("mine").provided({PROJECT: image}) == {PROJECT: image}
    assert named.platform.open_injections() == {}


@pytest.mark.parametrize("scenario", ["redis-pause-primary", "node-drain"])
def test_a_plan_there_is_the_same_but_for_its_rule(named: Field, scenario: str) -> None:
    asked = read_scenario(PROJECT_ROOT, scenario)
    plans = [cluster_plan.fault_plan(asked, where) for where in ("kind", WHERE)]
    assert plans[0]
    assert plans[1]
    assert plans[1].nothing == ""
    assert plans[1].members == plans[0].members
    assert plans[1].allowed[1:] == plans[0].allowed[1:]
    assert plans[1].allowed[0].startswith("cluster mine: ")
    assert named.platform.open_injections() == {}


def test_status_and_heal_go_there(named: Field, capsys: pytest.CaptureFixture[str]) -> None:
    stack = read_scenario(PROJECT_ROOT, "baseline").stack
    assert cluster_cli.status(stack, WHERE) == 0
    assert "primary, shard 1" in capsys.readouterr().out
    assert cluster_cli.heal(stack, WHERE) == 0
    assert named.cluster.broken_nodes() == []
