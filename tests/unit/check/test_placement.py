"""Pairs and primaries by node, as the load began and at the end."""

from pathlib import Path

import msgspec
import pytest

from resilience.check import needs
from resilience.check.finding import Finding
from resilience.check.placement import placement
from resilience.history.record import Event
from resilience.spec.scenario import Scenario
from tests.histories import END, RECOVERY, STEADY, Recorded, S, baseline, recorded, scenario


def found(run: Recorded, folder: Path, about: Scenario) -> tuple[Finding, Finding]:
    pairs, primaries = placement(about, run.history(folder, about))
    return pairs, primaries


def moved(about: Scenario, **nodes: str) -> Scenario:
    """The scenario with members on other nodes; of a name the number says which member."""
    on = {f"redis-cluster-{name[1:]}": node for name, node in nodes.items()}
    members = tuple(msgspec.structs.replace(one, node=on.get(one.name, one.node)) for one in about.stack.members)
    return msgspec.structs.replace(about, stack=msgspec.structs.replace(about.stack, members=members))


def test_a_failover_is_told_with_what_the_next_loss_would_mean(tmp_path: Path) -> None:
    pairs, primaries = found(recorded(), tmp_path, scenario())
    assert (pairs.verdict, pairs.measured, pairs.reason) == ("pass", "0 together", "")
    assert primaries.verdict == "pass"
    assert primaries.measured == "at the start node-1 1, node-2 1, node-3 1; at the end node-1 0, node-2 2, node-3 1"
    assert primaries.allowed == "≤ 1 of 3 on a node at the start"
    assert primaries.reason == "node-2 holds 2 of 3 primaries at the end: if it fails, too, nobody can be elected"


def test_without_a_fault_nothing_is_told_and_nothing_may_move(tmp_path: Path) -> None:
    run = recorded(fault=False)
    (tmp_path / "well").mkdir()
    assert [(one.verdict, one.reason) for one in found(run, tmp_path / "well", baseline())] == [("pass", "")] * 2
    run.events.append(
        Event("role", END, {"member": "redis-cluster-3", "group": 1, "role": "primary", "epoch": 7})
    )  # nobody was told to
    (tmp_path / "moved").mkdir()
    _, primaries = found(run, tmp_path / "moved", baseline())
    assert (primaries.verdict, primaries.reason) == ("fail", "node-2 holds 2 of 3 primaries at the end")


def test_a_shard_that_stands_on_one_node(tmp_path: Path) -> None:
    pairs, _ = found(recorded(), tmp_path, moved(scenario(), m3="node-1"))
    assert pairs.verdict == "fail"
    assert pairs.reason == "node-1 holds 2 of shard 1 at the end; node-1 holds 2 of shard 1 at the start"


def test_a_pair_that_a_failover_has_made(tmp_path: Path) -> None:
    """A replica that has come to another shard, onto the node of that one's primary."""
    run = recorded()
    for member, group in (("redis-cluster-4", 3), ("redis-cluster-5", 2)):
        role = {"member": member, "group": group, "role": "replica", "epoch": 8}
        run.events.append(Event("role", RECOVERY + S, role))
    pairs, _ = found(run, tmp_path, scenario())
    assert (pairs.verdict, pairs.reason) == ("fail", "node-3 holds 2 of shard 3 at the end")


def test_primaries_that_stood_together_from_the_beginning(tmp_path: Path) -> None:
    _, primaries = found(recorded(), tmp_path, moved(scenario(), m1="node-1", m5="node-2"))
    assert primaries.verdict == "fail"
    assert primaries.reason == "node-1 holds 2 of 3 primaries at the start"


@pytest.mark.parametrize(("at", "verdict"), [(STEADY, "pass"), (STEADY + 1, "inconclusive")])
def test_who_is_seen_after_the_load_began_was_not_seen_at_the_start(tmp_path: Path, at: int, verdict: str) -> None:
    run = recorded()
    late = next(event for event in run.events if event.data.get("member") == "redis-cluster-4" and "role" in event.data)
    run.events.remove(late)
    run.events.append(Event("role", at, late.data))
    pairs, _ = found(run, tmp_path, scenario())
    assert pairs.verdict == verdict
    assert pairs.reason == ("" if verdict == "pass" else "1 of 2 members of shard 2 were seen at the start")


def test_a_primary_that_nobody_saw(tmp_path: Path) -> None:
    run = recorded()
    run.events = [event for event in run.events if event.name != "role" or event.data["member"] != "redis-cluster-2"]
    _, primaries = found(run, tmp_path, scenario())
    assert primaries.verdict == "inconclusive"
    assert primaries.reason == "shard 3's primary was not seen at the start; shard 3's primary was not seen at the end"


def test_what_was_seen_rests_on_little_and_a_pass_on_a_whole_run(tmp_path: Path) -> None:
    (tmp_path / "well").mkdir()
    assert {one.rests_on for one in found(recorded(), tmp_path / "well", scenario())} == {needs.WHOLE + needs.CONTROL}
    (tmp_path / "wrong").mkdir()
    wrong = found(recorded(), tmp_path / "wrong", moved(scenario(), m1="node-1", m3="node-1"))
    assert {one.rests_on for one in wrong} == {needs.RECORD}
