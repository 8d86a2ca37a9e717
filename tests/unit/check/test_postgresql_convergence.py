"""Whether all members of PostgreSQL hold the same after healing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resilience.check.finding import Finding
from resilience.check.postgresql.convergence import convergence_of_postgresql
from tests.histories import POSTGRESQL, Recorded, recorded, scenario

TIER = ("postgresql",)
A, B, C = POSTGRESQL


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    verdict: str = "fail"
    says: str = ""
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)  # what is other than it should be, by member
    silent: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case(name="as it should be", verdict="pass"),
    Case(name="left on an old timeline", copies={B: {"timeline": 1}}, data={"timeline": 2},
         says=f"{B} is on timeline 1, {A} was on 2"),
    Case(name="one has not replayed all", copies={C: {"replayed": 999}}, says=f"{C} has replayed 999 of 1000 bytes"),
    Case(name="one has replayed nothing", copies={C: {"replayed": None}}, says=f"{C} has replayed 0 of 1000 bytes"),
    Case(name="one has replayed more", verdict="pass", copies={C: {"replayed": 1_001}}),
    Case(name="one has fewer rows", copies={B: {"rows": 1_239}}, says=f"{B} holds 1,239 rows, {A} 1,240"),
    Case(name="one has other rows", copies={B: {"digest": "8"}},
         says=f"{B} holds 1,240 rows that add up to something else, {A} 1,240"),
    Case(name="one has no table", copies={B: {"rows": 0, "digest": "no table"}}, says=f"{B} holds 0 rows"),
    Case(name="one is silent", verdict="inconclusive", silent=(C,), says=f"{C} did not say what it holds"),
    Case(name="one is silent, with its reason", verdict="inconclusive", silent=(C,),
         data={"reasons": [f"{C}: an answer took too long"]}, says="an answer took too long"),
    Case(name="one is silent and one differs", copies={B: {"rows": 1_239}}, silent=(C,), says=f"{B} holds 1,239 rows"),
    Case(name="the primary is silent", verdict="inconclusive", silent=(A,), says=f"{A} did not say what it holds"),
    Case(name="nobody is the primary", verdict="inconclusive", silent=POSTGRESQL,
         data={"primary": "", "reasons": ["no PostgreSQL member takes writes"]}, says="takes writes"),
)  # fmt: skip


def judged(run: Recorded, folder: Path) -> Finding:
    about = scenario(tiers=TIER)
    (finding,) = convergence_of_postgresql(about, run.history(folder, about))
    return finding


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    whole = run.event("copies").data
    timeline = case.data.get("timeline", whole["timeline"])
    members = {
        name: copy | {"timeline": timeline} | case.copies.get(name, {})
        for name, copy in whole["members"].items()
        if name not in case.silent
    }
    run.change("copies", members=members, **case.data)
    finding = judged(run, tmp_path)
    assert finding.verdict == case.verdict
    assert case.says in finding.reason
    assert bool(finding.reason) == (case.verdict != "pass")


def test_what_all_hold_is_told(tmp_path: Path) -> None:
    assert judged(recorded(tiers=TIER), tmp_path).measured == "3 members on timeline 1, 1,240 rows each"


def test_what_is_not_on_record_is_no_pass(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.drop("copies")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "the members were not compared")
