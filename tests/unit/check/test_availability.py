"""Availability by key group and phase, and latency counted from the ops."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resilience.check.availability import availability
from resilience.check.latency import latency
from resilience.check.text import percent
from resilience.check.way import WORDS
from resilience.history.way import Way, way_of
from tests.histories import SLOS, Recorded, S, baseline, recorded, scenario


def fail_some(run: Recorded, kind: str, group: int, phase: str, number: int) -> None:
    for op in run.good(kind, group, phase)[:number]:
        op.end("fail", 5_000, "http-503")


def forget(run: Recorded, prefix: str, group: int, phase: str) -> None:
    run.ops = [op for op in run.ops if not (op.kind.startswith(prefix) and op.group == group and op.phase == phase)]


@pytest.mark.parametrize(
    ("change", "verdict", "where"),
    [
        (lambda run: fail_some(run, "direct.write", 2, "steady", 4), None, None),
        (lambda run: fail_some(run, "direct.write", 2, "steady", 5), "fail", ("shard 2", "steady", "sick before")),
        (lambda run: fail_some(run, "direct.write", 2, "fault", 399), None, None),
        (lambda run: fail_some(run, "direct.write", 2, "fault", 400), "fail", ("shard 2", "fault", "none of 400 ops")),
        (lambda run: forget(run, "direct.", 3, "recovery"), "inconclusive", ("shard 3", "recovery", "no op")),
        (lambda run: forget(run, "session.", 1, "fault"), "inconclusive", ("shard 1", "fault", "no op")),
        (lambda run: forget(run, "collaboration.edit", 2, "fault"), "inconclusive", ("shard 2", "fault", "no op")),
    ],
    ids=["99 % steady", "under 99 % steady", "one got through", "none got through", "no direct op", "no session op",
         "no edit"],
)  # fmt: skip
def test_availability(
    change: Callable[[Recorded], None], verdict: str | None, where: tuple[str, str, str] | None, tmp_path: Path
) -> None:
    run = recorded()
    change(run)
    findings = availability(scenario(), run.history(tmp_path, scenario()))
    odd = [finding for finding in findings if finding.verdict != "pass"]
    assert [finding.verdict for finding in odd] == ([verdict] if verdict else [])
    for finding in odd:
        assert where is not None
        assert (finding.where.group, finding.where.phase) == where[:2]
        assert where[2] in finding.reason


def test_each_group_and_phase_has_its_number(tmp_path: Path) -> None:
    findings = availability(scenario(), recorded().history(tmp_path, scenario()))
    assert len(findings) == (3 + 3 + 2) * 3  # rooms are on two shards
    hit = next(f for f in findings if f.title.startswith("direct") and f.where.group == "shard 1" and f.value != 1)
    assert (hit.where.phase, hit.measured) == ("fault", "60 % of 400 ops ok")


def refuse_rows(run: Recorded, way: Way, phase: str, all_but: int) -> None:
    for op in [op for op in run.of("postgresql.write", phase=phase) if way_of(op.key) == way][all_but:]:
        op.end("fail", 3_000, "57P03")


@pytest.mark.parametrize(
    ("way", "phase", "all_but", "reason"),
    [
        ("direct", "steady", 198, ""),
        ("direct", "steady", 197, "sick before any fault"),
        ("pgbouncer", "steady", 197, "sick before any fault"),
        ("pgbouncer", "fault", 1, ""),
        ("pgbouncer", "fault", 0, "none of 200 ops succeeded"),
        ("direct", "recovery", 0, "none of 200 ops succeeded"),
    ],
)
def test_rows_are_judged_by_the_way_on_which_they_are_written(
    way: Way, phase: str, all_but: int, reason: str, tmp_path: Path
) -> None:
    run, about = recorded(tiers=("postgresql",)), scenario(tiers=("postgresql",))
    refuse_rows(run, way, phase, all_but)
    found = [one for one in availability(about, run.history(tmp_path, about)) if one.where.group == "postgresql"]
    assert len(found) == 2 * 3
    odd = [(one.title, one.reason) for one in found if one.verdict != "pass"]
    assert odd == ([(f"{WORDS[way]} in phase {phase}", reason)] if reason else [])


def test_a_way_on_which_nobody_wrote_is_inconclusive(tmp_path: Path) -> None:
    run, about = recorded(tiers=("postgresql",)), scenario(tiers=("postgresql",))
    run.ops = [op for op in run.ops if op.kind != "postgresql.write" or way_of(op.key) == "direct"]
    odd = [one for one in availability(about, run.history(tmp_path, about)) if one.verdict != "pass"]
    assert {(one.verdict, one.reason) for one in odd} == {("inconclusive", "no row was sent on this way in this phase")}
    assert len(odd) == 3


def slow(run: Recorded, number: int, after_us: int) -> None:
    for op in [op for op in run.ops if op.kind.startswith("session.") and op.phase == "steady"][:number]:
        op.returned = op.due + after_us


@pytest.mark.parametrize(
    ("number", "after_us", "verdict"),
    [(2, S, "pass"), (3, S, "fail"), (200, 250_000, "pass"), (200, 250_001, "fail")],
    ids=["99 % fast", "under 99 % fast", "all at the threshold", "all just over it"],
)
def test_latency(number: int, after_us: int, verdict: str, tmp_path: Path) -> None:
    run = recorded()
    slow(run, number, after_us)
    (finding,) = latency(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == verdict
    assert "p99" in finding.measured


def test_an_op_that_is_not_ok_is_not_fast(tmp_path: Path) -> None:
    run = recorded()
    for group in (1, 2, 3):
        fail_some(run, "session.read", group, "steady", 1)
    (finding,) = latency(scenario(), run.history(tmp_path, scenario()))
    assert finding.verdict == "fail"
    assert "3 ops slower" in finding.reason


def test_too_few_ops_for_a_latency(tmp_path: Path) -> None:
    run = recorded()
    for group in (1, 2, 3):
        forget(run, "session.", group, "steady")
    (finding,) = latency(scenario(), run.history(tmp_path, scenario()))
    assert (finding.verdict, finding.reason) == ("inconclusive", "0 ops, at least 100 needed")


@pytest.mark.parametrize("empty", [False, True])
def test_latency_without_an_objective(empty: bool, tmp_path: Path) -> None:
    run, about = recorded(fault=False), baseline(slos=SLOS[:1])
    if empty:
        for group in (1, 2, 3):
            forget(run, "session.", group, "steady")
    (finding,) = latency(about, run.history(tmp_path, about))
    assert finding.verdict == ("inconclusive" if empty else "pass")
    assert empty or finding.measured.startswith("ok ops: p50 6.0 ms")


@pytest.mark.parametrize(
    ("ratio", "text"), [(1, "100 %"), (0.5, "50 %"), (0.99999999, "99.999 %"), (0.12345, "12.345 %"), (0, "0 %")]
)
def test_percent(ratio: float, text: str) -> None:
    assert percent(ratio) == text
