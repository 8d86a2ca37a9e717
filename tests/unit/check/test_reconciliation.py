"""What servers counted, against what the generators have on record: each tier short, over, and blind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.check.finding import Finding
from resilience.check.reconciliation import reconciliation
from resilience.history.people import OF_PEOPLE
from resilience.history.read import read_history
from resilience.history.record import Event, Series
from resilience.spec.scenario import Scenario
from tests.histories import (
    FAULT,
    RECOVERY,
    STEADY,
    TIERS,
    WALL0,
    Recorded,
    S,
    by_two,
    personalized,
    recorded,
    recorded_by_two,
    samples,
    scenario,
    with_people,
)

Change = Callable[[Series], Series | None]
ABOUT = scenario(slos=())
WITH_PEOPLE = personalized(scenario(slos=(), tiers=TIERS))
EXITED = {"member": "session-0", "what": "exited", "pid": 7, "code": -9}


def judged(
    folder: Path,
    change: Change = lambda series: series,
    run: Recorded | None = None,
    about: Scenario = ABOUT,
) -> dict[str, Finding]:
    """The findings by component and phase, of a run whose samples are changed."""
    run = run or recorded()
    run.save(folder, about)
    run.series = [series for one in samples(read_history(folder), about) if (series := change(one)) is not None]
    found = reconciliation(about, run.history(folder, about))
    return {f"{finding.title.split()[0]} {finding.where.phase}": finding for finding in found}


def is_of(series: Series, member: str, **labels: str) -> bool:
    return {"member": member, **labels}.items() <= series.labels.items()


def counted_more(member: str, by: float, since_us: int, **labels: str) -> Change:
    """From an instant on the member's counter is so much higher than it should be, or (negative) stands that long."""

    def change(series: Series) -> Series:
        if not is_of(series, member, **labels):
            return series
        stamped = list(zip(series.times_s, series.values, strict=True))
        before = max(value for at_s, value in stamped if (at_s - WALL0) * S <= since_us)
        values = tuple(max(before, value + by) if (at_s - WALL0) * S > since_us else value for at_s, value in stamped)
        return msgspec.structs.replace(series, values=values)

    return change


def both(*changes: Change) -> Change:
    def change(series: Series) -> Series | None:
        found: Series | None = series
        for one in changes:
            found = found and one(found)
        return found

    return change


def test_a_run_as_it_should_be(tmp_path: Path) -> None:
    found = judged(tmp_path)
    components = ("edge", "session", "collaboration", "redis")
    assert set(found) == {f"{name} {phase}" for name in components for phase in ("steady", "fault", "recovery")}
    assert {finding.verdict for finding in found.values()} == {"pass"}
    # 21 s between the scrapes, two reads in each of them: a single member leaves hardly anything in doubt
    reads = next(item for item in found["session steady"].evidence if item["what"] == "read")
    assert (reads["counted"], reads["at least"], reads["at most"]) == (42, 42, 42)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Change
    finding: str
    verdict: str
    reason: str


MIDDLE = STEADY + 10 * S
CREATES, EDITS = {"route": "create"}, {"route": "edit"}
CASES = (
    Case(
        name="a service that knows of fewer than its edge answered contradicts it",
        change=counted_more("session-0", -3, MIDDLE, **CREATES),
        finding="session steady", verdict="fail", reason="create: clients were told of 2 successes",
    ),
    Case(
        name="where the edge lacks them too, nobody settles it",
        change=both(
            counted_more("session-0", -3, MIDDLE, **CREATES), counted_more("edge-0", -3, MIDDLE, route="sessions")
        ),
        finding="session steady", verdict="inconclusive", reason="no third witness",
    ),
    Case(
        name="an edge that counted fewer than it answered",
        change=counted_more("edge-0", -5, MIDDLE, route="session"),
        finding="edge steady", verdict="inconclusive", reason="session: clients were told of",
    ),
    Case(
        name="a service for edits that counted fewer",
        change=counted_more("collaboration-0", -5, MIDDLE, **EDITS),
        finding="collaboration steady", verdict="inconclusive", reason="edit: clients were told of",
    ),
    Case(
        name="a primary that counted fewer",
        change=counted_more("redis-cluster-1", -5, MIDDLE, cmd="set"),
        finding="redis steady", verdict="inconclusive", reason="direct writes to shard 2: clients were told of",
    ),
    Case(
        name="somebody else asks as well",
        change=counted_more("session-0", 5, MIDDLE, **CREATES),
        finding="session steady", verdict="inconclusive", reason="more than anybody is on record to have asked for",
    ),
    Case(
        name="no samples of a member",
        change=lambda series: None if is_of(series, "collaboration-0", **EDITS) else series,
        finding="collaboration steady", verdict="inconclusive",
        reason="Prometheus has no service_requests_total of collaboration-0",
    ),
    Case(
        name="samples that begin too late",
        change=lambda series: _from(series, 10),
        finding="edge steady", verdict="inconclusive", reason="edge-0 was not sampled before phase steady",
    ),
    Case(
        name="samples that end too early",
        change=lambda series: _until(series, 30),
        finding="edge fault", verdict="inconclusive", reason="edge-0 was not sampled after phase fault",
    ),
)  # fmt: skip


