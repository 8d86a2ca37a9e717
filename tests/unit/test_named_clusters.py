"""``--stack kubernetes:NAME`` from the command line, and who is asked what then."""

import json
from pathlib import Path

import pytest

from resilience import cli, cluster_cli, supervise
from resilience.backend.choice import servers
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.cluster import Cluster
from resilience.backend.local.place import PROJECT_ROOT
from resilience.cluster_run import Asked, ClusterPlace, prepared
from resilience.errors import HostError, SpecError, StackError
from resilience.host import Answer
from resilience.outside import require_possible
from resilience.report.store import RunStore
from resilience.spec.read import read_scenario
from tests.named import SERVER, Home, home_in
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, node
from tests.unit.backend.test_kind import tool

WHERE = "kubernetes:staging"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return home_in(tmp_path / "home", monkeypatch)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with kubectl alone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}")
    monkeypatch.setattr(supervise, "find_system_tools", lambda: None)
    tool(folder, "kubectl")
    return folder


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> RecordedApi:
    """What every context answers: an empty cluster."""
    found = RecordedApi({"/version": {"gitVersion": "v1.34.0"}, "/api/v1/nodes": NODES})
    for path in ("/apis/apps/v1/statefulsets", "/apis/networking.k8s.io/v1/networkpolicies"):
        found.answers[path] = {}
    monkeypatch.setattr(Api, "of_context", lambda *_there, **_how: found.api())
    return found


