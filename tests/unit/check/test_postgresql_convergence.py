"""Whether all members of PostgreSQL hold the same after healing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resilience.check.finding import Finding
from resilience.check.postgresql.convergence import convergence_of_postgresql
from resilience.history.record import Event
from tests.histories import END, POSTGRESQL, RECOVERY, Recorded, S, recorded, scenario

TIER = ("postgresql",)
A, B, C = POSTGRESQL


def held(rows: int, digest: str = "7") -> dict[str, Any]:
    return {"rows": rows, "digest": digest}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    verdict: str = "fail"
    says: str = ""
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is other than it should be, by member
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same of its tables; None: it lacks one
    silent: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(name="as it should be", verdict="pass"),
    Case(name="left on an old timeline", copies={B: {"timeline": 1}}, data={"timeline": 2},
         says=f"{B} is on timeline 1, {A} was on 2"),
    Case(name="one has not replayed all", copies={C: {"replayed": 999}}, says=f"{C} has replayed 999 of 1000 bytes"),
    Case(name="one has replayed nothing", copies={C: {"replayed": None}}, says=f"{C} has replayed 0 of 1000 bytes"),
    Case(name="one has replayed more", verdict="pass", copies={C: {"replayed": 1_001}}),
    Case(name="one has fewer rows", tables={B: {"written": held(1_239)}},
         says=f"{B} holds 1,239 rows of written, {A} 1,240"),
    Case(name="one has other rows", tables={B: {"written": held(1_240, "8")}},
         says=f"{B} holds 1,240 rows of written that add up to something else, {A} 1,240"),
    Case(name="one has other registers", tables={B: {"registers": held(18, "8")}},
         says=f"{B} holds 18 rows of registers that add up to something else, {A} 18"),
    Case(name="one has other lists", says=f"{C} holds 7 rows of lists, {A} 8",
         tables={A: {"lists": held(8)}, B: {"lists": held(8)}, C: {"lists": held(7)}}),
    Case(name="one has no table", tables={B: {"written": None}}, says=f"{B} has no table written"),
    Case(name="the primary has no table", tables={A: {"registers": None}}, says=f"{A} has no table registers"),
    Case(name="one has a service's other rows", says=f"{C} holds 6 rows of outbox, {A} 5",
         tables={A: {"outbox": held(5)}, B: {"outbox": held(5)}, C: {"outbox": held(6)}}),
    Case(name="all hold nothing", verdict="inconclusive", tables={name: {"written": held(0)} for name in POSTGRESQL},
         says=f"{A} told of no row of written, to which the load has written"),
    Case(name="no registers at all", verdict="inconclusive",
         tables={name: {"registers": held(0)} for name in POSTGRESQL},
         says=f"{A} told of no row of registers, to which the load has written"),
    Case(name="registers were not compared", verdict="inconclusive",
         tables={name: {"registers": None} for name in POSTGRESQL},
         says=f"{A} told of no row of registers, to which the load has written"),
    Case(name="nobody knows how far the primary had come", verdict="inconclusive", data={"written": 0},
         says="how far the primary had come is not on record"),
    Case(name="one is silent", verdict="inconclusive", silent=(C,), says=f"{C} did not say what it holds"),
    Case(name="one is silent, with its reason", verdict="inconclusive", silent=(C,),
         data={"reasons": [f"{C}: an answer took too long"]}, says="an answer took too long"),
    Case(name="one is silent and one differs", tables={B: {"written": held(1_239)}}, silent=(C,),
         says=f"{B} holds 1,239 rows"),
    Case(name="the primary is silent", verdict="inconclusive", silent=(A,), says=f"{A} did not say what it holds"),
    Case(name="nobody is the primary", verdict="inconclusive", silent=POSTGRESQL,
         data={"primary": "", "reasons": ["no PostgreSQL member takes writes"]}, says="takes writes"),
)  # fmt: skip


def judged(run: Recorded, folder: Path) -> Finding:
    about = scenario(tiers=TIER)
    (finding,) = convergence_of_postgresql(about, run.history(folder, about))
    return finding


def tables_of(copy: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    return {name: table for name, table in (copy["tables"] | changed).items() if table is not None}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    whole = run.event("copies").data
    timeline = case.data.get("timeline", whole["timeline"])
    members = {
        name: copy
        | {"timeline": timeline, "tables": tables_of(copy, case.tables.get(name, {}))}
        | case.copies.get(name, {})
        for name, copy in whole["members"].items()
        if name not in case.silent
    }
    run.change("copies", members=members, **case.data)
    finding = judged(run, tmp_path)
    assert finding.verdict == case.verdict
    assert case.says in finding.reason
    assert bool(finding.reason) == (case.verdict != "pass")


def test_what_all_hold_is_told(tmp_path: Path) -> None:
    finding = judged(recorded(tiers=TIER), tmp_path)
    assert finding.measured == "3 members on timeline 1, rows each: registers 18, written 1,240"
    assert {item["tables"] for item in finding.evidence} == {"written 1,240 rows, 7; registers 18 rows, 9"}


def of_older_records(run: Recorded, **other: Any) -> Recorded:
    """A load without registers; what members hold is told of its one table."""
    run.ops = [op for op in run.ops if not op.kind.startswith("register.")]
    copy = {"timeline": 1, "replayed": 1_000, "rows": 1_240, "digest": "7"}
    run.change("copies", members=dict.fromkeys(POSTGRESQL, copy) | {B: copy | other})
    return run


def test_an_older_record_tells_of_one_table(tmp_path: Path) -> None:
    finding = judged(of_older_records(recorded(tiers=TIER)), tmp_path)
    assert (finding.verdict, finding.measured) == ("pass", "3 members on timeline 1, rows each: written 1,240")
    finding = judged(of_older_records(recorded(tiers=TIER), rows=0, digest="no table"), tmp_path / "no table")
    assert (finding.verdict, finding.reason) == ("fail", f"{B} has no table written")


@pytest.mark.parametrize(
    ("at", "says"),
    [(RECOVERY - S, "before all was healed"), (END - S, "before the load had ended"), (END, "")],
    ids=["before healing", "under load", "at the end"],
)
def test_what_was_compared_too_early_says_nothing(at: int, says: str, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    data = run.event("copies").data
    run.drop("copies")
    run.events.append(Event("copies", at, data))
    finding = judged(run, tmp_path)
    assert finding.verdict == ("inconclusive" if says else "pass")
    assert says in finding.reason


def test_a_load_that_wrote_nothing_is_no_pass(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    for op in run.ops:
        if op.client == "postgresql":
            op.end("unknown", S, "timeout")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "nothing was acknowledged that members could hold")


def test_what_is_not_on_record_is_no_pass(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.drop("copies")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "the members were not compared")
