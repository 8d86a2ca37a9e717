"""What became of the events of ended sessions: a loss is named with its hop, each defect alone is found at it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import checks_of, judge
from resilience.check.durability.events import NAME, events
from resilience.check.durability.rabbitmq import rabbitmq
from resilience.check.finding import Finding
from resilience.history.outbox import event_of, is_event, op_of
from resilience.history.record import Consumed, Drained, OutboxRead
from resilience.spec.fault import CutReplication, Prelude, Target
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import (
    APPLIED,
    FAULT,
    POSTGRESQL,
    TIERS,
    Op,
    Recorded,
    S,
    failed_over,
    recorded,
    scenario,
    synchronous,
)

ABOUT = scenario(tiers=TIERS)
PLACES = ("postgresql", "outbox", "queue session-events")
QUEUE, DEAD = "session-events", "session-events.dead"
EARLY, BEFORE = APPLIED - 5 * S, APPLIED - S // 2


def ended(run: Recorded, instant: int = EARLY) -> Op:
    """The first end that was acknowledged after an instant."""
    return next(op for op in run.good("session.end") if (op.returned or 0) >= instant)


def named(run: Recorded, instant: int = EARLY) -> str:
    op = ended(run, instant)
    return event_of(op.key, op.value)


def lose_row(run: Recorded, instant: int = EARLY) -> None:
    event = named(run, instant)
    run.outbox = [row for row in run.outbox if row.event != event]


def never_seen(run: Recorded, instant: int = EARLY) -> None:
    event = named(run, instant)
    run.consumed = [line for line in run.consumed if line.value != event]


def lose_row_and_event(run: Recorded) -> None:
    lose_row(run)
    never_seen(run)


def unpublished(run: Recorded) -> None:
    event = named(run)
    run.outbox = [replace(row, published=row.published and row.event != event) for row in run.outbox]


def never_published(run: Recorded) -> None:
    unpublished(run)
    never_seen(run)


def leave(run: Recorded, event: str, queue: str, *, redelivered: bool = False) -> None:
    message = Drained(event, redelivered, QUEUE if queue == DEAD else "", "expired" if queue == DEAD else "")
    run.queues = [
        replace(line, messages=(*line.messages, message)) if line.queue == queue else line for line in run.queues
    ]


def move(queue: str) -> Callable[[Recorded], None]:
    """The event is in a queue at the end, and with no consumer."""

    def change(run: Recorded) -> None:
        never_seen(run)
        leave(run, named(run), queue)

    return change


def drop(run: Recorded) -> None:
    """The consumer lost it with its connection, and never acknowledged it."""
    event = named(run)
    run.consumed = [replace(line, acked=line.acked and line.value != event) for line in run.consumed]


def drop_and_leave(run: Recorded) -> None:
    drop(run)
    leave(run, named(run), QUEUE, redelivered=True)


def again(*, redelivered: bool) -> Callable[[Recorded], None]:
    def change(run: Recorded) -> None:
        line = next(line for line in run.consumed if line.value == named(run))
        run.consumed.append(replace(line, at=line.at + S, redelivered=redelivered))

    return change


def elsewhere(run: Recorded) -> None:
    event = named(run)
    run.consumed = [replace(line, queue="content-processing") if line.value == event else line for line in run.consumed]


def stranger(run: Recorded) -> None:
    run.outbox.append(OutboxRead(event_of("s-odd", "locust-42-7"), False, POSTGRESQL[0], 1))


def of_nobody(run: Recorded) -> None:
    event = event_of("s-odd", "locust-42-7")
    run.consumed.append(Consumed("consumer-session-events", QUEUE, event, FAULT, False, True))


def end_as(outcome: str) -> Callable[[Recorded], None]:
    def change(run: Recorded) -> None:
        ended(run).end(outcome, 6_000, "http-503")

    return change


def unknown_without_row(run: Recorded) -> None:
    lose_row_and_event(run)
    end_as("unknown")(run)


def live_again(run: Recorded) -> None:
    op = ended(run)
    run.sessions[op.key] = replace(run.sessions[op.key], state="live")


def findings(run: Recorded, folder: Path, about: Scenario = ABOUT) -> dict[str, Finding]:
    found = judge(about, run.history(folder, about), checks={NAME: events}).findings
    return {finding.where.group: finding for finding in found if finding.check == NAME}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], None]
    at: tuple[str, ...] = ()  # the hops at which it is a fail
    says: str  # of the last of them, or of any


CASES = (
    Case(name="as it should be", change=lambda _: None, says="0 of 117 confirmed events lost, 0 without a row"),
    Case(name="lost in PostgreSQL", change=lose_row_and_event, at=PLACES[:1],
         says="1 lost in PostgreSQL, the event of 0 of them came"),
    Case(name="its event came all the same", change=lose_row, at=(PLACES[0], PLACES[2]), says="1 without a row"),
    Case(name="never published", change=never_published, at=PLACES[1:2], says="1 event never published"),
    Case(name="published and not marked", change=unpublished, at=PLACES[1:2], says="1 event never published"),
    Case(name="lost in RabbitMQ", change=never_seen, at=PLACES[2:], says="1 lost in RabbitMQ: confirmed"),
    Case(name="handed over and never acknowledged", change=drop, at=PLACES[2:], says="1 lost in RabbitMQ: confirmed"),
    Case(name="dropped, and left in its queue", change=drop_and_leave, says="0 published again"),
    Case(name="left in its queue", change=move(QUEUE), says="0 of 117 confirmed events lost"),
    Case(name="a dead letter", change=move(DEAD), says="1 in the dead-letter queue"),
    Case(name="in another queue", change=elsewhere, at=PLACES[2:], says="1 lost in RabbitMQ: confirmed"),
    Case(name="published twice", change=again(redelivered=False), says="1 published again"),
    Case(name="handed over twice", change=again(redelivered=True), says="1 handed over again"),
    Case(name="a row of nobody's", change=stranger, at=PLACES[:2], says="1 event never published"),
    Case(name="an event of nobody's", change=of_nobody, at=PLACES[2:], says="1 event without its row"),
    Case(name="unknown and there", change=end_as("unknown"), says="0 of 116 acknowledged session ends lost, 1 rec"),
    Case(name="unknown and not there", change=unknown_without_row, says="0 of 116 acknowledged session ends lost, 0"),
    Case(name="refused and there", change=end_as("fail"), at=PLACES[:1], says="1 refused but there"),
    Case(name="gone from Redis", change=live_again, says="1 end gone from Redis though the row is there"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found_at_its_hop(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    case.change(run)
    found = findings(run, tmp_path)
    assert tuple(found) == PLACES
    assert {place for place, finding in found.items() if finding.verdict == "fail"} == set(case.at)
    assert {finding.verdict for place, finding in found.items() if place not in case.at} <= {"pass"}
    told = [f"{one.title}; {one.measured}; {one.reason}" for one in found.values()]
    assert any(case.says in text for text in told), told
    for place in case.at:
        assert found[place].evidence


def test_evidence_names_the_event_and_the_op(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    never_seen(run)
    op = ended(run)
    (item,) = findings(run, tmp_path)[PLACES[2]].evidence
    assert item == {"what": "lost in RabbitMQ", "event": named(run), "op": f"locust/{op.id}"}


@pytest.mark.parametrize(
    ("about", "instant", "verdict"),
    [(ABOUT, BEFORE, "pass"), (ABOUT, EARLY, "fail"), (synchronous(ABOUT), BEFORE, "fail")],
    ids=["just before it", "long before it", "a standby had it"],
)
def test_what_a_failover_of_postgresql_may_lose(about: Scenario, instant: int, verdict: str, tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    failed_over(run)
    lose_row(run, instant)
    never_seen(run, instant)
    found = findings(run, tmp_path, about)
    assert {place: finding.verdict for place, finding in found.items()} == {
        "postgresql": verdict, "outbox": "pass", "queue session-events": "pass",
    }  # fmt: skip
    assert found["postgresql"].measures[f"{NAME}.lost_in_postgresql_ops"] == 1


@pytest.mark.parametrize(("about", "verdict"), [(ABOUT, "pass"), (synchronous(ABOUT), "fail")], ids=["async", "any 1"])
def test_an_event_whose_row_a_failover_lost(about: Scenario, verdict: str, tmp_path: Path) -> None:
    """It had been published; where the row may be lost its event may be without it, and is told."""
    run = recorded(tiers=TIERS)
    failed_over(run)
    lose_row(run, BEFORE)
    found = findings(run, tmp_path, about)[PLACES[2]]
    assert found.verdict == verdict
    assert "1 without a row" in found.reason


def test_where_standbys_were_cut_off_first_it_is_told_so(tmp_path: Path) -> None:
    prelude = Prelude(fault=CutReplication(), target=Target(component="postgresql", role="replica"), for_s=2.0)
    assert ABOUT.experiment is not None
    about = replace(ABOUT, experiment=replace(ABOUT.experiment, prelude=prelude))
    run = recorded(tiers=TIERS)
    failed_over(run)
    assert findings(run, tmp_path, about)["postgresql"].allowed.endswith("before standbys were cut off")


def test_a_fault_that_found_no_acknowledged_end_has_shown_nothing(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    early = {event_of(op.key, op.value) for op in run.good("session.end") if (op.returned or 0) <= APPLIED}
    run.ops = [op for op in run.ops if op.kind != "session.end" or event_of(op.key, op.value) not in early]
    run.consumed = [line for line in run.consumed if line.value not in early]
    run.outbox = [row for row in run.outbox if row.event not in early]
    found = findings(run, tmp_path)["postgresql"]
    assert found.verdict == "inconclusive"
    assert "nothing was acknowledged before the fault that it could lose" in found.reason


def test_ends_that_nobody_wrote_down_are_unknown(tmp_path: Path) -> None:
    """A generator that was killed took the last lines of its record with it."""
    run = recorded(tiers=TIERS)
    del run.summaries["locust"]
    late = event_of("s-late", "locust-42-99999")
    run.outbox.append(OutboxRead(late, True, POSTGRESQL[0], 1))
    run.consumed.append(Consumed("consumer-session-events", QUEUE, late, FAULT, False, True))
    found = events(ABOUT, run.history(tmp_path, ABOUT))
    assert [finding.reason for finding in found] == ["", "", ""]
    assert found[0].measures["durability.recovered_ops"] == 1


def test_without_an_end_nothing_is_shown(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    run.ops = [op for op in run.ops if op.kind != "session.end"]
    run.consumed = [line for line in run.consumed if not is_event(line.value)]
    run.outbox = []
    assert {finding.verdict for finding in events(ABOUT, run.history(tmp_path, ABOUT))} == {"inconclusive"}


def test_events_are_no_messages_of_the_loads(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    found = rabbitmq(ABOUT, run.history(tmp_path, ABOUT))
    assert {finding.where.group: finding.verdict for finding in found}[PLACES[2]] == "pass"


def test_a_loss_may_be_a_known_weakness(tmp_path: Path) -> None:
    weakness = KnownWeakness(
        finding=NAME, group="outbox", within={f"{NAME}.never_published_ops": (1, 1)}, seen="always", why="known",
        durability="async",
    )  # fmt: skip
    about = replace(ABOUT, known_weaknesses=(weakness,))
    run = recorded(tiers=TIERS)
    never_published(run)
    assert findings(run, tmp_path, about)["outbox"].known == "known"


@pytest.mark.parametrize("tiers", [(), TIERS[:1], TIERS[1:]], ids=["neither", "PostgreSQL", "RabbitMQ"])
def test_only_a_stack_with_both_stores_has_events(tiers: tuple[str, ...]) -> None:
    assert NAME not in checks_of(scenario(tiers=tiers))
    assert NAME in checks_of(ABOUT)


def test_ids() -> None:
    assert event_of("s-1", "locust-42-7") == "session-ended/s-1/locust-42-7"
    assert op_of("session-ended/s-1/locust-42-7") == "locust-42-7"
    assert (op_of("rabbitmq-42-7"), is_event("rabbitmq-42-7")) == ("", False)
