"""Changes from the command line hold the same rules as the files."""

from pathlib import Path
from typing import Any

import pytest

from resilience.errors import SpecError
from resilience.spec.read import read_scenario
from resilience.spec.stack import Async, Wait


def value_of(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = getattr(record, name)
    return record


@pytest.mark.parametrize(
    ("override", "field", "expect"),
    [
        ("seed=7", "seed", 7),
        ("durability=async", "stack.durability", Async()),
        ("load.session_rate_ops_per_s=50", "load.session_rate_ops_per_s", 50.0),
        ("load.session_rate_ops_per_s_min=null", "load.session_rate_ops_per_s_min", None),
        ("redis.cluster_node_timeout_ms=2000", "stack.redis.cluster_node_timeout_ms", 2000),
        ("redis.appendonly=false", "stack.redis.appendonly", False),
        ("timeline.fault_s=30", "timeline.fault_s", 30.0),
        ("stack.restart_delay_s=0.2", "stack.restart_delay_s", 0.2),
        ("programs.session=other.session", "stack.programs.session", "other.session"),
        ("collaboration.log=redis", "stack.collaboration.log", "redis"),
    ],
)
def test_override(project: Path, override: str, field: str, expect: object) -> None:
    before, after = read_scenario(project, "failover"), read_scenario(project, "failover", [override])
    assert value_of(after, field) == expect
    assert after.name == before.name
    assert after.slos == before.slos


def test_wait_needs_replicas_in_every_shard(project: Path) -> None:
    stack = project / "stacks/small.yaml"
    text = stack.read_text().replace("replicas: []", "replicas: [r5]")
    stack.write_text(
        text.replace(
            "  - {name: session-0",
            "  - {name: r5, component: redis, node: node-1}\n  - {name: session-0",
        )
    )
    changed = read_scenario(project, "failover", ["durability=wait:1:500"])
    assert changed.stack.durability == Wait(replicas=1, timeout_ms=500)
    assert read_scenario(project, "failover", ["durability=wait:1"]).stack.durability == Wait(replicas=1)


def test_last_override_wins(project: Path) -> None:
    assert read_scenario(project, "failover", ["seed=7", "seed=8"]).seed == 8


def test_overrides_are_judged_together(project: Path) -> None:
    both = ["redis.cluster_node_timeout_ms=15000", "timeline.fault_s=35"]
    assert read_scenario(project, "failover", both).timeline.fault_s == 35
    with pytest.raises(SpecError, match=r"timeline.fault_s: expected at least 35 s"):
        read_scenario(project, "failover", both[:1])


@pytest.mark.parametrize(
    ("override", "expect"),
    [
        ("seed", "the override: expected FIELD=VALUE"),
        ("sed=3", "sed: unknown field, did you mean 'seed'?"),
        ("load.sesion_rate_ops_per_s=3", "did you mean 'load.session_rate_ops_per_s'?"),
        ("redis.cluster_node_timeout=3", "did you mean 'redis.cluster_node_timeout_ms'?"),
        ("stack.nodes=3", "stack.nodes: unknown field"),
        ("slos=3", "slos: unknown field"),
        ("seed=a", "seed: expected a whole number (got 'a')"),
        ("seed=", "seed: expected one value"),
        ("seed=-1", "seed: expected 0 to"),
        ("seed=[1]", "seed: expected one value"),
        ("seed={a: 1}", "seed: expected one value"),
        ("seed=*a", "anchors and aliases"),
        ("seed=1\n---\n2", "seed: expected one value"),
        ("load.rooms=many", "load.rooms: expected a whole number (got 'many')"),
        ("load.timeout_s=9", "load.timeout_s: expected less than"),
        ("redis.appendfsync=sometimes", "redis.appendfsync: expected one of always, everysec, no"),
        ("timeline.fault_s=5", "timeline.fault_s: expected at least 15 s"),
        ("timeline.steady_s=10", "slos: latency"),
        ("durability=wait", "durability: expected async, wait:REPLICAS"),
        ("durability=wait:", "durability: expected async, wait:REPLICAS"),
        ("durability=wait:one", "durability: expected async, wait:REPLICAS"),
        ("durability=wait:1:2:3", "durability: expected async, wait:REPLICAS"),
        ("durability=wait:0", "durability.replicas: expected a whole number >= 1 (got 0)"),
        ("durability=wait:1", "durability.replicas: expected at most 0 (got 1)"),
        ("programs.session=other.sessions", "programs.session: expected a module of this project"),
        ("programs.session=../session", "programs.session: expected text matching"),
        ("programs.session=7", "programs.session: expected text"),
        ("collaboration.log=postgresql", "collaboration.log: expected redis: the stack has no PostgreSQL"),
        ("collaboration.log=file", "collaboration.log"),
        ("collaboration.fanout=rabbitmq", "collaboration.fanout: expected redis: the stack has no RabbitMQ"),
        ("programs.redis=other.session", "programs.redis: unknown field"),
        (f"durability=wait:{'9' * 5000}", "durability: expected async, wait:REPLICAS"),
    ],
)
def test_refused_override(project: Path, override: str, expect: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_scenario(project, "failover", [override])
    message = str(caught.value)
    assert expect in message
    assert message.isprintable()
    assert caught.value.exit_code == 2


def loadgens(project: Path, *overrides: str) -> list[str]:
    return [member.name for member in read_scenario(project, "failover", overrides).stack.of("loadgen")]


def test_each_process_of_the_load_has_a_member_beside_the_first(project: Path) -> None:
    assert loadgens(project, "load.workers=3") == ["loadgen", "loadgen-1", "loadgen-2"]
    members = read_scenario(project, "failover", ["load.workers=2"]).stack.members
    assert [(member.name, member.node) for member in members[-3:]] == [
        ("loadgen", "observer"), ("loadgen-1", "observer"), ("direct-client", "observer"),
    ]  # fmt: skip
    assert loadgens(project, "load.workers=3", "load.workers=2") == ["loadgen", "loadgen-1"]


def test_a_scenario_may_name_them_and_a_command_take_them_back(project: Path) -> None:
    whole = read_scenario(project, "failover")
    file = project / "scenarios/redis/failover.yaml"
    file.write_text(file.read_text().replace("load: {", "load: {workers: 4, "))
    assert len(loadgens(project)) == 4
    assert read_scenario(project, "failover", ["load.workers=1"]) == whole


def test_a_member_of_that_name_is_told(project: Path) -> None:
    stack = project / "stacks/small.yaml"
    stack.write_text(stack.read_text().replace("session-0", "loadgen-1"))
    with pytest.raises(SpecError, match=r"members: expected every name once \('loadgen-1' stands 2 times\)"):
        read_scenario(project, "failover", ["load.workers=2"])


def test_a_stack_file_has_one_member_for_it(project: Path) -> None:
    stack = project / "stacks/small.yaml"
    line = "  - {name: loadgen, component: loadgen, node: observer}\n"
    stack.write_text(stack.read_text().replace(line, line + line.replace("loadgen,", "people,", 1)))
    with pytest.raises(SpecError, match=r"small.yaml: members: expected exactly one loadgen \(got 2\)"):
        read_scenario(project, "failover", ["load.workers=2"])