def _from(series: Series, second: int) -> Series:
    return msgspec.structs.replace(series, times_s=series.times_s[second:], values=series.values[second:])


def _until(series: Series, second: int) -> Series:
    return msgspec.structs.replace(series, times_s=series.times_s[:second], values=series.values[:second])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_does_not_fit(case: Case, tmp_path: Path) -> None:
    found = judged(tmp_path, case.change)
    assert found[case.finding].verdict == case.verdict
    assert case.reason in found[case.finding].reason


PEOPLE = (
    Case(
        name="of suggestions the service knows of fewer than its edge answered",
        change=counted_more("personalization-0", -3, MIDDLE, route="suggest"),
        finding="personalization steady", verdict="fail", reason="suggest: clients were told of",
    ),
    Case(
        name="of interests",
        change=counted_more("personalization-1", -3, MIDDLE, route="change"),
        finding="personalization steady", verdict="fail", reason="change: clients were told of",
    ),
    Case(
        name="where the edge lacks suggestions too",
        change=both(
            counted_more("personalization-0", -3, MIDDLE, route="suggest"),
            counted_more("edge-0", -3, MIDDLE, route="suggestions"),
        ),
        finding="personalization steady", verdict="inconclusive", reason="no third witness",
    ),
    Case(
        name="an edge that counted fewer interests than it answered",
        change=counted_more("edge-0", -3, MIDDLE, route="profiles"),
        finding="edge steady", verdict="inconclusive", reason="profiles: clients were told of",
    ),
    Case(
        name="somebody else asks for suggestions as well",
        change=counted_more("personalization-0", 5, MIDDLE, route="suggest"),
        finding="personalization steady", verdict="inconclusive",
        reason="more than anybody is on record to have asked for",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", PEOPLE, ids=lambda case: case.name)
def test_what_people_ask_for_is_counted_at_the_edge_and_at_the_service(case: Case, tmp_path: Path) -> None:
    found = judged(tmp_path, case.change, with_people(recorded(tiers=TIERS)), WITH_PEOPLE)
    assert found[case.finding].verdict == case.verdict
    assert case.reason in found[case.finding].reason


def test_what_people_ask_for_in_a_run_as_it_should_be(tmp_path: Path) -> None:
    found = judged(tmp_path, run=with_people(recorded(tiers=TIERS)), about=WITH_PEOPLE)
    assert {finding.verdict for finding in found.values()} == {"pass"}
    at = {name: {item["what"] for item in found[f"{name} steady"].evidence} for name in ("edge", "personalization")}
    assert at["edge"] == {"sessions", "session", "suggestions", "profiles"}
    assert at["personalization"] == {"suggest", "change"}


def test_a_suggestion_that_was_not_given_may_have_been_counted(tmp_path: Path) -> None:
    """Its answer may be lost on the way; an interest that was refused is set by none."""
    run = with_people(recorded(tiers=TIERS))
    for kind in OF_PEOPLE:
        for op in run.good(kind, phase="steady")[5:8]:
            op.end("fail", 2 * S, "timeout")
    for route, verdict in (("suggest", "pass"), ("change", "inconclusive")):
        change = counted_more("personalization-0", 3, MIDDLE, route=route)
        found = judged(tmp_path / route, change, run, WITH_PEOPLE)
        assert found["personalization steady"].verdict == verdict, found["personalization steady"].reason


def test_a_difference_shows_only_in_its_phase(tmp_path: Path) -> None:
    found = judged(tmp_path, counted_more("session-0", -3, MIDDLE, **CREATES))
    assert {name for name, finding in found.items() if finding.verdict != "pass"} == {"session steady"}


KILLED = FAULT + 12 * S + 400_000


HEARD_LATE = Event("member", KILLED + 3 * S, EXITED | {"late_us": 2_100_000, "unsure_us": S})  # 0.9 s after it, or 0.1


def run_with_a_kill(seen: Event | None) -> Recorded:
    """session-0 ends 12.4 s into the fault and is back with its next sample."""
    run = recorded()
    for op in run.ops:
        if op.kind.startswith("session.") and KILLED <= op.due < KILLED + 600_000:
            op.end("fail", 5_000, "http-503")
    if seen:
        run.events.append(seen)
    return run


def killed(series: Series) -> Series:
    """session-0 counts from 0 after its end; what it counted after its last sample before is gone."""
    if not is_of(series, "session-0") or not series.labels["__name__"].endswith("_total"):
        return series
    at = next(n for n, at_s in enumerate(series.times_s) if (at_s - WALL0) * S > KILLED)
    successor = tuple(max(0.0, value - series.values[at]) for value in series.values[at:])
    return msgspec.structs.replace(series, values=(*series.values[:at], *successor))


@pytest.mark.parametrize(
    "seen",
    [Event("member", KILLED, EXITED), HEARD_LATE, None],
    ids=["its exit is on record", "its exit was heard of later", "its counters fell"],
)
def test_a_server_takes_what_it_counted_last_with_it(seen: Event | None, tmp_path: Path) -> None:
    found = judged(tmp_path, killed, run_with_a_kill(seen))
    assert found["session fault"].verdict == "pass", found["session fault"].reason


def test_but_no_more_than_that(tmp_path: Path) -> None:
    stood = counted_more("session-0", -3, FAULT + 5 * S, **CREATES)
    for number, seen in enumerate((Event("member", KILLED, EXITED), HEARD_LATE)):
        found = judged(tmp_path / str(number), both(stood, killed), run_with_a_kill(seen))
        assert found["session fault"].verdict == "fail"


def test_a_server_that_never_came_back_is_not_waited_for(tmp_path: Path) -> None:
    run = recorded()
    ended = RECOVERY - 5 * S
    for op in run.ops:
        if op.kind.startswith("session.") and op.due >= ended:
            op.end("fail", 900_000, "http-503")
    run.events.append(Event("member", ended, EXITED))
    found = judged(tmp_path, lambda one: _until(one, ended // S + 1) if is_of(one, "session-0") else one, run)
    assert found["session fault"].verdict == "pass", found["session fault"].reason


def test_an_unknown_write_may_have_been_done_later(tmp_path: Path) -> None:
    """Three creates without an answer; two of them are counted long afterwards."""
    run = recorded()
    for op in run.good("session.create", phase="steady")[5:8]:
        op.end("unknown", 2 * S, "timeout")
    found = judged(tmp_path, counted_more("session-0", 2, FAULT + 5 * S, **CREATES), run)
    assert found["session fault"].verdict == "pass", found["session fault"].reason
    assert (
        judged(tmp_path, counted_more("session-0", 5, FAULT + 5 * S, **CREATES), run)["session fault"].verdict != "pass"
    )


def test_a_retried_read_may_be_counted_twice(tmp_path: Path) -> None:
    twice = counted_more("session-0", 4, MIDDLE, route="read")
    assert judged(tmp_path, twice)["session steady"].verdict == "inconclusive"
    retried = counted_more("edge-0", 4, MIDDLE, __name__="edge_retries_total")
    assert judged(tmp_path, both(twice, retried))["session steady"].verdict == "pass"


def test_primaries_that_took_turns_counted_the_same_writes_twice(tmp_path: Path) -> None:
    """redis-cluster-3 takes shard 1 over in the fault phase; it has counted its primary's writes as well."""
    shard = judged(tmp_path)["redis fault"].evidence[0]
    assert shard["what"] == "direct writes to shard 1"
    assert shard["at least"] < shard["counted"] <= shard["at most"]


def test_a_primary_that_nobody_saw_counts_for_nobody(tmp_path: Path) -> None:
    run = recorded()
    run.events = [event for event in run.events if event.data.get("member") != "redis-cluster-1"]
    finding = judged(tmp_path, run=run)["redis steady"]
    assert (finding.verdict, finding.reason) == ("inconclusive", "which member was the primary of shard 2 was not seen")


def test_what_several_processes_sent_is_added_up(tmp_path: Path) -> None:
    found = judged(tmp_path, run=recorded_by_two())
    assert {finding.verdict for finding in found.values()} == {"pass"}


def test_what_one_of_several_processes_sent_and_is_not_on_record_is_missed(tmp_path: Path) -> None:
    run, about = recorded_by_two(), by_two(scenario(slos=()))
    run.save(tmp_path, about)
    run.series = samples(read_history(tmp_path), about)
    run.ops = [op for op in run.ops if op.client != "locust-1"]
    (tmp_path / "load" / "locust-1.ops.jsonl").unlink()
    found = {finding.title.split()[0]: finding for finding in reconciliation(about, run.history(tmp_path, about))}
    assert "more than anybody is on record to have asked for" in found["session"].reason
