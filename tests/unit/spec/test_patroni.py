"""Failover by Patroni: what is read, and what is refused, in a stack and in an experiment on it."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest

from resilience.errors import SpecError
from resilience.spec.fault import Target
from resilience.spec.postgresql import Manual, Patroni
from resilience.spec.postgresql_coherence import ETCD_ELECTION_S
from resilience.spec.read import read_scenario, read_stack
from tests.unit.spec.postgresql_project import MEMBERS, with_tier_of

ROOT = Path(__file__).resolve().parents[3]
PATRONI = """\
postgresql:
  primary: pg-0
  replicas: [pg-1, pg-2]
  durability: {mode: any, standbys: 1}
  max_connections: 200
  failover: {mode: patroni, ttl_s: 20, loop_wait_s: 5, retry_timeout_s: 5, synchronous_mode: quorum}
"""
ETCD = """\
  - {name: etcd-0, component: etcd, node: node-1}
  - {name: etcd-1, component: etcd, node: node-2}
  - {name: etcd-2, component: etcd, node: node-3}
"""
with_tier = partial(with_tier_of, PATRONI + MEMBERS + ETCD)


def on_primary(project: Path, fault: str = "kind: kill, restart: false", role: str = "primary") -> Path:
    """The project, in whose experiment PostgreSQL's primary suffers."""
    path = with_tier(project) / "experiments/lose-node.yaml"
    text = path.read_text().replace("kind: power-off", fault)
    path.write_text(text.replace("component: redis, role: primary, shard: 1, scope: node",
                                 f"component: postgresql, role: {role}"))  # fmt: skip
    return project


def test_the_shipped_stack_is_the_one_with_a_runbook_but_for_its_failover() -> None:
    one, other = (read_stack(ROOT, f"stacks/local/{name}.yaml") for name in ("postgresql", "postgresql-patroni"))
    assert one.postgresql is not None
    assert other.postgresql is not None
    assert other.postgresql.failover == Patroni()
    assert [member.name for member in other.of("etcd")] == ["etcd-0", "etcd-1", "etcd-2"]
    members = tuple(member for member in other.members if member.component != "etcd")
    tier = msgspec.structs.replace(other.postgresql, failover=Manual())
    assert msgspec.structs.replace(other, name=one.name, postgresql=tier, members=members) == one


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    old: str
    new: str
    expect: str


