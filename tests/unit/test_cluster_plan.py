"""What would be done in a cluster, to whom and by which rule; nothing is asked of an agent."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from resilience import cli, cluster_cli
from resilience.backend import kind
from resilience.backend.kind import Kind
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.cluster import Cluster
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.desk import Desk
from resilience.backend.machine.docker import Docker
from resilience.backend.named import Named
from resilience.cluster_plan import fault_plan_in
from resilience.errors import StackError
from resilience.report.plan import FaultPlan, plan_screen
from resilience.report.terminal import console_for
from resilience.spec.cluster import NamedCluster
from resilience.spec.read import list_scenarios, read_scenario
from tests.fakes import FakeCluster, FakeDocker
from tests.unit.backend.kubernetes.cluster import HOSTS, NODES, Object, RecordedApi, node, pod, pods_path
from tests.unit.stack.views import HOSTS as ADDRESSES
from tests.unit.stack.views import PRIMARIES, told

FAILOVER = read_scenario(PROJECT_ROOT, "redis-failover")
SPACES = {"redis": "redis", "session": "harmonyflow", "collaboration": "harmonyflow", "edge": "harmonyflow"}
LABELLED = {"harmonyflow.dev/harness": "allowed"}
REDIS_LABELLED = "namespace redis is labelled harmonyflow.dev/harness"
AGENT_2 = "node-2 is a platform node, and its agent may touch that namespace"
FAILED_OVER = {**PRIMARIES, 2: ("redis-cluster-4", 9)}
CONTEXT = "cluster kind-harmonyflow: one of its nodes is labelled harmonyflow.dev/cluster=resilience"


def stack_pods() -> list[Object]:
    """Two Redis pods on each worker, services spread over them, observers on their own node."""
    pods = []
    for number, member in enumerate(FAILOVER.stack.members):
        if member.component not in {"loadgen", "direct-client"}:
            space = SPACES.get(member.component, "monitoring")
            host = HOSTS[number % 3] if space != "monitoring" else "hf-worker4"
            ip = ADDRESSES.get(member.name, f"10.244.9.{number}")
            pods.append(pod(member.name, component=member.component, namespace=space, host=host, ip=ip))
            pods[-1]["status"]["containerStatuses"][0]["state"]["running"] = {"startedAt": "2026-11-25T08:59:00Z"}
            mounts = [{"name": "data", "mountPath": "/data"}]
            pods[-1]["spec"]["containers"] = [{"volumeMounts": mounts if space == "redis" else []}]
            pods[-1]["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": member.name.rpartition("-")[0]}]
    return pods


def harness_pods() -> list[Object]:
    agents = [pod(f"agent-{host}", component="agent", namespace="resilience", host=host, ip="") for host in HOSTS]
    for one in agents:
        one["spec"]["containers"] = [{"env": [{"name": "AGENT_NAMESPACES", "value": "redis, harmonyflow"}]}]
    witness = pod("witness-x", component="witness", namespace="monitoring", host="hf-worker4", ip="10.244.9.99")
    return [*agents, witness]


@pytest.fixture
def api() -> RecordedApi:
    spaces = ("harmonyflow", "monitoring", "redis", "resilience")
    pods = stack_pods() + harness_pods()
    system = pod("coredns-x", component="", namespace="kube-system", host="hf-worker")
    found: list[Object] = [{"metadata": {"name": name, "labels": LABELLED}} for name in spaces]
    answers: Object = {
        "/api/v1/nodes": NODES,
        "/api/v1/namespaces": {"items": found},
        "/api/v1/pods": {"items": [*pods, system]},
    }
    answers |= {f"/api/v1/namespaces/{one['metadata']['name']}": one for one in found}
    for space in spaces:
        answers[pods_path(space)] = {"items": [one for one in pods if one["metadata"]["namespace"] == space]}
    return RecordedApi(answers)


class StandingCluster(Kind):
    """A cluster that is up, seen through a recorded API; ``docker`` says what its nodes' containers are."""

    def __init__(self, primaries: Mapping[int, tuple[str, int]] = PRIMARIES) -> None:
        super().__init__(Path("nowhere"))
        roles = dict.fromkeys((*HOSTS, "hf-worker4"), "worker")
        self.docker = FakeDocker("harmonyflow", {"hf-control-plane": "control-plane", **roles})
        self.primaries = primaries
        self.asked: list[tuple[str, ...]] = []
        self.queues: dict[str, str] = {}

    def kubectl(self, *words: str, timeout_s: float = 0.0, text: str = "") -> str:
        del timeout_s, text
        self.asked.append(words)
        if words[-len(LIST_QUEUES) :] == LIST_QUEUES:
            return self.queues[words[3]]
        assert words[-3:] == ("redis-cli", "cluster", "nodes"), "nothing else is asked of any pod"
        replica = "redis-cluster-1" if self.primaries is FAILED_OVER else "redis-cluster-4"
        return told(words[3], self.primaries, {"redis-cluster-3": 1, replica: 2, "redis-cluster-5": 3})

    def machine(self, api: Api) -> Desk:
        del api
        where, plane = Path("nowhere"), FakeCluster({"session-0": HOSTS[0], "session-1": HOSTS[1]}).plane()
        return Desk("harmonyflow", where, where, lambda: HOSTS, docker=Docker(self.docker.run), plane=plane)


