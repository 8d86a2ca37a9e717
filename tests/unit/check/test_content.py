"""What became of changes of articles: a loss is named with its hop, each defect alone is found at it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import checks_of, judge
from resilience.check.durability.content import NAME, content
from resilience.check.durability.rabbitmq import rabbitmq
from resilience.check.finding import Finding
from resilience.history.content import change_of, is_job, job_of
from resilience.history.record import Drained, JobRead
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import (
    APPLIED,
    POSTGRESQL,
    TIERS,
    WITH_CONTENT,
    Op,
    Recorded,
    S,
    failed_over,
    recorded,
    scenario,
    synchronous,
)

ABOUT = scenario(tiers=WITH_CONTENT)
QUEUE, DEAD = "content-processing", "content-processing.dead"
PLACES = ("postgresql", "cache", "jobs", f"queue {QUEUE}", "renditions")
ROW, CACHE, JOB, LEFT, EFFECT = PLACES
EARLY, BEFORE = APPLIED - 10 * S, APPLIED - S // 2


def changed(run: Recorded, instant: int = EARLY) -> Op:
    """The first update that was acknowledged after an instant."""
    return next(op for op in run.good("content.update") if (op.returned or 0) >= instant)


def named(run: Recorded, instant: int = EARLY) -> str:
    op = changed(run, instant)
    return job_of(op.key, op.value)


def job(instant: int = EARLY, **changes: object) -> Callable[[Recorded], None]:
    """The job of that change is another."""

    def change(run: Recorded) -> None:
        name = named(run, instant)
        run.jobs = [replace(row, **changes) if row.job == name else row for row in run.jobs]

    return change


def lose_job(run: Recorded, instant: int = EARLY) -> None:
    name = named(run, instant)
    run.jobs = [row for row in run.jobs if row.job != name]


def roll_back(run: Recorded, instant: int = EARLY) -> None:
    """The article is as it was before that change, and it and all later ones have no job."""
    first = changed(run, instant)
    gone = [op for op in run.good("content.update") if op.key == first.key and op.version >= first.version]
    jobs = {job_of(op.key, op.value) for op in gone}
    run.jobs = [row for row in run.jobs if row.job not in jobs]
    before = next(op for op in run.ops if op.key == first.key and op.value and op.version == first.version - 1)
    run.articles[first.key] = replace(run.articles[first.key], version=before.version, op=before.value)
    for op in gone[1:]:
        op.end("fail", 6_000, "http-409:conflict")


def roll_back_article(run: Recorded) -> None:
    op = changed(run)
    run.articles[op.key] = replace(run.articles[op.key], version=op.version - 1)


def written_over(run: Recorded) -> None:
    """Somebody else's change has the version that the last one was answered."""
    op = [op for op in run.good("content.update") if op.key == changed(run).key][-1]
    run.articles[op.key] = replace(run.articles[op.key], op="author-42-other")


def read_of(run: Recorded) -> Op:
    """The first read of that article after its change."""
    op = changed(run)
    return next(one for one in run.of("content.read") if one.key == op.key and one.called > (op.returned or 0))


def read(*, version: int, after_us: int) -> Callable[[Recorded], None]:
    """A read that begins so long after that change was acknowledged gives a version that is so much less."""

    def change(run: Recorded) -> None:
        op, last = read_of(run), changed(run)
        op.due = op.called = (last.returned or 0) + after_us
        op.end("ok", 2_000)
        op.version = last.version - version

    return change


def read_nothing(run: Recorded) -> None:
    read(version=0, after_us=2_100_000)(run)
    op = read_of(run)
    op.end("fail", 2_000, "http-404:missing")
    op.version = -1


def leave(queue: str) -> Callable[[Recorded], None]:
    """The job is in a queue at the end, and had no effect."""

    def change(run: Recorded) -> None:
        job(worked=0)(run)
        message = Drained(named(run), False, QUEUE if queue == DEAD else "", "expired" if queue == DEAD else "")
        run.queues = [
            replace(line, messages=(*line.messages, message)) if line.queue == queue else line for line in run.queues
        ]

    return change


