"""The last hop of an event, its effect in a profile: each defect alone is found there, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import ASSUMPTIONS, checks_of, judge
from resilience.check.durability.events import NAME, events
from resilience.check.finding import Finding
from resilience.history.record import Drained, EffectRead, OutboxRead
from tests.histories import POSTGRESQL, TIERS, Recorded, personalized, recorded, scenario, with_people

ABOUT = personalized(scenario(tiers=TIERS))
QUEUE, DEAD = "session-events", "session-events.dead"
PLACES = ("postgresql", "outbox", f"queue {QUEUE}", "profiles")


def run_with_people() -> Recorded:
    return with_people(recorded(tiers=TIERS))


def without_effect(run: Recorded) -> EffectRead:
    """An event whose effect is gone, and its profile does not know of it either."""
    gone = run.effects.pop(7)
    of_person(run, gone.person, by=-1)
    return gone


def of_person(run: Recorded, person: str, *, by: int) -> None:
    """A profile counts so many ends more than it did."""
    run.profiles = [
        replace(read, sessions=read.sessions + by) if read.person == person else read for read in run.profiles
    ]


def left_in(queue: str) -> Callable[[Recorded], None]:
    def change(run: Recorded) -> None:
        left = Drained(without_effect(run).event, False, QUEUE if queue == DEAD else "")
        run.queues = [
            replace(line, messages=(*line.messages, left)) if line.queue == queue else line for line in run.queues
        ]

    return change


def counted_twice(run: Recorded) -> None:
    of_person(run, run.effects[0].person, by=1)


def not_counted(run: Recorded) -> None:
    of_person(run, run.effects[0].person, by=-1)


def profile_gone(run: Recorded) -> None:
    run.profiles.pop(0)
    keep = {read.person for read in run.profiles}
    run.ops = [op for op in run.ops if op.kind != "profile.write" or op.key in keep]


def interest_lost(run: Recorded) -> None:
    read = run.profiles[0]
    last = max(op.version for op in run.good("profile.write") if op.key == read.person)
    run.profiles[0] = replace(read, version=last - 1)


def of_nobodys(run: Recorded) -> None:
    """An end whose session belongs to no person has its effect, too: that it came."""
    read = run.effects[0]
    run.effects[0] = replace(read, person="")
    of_person(run, read.person, by=-1)


def without_row(run: Recorded) -> None:
    run.effects.append(EffectRead("session-ended/s-odd/locust-42-7", "", POSTGRESQL[0], 1))


def never_published(run: Recorded) -> None:
    gone = without_effect(run)
    run.outbox = [
        OutboxRead(row.event, row.published and row.event != gone.event, row.member, row.timeline) for row in run.outbox
    ]


def row_lost(run: Recorded) -> None:
    gone = without_effect(run)
    run.outbox = [row for row in run.outbox if row.event != gone.event]


def findings(run: Recorded, folder: Path) -> dict[str, Finding]:
    found = judge(ABOUT, run.history(folder, ABOUT), checks={NAME: events}).findings
    return {finding.where.group: finding for finding in found if finding.check == NAME}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], object] = lambda _: None
    at: str = ""  # where it fails
    says: str


CASES = (
    Case(name="as it should be", says="0 of 117 confirmed events without effect, 117 had theirs, 4 profiles"),
    Case(name="acknowledged too soon", change=without_effect, at="profiles",
         says="1 event confirmed, in no queue, and without effect"),
    Case(name="counted twice", change=counted_twice, at="profiles", says="1 profile with another number of ends"),
    Case(name="not counted", change=not_counted, at="profiles", says="1 profile with another number of ends"),
    Case(name="a profile is gone", change=profile_gone, at="profiles", says="1 profile with another number of ends"),
    Case(name="an interest is lost", change=interest_lost, at="profiles",
         says="1 interest acknowledged and not there"),
    Case(name="left in its queue", change=left_in(QUEUE), says="0 of 117 confirmed events without effect, 116 had"),
    Case(name="a dead letter", change=left_in(DEAD), says="1 in the dead-letter queue"),
    Case(name="nobody's", change=of_nobodys, says="117 had theirs"),
    Case(name="an effect without its row", change=without_row, at=PLACES[2], says="1 event without its row"),
    Case(name="never published", change=never_published, at="outbox", says="1 event never published"),
    Case(name="lost in PostgreSQL", change=row_lost, at="postgresql", says="1 lost in PostgreSQL"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found_at_its_hop(case: Case, tmp_path: Path) -> None:
    run = run_with_people()
    case.change(run)
    found = findings(run, tmp_path)
    assert tuple(found) == PLACES
    assert {place for place, finding in found.items() if finding.verdict != "pass"} == {case.at} - {""}
    told = [f"{one.title}; {one.measured}; {one.reason}" for one in found.values()]
    assert any(case.says in text for text in told), told
    if case.at:
        assert found[case.at].verdict == "fail"
        assert found[case.at].evidence


def test_evidence_names_event_and_op(tmp_path: Path) -> None:
    run = run_with_people()
    gone = without_effect(run)
    (item,) = findings(run, tmp_path)["profiles"].evidence
    op = next(op for op in run.good("session.end") if gone.event.endswith(f"/{op.value}"))
    assert item == {"what": "without effect", "event": gone.event, "op": f"locust/{op.id}"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.audited.remove("profiles"), "the profiles audit did not come to its end"),
        (lambda run: run.effects.pop() and None, "the profiles audit says"),
        (lambda run: run.effects.append(replace(run.effects.pop(), member=POSTGRESQL[1])), "in more than one place"),
    ],
    ids=["not read", "not whole", "of two members"],
)
def test_it_rests_on_its_audit(change: Callable[[Recorded], object], reason: str, tmp_path: Path) -> None:
    run = run_with_people()
    if reason == "the profiles audit says":
        run.rough["audit.jsonl"] = b'["audited","profiles",1000,67000000]\n'
    else:
        change(run)
    found = findings(run, tmp_path)
    assert {place for place, finding in found.items() if finding.verdict == "inconclusive"} == {
        PLACES[2], "profiles",
    }  # fmt: skip
    assert reason in found["profiles"].reason


def test_without_an_effect_nothing_is_shown(tmp_path: Path) -> None:
    run = run_with_people()
    run.ops = [op for op in run.ops if op.kind not in {"session.end", "profile.write"}]
    run.outbox, run.effects, run.profiles = [], [], []
    assert findings(run, tmp_path)["profiles"].verdict == "inconclusive"


def test_a_whole_run_with_people_is_a_pass(tmp_path: Path) -> None:
    """By all checks: nobody misses messages of the load's own in the queue that the service consumes."""
    judgement = judge(ABOUT, run_with_people().history(tmp_path, ABOUT))
    assert [f"{one.check}: {one.reason}" for one in judgement.findings if one.counts_as != "pass"] == []
    assert {"staleness.suggestions", NAME} <= {one.check for one in judgement.findings}