LIST_QUEUES = (
    "rabbitmqctl", "--quiet", "list_queues", "-p", "harmonyflow", "--formatter", "json",
    "name", "state", "leader", "members", "online",
)  # fmt: skip


@pytest.fixture
def cluster() -> StandingCluster:
    return StandingCluster()


def planned(name: str, cluster: Cluster, api: RecordedApi) -> FaultPlan:
    plan = fault_plan_in(read_scenario(PROJECT_ROOT, name), cluster, api.api())
    assert plan
    return plan


def test_a_member_is_resolved_with_its_pod_and_the_rules_that_allow_it(api: RecordedApi, cluster: StandingCluster):
    plan = planned("redis-kill-replica", cluster, api)
    assert plan.nothing == ""
    assert plan.members == (("redis-cluster-4", "replica of shard 2"),)
    assert (plan.nodes, plan.besides) == ((), ())
    assert plan.allowed == (
        CONTEXT,
        f"redis-cluster-4 (pod redis/redis-cluster-4 on hf-worker2): {REDIS_LABELLED}; {AGENT_2}",
    )


def test_whom_a_target_means_is_decided_by_the_roles_of_this_moment(api: RecordedApi):
    plan = planned("redis-kill-replica", StandingCluster(FAILED_OVER), api)
    assert plan.members == (("redis-cluster-1", "replica of shard 2"),)


def test_a_node_is_shown_with_all_that_it_takes_with_it(api: RecordedApi, cluster: StandingCluster):
    plan = planned("redis-failover", cluster, api)
    assert plan.nothing == ""
    assert plan.nodes == ("node-1",)
    assert plan.members == (
        ("redis-cluster-0", "primary of shard 1"),
        ("redis-cluster-3", "replica of shard 1"),
        ("session-0", "session"),
        ("collaboration-1", "collaboration"),
    )
    assert plan.besides == ("kube-system/coredns-x", "resilience/agent-hf-worker")
    assert plan.allowed[:2] == (
        CONTEXT,
        "node-1 (hf-worker): labelled harmonyflow.dev/role=platform, and not the observers' node",
    )
    assert [line.partition(":")[0] for line in plan.allowed[2:]] == [
        f"{name} (pod {'redis' if 'redis' in name else 'harmonyflow'}/{name} on hf-worker)" for name, _ in plan.members
    ]
    assert plan.steps == ("cut all links of node-1 (hf-worker) from inside, then kill its container",)
    assert plan.proofs[-1] == "Docker says of node-1 (hf-worker) what this has made of it, and that it was well before"


def test_nothing_is_changed_anywhere(api: RecordedApi, cluster: StandingCluster):
    planned("redis-failover", cluster, api)
    assert {method for method, _path, _query in api.asked} == {"GET"}
    assert cluster.docker.done == []


def node_that_is_no_platform_node(api: RecordedApi, _cluster: StandingCluster) -> None:
    nodes = [node(name, f"node-{number}") for number, name in enumerate(HOSTS, start=1)]
    api.answers["/api/v1/nodes"] = {"items": nodes}


def namespace_without_a_label(api: RecordedApi, _cluster: StandingCluster) -> None:
    api.answers["/api/v1/namespaces"] = {"items": [{"metadata": {"name": "redis"}}]}


def agents_of_other_namespaces(api: RecordedApi, _cluster: StandingCluster) -> None:
    for one in api.answers[pods_path("resilience")]["items"]:
        one["spec"]["containers"] = [{"env": [{"name": "AGENT_NAMESPACES", "value": "harmonyflow"}]}]


def node_without_an_agent(api: RecordedApi, _cluster: StandingCluster) -> None:
    api.answers[pods_path("resilience")]["items"].pop(1)


