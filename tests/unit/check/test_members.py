"""Deaths of members that no fault explains."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.check.members import HEARD_WITHIN_US, members
from resilience.history.record import Event
from tests.histories import APPLIED, BEGAN, END, RECOVERY, STEADY, S, recorded, scenario


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    member: str = "session-0"  # which the fault hits
    what: str = "exited"
    code: int = -9
    at: int
    says: str = ""  # "": nothing


CASES = (
    Case(name="hit by the fault", at=APPLIED),
    Case(name="as the fault began", at=BEGAN),
    Case(name="before the fault", at=BEGAN - 1, says="session-0 was killed by SIGKILL at 22.0 s"),
    Case(name="heard of just after healing", at=RECOVERY + HEARD_WITHIN_US),
    Case(name="after healing", at=RECOVERY + HEARD_WITHIN_US + 1, says="session-0 was killed by SIGKILL at 43.0 s"),
    Case(name="while the stack came up", at=-1),
    Case(name="as soon as it was up", at=0, says="session-0 was killed by SIGKILL at 0.0 s"),
    Case(name="after the load", at=END + S, says="session-0 was killed by SIGKILL at 63.0 s"),
    Case(name="not hit by the fault", member="redis-cluster-1", code=1, at=APPLIED,
         says="redis-cluster-1 ended with exit code 1 at 22.0 s, which no fault of this run explains"),
    Case(name="started again is no end", what="restarted", at=STEADY),
    Case(name="an observer", member="prometheus-0", at=STEADY, says="prometheus-0 was killed by SIGKILL at 2.0 s"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_death_that_no_fault_explains(tmp_path: Path, case: Case) -> None:
    run, about = recorded(), scenario()
    run.events.append(Event("member", case.at, {"member": case.member, "what": case.what, "pid": 7, "code": case.code}))
    (finding,) = members(about, run.history(tmp_path, about))
    assert finding.verdict == ("inconclusive" if case.says else "pass")
    assert case.says in finding.reason
    assert bool(finding.reason) == bool(case.says)
    assert finding.evidence_total == bool(case.says)


@pytest.mark.parametrize(("late_us", "verdict"), [(3 * S, "pass"), (3 * S - 1, "inconclusive")])
def test_an_end_counts_when_it_was_and_not_when_it_was_heard_of(late_us: int, verdict: str, tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    ended = {"member": "session-0", "what": "exited", "code": -9, "late_us": late_us, "unsure_us": S}
    run.events.append(Event("member", RECOVERY + HEARD_WITHIN_US + 3 * S, ended))
    (finding,) = members(about, run.history(tmp_path, about))
    assert finding.verdict == verdict


def test_a_fault_that_was_never_healed_explains_to_the_end(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.drop("healed")
    run.events.append(Event("member", END, {"member": "session-0", "what": "exited", "pid": 7, "code": -9}))
    (finding,) = members(about, run.history(tmp_path, about))
    assert finding.verdict == "pass"


def test_without_a_stack_nothing_is_known(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.drop("stack-up")
    (finding,) = members(about, run.history(tmp_path, about))
    assert (finding.verdict, finding.reason) == ("inconclusive", "the stack was never up")


def test_a_server_whose_start_nobody_told(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.events = [event for event in run.events if event.data.get("member") != "edge-0"]
    (finding,) = members(about, run.history(tmp_path, about))
    assert finding.verdict == "inconclusive"
    assert finding.reason == "the start of edge-0 is not on record, nor would its end be"


FENCED_AT, DONE_AT = RECOVERY + 5 * S, RECOVERY + 7 * S
STRAY = "postgresql-primary-0"


def fenced(**data: object) -> Event:
    return Event("fenced", DONE_AT, {"members": [STRAY], "began_us": FENCED_AT} | data)


def promoted(**data: object) -> Event:
    told = {"member": "postgresql-replica-0", "former": STRAY, "fenced": True, "timeline": 2, "operator_delay_s": 10.0}
    return Event("promotion", DONE_AT + 9 * S, told | {"began_us": FENCED_AT, "led_us": DONE_AT} | data)


def stopping(**data: object) -> Event:
    return Event("stopping", FENCED_AT, {"member": STRAY, "why": "fenced", "within_s": 10.0} | data)


@pytest.mark.parametrize(
    ("by", "at", "verdict"),
    [
        (stopping(), FENCED_AT, "pass"),
        (stopping(), FENCED_AT + 10 * S + HEARD_WITHIN_US, "pass"),
        (stopping(), FENCED_AT - 1, "inconclusive"),
        (stopping(), FENCED_AT + 10 * S + HEARD_WITHIN_US + 1, "inconclusive"),
        (stopping(member="postgresql-replica-1"), FENCED_AT, "inconclusive"),
        (fenced(), FENCED_AT, "pass"),
        (fenced(), DONE_AT + HEARD_WITHIN_US, "pass"),
        (fenced(), FENCED_AT - 1, "inconclusive"),
        (fenced(), DONE_AT + HEARD_WITHIN_US + 1, "inconclusive"),
        (fenced(members=["postgresql-replica-1"]), FENCED_AT, "inconclusive"),
        (promoted(), FENCED_AT, "pass"),
        (promoted(), DONE_AT + HEARD_WITHIN_US + 1, "inconclusive"),
        (promoted(fenced=False), FENCED_AT, "inconclusive"),
        (promoted(former="postgresql-replica-1"), FENCED_AT, "inconclusive"),
        (promoted(fenced=False, turned_back=[STRAY]), DONE_AT + 9 * S, "pass"),
        (promoted(fenced=False, turned_back=[STRAY]), DONE_AT + 9 * S + HEARD_WITHIN_US + 1, "inconclusive"),
        (promoted(fenced=False, turned_back=["postgresql-replica-1"]), FENCED_AT, "inconclusive"),
    ],
    ids=["told to stop", "heard of just after it had to", "before it was told", "long after", "another one told",
         "as it began", "heard of just after", "before", "later", "another one", "before a promotion", "long after one",
         "a promotion that fenced nobody", "a promotion that fenced another one", "turned back",
         "long after it was turned back", "another one turned back"],
)  # fmt: skip
def test_who_is_fenced_ends_by_the_operators_doing(by: Event, at: int, verdict: str, tmp_path: Path) -> None:
    run, about = recorded(tiers=("postgresql",)), scenario(tiers=("postgresql",))
    run.events += [by, Event("member", at, {"member": STRAY, "what": "exited", "pid": 7, "code": 0})]
    (finding,) = members(about, run.history(tmp_path, about))
    assert finding.verdict == verdict