def left_and_worked(run: Recorded) -> None:
    """Its acknowledgement was lost."""
    leave(QUEUE)(run)
    job(worked=1)(run)


def unpublished(run: Recorded) -> None:
    job(published=False, worked=0)(run)


def effect_alone(run: Recorded) -> None:
    run.jobs.append(JobRead(job_of("a-odd", "author-42-odd"), 0, False, False, 1, POSTGRESQL[0], 1))


def stranger(run: Recorded) -> None:
    run.jobs.append(JobRead(job_of("a-odd", "author-42-7"), 1, True, True, 1, POSTGRESQL[0], 1))


def end_as(outcome: str) -> Callable[[Recorded], None]:
    def change(run: Recorded) -> None:
        changed(run).end(outcome, 6_000, "http-503")

    return change


def findings(run: Recorded, folder: Path, about: Scenario = ABOUT) -> dict[str, Finding]:
    found = judge(about, run.history(folder, about), checks={NAME: content}).findings
    return {finding.where.group: finding for finding in found if finding.check == NAME}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], None]
    at: tuple[str, ...] = ()  # the hops at which it is a fail
    says: str  # of the last of them, or of any


CASES = (
    Case(name="as it should be", change=lambda _: None, says="0 of 248 confirmed jobs came no further"),
    Case(name="lost in PostgreSQL", change=roll_back, at=(ROW,), says="1 lost in PostgreSQL"),
    Case(name="its job alone is lost", change=lose_job, at=(ROW,), says="of 1 its article is there alone"),
    Case(name="its article alone is lost", change=roll_back_article, at=(ROW,), says="its job is there alone"),
    Case(name="written over", change=written_over, at=(ROW,), says="1 lost in PostgreSQL"),
    Case(name="refused and there", change=end_as("fail"), at=(ROW,), says="1 refused but there"),
    Case(name="a change of nobody's", change=stranger, at=(ROW,), says="1 unexpected"),
    Case(name="unknown and there", change=end_as("unknown"), says="of 247 acknowledged article changes lost, 1 rec"),
    Case(name="read as it was, within the bound", change=read(version=1, after_us=1_900_000),
         says="reads older than what was acknowledged, by 1.900 s at the most"),
    Case(name="read as it was, too late", change=read(version=1, after_us=2_100_000), at=(CACHE,),
         says="1 read older than the cache may be"),
    Case(name="read as missing, too late", change=read_nothing, at=(CACHE,), says="1 read older than the cache may be"),
    Case(name="read late as it is", change=read(version=0, after_us=2_100_000), says="0 of"),
    Case(name="never published", change=unpublished, at=(JOB,), says="1 never published"),
    Case(name="left in its queue", change=leave(QUEUE), at=(LEFT,), says="1 never worked off"),
    Case(name="a dead letter", change=leave(DEAD), at=(LEFT,), says="1 in the dead-letter queue"),
    Case(name="worked off, and left", change=left_and_worked, says="every confirmed job came further"),
    Case(name="lost before its effect", change=job(worked=0), at=(EFFECT,), says="1 lost before its effect"),
    Case(name="an effect of nothing", change=effect_alone, at=(EFFECT,), says="1 effect without its row"),
    Case(name="worked off twice", change=job(worked=2), says="1 worked off again"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found_at_its_hop(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    case.change(run)
    found = findings(run, tmp_path)
    assert tuple(found) == PLACES
    told = [f"{one.title}; {one.measured}; {one.reason}" for one in found.values()]
    assert {place for place, finding in found.items() if finding.verdict == "fail"} == set(case.at), told
    assert {finding.verdict for place, finding in found.items() if place not in case.at} <= {"pass"}, told
    assert any(case.says in text for text in told), "\n".join(told)
    for place in case.at:
        assert found[place].evidence


def test_evidence_names_the_job_and_the_op(tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    job(worked=0)(run)
    op = changed(run)
    (item,) = findings(run, tmp_path)[EFFECT].evidence
    assert item == {"what": "lost before its effect", "job": named(run), "op": f"locust/{op.id}"}


@pytest.mark.parametrize(
    ("about", "instant", "verdict"),
    [(ABOUT, BEFORE, "pass"), (ABOUT, EARLY, "fail"), (synchronous(ABOUT), BEFORE, "fail")],
    ids=["just before it", "long before it", "a standby had it"],
)
def test_what_a_failover_of_postgresql_may_lose(about: Scenario, instant: int, verdict: str, tmp_path: Path) -> None:
    """The change with its job, and no read counts as older for what is lost; or its effect alone."""
    run = recorded(tiers=WITH_CONTENT)
    failed_over(run)
    roll_back(run, instant)
    found = findings(run, tmp_path / "row", about)
    assert {place: finding.verdict for place, finding in found.items()} == dict.fromkeys(PLACES, "pass") | {
        ROW: verdict
    }
    run = recorded(tiers=WITH_CONTENT)
    failed_over(run)
    job(instant, worked=0)(run)
    assert findings(run, tmp_path / "effect", about)[EFFECT].verdict == verdict


def test_without_a_change_nothing_is_shown(tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    run.ops = [op for op in run.ops if not op.kind.startswith("content.") or op.kind == "content.list"]
    run.articles, run.jobs = {}, []
    assert {finding.verdict for finding in content(ABOUT, run.history(tmp_path, ABOUT))} == {"inconclusive"}


def test_jobs_are_no_messages_of_the_loads(tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    leave(QUEUE)(run)
    found = rabbitmq(ABOUT, run.history(tmp_path, ABOUT))
    assert {finding.where.group: finding.verdict for finding in found} == {
        "queue session-events": "pass", "queue collaboration-sync": "pass",
    }  # fmt: skip


def test_a_loss_may_be_a_known_weakness(tmp_path: Path) -> None:
    weakness = KnownWeakness(
        finding=NAME, group=EFFECT, within={f"{NAME}.lost_before_effect_ops": (1, 1)}, seen="always", why="known",
        durability="async",
    )  # fmt: skip
    about = replace(ABOUT, known_weaknesses=(weakness,))
    run = recorded(tiers=WITH_CONTENT)
    job(worked=0)(run)
    assert findings(run, tmp_path, about)[EFFECT].known == "known"


def test_only_a_stack_with_the_content_service_has_articles() -> None:
    assert NAME not in checks_of(scenario(tiers=TIERS))
    assert NAME in checks_of(ABOUT)


def test_ids() -> None:
    assert job_of("a-1", "author-42-7") == "article-changed/a-1/author-42-7"
    assert change_of("article-changed/a-1/author-42-7") == "author-42-7"
    assert (change_of("rabbitmq-42-7"), is_job("rabbitmq-42-7")) == ("", False)


def test_reads_before_the_fault_alone_show_nothing(tmp_path: Path) -> None:
    run = recorded(tiers=WITH_CONTENT)
    for op in run.good("content.read"):
        if op.due > APPLIED:
            op.end("fail", 4_000, "http-503:busy")
    found = {finding.where.group: finding for finding in content(ABOUT, run.history(tmp_path, ABOUT))}
    assert found[CACHE].verdict == "inconclusive", found[CACHE]
    assert "was read after the fault" in found[CACHE].reason


@pytest.mark.parametrize("lost", [False, True], ids=["there", "lost"])
def test_a_change_that_was_acknowledged_without_a_version_cannot_be_looked_for(tmp_path: Path, lost: bool) -> None:
    run = recorded(tiers=WITH_CONTENT)
    *_, before, last = (op for op in run.good("content.update") if op.key == changed(run).key)
    if lost:
        run.articles[last.key] = replace(run.articles[last.key], version=before.version, op=before.value)
    last.version = -1
    found = findings(run, tmp_path)
    assert found[ROW].verdict == "inconclusive"
    assert "1 change acknowledged by an answer that names no version to look for" in found[ROW].reason
