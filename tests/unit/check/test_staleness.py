"""How stale suggestions were, by what people were told before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.check.finding import Finding
from resilience.check.staleness import NAME, suggestions
from tests.histories import (
    APPLIED,
    BOUND_S,
    FAULT,
    TIERS,
    Op,
    Recorded,
    S,
    personalized,
    recorded,
    scenario,
    taken_over,
    with_people,
)

ABOUT = personalized(scenario(tiers=TIERS))
BOUND_US = int(BOUND_S * S)


def found(run: Recorded, folder: Path) -> Finding:
    (finding,) = suggestions(ABOUT, run.history(folder, ABOUT))
    return finding


def only(run: Recorded, *ops: tuple[str, int, int, int]) -> None:
    """Of people nothing but these is on record: kind, when it was called, when it returned, its version."""
    kinds = {"suggestion.read", "profile.write"}
    run.ops = [op for op in run.ops if op.kind not in kinds]
    first = 1 + max(op.id for op in run.ops if op.client == "locust")
    for number, (kind, called, returned, version) in enumerate(ops):
        value = f"interest-42-{number}" if kind == "profile.write" else ""
        op = Op("locust", first + number, kind, "anna", value, 0, "steady", called, called)
        op.outcome, op.returned, op.version = "ok", returned, version
        run.ops.append(op)


WRITE, READ, AT = "profile.write", "suggestion.read", 10 * S


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    ops: tuple[tuple[str, int, int, int], ...]
    verdict: str = "pass"
    worst_s: float = 0.0


def read(after_us: int, version: int) -> tuple[str, int, int, int]:
    """A read that is called so long after version 1 was acknowledged."""
    return READ, AT + after_us, AT + after_us + S // 100, version


WRITTEN = (WRITE, AT - S // 100, AT, 1)
FRESH = read(30 * S, 9)  # so that something is shown in any case
CASES = (
    Case(name="at once", ops=(WRITTEN, read(0, 1), FRESH)),
    Case(name="behind, within the bound", ops=(WRITTEN, read(BOUND_US // 2, 0), FRESH), worst_s=BOUND_S / 2),
    Case(name="at the bound", ops=(WRITTEN, read(BOUND_US, 0), FRESH), worst_s=BOUND_S),
    Case(name="beyond it", ops=(WRITTEN, read(BOUND_US + S, 0), FRESH), verdict="fail", worst_s=BOUND_S + 1),
    Case(name="called within it, answered beyond", worst_s=BOUND_S - 0.1,
         ops=(WRITTEN, (READ, AT + BOUND_US - S // 10, AT + BOUND_US + S, 0), FRESH)),
    Case(name="behind what another read gave", verdict="fail", worst_s=5.0,
         ops=(WRITTEN, read(S, 4), read(6 * S + S // 100, 3), FRESH)),
    Case(name="by the first that had a later one", verdict="fail", worst_s=8.0,
         ops=(WRITTEN, (WRITE, AT + 2 * S, AT + 3 * S, 2), read(8 * S, 0), FRESH)),
    Case(name="a later version, told before an earlier one", verdict="fail", worst_s=6.0,
         ops=((WRITE, AT - 3 * S, AT, 1), (WRITE, AT - 2 * S, AT - S, 2), read(5 * S, 1), FRESH)),
    Case(name="nothing was known before", ops=(read(0, 0), read(S, 0), (WRITE, AT + S, AT + 2 * S, 1), FRESH)),
    Case(name="nothing that shows anything", ops=(WRITTEN, read(S, 1)), verdict="inconclusive"),
    Case(name="nothing", ops=(), verdict="inconclusive"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_how_stale_a_read_was_for_certain(case: Case, tmp_path: Path) -> None:
    run = with_people(recorded(tiers=TIERS))
    only(run, *case.ops)
    finding = found(run, tmp_path)
    assert finding.verdict == case.verdict, finding
    assert finding.value == pytest.approx(case.worst_s)
    assert finding.measures[f"{NAME}.too_stale_ops"] == (case.verdict == "fail")


def test_a_run_as_it_should_be(tmp_path: Path) -> None:
    finding = found(with_people(recorded(tiers=TIERS)), tmp_path)
    assert finding.verdict == "pass", finding
    assert 0 < (finding.value or 0) <= 0.5, "replicas are half a second behind"


def change_one(change: Callable[[Op], None]) -> Recorded:
    run = with_people(recorded(tiers=TIERS))
    op = next(op for op in run.good("suggestion.read") if op.due > FAULT + 5 * S)
    change(op)
    return run


def go_back(op: Op) -> None:
    op.version = 0


def about_another(op: Op) -> None:
    op.error = "other-person"


@pytest.mark.parametrize(
    ("change", "what"), [(go_back, "staler than the bound"), (about_another, "about somebody else")]
)
def test_one_read_is_enough_and_is_named(change: Callable[[Op], None], what: str, tmp_path: Path) -> None:
    run = change_one(change)
    op = next(op for op in run.good("suggestion.read") if op.due > FAULT + 5 * S)
    finding = found(run, tmp_path)
    assert finding.verdict == "fail"
    assert finding.evidence == ({"what": what, "person": op.key, "op": f"locust/{op.id}"},)
    assert finding.rests_on == ("assumption.history-whole",)


def test_a_failed_read_tells_nothing(tmp_path: Path) -> None:
    def fail(op: Op) -> None:
        go_back(op)
        op.end("fail", 4_000, "http-503:stale")
        op.version = -1

    assert found(change_one(fail), tmp_path).verdict == "pass"


def test_what_a_failover_may_have_taken_back_is_not_judged(tmp_path: Path) -> None:
    run = change_one(go_back)
    taken_over(run, APPLIED + S)
    finding = found(run, tmp_path)
    assert finding.verdict == "inconclusive"
    assert "a failover may have taken back what was known" in finding.reason


def test_reads_before_the_fault_alone_show_nothing(tmp_path: Path) -> None:
    run = with_people(recorded(tiers=TIERS))
    for op in run.good("suggestion.read"):
        if op.due > FAULT:
            op.end("fail", 4_000, "http-503:stale")
            op.version = -1
    finding = found(run, tmp_path)
    assert finding.verdict == "inconclusive", finding
    assert "no read that shows anything was answered after the fault" in finding.reason
