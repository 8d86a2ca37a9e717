"""A stack with RabbitMQ reads, or is refused with the field that keeps its cluster from working."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.errors import SpecError
from resilience.spec.fingerprint import fingerprint
from resilience.spec.rabbitmq import Rabbitmq, all_queues
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.record import Record

ROOT = Path(__file__).resolve().parents[3]
STACK = "stacks/small.yaml"
SETTINGS = "rabbitmq: {net_ticktime_s: 15}\n"
MEMBERS = """\
  - {name: q0, component: rabbitmq, node: node-1}
  - {name: q1, component: rabbitmq, node: node-2}
  - {name: q2, component: rabbitmq, node: node-3}
"""
CLIENT = "  - {name: rabbitmq-client, component: rabbitmq-client, node: observer}\n"


def write(project: Path, settings: str = SETTINGS, members: str = MEMBERS) -> None:
    file = project / STACK
    clients = CLIENT if members and "rabbitmq-client" not in members else ""
    file.write_text(file.read_text().replace("members:\n", f"{settings}members:\n{members}{clients}"))


def test_a_stack_may_have_rabbitmq(project: Path) -> None:
    write(project)
    stack = read_stack(project, STACK)
    assert stack.rabbitmq == Rabbitmq(net_ticktime_s=15)
    assert [member.name for member in stack.of("rabbitmq")] == ["q0", "q1", "q2"]


def test_a_queue_without_dead_letters_has_no_queue_for_them() -> None:
    assert len(all_queues(Rabbitmq())) == 6
    assert len(all_queues(Rabbitmq(dead_letter=False))) == 3


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    settings: str = SETTINGS
    members: str = MEMBERS
    expect: str


CASES = (
    Case(name="members without settings", settings="", expect="rabbitmq: expected the settings"),
    Case(name="settings without members", members="", expect=r"members: expected at least 3 of .* \(got 0\)"),
    Case(
        name="two", members=MEMBERS.partition("  - {name: q2")[0], expect=r"members: expected at least 3 .* \(got 2\)"
    ),
    Case(
        name="four",
        members=MEMBERS + "  - {name: q3, component: rabbitmq, node: node-3}\n",
        expect=r"members: expected an odd number .* \(got 4\)",
    ),
    Case(
        name="a node with the majority",
        members=MEMBERS.replace("node-2", "node-1"),
        expect=r"members: expected no node that holds a majority .* \(node-1 holds 2\)",
    ),
    Case(name="observer", members=MEMBERS.replace("node-2", "observer"), expect=r"members\[1\].node: expected one of"),
    Case(
        name="two clients", members=MEMBERS + CLIENT + CLIENT.replace("name: r", "name: x-r"), expect=r"client \(got 2"
    ),
    Case(name="a client of nothing", settings="", members=CLIENT, expect="rabbitmq: expected the settings"),
    Case(
        name="a mode that there is not",
        settings="rabbitmq: {cluster_partition_handling: pause}\n",
        expect="rabbitmq.cluster_partition_handling",
    ),
    Case(name="mirrored", settings="rabbitmq: {queue_kind: mirrored}\n", expect="rabbitmq.queue_kind"),
    Case(name="no limit", settings="rabbitmq: {delivery_limit: 0}\n", expect="rabbitmq.delivery_limit: expected"),
    Case(name="priority", settings="rabbitmq: {max_priority: 256}\n", expect="rabbitmq.max_priority: expected"),
    Case(name="unknown", settings="rabbitmq: {net_ticktime: 9}\n", expect="did you mean 'net_ticktime_s'"),
    Case(
        name="a time to live of nothing", settings="rabbitmq: {message_ttl_ms: 0}\n", expect="rabbitmq.message_ttl_ms"
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(project: Path, case: Case) -> None:
    write(project, case.settings, case.members)
    with pytest.raises(SpecError, match=case.expect) as raised:
        read_stack(project, STACK)
    assert str(raised.value).startswith(STACK)
    assert "\n" not in str(raised.value)


def test_a_field_is_changed_from_the_command_line(project: Path) -> None:
    write(project)
    changed = read_scenario(project, "failover", ["rabbitmq.queue_kind=classic", "rabbitmq.net_ticktime_s=9"])
    assert changed.stack.rabbitmq == Rabbitmq(net_ticktime_s=9, queue_kind="classic")


def test_a_stack_without_it_has_no_fields_to_change(project: Path) -> None:
    with pytest.raises(
        SpecError, match=r"rabbitmq\.queue_kind: expected a field .* the stack small .* has no rabbitmq"
    ):
        read_scenario(project, "failover", ["rabbitmq.queue_kind=classic"])


def digest_without(record: Record, *names: str) -> str:
    """The digest that a record had before it had these fields."""
    before = json.loads(msgspec.json.encode(record))
    assert all(before.pop(name) is None for name in names)
    return hashlib.sha256(json.dumps(before, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()[:16]


def test_a_stack_without_it_is_the_stack_that_it_was_before() -> None:
    """Controls of before are found again: their fingerprint is over the fields that there were then."""
    scenario = read_scenario(ROOT, "baseline")
    found = fingerprint(scenario, harness="h", servers="s", host={})
    tiers = ("postgresql", "rabbitmq")
    assert found.stack == digest_without(scenario.stack, *tiers, "personalization", "content", "collaboration")
    rates = [f"{tier}_rate_ops_per_s{end}" for tier in (*tiers, "content") for end in ("", "_min")]
    others = ("rabbitmq_poison_every", "postgresql_register_rate_ops_per_s", "personalization_rate_ops_per_s")
    lists = ("postgresql_list_rate_ops_per_s", "postgresql_list_isolation")
    assert found.load == digest_without(scenario.load, *rates, *others, *lists)
    there = msgspec.structs.replace(scenario.stack, rabbitmq=Rabbitmq())
    other = fingerprint(msgspec.structs.replace(scenario, stack=there), harness="h", servers="s", host={})
    assert other.stack != found.stack


EXPERIMENT = "experiments/lose-node.yaml"
BY_SHARD = "{component: redis, role: primary, shard: 1, scope: node}"


@pytest.mark.parametrize(
    ("target", "settings", "expect"),
    [
        ("{component: rabbitmq, role: leader}", SETTINGS, "target.queue: expected the queue"),
        ("{component: rabbitmq, queue: session-events}", SETTINGS, "target.role: expected leader or follower"),
        ("{component: rabbitmq, role: leader, queue: x}", SETTINGS, "target.queue"),
        ("{component: rabbitmq, role: primary, queue: session-events}", SETTINGS, "target.role: expected leader, f"),
        ("{component: rabbitmq, shard: 1}", SETTINGS, "target.shard: expected none: only redis"),
        ("{component: redis, queue: session-events}", SETTINGS, "target.queue: expected none: only rabbitmq"),
        ("{component: session, role: leader}", SETTINGS, "target.role: expected another role: only queues"),
        (
            "{component: rabbitmq, role: follower, queue: session-events}",
            "rabbitmq: {net_ticktime_s: 15, queue_kind: classic}\n",
            "target.role: expected leader: a classic queue has no followers",
        ),
        (
            "{component: rabbitmq, role: leader, queue: session-events, scope: node}",
            "rabbitmq: {net_ticktime_s: 17}\n",
            r"timeline.fault_s: expected at least 26.25 s, .* \(got 25",
        ),
        ("{component: rabbitmq, scope: node}", "", "target.component: expected a component of the stack small"),
    ],
)
def test_a_target_that_no_member_could_be_is_refused(project: Path, target: str, settings: str, expect: str) -> None:
    write(project, settings, MEMBERS if settings else "")
    file = project / EXPERIMENT
    assert BY_SHARD in file.read_text()
    file.write_text(file.read_text().replace(BY_SHARD, target))
    with pytest.raises(SpecError, match=expect):
        read_scenario(project, "failover")


def test_a_queues_leader_can_be_a_target(project: Path) -> None:
    write(project)
    file = project / EXPERIMENT
    wanted = "{component: rabbitmq, role: leader, queue: collaboration-sync, scope: node}"
    file.write_text(file.read_text().replace(BY_SHARD, wanted))
    experiment = read_scenario(project, "failover").experiment
    assert experiment is not None
    assert experiment.target.queue == "collaboration-sync"


@pytest.mark.parametrize(
    ("settings", "override", "expect"),
    [
        (
            "",
            "load.rabbitmq_rate_ops_per_s=5",
            r"load\.rabbitmq_rate_ops_per_s: expected none: the stack has no RabbitMQ",
        ),
        (SETTINGS, "load.rabbitmq_rate_ops_per_s_min=31", r"load\.rabbitmq_rate_ops_per_s_min: expected at most 30"),
        ("", "load.rabbitmq_poison_every=5", r"load\.rabbitmq_poison_every: expected none: the stack has no RabbitMQ"),
        (
            "rabbitmq: {net_ticktime_s: 15, queue_kind: classic}\n",
            "load.rabbitmq_poison_every=5",
            r"load\.rabbitmq_poison_every: expected none where queues are classic",
        ),
        (
            "rabbitmq: {net_ticktime_s: 15, acknowledgement: automatic}\n",
            "load.rabbitmq_poison_every=5",
            r"load\.rabbitmq_poison_every: expected none where acknowledgement is automatic",
        ),
    ],
)
def test_a_load_that_cannot_be_is_refused(project: Path, settings: str, override: str, expect: str) -> None:
    write(project, settings, MEMBERS if settings else "")
    with pytest.raises(SpecError, match=expect):
        read_scenario(project, "failover", [override])