REFUSED = (
    Case(
        name="times",
        old="loop_wait_s: 5",
        new="loop_wait_s: 11",
        expect="postgresql.failover.ttl_s: expected at least 21, loop_wait_s + 2 * retry_timeout_s",
    ),
    Case(name="least ttl", old="ttl_s: 20", new="ttl_s: 19", expect="postgresql.failover.ttl_s: expected"),
    Case(name="least loop", old="wait_s: 5", new="wait_s: 0", expect="postgresql.failover.loop_wait_s: expected"),
    Case(
        name="least retry",
        old="timeout_s: 5",
        new="timeout_s: 2",
        expect="postgresql.failover.retry_timeout_s: expected",
    ),
    Case(
        name="retry within an election",
        old="timeout_s: 5",
        new="timeout_s: 4",
        expect="postgresql.failover.retry_timeout_s: expected at least 5: etcd may take 4 s to elect another leader",
    ),
    Case(name="mode", old="mode: patroni", new="mode: repmgr", expect="failover.mode: expected one of manual, patroni"),
    Case(
        name="a runbook's field",
        old="mode: patroni,",
        new="mode: patroni, operator_delay_s: 5,",
        expect="postgresql.failover.operator_delay_s: unknown field",
    ),
    Case(
        name="two etcd",
        old="  - {name: etcd-2, component: etcd, node: node-3}\n",
        new="",
        expect="members: expected 3 etcd, of which a majority decides (got 2)",
    ),
    Case(
        name="etcd on one node",
        old="{name: etcd-1, component: etcd, node: node-2}",
        new="{name: etcd-1, component: etcd, node: node-1}",
        expect="members: expected every etcd on a node of its own",
    ),
    Case(
        name="etcd on no platform node",
        old="{name: etcd-1, component: etcd, node: node-2}",
        new="{name: etcd-1, component: etcd, node: observer}",
        expect="node: expected one of node-1, node-2, node-3",
    ),
    Case(
        name="etcd that nobody asks",
        old="mode: patroni, ttl_s: 20, loop_wait_s: 5, retry_timeout_s: 5, synchronous_mode: quorum",
        new="mode: manual",
        expect="members: expected no etcd: only postgresql.failover patroni asks it",
    ),
    Case(
        name="quorum of nobody",
        old="{mode: any, standbys: 1}",
        new="{mode: async}",
        expect="postgresql.failover.synchronous_mode: expected postgresql.durability any with it",
    ),
    Case(
        name="in order of nobody",
        old="synchronous_mode: quorum",
        new="synchronous_mode: 'on'",
        expect="postgresql.failover.synchronous_mode: expected postgresql.durability first with it",
    ),
    Case(
        name="strict about nothing",
        old="synchronous_mode: quorum",
        new="synchronous_mode_strict: true",
        expect="postgresql.failover.synchronous_mode_strict: expected false where synchronous_mode is off",
    ),
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_failover_that_cannot_work_is_refused_with_the_field(project: Path, case: Case) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(with_tier(project, case.old, case.new), "failover")
    assert case.expect in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_time_at_its_bound_is_taken_and_changed_as_in_the_file(project: Path) -> None:
    stack = read_scenario(with_tier(project), "failover", ["postgresql.failover.loop_wait_s=10"]).stack
    assert stack.postgresql is not None
    assert stack.postgresql.failover == Patroni(ttl_s=20, loop_wait_s=10, retry_timeout_s=5, synchronous_mode="quorum")
    with pytest.raises(SpecError, match=r"postgresql.failover.operator_delay_s: unknown field"):
        read_scenario(project, "failover", ["postgresql.failover.operator_delay_s=5"])


def test_an_election_is_held_to_take_as_long_as_etcd_is_told() -> None:
    told = re.search(r"^election-timeout: (\d+)$", (ROOT / "stacks/etcd/etcd.yml.j2").read_text(), re.MULTILINE)
    assert told is not None
    assert 2 * int(told[1]) == ETCD_ELECTION_S * 1_000  # milliseconds; each member waits for one to two times as long


def test_nobody_is_promoted_by_a_runbook_where_patroni_does_it(project: Path) -> None:
    path = with_tier(project) / "experiments/lose-node.yaml"
    proved = "func: in_effect, arguments: {when: injected}}\n"
    step = "  - type: action\n    name: promote\n    provider: {type: python, module: %s, func: promote}\n"
    path.write_text(path.read_text().replace(proved, proved + step % "resilience.chaos.actions"))
    with pytest.raises(SpecError, match=r"method: expected no promote: small has postgresql.failover patroni"):
        read_scenario(project, "failover")


def test_nor_is_anybody_fenced_by_hand(project: Path) -> None:
    path = with_tier(project) / "experiments/lose-node.yaml"
    healed = "chaos.probes, func: healed}\n"
    step = "  - type: action\n    name: rejoin\n    provider: {type: python, module: %s, func: rejoin}\n"
    path.write_text(path.read_text().replace(healed, healed + step % "resilience.chaos.actions"))
    with pytest.raises(SpecError, match=r"method: expected no rejoin: small has postgresql.failover patroni"):
        read_scenario(project, "failover")


def test_a_fault_outlasts_patroni_by_enough_to_be_judged(project: Path) -> None:
    path = on_primary(project) / "scenarios/redis/failover.yaml"
    path.write_text(path.read_text().replace("fault_s: 25", "fault_s: 35"))
    assert read_scenario(project, "failover").timeline.fault_s == 35
    with pytest.raises(SpecError, match=r"timeline.fault_s: expected at least 35 s, Patroni's ttl_s and loop_wait_s"):
        read_scenario(project, "failover", ["timeline.fault_s=34"])


@pytest.mark.parametrize("fault", ["kind: pause", "kind: partition, cut_from: clients"])
def test_nor_is_one_shorter_that_parts_a_primary_from_etcd(project: Path, fault: str) -> None:
    with pytest.raises(SpecError, match=r"timeline.fault_s: expected at least 35 s"):
        read_scenario(on_primary(project, fault), "failover")


def test_a_primary_that_goes_on_without_etcd_is_not_waited_for(project: Path) -> None:
    stack = on_primary(project, "kind: partition, cut_from: clients") / "stacks/small.yaml"
    stack.write_text(stack.read_text().replace("mode: patroni", "mode: patroni, failsafe_mode: true"))
    assert read_scenario(project, "failover").timeline.fault_s == 25


@pytest.mark.parametrize(
    ("fault", "role"),
    [
        ("kind: kill, restart: true", "primary"),
        ("kind: kill, restart: false", "replica"),
        ("kind: partition, cut_from: peers", "primary"),  # it keeps its key in etcd
    ],
)
def test_a_fault_after_which_nobody_is_replaced_need_not_last(project: Path, fault: str, role: str) -> None:
    assert read_scenario(on_primary(project, fault, role), "failover").timeline.fault_s == 25


@pytest.mark.parametrize("fault", ["kind: kill, restart: false", "kind: pause", "kind: partition, cut_from: peers"])
def test_a_member_of_etcd_can_be_a_target(project: Path, fault: str) -> None:
    path = with_tier(project) / "experiments/lose-node.yaml"
    text = path.read_text().replace("kind: power-off", fault)
    path.write_text(text.replace("component: redis, role: primary, shard: 1, scope: node", "component: etcd"))
    experiment = read_scenario(project, "failover").experiment
    assert experiment is not None
    assert experiment.target == Target(component="etcd")


@pytest.mark.parametrize(
    ("fault", "target", "expect"),
    [
        ("kind: kill, restart: false", "component: etcd, role: primary", "target.role: expected any"),
        ("kind: fast-restart, data: gone", "component: etcd", "fault.data: expected kept"),
        ("kind: fast-restart, data: gone", "component: redis, scope: node", "fault.data: expected kept"),
        ("kind: rolling-restart", "component: etcd, scope: component", "target.component: expected a service"),
    ],
)
def test_what_cannot_be_done_to_etcd_is_refused(project: Path, fault: str, target: str, expect: str) -> None:
    path = with_tier(project) / "experiments/lose-node.yaml"
    text = path.read_text().replace("kind: power-off", fault)
    path.write_text(text.replace("component: redis, role: primary, shard: 1, scope: node", target))
    with pytest.raises(SpecError) as caught:
        read_scenario(project, "failover")
    assert expect in str(caught.value)
