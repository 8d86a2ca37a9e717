"""A stack's PostgreSQL tier: what is read, what is refused, and what it is called by."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.errors import SpecError
from resilience.history.transaction import ISOLATION
from resilience.spec.fault import Target
from resilience.spec.fingerprint import digest, digest_without_absent
from resilience.spec.load import Load
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, FirstStandbys, Postgresql, Runbook
from resilience.spec.read import read_scenario, read_stack
from tests.unit.spec.postgresql_project import MEMBERS, with_tier_of

ROOT = Path(__file__).resolve().parents[3]
POSTGRESQL = """\
postgresql: {primary: pg-0, replicas: [pg-1, pg-2], durability: {mode: any, standbys: 1}, max_connections: 200}
"""
with_tier = partial(with_tier_of, POSTGRESQL + MEMBERS)


def test_the_shipped_stack_is_the_other_one_and_the_tier() -> None:
    one, other = (read_stack(ROOT, f"stacks/local/{name}.yaml") for name in ("harmonyflow", "postgresql"))
    assert one.postgresql is None
    assert other.postgresql is not None
    assert other.postgresql.members == ("postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1")
    mine = {"postgresql", "pgbouncer", "postgres-exporter", "postgresql-client"}
    members = tuple(member for member in other.members if member.component not in mine)
    assert msgspec.structs.replace(other, name=one.name, postgresql=None, members=members) == one


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    old: str
    new: str
    expect: str


REFUSED = (
    Case(
        name="primary", old="primary: pg-0", new="primary: r0", expect="postgresql.primary: expected postgresql members"
    ),
    Case(
        name="replica",
        old="[pg-1, pg-2]",
        new="[pg-1, pg-9]",
        expect="postgresql.replicas: expected postgresql members",
    ),
    Case(name="no replica", old="[pg-1, pg-2]", new="[]", expect="postgresql.replicas: expected a list of length >= 1"),
    Case(name="left out", old="[pg-1, pg-2]", new="[pg-1]", expect="every postgresql member (pg-2 is no part)"),
    Case(
        name="twice",
        old="[pg-1, pg-2]",
        new="[pg-1, pg-1, pg-2]",
        expect="postgresql.replicas: expected every member once",
    ),
    Case(
        name="one node",
        old="{name: pg-1, component: postgresql, node: node-2}",
        new="{name: pg-1, component: postgresql, node: node-1}",
        expect="postgresql: expected primary and replicas on different nodes",
    ),
    Case(
        name="pgbouncer elsewhere",
        old="{name: pgbouncer-1, component: pgbouncer, node: node-2}",
        new="{name: pgbouncer-1, component: pgbouncer, node: node-1}",
        expect="members: expected one pgbouncer on node-1, in front of pg-0",
    ),
    Case(
        name="exporter",
        old="  - {name: postgres-exporter-0, component: postgres-exporter, node: observer}\n",
        new="",
        expect="members: expected one postgres-exporter (got 0)",
    ),
    Case(
        name="standbys",
        old="standbys: 1",
        new="standbys: 3",
        expect="postgresql.durability.standbys: expected at most 2",
    ),
    Case(
        name="mode",
        old="mode: any",
        new="mode: most",
        expect="postgresql.durability.mode: expected one of any, async, first",
    ),
    Case(
        name="waits for nobody",
        old="durability:",
        new="synchronous_commit: local, durability:",
        expect="postgresql.synchronous_commit: expected remote_write, on or remote_apply",
    ),
    Case(
        name="connections",
        old="max_connections: 200",
        new="max_connections: 69",
        expect="postgresql.max_connections: expected at least 70",
    ),
    Case(
        name="members without the tier",
        old=POSTGRESQL,
        new="",
        expect="postgresql: is missing: the stack has members of postgresql",
    ),
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_tier_that_cannot_work_is_refused_with_the_field(project: Path, case: Case) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(with_tier(project, case.old, case.new), "failover")
    assert case.expect in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("override", "expect"),
    [
        ("postgresql.durability=async", Asynchronous()),
        ("postgresql.durability=any:2", AnyStandbys(standbys=2)),
        ("postgresql.durability=first:2", FirstStandbys(standbys=2)),
    ],
)
def test_durability_is_changed_by_one_word(project: Path, override: str, expect: object) -> None:
    stack = read_scenario(with_tier(project), "failover", [override]).stack
    assert stack.postgresql is not None
    assert stack.postgresql.durability == expect


def test_other_fields_are_changed_as_in_the_file(project: Path) -> None:
    stack = read_scenario(with_tier(project), "failover", ["postgresql.synchronous_commit=remote_apply"]).stack
    assert stack.postgresql is not None
    assert stack.postgresql.synchronous_commit == "remote_apply"


@pytest.mark.parametrize(
    ("override", "expect"),
    [
        ("postgresql.durability=any", "expected async, any:STANDBYS or first:STANDBYS (got 'any')"),
        ("postgresql.durability=async:1", "expected async, any:STANDBYS or first:STANDBYS"),
        ("postgresql.durability=any:9", "postgresql.durability.standbys: expected at most 2"),
        ("postgresql.durability=any:0", "postgresql.durability.standbys: expected a whole number >= 1"),
        ("postgresql.primary=pg-1", "unknown field"),
        ("postgresql.wal_sender_timeout_ms=soon", "postgresql.wal_sender_timeout_ms: expected a whole number"),
    ],
)
def test_a_change_that_cannot_be_is_refused(project: Path, override: str, expect: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(with_tier(project), "failover", [override])
    assert expect in str(caught.value)


def test_a_stack_without_the_tier_has_no_field_of_it(project: Path) -> None:
    with pytest.raises(SpecError, match=r"postgresql.durability: expected a stack that has PostgreSQL"):
        read_scenario(project, "failover", ["postgresql.durability=async"])


def test_a_stack_without_the_tier_has_the_fingerprint_that_it_had_before_there_was_one() -> None:
    one, other = (read_stack(ROOT, f"stacks/local/{name}.yaml") for name in ("harmonyflow", "postgresql"))
    assert digest_without_absent(one) == "36006fbbf6070b84"
    assert digest_without_absent(one) != digest(one)
    assert digest_without_absent(other) != digest_without_absent(msgspec.structs.replace(other, postgresql=None))


PROMOTED = "    provider: {type: python, module: resilience.chaos.actions, func: %s}\n"
PROVED = "func: in_effect, arguments: {when: injected}}\n"
HEALED = "chaos.probes, func: healed}\n"


def with_runbook(project: Path, target: str = "component: postgresql, role: primary, scope: node") -> Path:
    """The project with the tier, whose experiment has a standby promoted."""
    path = with_tier(project) / "experiments/lose-node.yaml"
    text = path.read_text().replace("component: redis, role: primary, shard: 1, scope: node", target)
    text = text.replace(PROVED, PROVED + "  - type: action\n    name: promote\n" + PROMOTED % "promote")
    path.write_text(text.replace(HEALED, HEALED + "  - type: action\n    name: rejoin\n" + PROMOTED % "rejoin"))
    return project


def test_an_experiment_may_have_a_standby_promoted(project: Path) -> None:
    experiment = read_scenario(with_runbook(project), "failover").experiment
    assert experiment is not None
    assert experiment.promotes
    assert experiment.target == Target(component="postgresql", role="primary", scope="node")


def test_a_runbook_may_be_gone_through_badly(project: Path) -> None:
    path = with_runbook(project) / "experiments/lose-node.yaml"
    assert read_scenario(project, "failover").experiment.runbook == Runbook()  # type: ignore[union-attr]  # it has one
    badly = PROMOTED % "promote, arguments: {standby: most-lag, fence: false}"
    path.write_text(path.read_text().replace(PROMOTED % "promote", badly))
    experiment = read_scenario(project, "failover").experiment
    assert experiment is not None
    assert experiment.runbook == Runbook(standby="most-lag", fence=False)
    path.write_text(path.read_text().replace("fence: false", "fence: maybe"))
    with pytest.raises(SpecError, match=r"provider.arguments.fence: expected"):
        read_scenario(project, "failover")


def test_what_waits_may_be_cancelled_where_something_can_wait(project: Path) -> None:
    path = with_runbook(project) / "experiments/lose-node.yaml"
    cancelling = PROMOTED % "cancel_waiting, arguments: {for_s: 3}"
    step = "  - type: action\n    name: promote\n"
    path.write_text(path.read_text().replace(step, "  - type: action\n    name: cancel\n" + cancelling + step))
    experiment = read_scenario(project, "failover").experiment
    assert experiment is not None
    assert (experiment.cancels, experiment.promotes) == (True, True)
    with pytest.raises(SpecError, match=r"method: expected no cancel_waiting: commits wait for no standby"):
        read_scenario(project, "failover", ["postgresql.durability=async"])
    path.write_text(path.read_text().replace("for_s: 3", "for_s: 60"))
    with pytest.raises(SpecError, match=r"arguments.for_s: expected a number <= 10"):
        read_scenario(project, "failover")


def test_a_runbook_has_its_place_in_the_method(project: Path) -> None:
    path = with_runbook(project) / "experiments/lose-node.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("func: promote", "func: x")
        .replace("func: rejoin", "func: promote")
        .replace("func: x", "func: rejoin")
    )
    with pytest.raises(SpecError, match=r"expected promote here \(got 'rejoin'\)"):
        read_scenario(project, "failover")


@pytest.mark.parametrize(
    ("old", "new", "expect"),
    [
        (
            "role: primary, scope",
            "role: primary, shard: 1, scope",
            "target.shard: expected none: only redis has shards",
        ),
        ("{kind: power-off}", "{kind: rolling-restart}", "expected"),
        ("role: primary, scope: node", "role: primary, standby: most-lag", "target.standby: expected none"),
        ("role: primary, scope: node", "role: replica, standby: slowest", "target.standby: expected one of"),
        ("{kind: power-off}", "{kind: cut-replication}", "target.scope: expected member or component"),
        (
            "fault: {kind: power-off}\n        target: {component: postgresql, role: primary, scope: node}",
            "fault: {kind: cut-replication}\n        target: {component: postgresql, role: primary}",
            "target.role: expected replica (fault cut-replication)",
        ),
        (
            "fault: {kind: power-off}\n        target: {component: postgresql, role: primary, scope: node}",
            "fault: {kind: cut-replication}\n        target: {component: redis, role: replica}",
            "target.component: expected postgresql (fault cut-replication)",
        ),
        (
            "fault: {kind: power-off}\n        target: {component: postgresql, role: primary, scope: node}",
            "fault: {kind: partition, cut_from: peers}\n        target: {component: postgresql, role: primary}",
            "fault.cut_from: expected all where a standby is promoted",
        ),
    ],
)
def test_what_cannot_be_done_to_the_tier_is_refused(project: Path, old: str, new: str, expect: str) -> None:
    path = with_runbook(project) / "experiments/lose-node.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_scenario(project, "failover")
    assert expect in str(caught.value)


CUT_FIRST = (
    "fault: {kind: kill, restart: false}\n        target: {component: postgresql, role: primary}\n"
    "        prelude: {fault: {kind: cut-replication}, for_s: 4, ends: healed,"
    " target: {component: postgresql, role: replica, scope: component}}"
)


def cut_first(project: Path, old: str = "", new: str = "") -> Path:
    """The project, whose primary is killed after its standbys were cut off."""
    path = with_runbook(project) / "experiments/lose-node.yaml"
    assert old in CUT_FIRST
    plain = "fault: {kind: power-off}\n        target: {component: postgresql, role: primary, scope: node}"
    assert plain in path.read_text()
    path.write_text(path.read_text().replace(plain, CUT_FIRST.replace(old, new, 1)))
    return project


def test_standbys_may_be_cut_off_before_a_fault(project: Path) -> None:
    experiment = read_scenario(cut_first(project), "failover").experiment
    assert experiment is not None
    assert experiment.prelude is not None
    assert experiment.prelude.ends == "healed"
    assert experiment.prelude.target.scope == "component"


@pytest.mark.parametrize(
    ("old", "new", "expect"),
    [
        ("role: primary}", "role: replica}", "target.role: expected primary, which the prelude leaves alone"),
        ("role: replica, scope", "role: primary, scope", "prelude.target.role: expected replica"),
        (
            "component: postgresql, role: replica",
            "component: redis, role: replica",
            "prelude.target.component: expected",
        ),
        ("scope: component", "scope: node", "prelude.target.scope: expected member or component"),
        ("ends: healed", "ends: never", "prelude.ends: expected one of"),
    ],
)
def test_a_cut_that_leaves_nobody_to_be_hit_is_refused(project: Path, old: str, new: str, expect: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(cut_first(project, old, new), "failover")
    assert expect in str(caught.value)


def test_where_commits_wait_for_nobody_there_is_no_synchronous_standby(project: Path) -> None:
    with_runbook(project, "component: postgresql, role: replica, standby: sync")
    path = project / "experiments/lose-node.yaml"
    path.write_text(path.read_text().replace("{kind: power-off}", "{kind: cut-replication}"))
    experiment = read_scenario(project, "failover").experiment
    assert experiment is not None
    assert experiment.target.standby == "sync"
    with pytest.raises(SpecError, match=r"target.standby: expected most-lag, least-lag or async"):
        read_scenario(project, "failover", ["postgresql.durability=async"])


def test_a_stack_without_the_tier_has_nobody_to_be_hit_or_promoted(project: Path) -> None:
    stack = (project / "stacks/small.yaml").read_text()
    with_runbook(project)
    (project / "stacks/small.yaml").write_text(stack)
    with pytest.raises(SpecError, match=r"target.component: expected a component of the stack small"):
        read_scenario(project, "failover")
    path = project / "experiments/lose-node.yaml"
    path.write_text(path.read_text().replace("component: postgresql", "component: redis"))
    with pytest.raises(SpecError, match=r"method: expected no promote: the stack small has no PostgreSQL"):
        read_scenario(project, "failover")


def test_a_fault_outlasts_the_operator_by_enough_to_be_judged(project: Path) -> None:
    with pytest.raises(SpecError, match=r"timeline.fault_s: expected at least 26 s, the operator's delay and 10 s"):
        read_scenario(with_runbook(project), "failover", ["postgresql.failover.operator_delay_s=16"])


@pytest.mark.parametrize(
    ("override", "expect"),
    [
        ("load.postgresql_rate_ops_per_s_min=21", "load.postgresql_rate_ops_per_s_min: expected at most 20"),
        ("load.postgresql_rate_ops_per_s=100", "postgresql.max_connections: expected at least 370 for this load"),
        (
            "load.postgresql_register_rate_ops_per_s=400",
            "postgresql.max_connections: expected at least 730 for this load: 660 are the direct client's",
        ),
        (
            "load.postgresql_list_isolation=serializable",
            "load.postgresql_list_isolation: expected none: there are no transactions on lists",
        ),
    ],
)
def test_a_load_that_has_no_place_is_refused(project: Path, override: str, expect: str) -> None:
    fits = read_scenario(with_tier(project), "failover", ["load.postgresql_rate_ops_per_s=30"])
    assert fits.load.postgresql_ops_per_s == 30
    with pytest.raises(SpecError) as caught:
        read_scenario(project, "failover", [override])
    assert expect in str(caught.value)


def test_nothing_is_written_to_a_tier_that_is_not_there(project: Path) -> None:
    with pytest.raises(SpecError, match=r"load.postgresql_rate_ops_per_s: expected none"):
        read_scenario(project, "failover", ["load.postgresql_rate_ops_per_s=5"])
    for asked in (
        "postgresql_register_rate_ops_per_s=5",
        "postgresql_list_rate_ops_per_s=5",
        "postgresql_list_isolation=serializable",
    ):
        with pytest.raises(SpecError, match=rf"load.{asked.partition('=')[0]}: expected none"):
            read_scenario(project, "failover", [f"load.{asked}"])


@pytest.mark.parametrize("level", ISOLATION)
def test_the_level_of_transactions_on_lists(project: Path, level: str) -> None:
    with_tier(project)
    rate = "load.postgresql_list_rate_ops_per_s=5"
    assert read_scenario(project, "failover", [rate]).load.postgresql_isolation == "serializable"
    asked = read_scenario(project, "failover", [rate, f"load.postgresql_list_isolation={level}"])
    assert asked.load.postgresql_isolation == level
    with pytest.raises(SpecError, match=r"load.postgresql_list_isolation: .*'snapshot'"):
        read_scenario(project, "failover", [rate, "load.postgresql_list_isolation=snapshot"])


def test_what_is_asked_of_the_tier_alone_is_no_part_of_another_loads_fingerprint() -> None:
    assert digest_without_absent(Load()) == "4c288378b05dd37a"
    assert digest_without_absent(Load(postgresql_rate_ops_per_s=20.0)) != "4c288378b05dd37a"
    assert digest_without_absent(Load(postgresql_register_rate_ops_per_s=20.0)) != "4c288378b05dd37a"
    with_lists = digest_without_absent(Load(postgresql_list_rate_ops_per_s=20.0))
    weaker = Load(postgresql_list_rate_ops_per_s=20.0, postgresql_list_isolation="read committed")
    assert len({"4c288378b05dd37a", with_lists, digest_without_absent(weaker)}) == 3


@pytest.mark.parametrize(
    ("durability", "synchronous_commit", "expect"),
    [
        (Asynchronous(), "on", 0),
        (AnyStandbys(standbys=1), "on", 1),
        (FirstStandbys(standbys=2), "remote_apply", 2),
        (FirstStandbys(standbys=2), "local", 0),
        (AnyStandbys(standbys=1), "off", 0),
    ],
)
def test_how_many_standbys_a_commit_waits_for(durability: Durability, synchronous_commit: Any, expect: int) -> None:
    tier = Postgresql(primary="a", replicas=("b", "c"), durability=durability, synchronous_commit=synchronous_commit)
    assert tier.standbys_waited_for == expect
