"""What would be done, to whom: worked out from a stack on paper."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience import cli
from resilience.backend.base import MemberState
from resilience.backend.choice import able
from resilience.backend.local.paper import PaperPlatform
from resilience.errors import FaultError, StackError
from resilience.fault.base import MemberRole
from resilience.plan import Ground, fault_plan, fault_plan_on, initial_roles, proofs_in_words, step_in_words
from resilience.report.plan import FaultPlan, plan_screen
from resilience.report.terminal import console_for
from resilience.spec.fault import Target
from resilience.spec.read import list_scenarios, read_scenario
from resilience.spec.scenario import Scenario
from tests.unit.fault.stand import ROLES

ROOT = Path(__file__).parents[2]
FAILOVER = read_scenario(ROOT, "redis-failover")


def shown(scenario: Scenario, *faults: FaultPlan) -> str:
    output = io.StringIO()
    console_for(output).print(plan_screen(scenario, faults, "baseline/1: pass, begun 2 h ago"))
    return output.getvalue()


def on_paper(states: Sequence[MemberState], roles: Sequence[MemberRole]) -> FaultPlan | None:
    platform = PaperPlatform(FAILOVER.stack, states)
    return fault_plan_on(FAILOVER, Ground(platform=platform, roles=roles, known="now"))


def test_a_node_takes_every_member_on_it_with_it():
    plan = fault_plan(FAILOVER, "by the stack file")
    assert plan
    assert plan.nodes == ("node-1",)
    assert plan.members == (
        ("redis-cluster-0", "primary of shard 1"),
        ("redis-cluster-5", "replica of shard 3"),
        ("session-0", "session"),
    )
    assert len(plan.steps) == 3
    assert plan.ttl_s == 35
    text = shown(FAILOVER, plan)
    assert all(name in text for name, _ in plan.members)
    assert "by the stack file" in text
    assert "nothing was started or touched" in text


def test_a_prelude_is_shown_around_the_steps_and_with_its_own_proofs():
    plan = fault_plan(read_scenario(ROOT, "redis-pause-replica-kill-primary"), "")
    assert plan
    assert plan.members == (("redis-cluster-0", "primary of shard 1"), ("redis-cluster-3", "replica of shard 1"))
    assert plan.steps[0] == "stop redis-cluster-3 where it stands, for 1 s at least"
    assert plan.steps[-1] == "let redis-cluster-3 go on, at once"
    assert len(plan.steps) == 4
    assert [proof for proof in plan.proofs if proof.startswith("before that: ")] == [
        "before that: every process of redis-cluster-3 is stopped",
        "before that: a request from prometheus-0 to redis-cluster-3 is not answered",
    ]


def test_live_roles_decide_where_a_stack_is_up():
    states = PaperPlatform(FAILOVER.stack).states()
    plan = on_paper(states, ROLES)
    assert plan
    assert plan.nodes == ("node-2",)  # the replica of old is the primary
    assert ("redis-cluster-3", "primary of shard 1") in plan.members


def test_a_target_that_matches_nothing_is_said_as_such():
    states = [
        msgspec.structs.replace(state, running=False) if state.name == "redis-cluster-0" else state
        for state in PaperPlatform(FAILOVER.stack).states()
    ]
    plan = on_paper(states, initial_roles(FAILOVER.stack))
    assert plan
    assert "redis-cluster-0 do not" in plan.nothing
    assert "nothing would be injected" in shown(FAILOVER, plan)


def test_a_scenario_without_a_fault_has_none():
    baseline = read_scenario(ROOT, "baseline")
    assert fault_plan(baseline, "") is None
    assert "without one" in shown(baseline)


@pytest.mark.parametrize("name", [name for name in list_scenarios(ROOT) if name != "baseline"])
def test_every_shipped_fault_has_words_for_its_steps_and_proofs(name: str):
    scenario = read_scenario(ROOT, name)
    plan = fault_plan(scenario, "")
    if scenario.experiment is None:
        assert plan is None
        return
    assert plan
    if "local" not in able(scenario.experiment.fault):
        assert plan.nothing.endswith("it needs kind")
        return
    assert not plan.nothing
    assert plan.members
    assert plan.proofs
    assert not any(marker in line for line in (*plan.steps, *plan.proofs) for marker in ("{", "198.18.", "_"))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (
            {"primitive": "drop", "member": {"name": "a"}, "others": ["198.18.1.10"], "direction": "in"},
            "drop every packet from b to a",
        ),
        ({"primitive": "signal", "signal": "TERM", "members": [{"name": "a"}]}, "send SIGTERM to the server of a"),
        (
            {"primitive": "drain", "node": {"name": "node-1"}, "pods": [{"name": "a"}, {"name": "b"}]},
            "cordon node-1, and evict a, b as far as disruption budgets let them go",
        ),
        (
            {"primitive": "delete", "grace_s": 5, "pods": [{"name": "a"}]},
            "delete the pod of a, which is given 5 s to end by itself",
        ),
        (
            {"primitive": "scale", "replicas": 1, "workload": "session", "pods": [{"name": "a"}, {"name": "b"}]},
            "have session keep 1 of a, b, until healing",
        ),
        (
            {"primitive": "deny", "to_component": "redis", "pods": [{"name": "a"}, {"name": "b"}]},
            "let no new connection out from a, b to any redis, by a NetworkPolicy of its own, until healing",
        ),
        ({"primitive": "rollout", "pods": [{"name": "a"}]}, "have a replaced, one after the other"),
        ({"primitive": "later", "members": [{"name": "a"}, {"name": "b"}]}, "later a, b"),
        ({"primitive": "later"}, "later"),
        ({"primitive": "wipe", "folders": [{"data_dir": "a"}]}, "empty the data folder of a"),
        ({"primitive": "wipe", "folders": [{"name": "a", "data_dir": "/data"}]}, "empty the data folder of a"),
        ({"primitive": "freeze", "nodes": [{"name": "node-1", "host": "w"}]}, "pause the container of node-1 (w)"),
    ],
    ids=[
        "one way",
        "signal",
        "drain",
        "delete",
        "scale",
        "deny",
        "rollout",
        "unknown, with members",
        "unknown",
        "folder",
        "folder of a pod",
        "node",
    ],
)
def test_steps_in_words(step, words: str):
    assert step_in_words(step, {"198.18.1.10": "b"}) == words


def test_proofs_that_are_alike_are_told_once():
    a, b, c = ({"name": name} for name in "abc")
    watched: list[dict[str, Any]] = [
        {"probe": "refused", "via": a, "to": c},
        {"probe": "refused", "via": b, "to": c},
        {"probe": "identity", "of": a, "expect": "dead"},
        {"probe": "identity", "of": b, "expect": "dead"},
        {"probe": "rolled-out", "pods": [a, b]},
    ]
    assert list(proofs_in_words(watched)) == [
        "a new connection from a, b to c is refused",
        "the server of a, b is gone, and nothing runs in its place",
        "a, b have been replaced, one after the other",
    ]


def test_a_stack_on_paper_cannot_be_touched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    platform = PaperPlatform(FAILOVER.stack)
    with pytest.raises(FaultError, match="on paper"):
        platform.apply({"id": "x"})
    with pytest.raises(FaultError, match="on paper"):
        platform.undo("x")
    with pytest.raises(FaultError, match="on paper"):
        platform.probe("x")
    with pytest.raises(StackError, match="no such member"):
        platform.state("nobody")
    assert list(tmp_path.iterdir()) == []


def test_text_from_files_is_shown_as_text():
    scenario = msgspec.structs.replace(FAILOVER, title="a\x1b[31m[red]b[/red]")
    assert "a\\x1b[31m[red]b[/red]" in shown(scenario, replace(FaultPlan(known="k"), nothing="n\x07"))


@pytest.mark.parametrize("arguments", [["no-such"], ["redis-failover", "--set", "nope=1"]], ids=["name", "field"])
def test_a_wrong_name_is_one_line_and_2(arguments, capsys):
    assert cli.main(["plan", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_plan_prints_and_starts_nothing(capsys):
    assert cli.main(["plan", "redis-failover"]) == 0
    assert "redis-cluster-5 (replica of shard 3)" in capsys.readouterr().out


def test_text_from_a_cluster_is_shown_as_text():
    named = ("kube-system/x\x1b[31m[red]",)
    shown_text = shown(FAILOVER, FaultPlan(known="k", nodes=("n",), besides=named, allowed=named))
    assert shown_text.count("kube-system/x\\x1b[31m[red]") == 2
    assert "\x1b" not in shown_text


def test_a_postgresql_member_is_told_with_its_part_and_no_shard():
    scenario = read_scenario(ROOT, "postgresql-baseline")
    kill = read_scenario(ROOT, "redis-kill-primary").experiment
    assert kill is not None
    experiment = msgspec.structs.replace(kill, target=Target(component="postgresql", role="primary"))
    plan = fault_plan(msgspec.structs.replace(scenario, experiment=experiment), "")
    assert plan is not None
    assert plan.members == (("postgresql-primary-0", "primary"),)
    assert "a new connection from prometheus-0 to postgresql-primary-0 is refused" in plan.proofs


@pytest.mark.parametrize(
    ("workers", "text"), [(1, "50 edits/s, 100 direct"), (4, "50 edits/s, from 4 processes, 100 direct")]
)
def test_a_load_of_several_processes_is_shown_as_such(workers: int, text: str):
    scenario = read_scenario(ROOT, "redis-failover", [f"load.workers={workers}"])
    assert text in " ".join(shown(scenario).split())


def test_what_an_operator_does_and_what_is_written_to_postgresql_is_on_the_screen():
    scenario = read_scenario(ROOT, "postgresql-failover")
    plan = fault_plan(scenario, "")
    assert plan is not None
    assert plan.steps[-1] == "10 s later, by the runbook: promote the PostgreSQL standby that has received most"
    assert "20 rows/s to PostgreSQL" in shown(scenario, plan)
    assert "20 ops/s on registers there" in " ".join(shown(scenario, plan).split())
    asked = ["load.postgresql_list_rate_ops_per_s=6", "load.postgresql_list_isolation=read committed"]
    told = " ".join(shown(read_scenario(ROOT, "postgresql-failover", asked)).split())
    assert "6 transactions/s on lists there, read committed" in told
    assert "PostgreSQL" not in shown(FAILOVER)


PROMOTE = "5 s later, by the runbook: promote the PostgreSQL standby that has received"


@pytest.mark.parametrize(
    ("name", "member", "steps"),
    [
        (
            "postgresql-cut-failover",
            ("postgresql-replica-1", "replica"),
            [
                "drop every packet between postgresql-replica-0 and postgresql-primary-0",
                "drop every packet between postgresql-replica-1 and postgresql-primary-0",
                "leave it so for 4 s at least, and until healing",
                "hold back the restart of postgresql-primary-0, until healing",
                "send SIGKILL to the server of postgresql-primary-0",
                f"{PROMOTE} most",
            ],
        ),
        (
            "postgresql-wrong-standby-quorum",
            ("postgresql-replica-0", "replica"),
            [f"{PROMOTE} least"],
        ),
        (
            "postgresql-split-brain",
            ("postgresql-replica-0", "replica"),
            [
                f"{PROMOTE} most, and leave the node of the former primary alone",
            ],
        ),
        (
            "postgresql-cancel-waiting",
            ("postgresql-replica-0", "replica"),
            [
                "at once, by the runbook: cancel every backend of PostgreSQL's primary that waits for a standby",
                "8 s later, by the runbook: promote the PostgreSQL standby that has received most",
            ],
        ),
        ("postgresql-kill-sync-standby", ("postgresql-replica-0", "replica"), []),
    ],
)
def test_what_is_done_to_standbys_and_by_whom(name: str, member: tuple[str, str], steps: list[str]):
    plan = fault_plan(read_scenario(ROOT, name), "")
    assert plan is not None
    assert plan.nothing == ""
    assert member in plan.members
    assert list(plan.steps[len(plan.steps) - len(steps) :]) == steps


def test_what_patroni_does_is_on_the_screen():
    plan = fault_plan(read_scenario(ROOT, "postgresql-failover-patroni"), "")
    assert plan is not None
    assert plan.steps[-1] == "20 s to 40 s later, by itself: Patroni promotes a PostgreSQL standby"


def test_who_is_denied_what_is_told():
    watch = {"probe": "denied", "pods": [{"name": "a"}], "others": [{"name": "b"}, {"name": "c"}]}
    assert list(proofs_in_words([watch])) == [
        "no new connection from a to b, c is accepted, while a witness's to all of them are"
    ]


def test_a_queues_leader_is_told_as_such():
    scenario = read_scenario(ROOT, "rabbitmq-kill-leader")
    plan = fault_plan(scenario, "")
    assert plan
    text = " ".join(shown(scenario, plan).split())
    assert "rabbitmq-0 (leader of session-events)" in text
    assert "30 messages/s to each of 3 queues" in text
    assert "messages/s" not in shown(FAILOVER)
    assert "send SIGKILL to the server of rabbitmq-0" in text
    assert "a new connection from prometheus-0 to rabbitmq-0 is refused" in text