COMMANDS = (
    ["run", "baseline"],
    ["suite", "smoke"],
    ["plan", "redis-kill-replica"],
    ["up"],
    ["status"],
    ["heal"],
    ["down"],
    ["image"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.usefixtures("tools")
def test_a_cluster_that_is_not_named_is_one_line_and_2(
    command: list[str], home: Home, api: RecordedApi, capsys: pytest.CaptureFixture[str]
):
    assert cli.main([*command, "--stack", "kubernetes:production"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"resilience: {home.clusters}: it names no cluster 'production', expected one of staging")
    assert api.asked == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_context_that_leads_elsewhere_is_one_line_and_2(
    command: list[str], home: Home, api: RecordedApi, tools: Path, capsys: pytest.CaptureFixture[str]
):
    home.staging["server"] = "https://10.10.0.1:6443"
    home.write()
    assert cli.main([*command, "--stack", WHERE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "leads to 'https://10.10.0.1:6443', expected 'https://10.20.0.1:6443'" in line
    assert api.asked == []
    assert not (tools / "kubectl.asked").exists()
    assert not (home.folder / ".cache").exists()


@pytest.mark.parametrize("word", ["kubernetes", "kubernetes:", "kubernetes:a:b", "staging", "eks", "kind:staging"])
def test_a_place_that_there_is_not(word: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["status", "--stack", word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument --stack: expected local, kind or kubernetes:NAME (got {word!r})" in line


@pytest.mark.usefixtures("home", "api", "tools")
def test_without_a_stack_in_it_status_and_plan_say_so(capsys: pytest.CaptureFixture[str]):
    for command in (["status"], ["plan", "redis-kill-replica"]):
        assert cli.main([*command, "--stack", WHERE]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert f"no stack is up on {WHERE}; 'resilience up --stack {WHERE}' brings one up" in line
    assert cli.main(["heal", "--stack", WHERE]) == 0
    assert "nothing to heal" in capsys.readouterr().out


@pytest.mark.usefixtures("home", "tools")
def test_a_namespace_of_somebody_elses_is_left_alone(api: RecordedApi, capsys: pytest.CaptureFixture[str]):
    api.answers["/api/v1/namespaces/monitoring"] = {"metadata": {"name": "monitoring", "labels": {}}}
    for command in (["status"], ["plan", "redis-kill-replica"], ["down"], ["heal"]):
        assert cli.main([*command, "--stack", WHERE]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert "namespace monitoring is not the harness's: it has no label harmonyflow.dev/harness" in line
    assert {method for method, _path, _query in api.asked} == {"GET"}


@pytest.mark.usefixtures("home")
def test_down_takes_away_what_is_ours_and_no_cluster(api: RecordedApi, tools: Path, capsys: pytest.CaptureFixture[str]):
    api.answers["/api/v1/namespaces/redis"] = {
        "metadata": {"name": "redis", "labels": {"harmonyflow.dev/harness": "allowed"}}
    }
    assert cli.main(["down", "--stack", WHERE]) == 0
    asked = (tools / "kubectl.asked").read_text()
    assert "--context\nstaging-admin\n" in asked
    assert "delete\nnamespaces\n-l\nharmonyflow.dev/harness,kubernetes.io/metadata.name in" in asked
    assert sorted(path.name for path in tools.iterdir()) == ["cat", "kubectl", "kubectl.asked"], "nobody else is there"
    capsys.readouterr()
    cordoned = node("hf-worker")
    cordoned["metadata"]["annotations"] = {"harmonyflow.dev/cordoned-by": "test-1"}
    api.answers["/api/v1/nodes"] = {"items": [cordoned]}
    assert cli.main(["down", "--stack", WHERE]) == 4
    said = capsys.readouterr().err
    assert f"hf-worker (cordoned by test-1); 'resilience heal --stack {WHERE}' puts them right" in said


@pytest.mark.usefixtures("home", "tools")
def test_a_stack_is_brought_up_in_it_under_its_lock(
    api: RecordedApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def filled(cluster: Cluster, *_rest: object) -> None:
        brought.append((cluster.stack, cluster.overlay, [path for path in api.answers if "/leases/" in path]))

    brought: list[tuple[str, str, list[str]]] = []
    for step, done in (("preflight", None), ("build", {}), ("platform_of", None), ("require_healed", None)):
        monkeypatch.setattr(cluster_cli, step, lambda *_rest, done=done: done)
    monkeypatch.setattr(cluster_cli, "bring_up", filled)
    assert cli.main(["up", "--stack", WHERE]) == 0
    lock = "/apis/coordination.k8s.io/v1/namespaces/resilience/leases/run"
    assert brought == [(WHERE, "plain", [lock])]
    assert lock not in api.answers, "whoever works next is not kept out"
    said = f"'resilience status --stack {WHERE}' shows it, 'resilience down --stack {WHERE}' ends it"
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("home", "tools")
def test_what_is_not_put_on_nodes_that_are_not_there(api: RecordedApi, monkeypatch: pytest.MonkeyPatch, tools: Path):
    monkeypatch.setattr(cluster_cli, "stack_objects", lambda _extent, overlay: [{"kind": overlay, "metadata": {}}])
    with pytest.raises(HostError, match="docker is not on PATH"):
        cluster_cli.preflight(cluster_cli.cluster_of(WHERE))
    tool(tools, "docker", json.dumps({"MemTotal": 1}))
    with pytest.raises(
        HostError, match="the cluster staging has not the nodes that the stack stands on: node hf-worker"
    ):
        cluster_cli.preflight(cluster_cli.cluster_of(WHERE))
    zoned = {"harmonyflow.dev/role": "platform", "topology.kubernetes.io/zone": "zone-1"}
    nodes = [node(f"w{number}", f"node-{number}", zoned) for number in (1, 2, 3)]
    api.answers["/api/v1/nodes"] = {"items": [*nodes, node("w4", "observer", {"harmonyflow.dev/role": "observer"})]}
    cluster_cli.preflight(cluster_cli.cluster_of(WHERE))
    api.answers["/api/v1/namespaces/redis"] = {"metadata": {"name": "redis"}}
    with pytest.raises(StackError, match="namespace redis is not the harness's"):
        cluster_cli.preflight(cluster_cli.cluster_of(WHERE))


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("redis-failover", False),
        ("node-power-off", False),
        ("node-freeze", False),
        ("node-drain", True),
        ("redis-kill-replica", True),
        ("redis-partition-primary", True),
        ("baseline", True),
    ],
)
def test_no_node_is_stopped_that_others_have_made(name: str, *, possible: bool):
    scenario = read_scenario(PROJECT_ROOT, name)
    require_possible(scenario, "kind")
    if possible:
        require_possible(scenario, WHERE)
        return
    with pytest.raises(SpecError, match=f"is not possible on {WHERE}: use --stack (local or )?kind$"):
        require_possible(scenario, WHERE)


@pytest.mark.usefixtures("home", "api")
def test_an_order_from_under_another_kernel_is_refused_before_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    began: list[str] = []
    monkeypatch.setattr(cluster_cli, "held", lambda *_there, **_how: began.append("lock"))
    asked = Asked(
        scenario=read_scenario(PROJECT_ROOT, "node-drain"), store=RunStore(tmp_path, None), rerun="", as_control=False
    )
    with pytest.raises(SpecError, match="node-drain: what the API of staging is told comes from this machine"):
        ClusterPlace(cluster=cluster_cli.cluster_of(WHERE), images={}, break_lock=False).run(asked)
    assert began == []


@pytest.mark.usefixtures("api")
def test_the_cluster_that_preflight_saw_is_the_one_that_runs_are_played_in(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def changed(cluster: Cluster, *_rest: object) -> None:
        seen.append(cluster)
        home.staging["server"] = home.entry["server"] = "https://10.20.0.2:6443"
        home.write()

    def built(cluster: Cluster, *_rest: object) -> dict[str, str]:
        seen.append(cluster)
        return {}

    seen: list[Cluster] = []
    monkeypatch.setattr(cluster_cli, "preflight", changed)
    monkeypatch.setattr(cluster_cli, "build", built)
    place = prepared(tmp_path, break_lock=False, where=WHERE)
    assert seen == [place.cluster, place.cluster]
    assert place.cluster.servers().startswith(f"{SERVER}, ")
    assert place.where == WHERE


def test_a_control_of_another_cluster_is_none(home: Home):
    one = servers(WHERE)
    assert one.startswith(f"{SERVER}, ")
    assert one != servers("kind")
    home.staging["server"] = home.entry["server"] = "https://10.20.0.2:6443"
    home.write()
    assert servers(WHERE) != one


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Its exit code, and what it says."""
    code = cli.main(["doctor"])
    return code, capsys.readouterr().out


def test_doctor_says_which_clusters_are_named_and_whether_they_answer(
    home: Home, api: RecordedApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(supervise, "examined", lambda: (Answer("memory", (), "enough"),))
    code, said = doctor(capsys)
    assert (code, f"✓ cluster     staging: context staging-admin, {SERVER}, Kubernetes v1.34.0\n" in said) == (0, True)
    del api.answers["/version"]
    code, said = doctor(capsys)
    assert (code, f"✗ cluster     staging: the cluster staging ({SERVER}) cannot be asked" in said) == (4, True)
    home.clusters.chmod(0o666)
    code, said = doctor(capsys)
    assert (code, f"✗ clusters    {home.clusters}: the file: {home.clusters} can be written by others" in said) == (
        4,
        True,
    )
    home.clusters.unlink()
    code, said = doctor(capsys)
    assert (code, "cluster" in said) == (0, False)
