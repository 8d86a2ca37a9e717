"""Availability by key group and phase, and latency counted from the ops."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.check.availability import availability
from resilience.check.latency import latency
from resilience.check.off_shards import SERVICES
from resilience.check.text import percent
from resilience.check.way import WORDS
from resilience.history.people import OF_PEOPLE
from resilience.history.way import Way, way_of
from resilience.spec.scenario import Scenario
from tests.histories import (
    SLOS,
    TIERS,
    WITH_CONTENT,
    Recorded,
    S,
    baseline,
    personalized,
    recorded,
    scenario,
    with_people,
)


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


@dataclass(frozen=True, kw_only=True)
class Part:
    """A service whose ops are on no shard, with how many of them a phase has."""

    group: str
    kinds: str | tuple[str, ...]
    ops: int
    lack: str
    about: Scenario
    run: Callable[[], Recorded]


PARTS = (
    Part(group="content", kinds="content.", ops=200, lack="no op on an article in this phase",
         about=scenario(tiers=WITH_CONTENT), run=lambda: recorded(tiers=WITH_CONTENT)),
    Part(group="personalization", kinds=OF_PEOPLE, ops=80, lack="no suggestion or interest in this phase",
         about=personalized(scenario(tiers=TIERS)), run=lambda: with_people(recorded(tiers=TIERS))),
)  # fmt: skip


def test_none_of_them_is_left_out() -> None:
    assert [part.group for part in PARTS] == [service.name for service in SERVICES]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.group)
@pytest.mark.parametrize(
    ("phase", "bad", "reason"),
    [
        ("steady", lambda ops: ops // 100, ""),
        ("steady", lambda ops: ops // 100 + 1, "sick before any fault"),
        ("fault", lambda ops: ops - 1, ""),
        ("fault", lambda ops: ops, "none of {} ops succeeded"),
        ("recovery", None, ""),
    ],
    ids=["99 % steady", "under 99 % steady", "one got through", "none got through", "nobody asked"],
)
def test_services_whose_ops_are_on_no_shard(
    part: Part, phase: str, bad: Callable[[int], int] | None, reason: str, tmp_path: Path
) -> None:
    run = part.run()
    mine = [op for op in run.ops if op.kind.startswith(part.kinds) and op.phase == phase]
    assert len(mine) == part.ops
    if bad is None:
        run.ops = [op for op in run.ops if op not in mine]
        verdict, reason = "inconclusive", part.lack
    else:
        verdict, reason = "fail", reason.format(part.ops)
        for op in mine[: bad(part.ops)]:
            op.end("fail", 5_000, "http-503")
    findings = availability(part.about, run.history(tmp_path, part.about))
    assert sum(one.where.group == part.group for one in findings) == 3
    odd = [(one.where.group, one.where.phase, one.verdict, one.reason) for one in findings if one.verdict != "pass"]
    assert odd == ([(part.group, phase, verdict, reason)] if reason else [])


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
