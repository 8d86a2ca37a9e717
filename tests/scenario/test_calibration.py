"""The harness against platforms whose loss is known: it must find it where it is, and nothing where there is none."""

from pathlib import Path

import pytest

from tests.scenario.conftest import SHORT, Resilience, with_set

pytestmark = pytest.mark.scenario
EARLY = Path(__file__).parents[1] / "broken_services/early-session.yaml"


@pytest.mark.slow
def test_baseline_is_clean(resilience: Resilience) -> None:
    ended = resilience.run("baseline")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.verdict["verdict"] == "pass"


@pytest.mark.slow
def test_a_lost_replica_costs_no_write(beside_control: Resilience) -> None:
    ended = beside_control.run("redis-kill-replica")
    assert ended.code == 0, ended.output[-3000:]
    assert ended.verdict["measures"]["durability.lost_ops"] == 0


@pytest.mark.slow
def test_partition_under_async_loses_writes_inside_the_predicted_window(beside_control: Resilience) -> None:
    ended = beside_control.run("redis-partition-primary")
    measures = ended.verdict["measures"]
    assert ended.code == 0, ended.output[-3000:]
    assert ended.verdict["headline"].startswith("pass: known weakness, seen again: shard 1: ")
    assert [f["verdict"] for f in ended.findings("slo.durability")] == ["fail"], "shown as what it is"
    acked = measures["durability.acked_in_window_ops"]
    assert acked >= 500
    assert measures["durability.kept_in_window_ops"] <= 0.1 * acked, "what it acknowledged alone is lost"
    assert measures["durability.lost_ops"] >= 0.9 * acked
    # a negative age is after the cut: all that is lost lies within 1.6 node time-outs of it, and of an answer's way
    assert -8.1 <= measures["durability.lost_newest_s"] <= -4.8
    assert -0.2 <= measures["durability.lost_oldest_s"] <= 0.1


@pytest.mark.slow
def test_partition_under_wait_loses_nothing_and_costs_availability_until_healing(resilience: Resilience) -> None:
    ended = resilience.run("redis-partition-primary", "--control", "auto", "--set", "durability=wait:1")
    measures = ended.verdict["measures"]
    assert ended.code == 1, ended.output[-3000:]
    assert measures["durability.lost_ops"] == 0
    cut = [f["measures"] for f in ended.findings("durability.") if f["where"]["group"] == "shard 1"]
    assert sum(found["durability.acked_ops"] for found in cut) >= 1_000
    # nobody acknowledges a write of the shard that is cut off until it is healed
    assert measures["durability.direct.acked_during_fault_ops"] == 0
    assert measures["recovery.first_good_write_s"] >= 24.5
    assert [f for f in ended.findings("slo.session-availability") if f["verdict"] == "fail"], "the outage is a finding"


def test_a_quick_restart_without_persistence_loses_the_shard_and_little_time(resilience: Resilience) -> None:
    """Its control is one that somebody has taken by hand, no longer than the run's own steady phase."""
    control = resilience.run("baseline", *SHORT, *with_set("redis.appendonly=false", "redis.snapshot_every_s=0"))
    assert control.code == 0, control.output[-3000:]
    ended = resilience.run("redis-fast-restart-no-persistence", "--control", "auto")
    measures = ended.verdict["measures"]
    assert ended.code == 0, ended.output[-3000:]
    assert len(resilience.directories()) == 2, "no other control was taken"
    assert ended.verdict["headline"].startswith("pass: known weakness, seen again: shard 1: ")
    # all that the shard acknowledged up to the restart: 30 s of 100 direct writes a second
    assert measures["durability.kept_before_fault_ops"] == 0
    assert 2_800 <= measures["durability.direct.lost_ops"] <= 3_300
    assert 0 <= measures["durability.lost_newest_s"] <= 1.0
    assert measures["recovery.first_good_write_s"] < 5
    assert all(f["verdict"] == "pass" for f in ended.findings("slo.session-availability")), "an SLO alone is content"


@pytest.mark.slow
def test_a_service_that_answers_before_its_write_is_acknowledged_is_found(resilience: Resilience) -> None:
    """`tests.broken_services.early_session`: all that its users see is well, and their writes are gone."""
    ended = resilience.run(str(EARLY), "--control", "auto")
    assert ended.code == 1, ended.output[-3000:]
    objectives = ended.findings("slo.")
    assert {f["where"]["phase"] for f in objectives} == {"steady", "fault"}
    assert all(f["verdict"] == "pass" for f in objectives), "the objectives alone are content"
    failed = [f for f in ended.verdict["findings"] if f["verdict"] == "fail"]
    assert {f["check"] for f in failed} == {"durability.session"}, "what others wrote is there"
    lost = next(f for f in failed if f["where"]["group"] == "shard 1")
    assert "acknowledged session writes lost" in ended.verdict["headline"]
    # acknowledged while the shard had no primary: after the fault, which no replication lag explains
    assert lost["measures"]["durability.lost_outside_window_ops"] >= 10
    assert lost["measures"]["durability.lost_newest_s"] < -1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "program", "failing"),
    [
        ("content-kill", "content.program", {("durability.content", "cache"), ("durability.content", "renditions")}),
        ("personalization-kill", "personalization.program",
         {("durability.events", "profiles"), ("staleness.suggestions", "")}),
        ("collaboration-events-kill-leader", "programs.collaboration",
         {("durability.collaboration", "postgresql"), ("durability.collaboration", "queue collaboration-sync"),
          ("slo.durability", "")}),
    ],
)  # fmt: skip
def test_a_service_that_forgets_is_found_at_the_hop_where_it_does(
    resilience: Resilience, scenario: str, program: str, failing: set[tuple[str, str]]
) -> None:
    """`tests.broken_services.forgetful_…`: everybody is answered, and quickly."""
    broken = f"tests.broken_services.forgetful_{scenario.partition('-')[0]}"
    ended = resilience.run(scenario, "--set", f"{program}={broken}", "--control", "none")
    assert ended.code == 1, ended.output[-3000:]
    failed = [f for f in ended.verdict["findings"] if f["verdict"] == "fail"]
    assert {(f["check"], f["where"]["group"]) for f in failed} == failing
