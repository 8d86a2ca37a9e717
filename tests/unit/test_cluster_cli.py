import json
import os
import re
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from resilience import cli, cluster_cli
from resilience.backend import kind, preflight
from resilience.backend.kind import Kind
from resilience.backend.kubernetes import lease, tiers
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.lease import ClusterLock
from resilience.backend.kubernetes.manifests import NAMESPACES
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.tiers import Extent
from resilience.backend.kubernetes.workload import run_objects
from resilience.backend.preflight import GIB
from resilience.cluster_cli import (
    Ended,
    heal_left,
    members_table,
    missing_members,
    require_healed,
    require_reference_services,
    require_whole,
    shortened,
    wait_ready,
)
from resilience.cluster_run import prepared
from resilience.errors import FaultError, HostError, SpecError, StackError
from resilience.spec.content import Content
from resilience.spec.postgresql import Patroni, Postgresql
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.stack import Collaboration, Personalization, Programs
from resilience.stack.postgresql_role import QUESTION
from tests.fakes import FakeAgents, FakeLease, FakeMachine
from tests.unit.backend.kubernetes.cluster import HOSTS, NODES, Object, RecordedApi, pod, pods_path
from tests.unit.backend.test_kind import tool
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
STACK = read_stack(ROOT, "stacks/local/harmonyflow.yaml")
POSTGRESQL = Postgresql(primary="pg-0", replicas=("pg-1",))
SPACES = {"redis": "redis", "session": "harmonyflow", "collaboration": "harmonyflow", "edge": "harmonyflow"}
KEPT = [member for member in STACK.members if member.component not in {"loadgen", "direct-client"}]


def cluster(pods: list[Object]) -> RecordedApi:
    spaces = {space: [one for one in pods if one["metadata"]["namespace"] == space] for space in NAMESPACES.values()}
    return RecordedApi(
        {"/api/v1/nodes": NODES, **{pods_path(space): {"items": found} for space, found in spaces.items()}}
    )


def all_pods() -> list[Object]:
    agents = [pod(f"agent-{host}", component="agent", namespace="resilience", host=host) for host in HOSTS]
    members = [
        pod(member.name, component=member.component, namespace=SPACES.get(member.component, "monitoring"))
        for member in KEPT
    ]
    return [*members, *agents, pod("witness-x", component="witness", namespace="monitoring", host="hf-worker4")]


def test_a_stack_whose_pods_are_all_ready_is_ready():
    said: list[str] = []
    wait_ready(cluster(all_pods()).api(), STACK, time.monotonic() - 1, said.append)
    assert said == ["19 of 19 ready"]


def test_what_is_not_ready_is_told_with_its_reason():
    pods = all_pods()
    pods[0] = pod(
        "redis-cluster-0", ready=False, state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    )
    with pytest.raises(StackError, match="redis/redis-cluster-0: ErrImagePull: no such image"):
        wait_ready(cluster(pods).api(), STACK, time.monotonic() - 1, lambda _text: None)


def test_a_member_without_a_pod_is_named():
    with pytest.raises(StackError, match="no pod for edge-1"):
        wait_ready(
            cluster([one for one in all_pods() if one["metadata"]["name"] != "edge-1"]).api(),
            STACK,
            time.monotonic() - 1,
            lambda _text: None,
        )


def test_a_pod_that_a_quota_forbids_is_told_beside_one_that_is_late():
    pods = [one for one in all_pods() if one["metadata"]["name"] != "redis-cluster-5"]
    pods[0] = pod("redis-cluster-0", ready=False, state={"waiting": {"reason": "ContainerCreating"}})
    api = cluster(pods)
    refused = 'pods "redis-cluster-5" is forbidden: exceeded quota: memory'
    api.answers["/api/v1/namespaces/redis/events"] = {"items": [{"reason": "FailedCreate", "message": refused}]}
    with pytest.raises(StackError) as raised:
        wait_ready(api.api(), STACK, time.monotonic() - 1, lambda _text: None)
    told = str(raised.value)
    assert told.startswith("redis/redis-cluster-0: ContainerCreating")
    assert told.endswith(f"; no pod for redis-cluster-5; redis: FailedCreate: {refused}")