def test_only_a_stack_with_the_service_has_this_hop(tmp_path: Path) -> None:
    about = scenario(tiers=TIERS)
    found = events(about, recorded(tiers=TIERS).history(tmp_path, about))
    assert [finding.where.group for finding in found] == list(PLACES[:3])
    assert "staleness.suggestions" not in checks_of(about)
    assert "assumption.profiles-audited" in ASSUMPTIONS


def test_that_no_event_was_seen_anywhere_is_no_pass_of_its_queue(tmp_path: Path) -> None:
    run = run_with_people()
    run.effects.clear()
    found = {finding.where.group: finding for finding in events(ABOUT, run.history(tmp_path, ABOUT))}
    assert found[f"queue {QUEUE}"].verdict == "inconclusive", found
    assert "no event came this far" in found[f"queue {QUEUE}"].reason


@pytest.mark.parametrize("lost", [False, True], ids=["there", "lost"])
def test_an_interest_that_was_acknowledged_without_a_version_cannot_be_looked_for(tmp_path: Path, lost: bool) -> None:
    run = run_with_people()
    if lost:
        interest_lost(run)
    last = max((op for op in run.good("profile.write") if op.key == run.profiles[0].person), key=lambda op: op.version)
    last.version = -1
    found = findings(run, tmp_path)["profiles"]
    assert found.verdict == "inconclusive"
    assert "1 interest acknowledged by an answer that names no version to look for" in found.reason
