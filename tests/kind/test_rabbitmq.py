"""RabbitMQ in a real cluster: who gets in, faults that are proved and healed, and the queues as their members see them.

The stack with it takes the place of another one that stands.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience import cluster_cli, cluster_plan
from resilience.backend.kind import Kind
from resilience.backend.kubernetes.cluster import namespaces_up, platform_of
from resilience.backend.kubernetes.tiers import tiers_of
from resilience.backend.local.place import PROJECT_ROOT
from resilience.fault.injector import Injector, heal_all
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.spec.fault import FaultSpec, Kill, Partition, Pause
from resilience.spec.rabbitmq import DISTRIBUTION_PORT, MANAGEMENT_PORT, METRICS_PORT, SERVER_PORT, all_queues
from resilience.spec.read import read_scenario
from tests.kind.conftest import Field
from tests.kind.test_agent import failed
from tests.kind.test_stack import connecting
from tests.waiting import until

pytestmark = pytest.mark.kind

STACK = read_scenario(PROJECT_ROOT, "rabbitmq-baseline").stack
MEMBERS = tuple(member.name for member in STACK.of("rabbitmq"))
EPMD_PORT = 4369  # by which members find each other's port
WORKING: list[tuple[str, FaultSpec, str]] = [
    ("pause", Pause(), "rabbitmq-1"),
    ("partition from peers", Partition(cut_from="peers"), "rabbitmq-2"),
    ("partition from clients", Partition(cut_from="clients"), "rabbitmq-2"),
    ("kill, held back", Kill(restart=False), "rabbitmq-0"),
]


@pytest.fixture(scope="module")
def queues(cluster: Kind) -> Kind:
    """The cluster, with RabbitMQ in it."""
    api = cluster.open()
    if "rabbitmq" not in namespaces_up(api):
        cluster_cli.clear(cluster, api)
        cluster_cli.bring_up(cluster, api, STACK, cluster_cli.build(cluster, tiers_of(STACK)))
    return cluster


@pytest.fixture
def with_queues(queues: Kind, tmp_path: Path) -> Iterator[Field]:
    """As `field`; every test ends with queues that have all copies."""
    platform = platform_of(queues, queues.open(), STACK)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    injector = Injector(platform=platform, roles=lambda: (), ledger=ledger, clock=RunClock.starting_now())
    yield Field(queues, platform, injector)
    heal_all(injector, lambda _injection, _undone: None)  # of a test that failed
    assert platform.open_injections() == {}
    until(lambda: led_and_followed(queues) == set(all_of_them()), 90, every_s=2.0)


def all_of_them() -> Iterator[tuple[str, int]]:
    assert STACK.rabbitmq is not None
    for queue in all_queues(STACK.rabbitmq):
        yield queue, len(MEMBERS)


def led_and_followed(cluster: Kind) -> set[tuple[str, int]]:
    """Each queue that most members know a leader of, and how many have a copy of it."""
    states = platform_of(cluster, cluster.open(), STACK).states()
    found = cluster_cli.queue_roles(cluster, states)
    led = {role.queue for role in found if role.role == "leader"}
    return {(queue, sum(role.queue == queue for role in found)) for queue in led}


def test_each_node_has_a_member_and_each_member_leads_a_queue(with_queues: Field) -> None:
    """As `local` begins: each queue is declared on its own member."""
    states = [state for state in with_queues.platform.states() if state.component == "rabbitmq"]
    assert sorted(state.node for state in states) == sorted(STACK.nodes)
    found = cluster_cli.queue_roles(with_queues.cluster, states)
    assert {role.member for role in found if role.role == "leader"} <= set(MEMBERS)
    assert led_and_followed(with_queues.cluster) == set(all_of_them())


def test_who_gets_in_by_which_port(with_queues: Field) -> None:
    states = {state.name: state for state in with_queues.platform.states()}
    address, session = states["rabbitmq-0"].address, states["session-0"].handle["pod"]
    witness = with_queues.cluster.kubectl(
        "get", "pods", "-n", "monitoring", "-l", "app.kubernetes.io/component=witness", "-o",
        "jsonpath={.items[0].metadata.name}",
    )  # fmt: skip
    ports = (SERVER_PORT, MANAGEMENT_PORT, METRICS_PORT, EPMD_PORT, DISTRIBUTION_PORT)
    came = {
        pod: [connecting(with_queues, space, pod, address, port) for port in ports]
        for space, pod in (("harmonyflow", session), ("monitoring", witness))
    }
    in_, out = "connected", "no answer"
    assert came == {session: [in_, out, out, out, out], witness: [in_, in_, in_, out, out]}


def test_whom_a_plan_means_is_the_leader_of_this_moment(with_queues: Field) -> None:
    plan = cluster_plan.fault_plan(read_scenario(PROJECT_ROOT, "rabbitmq-kill-leader"))
    assert plan
    assert plan.nothing == ""
    states = with_queues.platform.states()
    found = cluster_cli.queue_roles(with_queues.cluster, states)
    leaders = [role.member for role in found if (role.queue, role.role) == ("session-events", "leader")]
    assert [name for name, _part in plan.members] == leaders


def test_status_tells_who_leads_what(with_queues: Field, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_queues.platform.states()
    assert cluster_cli.status(read_scenario(PROJECT_ROOT, "baseline").stack) == 0
    assert "leads session-events" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "fault", "member"), WORKING, ids=[name for name, _fault, _member in WORKING])
def test_it_is_proved_and_healed(with_queues: Field, name: str, fault: FaultSpec, member: str) -> None:
    before = with_queues.platform.state(member)
    injection = with_queues.plan(fault, member)
    with_queues.injector.inject(injection)
    assert failed(with_queues.injector.probe(injection.id)) == [], name
    healed = with_queues.injector.heal(injection.id, "request")
    assert failed(healed.proof) == []
    assert healed.by == "request"
    restarted = isinstance(fault, Kill)
    until(lambda: with_queues.platform.state(member).restarts == before.restarts + restarted, 30, every_s=0.5)