@pytest.mark.parametrize(
    ("without", "named"), [("agent-hf-worker2", "the agent of hf-worker2"), ("witness-x", "witness")]
)
def test_a_stack_that_no_fault_could_be_done_to_is_not_ready(without: str, named: str):
    pods = [one for one in all_pods() if one["metadata"]["name"] != without]
    with pytest.raises(StackError, match=f"no pod for {named}"):
        wait_ready(cluster(pods).api(), STACK, time.monotonic() - 1, lambda _text: None)


def test_the_loads_members_have_no_pods_before_a_run():
    assert missing_members(STACK, all_pods()) == []
    assert missing_members(STACK, []) == [member.name for member in KEPT]


def test_many_words_are_counted():
    assert shortened(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d, and 2 more"
    assert shortened(["a"]) == "a"


def test_the_table_tells_ready_from_running_from_gone():
    pods = all_pods()[:2]
    pods[1] = pod("redis-cluster-1", ready=False, restarts=3)
    states = KubernetesPlatform(cluster(pods).api(), STACK, str).states()
    console = Console(width=120)
    with console.capture() as shown:
        console.print(members_table(states, {"redis-cluster-0": "primary, shard 1"}, pods))
    rows = {line.split()[0]: line for line in shown.get().splitlines()}
    assert "primary, shard 1" in rows["redis-cluster-0"]
    assert "running, not ready" in rows["redis-cluster-1"]
    assert "not running" in rows["edge-0"]
    assert "loadgen" not in rows


class AskedServers(Kind):
    """A cluster in whose pods a question is answered with what a server says of itself, or not at all."""

    def __init__(self, folder: Path, answers: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._answers = answers

    def run(self, namespace: str, pod: str, argv: tuple[str, ...], text: str, timeout_s: float) -> str:
        assert (namespace, argv, text) == ("postgresql", cluster_cli.PSQL, QUESTION)
        assert timeout_s
        if pod not in self._answers:
            raise StackError(f"{pod}: no answer")
        return self._answers[pod]


def test_who_is_what_in_postgresql_is_said_by_its_servers(tmp_path: Path):
    stack = read_stack(ROOT, "stacks/local/postgresql.yaml")
    pods = [pod(member.name, component="postgresql", namespace="postgresql") for member in stack.of("postgresql")]
    states = KubernetesPlatform(cluster(pods).api(), stack, str).states()
    answers = {
        "postgresql-replica-0": json.dumps({"recovering": False, "timeline": 2, "written": 9}),
        "postgresql-replica-1": json.dumps({"recovering": True, "timeline": 2, "upstream": "postgresql-replica-0"}),
    }
    found = cluster_cli.postgresql_roles(AskedServers(tmp_path, answers), stack, states)
    assert {one.member: one.role for one in found} == {
        "postgresql-primary-0": "unreachable", "postgresql-replica-0": "primary", "postgresql-replica-1": "replica"
    }  # fmt: skip
    assert cluster_cli.postgresql_roles(AskedServers(tmp_path, {}), STACK, states) == ()


def test_a_stack_of_other_programs_is_refused_where_services_are_images():
    require_reference_services(STACK)
    other = msgspec.structs.replace(STACK, programs=Programs(session="tests.other"))
    with pytest.raises(SpecError, match=r"programs\.session: .*: use --stack local"):
        require_reference_services(other)
    articles = read_stack(ROOT, "stacks/local/content.yaml")
    require_reference_services(articles)
    require_reference_services(read_stack(ROOT, "stacks/local/personalization.yaml"))
    other = msgspec.structs.replace(articles, content=Content(program="tests.other"))
    with pytest.raises(SpecError, match=r"content\.program: .*: use --stack local"):
        require_reference_services(other)


def test_a_stack_with_a_tier_that_has_no_manifests_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiers, "TIERS", {})
    specs: dict[str, Any] = {
        "postgresql": POSTGRESQL,
        "rabbitmq": Rabbitmq(),
        "content": Content(),
        "personalization": Personalization(),
    }
    for tier, spec in specs.items():
        with pytest.raises(SpecError, match=rf"{tier}: .*: use --stack local"):
            require_reference_services(msgspec.structs.replace(STACK, **{tier: spec}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"postgresql": POSTGRESQL}, ""),
        ({"postgresql": POSTGRESQL, "rabbitmq": Rabbitmq()}, ""),
        ({"postgresql": POSTGRESQL, "collaboration": Collaboration(log="postgresql")}, ""),
        ({"postgresql": msgspec.structs.replace(POSTGRESQL, failover=Patroni())}, "postgresql.failover: "),
    ],
    ids=["promoted by a runbook", "beside RabbitMQ", "with rooms", "by Patroni"],
)
def test_what_of_postgresql_is_refused_in_a_cluster(changes: dict[str, Any], told: str):
    """Nobody leads PgBouncers there after Patroni yet."""
    stack = msgspec.structs.replace(STACK, **changes)
    if not told:
        require_reference_services(stack)
        return
    with pytest.raises(SpecError, match=rf"{told}.*: use --stack local"):
        require_reference_services(stack)