def node_that_is_broken(_api: RecordedApi, cluster: StandingCluster) -> None:
    cluster.docker.states["hf-worker"] = "paused"


def container_that_is_no_worker(_api: RecordedApi, cluster: StandingCluster) -> None:
    cluster.docker.roles["hf-worker"] = "control-plane"


def no_replica(api: RecordedApi, _cluster: StandingCluster) -> None:
    pods = api.answers[pods_path("redis")]["items"]
    pods[:] = [one for one in pods if one["metadata"]["name"] != "redis-cluster-4"]


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        (
            "redis-kill-replica",
            node_that_is_no_platform_node,
            "hf-worker2: it is not labelled harmonyflow.dev/role=platform",
        ),
        ("redis-kill-replica", namespace_without_a_label, "namespace redis is not the harness's"),
        ("redis-kill-replica", agents_of_other_namespaces, "does not touch namespace redis (only: harmonyflow)"),
        ("redis-kill-replica", node_without_an_agent, "(only: none, since none runs there)"),
        ("redis-kill-replica", no_replica, "no redis replica of shard 2"),
        (
            "redis-failover",
            node_that_is_no_platform_node,
            "hf-worker: it is not labelled harmonyflow.dev/role=platform",
        ),
        ("redis-failover", namespace_without_a_label, "namespace redis is not the harness's"),
        ("redis-failover", node_that_is_broken, "it is paused, connected already"),
        ("redis-failover", container_that_is_no_worker, "it is no worker of the kind cluster harmonyflow"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_who_may_not_suffer_is_refused_with_the_rule(
    name: str, spoil, words: str, api: RecordedApi, cluster: StandingCluster
):
    assert planned(name, cluster, api).nothing == ""
    spoil(api, cluster)
    assert words in planned(name, cluster, api).nothing


def test_in_a_cluster_that_a_file_names_the_rule_is_that_entry(api: RecordedApi, monkeypatch: pytest.MonkeyPatch):
    entry = NamedCluster(context="staging-admin", server="https://10.20.0.1:6443")
    cluster = Named(Path("nowhere"), "staging", entry, Path("nowhere"), "clusters.yaml: staging")
    monkeypatch.setattr(cluster, "kubectl", StandingCluster().kubectl)
    context = (
        "cluster staging: clusters.yaml: staging names context staging-admin, which leads to https://10.20.0.1:6443"
    )
    member = f"redis-cluster-4 (pod redis/redis-cluster-4 on hf-worker2): {REDIS_LABELLED}; {AGENT_2}"
    assert planned("redis-kill-replica", cluster, api).allowed == (context, member)
    assert "another kernel" in planned("node-drain", cluster, api).nothing
    namespace_without_a_label(api, StandingCluster())
    assert "namespace redis is not the harness's" in planned("redis-kill-replica", cluster, api).nothing


NOT_ON_KIND = {"redis-pause-replica-kill-primary": "a prelude is not possible in a cluster"}


def could_be_on_kind(name: str) -> bool:
    """Whether there are manifests of all that its stack has."""
    stack = read_scenario(PROJECT_ROOT, name).stack
    return stack.postgresql is None and stack.rabbitmq is None


SHIPPED = [name for name in list_scenarios(PROJECT_ROOT) if name != "baseline" and could_be_on_kind(name)]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_fault_has_words_for_what_it_does_in_a_cluster(
    name: str, api: RecordedApi, cluster: StandingCluster
):
    plan = fault_plan_in(scenario := read_scenario(PROJECT_ROOT, name), cluster, api.api())
    if plan is None:
        assert scenario.experiment is None
        return
    assert plan.nothing.startswith(NOT_ON_KIND.get(name, ""))
    assert bool(plan.nothing) == (name in NOT_ON_KIND)
    assert plan.nothing or (plan.members and plan.proofs and plan.allowed)
    assert not any(marker in line for line in (*plan.steps, *plan.proofs) for marker in ("{", "10.244.", "_"))


def test_it_is_all_on_the_screen(api: RecordedApi, cluster: StandingCluster):
    output = io.StringIO()
    console_for(output).print(plan_screen(FAILOVER, [planned("redis-failover", cluster, api)], "baseline/1: pass"))
    text = " ".join(output.getvalue().split())
    assert "redis-cluster-3 (replica of shard 1)" in text
    assert "kube-system/coredns-x" in text
    assert "labelled harmonyflow.dev/role=platform, and not the observers' node" in text
    assert "nothing was started or touched" in text


class NoCluster(StandingCluster):
    """There is none of that name."""

    def exists(self) -> bool:
        return False


class OthersCluster(StandingCluster):
    """Somebody else's of that name."""

    def exists(self) -> bool:
        return True

    def open(self) -> Api:
        raise StackError("the kind cluster harmonyflow is not the harness's")


class EmptyCluster(OthersCluster):
    """One of ours, in which no stack stands: only the lock's namespace."""

    def open(self) -> Api:
        lock = {"metadata": {"name": "resilience", "labels": LABELLED}}
        return RecordedApi({"/api/v1/namespaces/resilience": lock}).api()


@pytest.mark.parametrize(
    ("found", "words"),
    [(NoCluster, "no stack is up on kind"), (EmptyCluster, "no stack is up"), (OthersCluster, "not the harness's")],
)
def test_a_plan_without_a_stack_of_ours_is_one_line_and_4(
    found: type[StandingCluster], words: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(kind, "require_tools", lambda: None)
    monkeypatch.setattr(cluster_cli, "cluster_of", lambda _where: found())
    assert cli.main(["plan", "redis-failover", "--stack", "kind"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_plan_on_kind_from_the_command_line(
    api: RecordedApi, cluster: StandingCluster, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
):
    monkeypatch.setattr(cluster_cli, "standing", lambda _where: (cluster, api.api()))
    assert cli.main(["plan", "redis-failover", "--stack", "kind", "--reports", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "kind-harmonyflow" in shown
    assert "stack file" not in shown


def test_a_scenario_that_there_is_not_asks_no_cluster(capsys):
    assert cli.main(["plan", "no-such", "--stack", "kind"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def rabbitmq_pods(api: RecordedApi) -> None:
    """Three members, one on each worker, in a namespace of the harness's that agents touch."""
    pods = [
        pod(f"rabbitmq-{number}", component="rabbitmq", namespace="rabbitmq", host=host, ip=f"10.244.8.{number}")
        for number, host in enumerate(HOSTS)
    ]
    for one in pods:
        one["status"]["containerStatuses"][0]["state"]["running"] = {"startedAt": "2026-11-25T08:59:00Z"}
    space = {"metadata": {"name": "rabbitmq", "labels": LABELLED}}
    api.answers["/api/v1/namespaces"]["items"].append(space)
    api.answers["/api/v1/namespaces/rabbitmq"] = space
    api.answers[pods_path("rabbitmq")] = {"items": pods}
    for one in api.answers[pods_path("resilience")]["items"]:
        one["spec"]["containers"][0]["env"][0]["value"] = "redis, harmonyflow, rabbitmq"


def said_of_queues(leader: str) -> str:
    every = [f"rabbit@rabbitmq-{number}" for number in range(3)]
    queue = {"name": "session-events", "state": "running", "leader": leader, "members": every, "online": every}
    return json.dumps([queue])


def test_the_leader_of_a_queue_is_the_one_that_most_members_name(api: RecordedApi, cluster: StandingCluster):
    rabbitmq_pods(api)
    cluster.queues = {
        "rabbitmq-0": said_of_queues("rabbit@rabbitmq-2"),
        "rabbitmq-1": said_of_queues("rabbit@rabbitmq-2"),
        "rabbitmq-2": "Error: it is only starting",
    }
    plan = planned("rabbitmq-kill-leader", cluster, api)
    assert plan.nothing == ""
    assert [name for name, _part in plan.members] == ["rabbitmq-2"]
    assert plan.allowed[1].startswith(
        "rabbitmq-2 (pod rabbitmq/rabbitmq-2 on hf-worker3): namespace rabbitmq is labelled"
    )


def test_without_a_leader_that_most_members_name_there_is_no_target(api: RecordedApi, cluster: StandingCluster):
    rabbitmq_pods(api)
    cluster.queues = dict.fromkeys(("rabbitmq-0", "rabbitmq-1", "rabbitmq-2"), said_of_queues(""))
    assert "no rabbitmq" in planned("rabbitmq-kill-leader", cluster, api).nothing


def test_the_stack_that_stands_says_itself_what_it_is(api: RecordedApi):
    """Whatever has been asked for: one with other tiers is not shown as the shipped one."""
    assert cluster_cli.stack_in(api.api()) is None
    stack = read_scenario(PROJECT_ROOT, "rabbitmq-baseline").stack
    held = {"data": {"stack.json": msgspec.json.encode(stack).decode()}}
    api.answers["/api/v1/namespaces/redis/configmaps/stack"] = held
    assert cluster_cli.stack_in(api.api()) == stack
    held["data"]["stack.json"] = "{}"
    assert cluster_cli.stack_in(api.api()) is None
