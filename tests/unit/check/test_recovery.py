"""Recovery: how long a hit shard was away, what that was made of, and what must be said of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import judge
from resilience.check.finding import Finding
from resilience.check.outage import longest, outages
from resilience.check.recovery import recovery
from resilience.spec.fault import Kill, Partition
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Wait
from tests.histories import (
    APPLIED,
    END,
    INJECTION,
    RECOVERY,
    RESTORED,
    STEADY,
    Op,
    Recorded,
    S,
    baseline,
    recorded,
    scenario,
)


def away(run: Recorded, group: int, start: int, length_us: int) -> None:
    """No direct write to a shard succeeds that is due in this time; what it had acknowledged is there."""
    for op in run.of("direct.write", group):
        if start <= op.due < start + length_us:
            op.end("unknown", 2 * S, "timeout")


def slow_sessions(run: Recorded, start: int, end: int, after_us: int) -> None:
    for op in run.good("session.read") + run.good("session.update") + run.good("session.heartbeat"):
        if start <= op.due < end:
            op.returned = op.due + after_us


OTHERS = ("redis-cluster-0", "session-0")


def preceded(run: Recorded, *, of: str, for_s: float, others: tuple[str, ...] = OTHERS) -> None:
    """The fault began to be made 6 s early: for so long something was done to a member first, then it to others."""
    members = [*others, of]
    plan = {"id": INJECTION, "members": members, "prelude": {"members": [of], "for_s": for_s}}
    run.change("injecting", injection=plan)
    run.change("injected", began_us=APPLIED - 6 * S, members=members)


def with_partial_coverage() -> Scenario:
    about = scenario()
    return replace(
        about, stack=replace(about.stack, redis=replace(about.stack.redis, cluster_require_full_coverage=False))
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    verdicts: dict[str, str]  # of the findings that are not a pass
    outage_us: int = RESTORED - APPLIED
    change: Callable[[Recorded], object] = lambda run: run
    about: Scenario = field(default_factory=scenario)
    says: str = ""


CASES = (
    Case(name="as it should be", verdicts={}),
    Case(name="just soon enough", verdicts={}, outage_us=5_500_000),
    Case(name="too soon for a failover", verdicts={"recovery.range": "inconclusive"}, outage_us=5_400_000,
         says="manual failover"),
    Case(name="soon enough since the fault began to be made", verdicts={}, outage_us=5_400_000,
         change=lambda run: run.change("injected", began_us=APPLIED - S)),
    Case(name="too soon after what came before it", verdicts={"recovery.range": "inconclusive"}, outage_us=5_400_000,
         change=lambda run: preceded(run, of="redis-cluster-3", for_s=6.0), says="manual failover"),
    Case(name="soon enough since it may have begun to be made", verdicts={}, outage_us=5_400_000,
         change=lambda run: preceded(run, of="redis-cluster-3", for_s=5.0)),
    Case(name="taken away by what came first", verdicts={}, outage_us=5_400_000,
         change=lambda run: preceded(run, of="redis-cluster-0", for_s=6.0, others=())),
    Case(name="no outage at all", verdicts={"recovery.range": "inconclusive"}, outage_us=0, says="no effect"),
    Case(name="just in time", verdicts={}, outage_us=12_400_000),
    Case(name="too late", verdicts={"recovery.range": "fail"}, outage_us=12_600_000, says="later than one election"),
    Case(name="held back by WAIT until the healing", verdicts={}, outage_us=21 * S, about=scenario(durability=Wait())),
    Case(name="killed, back before anybody noticed", verdicts={}, outage_us=2 * S,
         about=scenario(fault=Kill(restart=True))),
    Case(name="killed for good", verdicts={"recovery.range": "inconclusive"}, outage_us=2 * S,
         about=scenario(fault=Kill(restart=False))),
    Case(name="cut off from clients only", verdicts={}, outage_us=20 * S,
         about=scenario(fault=Partition(cut_from="clients"))),
    Case(name="cut off from clients, and none of them noticed", verdicts={"recovery": "inconclusive"}, outage_us=0,
         about=scenario(fault=Partition(cut_from="clients")), says="the fault had no effect"),
    Case(name="killed, and back before anybody could notice", verdicts={}, outage_us=0,
         about=scenario(fault=Kill(restart=True))),
    Case(name="never restored", verdicts={"recovery": "fail", "recovery.range": "fail"}, outage_us=100 * S,
         says="no write succeeded"),
    Case(name="never steady again", verdicts={"recovery": "fail"}, says="did not come back inside",
         change=lambda run: slow_sessions(run, RESTORED, END, 400_000)),
    Case(name="steady again in the end", verdicts={},
         change=lambda run: slow_sessions(run, RESTORED, END - 10 * S, 400_000)),
    Case(name="steady state not met afterwards", verdicts={"recovery.hypothesis": "fail"},
         change=lambda run: run.change("experiment", deviated=True), says="did not hold after healing"),
    Case(name="restored, and gone again at the end", verdicts={"recovery": "fail"}, says="no write succeeded",
         change=lambda run: away(run, 1, END - 4 * S, 10 * S)),
    Case(name="restored too late to see how people fared", verdicts={"recovery": "inconclusive"},
         outage_us=END - APPLIED - S, about=scenario(durability=Wait()), says="too soon after"),
    Case(name="another shard fails with it", verdicts={}, change=lambda run: away(run, 2, APPLIED + 6 * S, S * 3 // 2)),
    Case(name="another shard fails for longer", verdicts={"recovery": "fail"}, says="shard 2: 1.",
         change=lambda run: away(run, 2, APPLIED + 6 * S, S * 5 // 2)),
    Case(name="another shard fails long after it", verdicts={"recovery": "fail"}, says="shard 2: 2.",
         change=lambda run: away(run, 2, RECOVERY + 5 * S, 2 * S)),
    Case(name="another shard fails where each serves for itself", verdicts={"recovery": "fail"}, says="shard 2: 1.",
         about=with_partial_coverage(), change=lambda run: away(run, 2, APPLIED + 6 * S, S * 3 // 2)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recovery(case: Case, tmp_path: Path) -> None:
    run = recorded(outage_us=case.outage_us)
    case.change(run)
    findings = recovery(case.about, run.history(tmp_path, case.about))
    assert {f.check: f.verdict for f in findings if f.verdict != "pass"} == case.verdicts
    assert case.says in " ".join(f.reason for f in findings)


def measures(findings: tuple[Finding, ...]) -> dict[str, float]:
    return {name: value for finding in findings for name, value in finding.measures.items()}


def test_what_recovery_was_made_of(tmp_path: Path) -> None:
    found = measures(recovery(scenario(), recorded().history(tmp_path, scenario())))
    assert found["recovery.detected_s"] == 5.0
    assert found["recovery.elected_s"] == 7.0
    assert found["recovery.first_good_write_s"] == pytest.approx(8.0415)
    assert found["recovery.steady_again_s"] == pytest.approx(8.3, abs=0.1)
    assert found["recovery.outage_s"] == pytest.approx(8.05)
    assert found["recovery.outage_error_s"] == pytest.approx(0.1)  # one period of the schedule at each end


@pytest.mark.parametrize(
    ("index", "event", "gone"), [(0, "failing", "recovery.detected_s"), (6, "role", "recovery.elected_s")]
)
def test_what_nobody_saw_is_not_measured(index: int, event: str, gone: str, tmp_path: Path) -> None:
    run = recorded()
    run.drop(event, index)  # of roles the six at the start come first
    found = measures(recovery(scenario(), run.history(tmp_path, scenario())))
    assert gone not in found
    assert "recovery.first_good_write_s" in found


def test_a_short_rest_of_the_load_is_said(tmp_path: Path) -> None:
    run = recorded(outage_us=32 * S)
    found = recovery(scenario(durability=Wait()), run.history(tmp_path, scenario()))
    assert found[0].verdict == "pass"
    assert "only" in found[0].reason


@pytest.mark.parametrize(("length_us", "verdict"), [(0, "pass"), (900_000, "pass"), (1_100_000, "fail")])
def test_nothing_was_broken_and_yet(length_us: int, verdict: str, tmp_path: Path) -> None:
    run = recorded(fault=False)
    away(run, 3, 30 * S, length_us)
    (finding,) = recovery(baseline(), run.history(tmp_path, baseline()))
    assert finding.verdict == verdict
    assert ("shard 3" in finding.reason) == (verdict == "fail")


def test_a_replica_is_no_reason_for_an_outage(tmp_path: Path) -> None:
    run = recorded(outage_us=0)
    run.change("injected", members=["redis-cluster-4"])
    away(run, 2, APPLIED + 5 * S, 2 * S)
    found = recovery(scenario(), run.history(tmp_path, scenario()))
    assert [f.verdict for f in found if f.check == "recovery"] == ["fail"]
    assert not [f for f in found if f.check == "recovery.range"]


def test_a_missed_recovery_time_fails_the_run(tmp_path: Path) -> None:
    about = scenario(durability=Wait())  # no upper end of the range: the objective alone judges
    run = recorded(outage_us=19 * S)
    judgement = judge(about, run.history(tmp_path, about))
    failed = {finding.check for finding in judgement.findings if finding.verdict == "fail"}
    assert "slo.recovery-time" in failed
    assert "recovery" not in failed


@pytest.mark.parametrize(("length_us", "seen"), [(100_000, 0), (150_000, 1), (3 * S, 1)])
def test_an_outage_is_longer_than_usual_gaps(length_us: int, seen: int, tmp_path: Path) -> None:
    """Writes come every 50 ms: three usual gaps, 150 ms, are none; two are missing at 100 ms, three at 150 ms."""
    run = recorded(fault=False)
    away(run, 1, 30 * S, length_us)
    found = outages(baseline(), run.history(tmp_path, baseline()), 1)
    assert len(found) == seen
    for outage in found:
        assert outage.ended
        assert outage.length_s == pytest.approx(length_us / S + 0.05, abs=0.001)
        assert outage.length_s - outage.error_s == pytest.approx(length_us / S - 0.05, abs=0.001)


def test_an_outage_at_the_end_is_open(tmp_path: Path) -> None:
    run = recorded(fault=False)
    away(run, 1, END - 3 * S, 10 * S)
    outage = longest(outages(baseline(), run.history(tmp_path, baseline()), 1))
    assert outage is not None
    assert not outage.ended
    assert outage.end == END


def test_no_write_at_all_is_one_outage(tmp_path: Path) -> None:
    run = recorded(fault=False)
    away(run, 1, 0, END)
    (outage,) = outages(baseline(), run.history(tmp_path, baseline()), 1)
    assert (outage.start, outage.end, outage.ended) == (STEADY, END, False)


def test_a_write_that_waited_is_one_in_vain(tmp_path: Path) -> None:
    """What was sent in the outage and answered at its end says as well as a failure that the shard was away."""
    run = recorded(fault=False)
    away(run, 1, 30 * S, 3 * S)
    slow: list[Op] = [op for op in run.of("direct.write", 1) if 32 * S <= op.due < 33 * S]
    for op in slow:
        op.outcome, op.error, op.returned = "ok", "", 33 * S
    (outage,) = outages(baseline(), run.history(tmp_path, baseline()), 1)
    assert outage.end == 33 * S
    assert outage.error_s == pytest.approx(
        0.25, abs=0.01
    )  # a period of the schedule at each end, and the limit of 150 ms
    assert outage.end < RECOVERY