class BrokenNodes(Kind):
    """A cluster of whose nodes only this is known."""

    def __init__(self, *broken: str) -> None:
        super().__init__(Path("nowhere"))
        self.broken = list(broken)

    def broken_nodes(self) -> list[str]:
        return self.broken


def test_a_cluster_with_a_broken_node_is_not_begun_in():
    require_whole(BrokenNodes())
    with pytest.raises(StackError, match=r"hf-worker \(paused, connected\); 'resilience heal --stack kind'"):
        require_whole(BrokenNodes("hf-worker (paused, connected)"))


class Filled(BrokenNodes):
    """A cluster whose lock somebody may have, and that hears what is done in it."""

    def __init__(self, *broken: str, stands: tuple[str, ...] = ()) -> None:
        super().__init__(*broken)
        self.lease, self.stands = FakeLease(), stands
        self.agents: list[Object] = []
        self.told = FakeAgents({})
        self.done: list[str] = []
        self.owners: list[str] = []

    def open(self) -> Api:
        return Api(self._call, "a cluster", patience_s=0.0)

    def _call(self, method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        if "/leases" in path:
            return self.lease.call(method, path, query, body)
        name = path.rpartition("/")[2]
        if name not in self.stands:
            raise ApiError(f"{path}: none", 404)
        return json.dumps({"metadata": {"labels": {"harmonyflow.dev/harness": "allowed"}}}).encode()

    def make_room_for_lock(self) -> None:
        self.done.append("room for the lock")

    def fill(self, *_arguments: object) -> None:
        """What brings a stack up."""
        assert self.lease.lease, "nobody is kept out"
        self.owners.append(self.lease.lease["spec"]["holderIdentity"])
        self.done.append("filled")

    def doors(self, api: Api) -> tuple[tuple[str, str], ...]:
        del api
        return ()


def filling(monkeypatch: pytest.MonkeyPatch, found: Filled) -> Filled:
    monkeypatch.setattr(cluster_cli, "preflight", lambda *_: None)
    monkeypatch.setattr(cluster_cli, "build", lambda *_what: {})
    monkeypatch.setattr(cluster_cli, "cluster_of", lambda _where: found)
    monkeypatch.setattr(cluster_cli, "make_if_missing", lambda _found: None)
    monkeypatch.setattr(cluster_cli, "platform_of", lambda *_there: agents_of(cluster(found.agents), found.told))
    monkeypatch.setattr(cluster_cli, "bring_up", found.fill)
    return found


def test_no_stack_is_brought_up_on_a_broken_node(monkeypatch: pytest.MonkeyPatch):
    found = filling(monkeypatch, Filled("hf-worker (paused, connected)"))
    with pytest.raises(StackError, match="left the cluster harmonyflow broken"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    assert found.done == ["room for the lock"]
    assert found.lease.lease is None


def test_no_stack_is_brought_up_where_something_is_injected_still(monkeypatch: pytest.MonkeyPatch, fake: FakeAgents):
    found = filling(monkeypatch, Filled(stands=("resilience",)))
    found.agents = [one for one in all_pods() if one["metadata"]["name"].startswith("agent-")]
    found.told, fake.told = fake, injected(**{"hf-worker2": 1})
    with pytest.raises(StackError, match=r"left what it injected: redis-failover-1f0c \(hf-worker2\)"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    assert "filled" not in found.done
    assert found.lease.lease is None


@pytest.mark.parametrize(("stands", "refused"), [((), False), (("resilience",), False), (("redis",), True)])
def test_a_stack_is_brought_up_under_the_lock_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, stands: tuple[str, ...], refused: bool
):
    found = filling(monkeypatch, Filled(stands=stands))
    if refused:
        with pytest.raises(StackError, match="a stack is up already"):
            cluster_cli.up(read_scenario(ROOT, "baseline"))
    else:
        assert cluster_cli.up(read_scenario(ROOT, "baseline")) == 0
        (told,) = found.owners
        assert re.fullmatch(rf".+ on .+ \(process {os.getpid()}, up baseline\)", told)
    assert found.lease.lease is None, "whoever works next is not kept out"


def test_two_never_bring_a_stack_up_at_once_nor_beside_a_run(monkeypatch: pytest.MonkeyPatch):
    found = filling(monkeypatch, Filled())
    ClusterLock(found.open(), "somebody (up baseline)").take(break_stale=False)
    for break_lock in (False, True):
        with pytest.raises(StackError, match=r"in use by somebody \(up baseline\): wait for its end"):
            cluster_cli.up(read_scenario(ROOT, "baseline"), break_lock=break_lock)
    assert "filled" not in found.done
    assert found.lease.lease
    found.lease.lease["spec"]["renewTime"] = "2026-11-25T11:00:00.000000Z"
    with pytest.raises(StackError, match="--break-lock takes it"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    assert cli.main(["up", "--stack", "kind", "--break-lock"]) == 0
    assert found.done[-1] == "filled"


def test_an_up_that_is_ended_lets_the_lock_go(monkeypatch: pytest.MonkeyPatch):
    found = filling(monkeypatch, Filled())
    monkeypatch.setattr(cluster_cli, "bring_up", lambda *_arguments: signal.raise_signal(signal.SIGTERM))
    assert cluster_cli.up(read_scenario(ROOT, "baseline")) == 143
    assert found.lease.lease is None


def test_an_up_whose_lock_is_taken_is_broken_off(monkeypatch: pytest.MonkeyPatch):
    found = filling(monkeypatch, Filled())
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.01)

    def taken(*_arguments: object) -> None:
        assert found.lease.lease
        found.lease.lease["spec"]["holderIdentity"] = "somebody"
        until(lambda: False)

    monkeypatch.setattr(cluster_cli, "bring_up", taken)
    with pytest.raises(StackError, match=r"^broken off: the lock on the cluster was taken away: somebody holds it$"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    assert found.lease.lease


class HealedNodes(Kind):
    """A cluster that stands, and of whose agents none comes back."""

    def exists(self) -> bool:
        return True

    def open(self) -> Api:
        return Api(lambda *_question: b"{}", "a cluster")

    trouble, agents_trouble = "", "daemonset/agent is not ready"

    def put_nodes_right(self) -> list[str]:
        if self.trouble:
            raise StackError(self.trouble)
        return ["node hf-worker: let go on"]

    def wait_agents(self) -> None:
        if self.agents_trouble:
            raise StackError(self.agents_trouble)


@pytest.fixture
def healed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: FakeAgents) -> HealedNodes:
    """What is healed: an agent's injection, beside a node."""
    found = HealedNodes(tmp_path)
    monkeypatch.setattr(kind, "require_tools", lambda: None)
    monkeypatch.setattr(cluster_cli, "namespaces_up", lambda _api: ["redis"])
    monkeypatch.setattr(cluster_cli, "cluster_of", lambda _where: found)
    monkeypatch.setattr(cluster_cli, "platform_of", lambda *_there: agents_of(cluster(all_pods()), fake))
    fake.told = injected(**{"hf-worker2": 1})
    return found


NODE_HEALED, INJECTION = "node hf-worker: let go on\n", "redis-failover-1f0c"


@pytest.mark.parametrize(
    ("trouble", "agents_trouble", "said"),
    [
        ("Docker is away", "", f"{INJECTION}: healed\n"),
        ("", "daemonset/agent is not ready", f"{NODE_HEALED}{INJECTION}: healed\n"),
    ],
)
def test_what_cannot_be_healed_keeps_nothing_else_from_it(
    healed: HealedNodes, capsys: pytest.CaptureFixture[str], trouble: str, agents_trouble: str, said: str
):
    healed.trouble, healed.agents_trouble = trouble, agents_trouble
    with pytest.raises(StackError, match=trouble or agents_trouble):
        cluster_cli.heal(STACK)
    assert capsys.readouterr().out == said


def test_an_injection_that_cannot_be_ended_keeps_no_other_from_its_end(
    healed: HealedNodes, fake: FakeAgents, capsys: pytest.CaptureFixture[str]
):
    healed.agents_trouble = ""
    fake.told |= {"hf-worker": {"injection": {"id": "another-1", "steps": [{}]}, "parts": 1}}
    fake.refuses_undo.add("hf-worker")
    with pytest.raises(StackError, match="could not be ended: injection another-1: not ended everywhere"):
        cluster_cli.heal(STACK)
    assert capsys.readouterr().out == f"{NODE_HEALED}{INJECTION}: healed\n"


@pytest.mark.parametrize("blind", [False, True])
def test_what_is_not_seen_to_have_ended_is_told_and_4(
    healed: HealedNodes, fake: FakeAgents, capsys: pytest.CaptureFixture[str], blind: bool
):
    healed.agents_trouble = ""
    fake.blind = {"hf-worker2"} if blind else set()
    assert cluster_cli.heal(STACK) == (4 if blind else 0)
    assert capsys.readouterr().out.splitlines()[-1] == f"{INJECTION}: healed{', but it is not proved' if blind else ''}"


def test_what_only_looks_cannot_be_known_and_all_is_ended_all_the_same(
    fake: FakeAgents, monkeypatch: pytest.MonkeyPatch
):
    def unknown(_self: KubernetesPlatform) -> dict[str, list[str]]:
        raise FaultError("the agent of hf-worker cannot be asked")

    monkeypatch.setattr(KubernetesPlatform, "left_injections", unknown)
    fake.told, fake.blind = injected(**{"hf-worker2": 1}), {"hf-worker2"}
    ended: list[Ended] = []
    with pytest.raises(StackError, match="could not be ended: the agent of hf-worker cannot be asked"):
        heal_left(agents_of(cluster(all_pods()), fake), ended.append)
    assert ended == [Ended(INJECTION, proved=False)]


def test_that_one_which_only_looked_sees_nothing_any_more_is_no_trouble(healed: HealedNodes, fake: FakeAgents):
    healed.agents_trouble = ""
    fake.told = injected(witness=0)
    fake.blind = {"witness"}
    assert cluster_cli.heal(STACK) == 0


class UsedCluster(Kind):
    """A cluster whose lock somebody has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lease, self.deleted = FakeLease(), False

    def exists(self) -> bool:
        return True

    def open(self) -> Api:
        return Api(self.lease.call, "a cluster")

    def delete(self) -> None:
        self.deleted = True


def test_a_cluster_that_a_run_uses_is_not_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    used = UsedCluster(tmp_path)
    monkeypatch.setattr(kind, "require_tools", lambda: None)
    monkeypatch.setattr(cluster_cli, "cluster_of", lambda _where: used)
    lock = ClusterLock(used.open(), "somebody (redis-failover)")
    lock.take(break_stale=False)
    with pytest.raises(StackError, match=r"in use by somebody \(redis-failover\)"):
        cluster_cli.down()
    assert not used.deleted
    lock.give()
    assert cluster_cli.down() == 0
    assert used.deleted


def agents_of(api: RecordedApi, fake: FakeAgents, machine: FakeMachine | None = None) -> KubernetesPlatform:
    agents = Agents(api.api(), fake.run, machine=machine, sleep=lambda _seconds: None, patience_s=0.0)
    return KubernetesPlatform(api.api(), STACK, str, agents=agents)


@pytest.fixture
def fake() -> FakeAgents:
    return FakeAgents({f"agent-{host}": host for host in HOSTS} | {"witness-x": "witness"})


def injected(**steps: int) -> dict[str, dict[str, object]]:
    """What agents were told of one injection: how many steps of it each takes."""
    return {
        agent: {"injection": {"id": "redis-failover-1f0c", "steps": [{}] * count}, "parts": len(steps)}
        for agent, count in steps.items()
    }


def test_what_an_older_run_has_injected_is_listed_and_nothing_begins(fake: FakeAgents):
    api, machine = cluster(all_pods()), FakeMachine()
    require_healed(agents_of(api, fake, machine))
    fake.told = injected(**{"hf-worker2": 2, "witness": 0})
    machine.told["node-freeze-77aa"] = {"injection": {"steps": []}}
    with pytest.raises(StackError, match="an older run has left what it injected: ") as raised:
        require_healed(agents_of(api, fake, machine))
    assert "node-freeze-77aa (machine), redis-failover-1f0c (hf-worker2);" in str(raised.value)
    assert "'resilience heal --stack kind' ends it" in str(raised.value)
    assert {command for _agent, command in fake.asked} == {"open"}


def test_who_only_looks_is_in_nobodys_way(fake: FakeAgents):
    fake.told = injected(witness=0)
    platform = agents_of(cluster(all_pods()), fake)
    assert platform.open_injections() == {"witness": ["redis-failover-1f0c"]}
    require_healed(platform)


def test_what_was_healed_is_in_nobodys_way(fake: FakeAgents):
    fake.told = injected(**{"hf-worker2": 1})
    fake.ended_by["hf-worker2"] = "ttl"
    require_healed(agents_of(cluster(all_pods()), fake))


def test_an_agent_that_was_never_started_has_left_nothing(fake: FakeAgents):
    require_healed(agents_of(cluster([]), fake))
    assert fake.asked == []


def test_an_agent_that_runs_and_cannot_be_asked_may_know_of_something(fake: FakeAgents):
    fake.away["hf-worker"] = 9
    with pytest.raises(StackError, match=r"cannot be known: the agent of hf-worker cannot be asked"):
        require_healed(agents_of(cluster(all_pods()), fake))


class Looked(Kind):
    """A cluster that is there or not; its observers' node has the images, or cannot be asked."""

    there, answers, ours = True, True, True
    quotas: tuple[Object, ...] = ()
    memory = ""

    def meminfo(self) -> str:
        return self.memory

    def exists(self) -> bool:
        return self.there

    def open(self) -> Api:
        if not self.ours:
            raise StackError("the kind cluster harmonyflow is not the harness's")
        space = "/api/v1/namespaces/resilience"
        return RecordedApi({f"{space}/resourcequotas": {"items": self.quotas}, f"{space}/pods": {}}).api()

    def images_by_node(self) -> dict[str, set[str]]:
        if not self.answers:
            raise StackError("hf-worker: it is paused")
        return {"hf-worker": set(), "hf-worker4": {"redis:7.4.2"}}


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Looked:
    found = Looked(tmp_path)
    monkeypatch.setattr(cluster_cli, "cluster_of", lambda _where: found)
    monkeypatch.setattr(kind, "require_tools", lambda: None)
    monkeypatch.setattr(cluster_cli, "stack_objects", lambda _extent: ASKS_FOR_NOTHING)
    monkeypatch.setattr(preflight, "docker_info", lambda: {"MemTotal": 8 * GIB, "NCPU": 2})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RESILIENCE_IMAGES", raising=False)
    return found


ASKS_FOR_NOTHING = [{"kind": "Pod", "spec": {"containers": [{"image": "redis:7.4.2"}]}}]


def test_a_cluster_that_has_the_images_is_enough(looked: Looked):
    cluster_cli.preflight(looked)
    assert looked.there


@pytest.mark.parametrize(("there", "answers"), [(False, True), (True, False)])
def test_images_that_nodes_would_have_to_pull_are_looked_for(
    looked: Looked, tmp_path: Path, there: bool, answers: bool
):
    looked.there, looked.answers = there, answers
    tool(tmp_path, "docker", "no such manifest", 1)
    with pytest.raises(HostError, match=r"image redis:7.4.2 cannot be pulled"):
        cluster_cli.preflight(looked)
    tool(tmp_path, "docker", "{}")
    cluster_cli.preflight(looked)


def test_a_cluster_of_somebody_else_is_left_alone_before_anything_is_built(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
):
    looked.ours = False
    monkeypatch.setattr(cluster_cli, "build", lambda *_what: pytest.fail("something was built"))
    with pytest.raises(StackError, match="not the harness's"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    looked.ours = True
    cluster_cli.preflight(looked)


def test_a_machine_that_is_too_small_is_told_before_anything_is_made(looked: Looked, monkeypatch: pytest.MonkeyPatch):
    assert looked.there
    monkeypatch.setattr(preflight, "docker_info", lambda: {"MemTotal": GIB, "NCPU": 2})
    monkeypatch.setattr(cluster_cli, "build", lambda *_what: pytest.fail("something was built"))
    with pytest.raises(HostError, match=r"1.0 GiB of memory, 1.3 GiB too little"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))
    with pytest.raises(HostError, match="GiB too little"):
        prepared(Path("nowhere"), break_lock=False)


def test_room_is_needed_for_each_process_of_the_load(looked: Looked, monkeypatch: pytest.MonkeyPatch):
    assert looked.there
    asked = partial(run_objects, "harmonyflow/resilience")
    monkeypatch.setattr(cluster_cli, "stack_objects", lambda extent: asked(extent.workers))
    monkeypatch.setattr(cluster_cli, "build", lambda *_what: pytest.fail("something was built"))
    with pytest.raises(HostError, match=r"one node is asked for 3.\d processors, Docker has 2$"):
        cluster_cli.up(read_scenario(ROOT, "baseline", ["load.workers=8"]))
    with pytest.raises(HostError, match=r"one node is asked for 3.\d processors"):
        prepared(Path("nowhere"), break_lock=False, extent=Extent(workers=8))


@pytest.mark.parametrize("up", [[], ["resilience"], ["redis", "resilience"], None])
def test_a_quota_that_is_too_small_is_told_before_anything_is_made(
    looked: Looked, monkeypatch: pytest.MonkeyPatch, up: list[str] | None
):
    """Of a namespace that stays; those of a stack are made anew."""
    metadata = {"name": "small", "namespace": "resilience"}
    looked.quotas = ({"metadata": metadata, "spec": {"hard": {"pods": "0"}}},)
    asks = [{**ASKS_FOR_NOTHING[0], "metadata": {"namespace": "resilience"}}]
    monkeypatch.setattr(cluster_cli, "stack_objects", lambda _extent: asks)
    monkeypatch.setattr(cluster_cli, "build", lambda *_what: pytest.fail("something was built"))

    def spaces(_api: Api) -> list[str]:
        if up is None:
            raise StackError("namespace resilience is still being ended")
        return up

    monkeypatch.setattr(cluster_cli, "namespaces_up", spaces)
    if not up:
        cluster_cli.preflight(looked)
        return
    with pytest.raises(HostError, match=r"fit into the cluster: ResourceQuota resilience/small leaves 1 of pods too"):
        cluster_cli.up(read_scenario(ROOT, "baseline"))


@pytest.mark.parametrize(
    ("stands", "free_mib", "missing"), [("", 400, "0.1"), ("", 600, ""), ("redis", 800, ""), ("redis", 700, "0.1")]
)
def test_what_something_else_has_taken_is_missing(
    looked: Looked, monkeypatch: pytest.MonkeyPatch, stands: str, free_mib: int, missing: str
):
    """A run adds a quarter of a GiB to a stack that stands, and half a one is kept free beside it."""
    looked.memory = f"MemAvailable: {free_mib * 1024} kB"
    monkeypatch.setattr(cluster_cli, "namespaces_up", lambda _api: ["resilience", *filter(None, [stands])])
    if missing:
        with pytest.raises(HostError, match=f"GiB of free memory, {missing} GiB too little .*of 8.0 in all"):
            cluster_cli.preflight(looked)
    else:
        cluster_cli.preflight(looked)


@pytest.mark.parametrize(
    "command",
    [
        ["up", "--stack", "kind"],
        ["run", "baseline", "--stack", "kind"],
        ["plan", "redis-failover", "--stack", "kind"],
        ["image", "--stack", "kind"],
    ],
    ids=lambda command: command[0],
)
def test_without_docker_there_is_one_line_and_4(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(command) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "docker is not on PATH: install it (https://" in line
    assert list(tmp_path.iterdir()) == []
