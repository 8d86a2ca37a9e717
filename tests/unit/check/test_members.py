"""Deaths of members that no fault explains."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.members import HEARD_WITHIN_US, members
from resilience.history.record import Event
from resilience.spec.fault import (
    CutReplication,
    Deny,
    FastRestart,
    FaultSpec,
    Freeze,
    Isolate,
    Kill,
    Noop,
    Partition,
    Pause,
    PowerOff,
    Prelude,
    Target,
)
from resilience.spec.scenario import Scenario
from tests.histories import APPLIED, BEGAN, END, INJECTION, RECOVERY, STEADY, Recorded, S, baseline, recorded, scenario


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


def dies(member: str, run: Recorded | None = None) -> Recorded:
    """A run in which a member ends while the fault lasts."""
    run = run or recorded()
    run.events.append(Event("member", APPLIED + S, {"member": member, "what": "exited", "pid": 7, "code": -9}))
    return run


def judged(run: Recorded, about: Scenario, folder: Path) -> str:
    (finding,) = members(about, run.history(folder, about))
    return finding.verdict


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (PowerOff(), "pass"),
        (Kill(restart=False), "pass"),
        (FastRestart(), "pass"),
        (Pause(), "pass"),  # a probe that fails has it started again
        (Freeze(), "pass"),
        (Noop(), "inconclusive"),
        (Partition(cut_from="all"), "inconclusive"),
        (CutReplication(), "inconclusive"),
        (Deny(to="redis"), "inconclusive"),
        (Isolate(), "inconclusive"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_who_is_cut_off_does_not_die_of_it(fault: FaultSpec, verdict: str, tmp_path: Path) -> None:
    assert judged(dies("session-0"), scenario(fault=fault), tmp_path) == verdict


def test_what_is_on_a_node_that_the_cluster_has_given_up_starts_elsewhere(tmp_path: Path) -> None:
    run = dies("session-0")
    run.events.append(Event("node", APPLIED, {"node": "node-1", "what": "not-ready"}))
    assert judged(run, scenario(fault=Isolate()), tmp_path) == "pass"


def test_what_nobody_asked_for_explains_nothing(tmp_path: Path) -> None:
    assert judged(dies("session-0"), baseline(), tmp_path) == "inconclusive"


@pytest.mark.parametrize(
    ("member", "before", "verdict"),
    [
        ("session-0", CutReplication(), "pass"),
        ("redis-cluster-4", CutReplication(), "inconclusive"),
        ("redis-cluster-4", Pause(), "pass"),
        ("redis-cluster-0", CutReplication(), "pass"),
    ],
    ids=["killed", "only cut off before", "only stopped before", "cut off before and killed"],
)
def test_what_was_done_before_explains_no_more_than_it_does(
    member: str, before: Pause | CutReplication, verdict: str, tmp_path: Path
) -> None:
    about, run = scenario(fault=Kill(restart=False)), recorded()
    assert about.experiment is not None
    prelude = Prelude(fault=before, target=Target(component="redis", role="replica"), for_s=1.0)
    about = replace(about, experiment=replace(about.experiment, prelude=prelude))
    killed, cut_off = ["redis-cluster-0", "session-0"], ["redis-cluster-4", "redis-cluster-0"]
    run.change("injected", members=killed + cut_off)
    run.change("injecting", injection={"id": INJECTION, "members": killed + cut_off, "prelude": {"members": cut_off}})
    assert judged(dies(member, run), about, tmp_path) == verdict


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
