"""What became of confirmed messages, and in which order they came: each defect alone is found, in its queue."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resilience.check.compose import judge
from resilience.check.durability.rabbitmq import book, rabbitmq
from resilience.check.finding import Finding, Judgement
from resilience.check.rabbitmq.order import order_of_messages, ordered
from resilience.check.rabbitmq.traffic import traffic
from resilience.errors import SpecError
from resilience.history.columns import OK, Consumptions, Ints, Messages, Ops, text_array
from resilience.history.read import History, read_history
from resilience.history.record import Consumed, Drained, Event, QueueRead
from resilience.runner import require_known_checks
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import APPLIED, BEGAN, SLOS, Op, Recorded, S, recorded, scenario

TIER = ("rabbitmq",)
ABOUT = scenario(tiers=TIER)
QUEUE, OTHER, PRIORITIES = "content-processing", "collaboration-sync", "session-events"
EARLY, LATE = APPLIED - 3 * S, APPLIED + 3 * S
# 20 a second to three queues, whose consumers are 3 s behind, and have each message in hand for 0.2 s
AT_REST = "20 messages at rest as the fault took effect, {} of them held by consumers"
CHECKS = {"durability.rabbitmq": rabbitmq, "order.rabbitmq": order_of_messages}


def published(run: Recorded, instant: int = EARLY, queue: str = QUEUE) -> Op:
    """The first message to a queue that was confirmed after an instant."""
    return next(op for op in run.good("rabbitmq.publish") if op.key == queue and (op.returned or 0) >= instant)


def lose(instant: int, queue: str = QUEUE) -> Callable[[Recorded], None]:
    return lambda run: run.lose(published(run, instant, queue))


def place_of(run: Recorded, op: Op) -> int:
    return next(place for place, line in enumerate(run.consumed) if line.value == op.value)


def hand_over(run: Recorded, op: Op, **fields: object) -> None:
    """The message is handed over once more, right after it was."""
    place = place_of(run, op)
    line = run.consumed[place]
    changed: dict[str, object] = {name: getattr(line, name) for name in line.__struct_fields__}
    run.consumed.insert(place + 1, Consumed(**(changed | fields)))  # type: ignore[arg-type]  # the record's own fields


def leave(run: Recorded, op: Op, queue: str, *, redelivered: bool = False, died_of: str = "") -> None:
    """The message is in a queue at the end."""
    message = Drained(op.value, redelivered, op.key if died_of else "", died_of)
    run.queues = [
        replace(line, messages=(*line.messages, message)) if line.queue == queue else line for line in run.queues
    ]


def again(run: Recorded, **fields: object) -> None:
    hand_over(run, published(run), **fields)


def again_after_a_repeated_publish(run: Recorded) -> None:
    op = published(run)
    run.ops.append(dataclasses.replace(op, id=90_000))
    again(run)


def lose_one_of_two_publishes(run: Recorded) -> None:
    """Two publishes of one value were confirmed, and it came once."""
    run.ops.append(dataclasses.replace(published(run), id=90_000))


def die(run: Recorded, died_of: str, times: int = 1, at: int = EARLY) -> None:
    """The message is in its dead-letter queue instead."""
    op = published(run, at)
    run.lose(op)
    for _ in range(times):
        leave(run, op, f"{QUEUE}.dead", died_of=died_of)


def read_twice(run: Recorded, *, first_lost: bool) -> None:
    """The drain broke off before it had acknowledged the dead letter; perhaps it had not written it down either."""
    op = published(run)
    run.lose(op)
    for redelivered in (True, True) if first_lost else (False, True):
        leave(run, op, f"{QUEUE}.dead", redelivered=redelivered, died_of="rejected")


def taken_out_of_the_dead_letters(run: Recorded) -> None:
    op = published(run)
    at = place_of(run, op)
    run.consumed[at] = replace(run.consumed[at], queue=f"{QUEUE}.dead", consumer="undertaker")


def doubt(run: Recorded, *, there: bool, at: int = EARLY) -> None:
    op = published(run, at)
    op.end("unknown", 2 * S, "timeout")
    if not there:
        run.lose(op)


def refuse(run: Recorded, *, there: bool) -> None:
    op = published(run)
    op.end("fail", 4_000, "unroutable")
    if not there:
        run.lose(op)


def never_acknowledged(run: Recorded, *, left: bool) -> None:
    op = published(run)
    at = place_of(run, op)
    run.consumed[at] = replace(run.consumed[at], acked=False)
    if left:
        leave(run, op, QUEUE, redelivered=True)


def misplace(run: Recorded) -> None:
    op = published(run)
    at = place_of(run, op)
    run.consumed[at] = replace(run.consumed[at], queue=OTHER)


def from_nobody(run: Recorded) -> None:
    run.consumed.append(Consumed("consumer-content-processing", QUEUE, "who-1", LATE, False, True))


def flagged(run: Recorded) -> None:
    """The first handing over was on a connection that broke: the client only saw it the second time."""
    at = place_of(run, published(run))
    run.consumed[at] = replace(run.consumed[at], redelivered=True)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], object]
    says: str
    verdict: str = "fail"
    queue: str = QUEUE


CASES = (
    Case(name="lost early", change=lose(EARLY), says="1 acknowledged message lost, acknowledged 2.941 s before"),
    Case(name="lost just before the fault", change=lose(APPLIED - S // 2), says="1 of 1 lost writes were acknowledged"),
    Case(name="lost while the fault lasted", change=lose(LATE), says="lost of phases: 1 in fault"),
    Case(name="lost in another queue", change=lose(EARLY, OTHER), queue=OTHER, says="1 acknowledged message lost"),
    Case(name="lost in the queue with priorities", change=lose(EARLY, PRIORITIES), queue=PRIORITIES,
         says="1 acknowledged message lost"),
    Case(name="one of two publishes lost", change=lose_one_of_two_publishes,
         says="1 of 415 acknowledged messages lost"),
    Case(name="handed out twice as new", change=again, says="was handed out as new 2 times, published 1 times"),
    Case(name="handed out and left as new", change=lambda run: leave(run, published(run), QUEUE),
         says="was handed out as new 2 times"),
    Case(name="twice dead", change=lambda run: die(run, "rejected", times=2), says="died 2 times, published 1 times"),
    Case(name="dead, and read twice", change=lambda run: read_twice(run, first_lost=False), verdict="pass",
         says="1 in the dead-letter queue (1 rejected)"),
    Case(name="dead, and only read again", change=lambda run: read_twice(run, first_lost=True), verdict="pass",
         says="1 in the dead-letter queue (1 rejected)"),
    Case(name="of nobody", change=from_nobody, says="nobody published it"),
    Case(name="in another queue", change=misplace, queue=OTHER, says="was published to content-processing"),
    Case(name="refused but there", change=lambda run: refuse(run, there=True), says="1 refused but there"),
    Case(name="refused and not there", change=lambda run: refuse(run, there=False), verdict="pass",
         says="0 of 413 acknowledged messages lost, 0 recovered"),
    Case(name="unknown and there", change=lambda run: doubt(run, there=True), verdict="pass",
         says="0 of 413 acknowledged messages lost, 1 recovered"),
    Case(name="unknown and not there", change=lambda run: doubt(run, there=False), verdict="pass",
         says="0 of 413 acknowledged messages lost, 0 recovered"),
    Case(name="came again, flagged", change=lambda run: again(run, redelivered=True), verdict="pass",
         says="1 handed over again"),
    Case(name="came flagged only", change=flagged, verdict="pass", says="1 handed over again"),
    Case(name="came again after its publish was repeated", change=again_after_a_repeated_publish, verdict="pass",
         says="0 of 415 acknowledged messages lost"),
    Case(name="expired", change=lambda run: die(run, "expired"), verdict="pass",
         says="1 in the dead-letter queue (1 expired)"),
    Case(name="delivered too often", change=lambda run: die(run, "delivery_limit"), verdict="pass",
         says="1 in the dead-letter queue (1 delivery_limit)"),
    Case(name="dead, and taken out", change=taken_out_of_the_dead_letters, verdict="pass",
         says="1 in the dead-letter queue (1 handed over there)"),
    Case(name="never acknowledged", change=lambda run: never_acknowledged(run, left=False),
         says="lost of phases: 1 in steady; 1 handed over, never acknowledged and not left"),
    Case(name="not acknowledged, and left", change=lambda run: never_acknowledged(run, left=True), verdict="pass",
         says="0 of 414 acknowledged messages lost"),
)  # fmt: skip


def text(finding: Finding) -> str:
    return " | ".join((finding.title, finding.measured, finding.reason, str(finding.evidence)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    case.change(run)
    history = run.history(tmp_path, ABOUT)
    found = {finding.where.group: finding for finding in rabbitmq(ABOUT, history)}
    finding = found.pop(f"queue {case.queue}")
    assert finding.verdict == case.verdict
    assert case.says in text(finding)
    assert {other.verdict for other in found.values()} == {"pass"}
    assert {finding.verdict for finding in order_of_messages(ABOUT, history)} == {"pass"}


def test_of_each_queue_everything_is_there(tmp_path: Path) -> None:
    found = rabbitmq(ABOUT, recorded(tiers=TIER).history(tmp_path, ABOUT))
    assert {finding.where.group: (finding.verdict, finding.measured, finding.reason) for finding in found} == {
        f"queue {QUEUE}": ("pass", f"0 of 414 acknowledged messages lost, 0 recovered; {AT_REST.format(1)}", ""),
        f"queue {OTHER}": ("pass", f"0 of 413 acknowledged messages lost, 0 recovered; {AT_REST.format(1)}", ""),
        f"queue {PRIORITIES}": ("pass", f"0 of 413 acknowledged messages lost, 0 recovered; {AT_REST.format(2)}", ""),
    }
    assert {finding.allowed for finding in found} == {"none lost"}


def test_what_is_told_of_a_queue_is_measured(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    again(run, redelivered=True)
    never_acknowledged(run, left=False)  # the same message: its second handing over is acknowledged
    die_at = published(run, LATE)
    run.lose(die_at)
    leave(run, die_at, f"{QUEUE}.dead", died_of="expired")
    lose(LATE + S)(run)
    finding = next(f for f in rabbitmq(ABOUT, run.history(tmp_path, ABOUT)) if f.where.group == f"queue {QUEUE}")
    names = ("redelivered", "dead_lettered", "unsettled", "lost", "lost_in_steady", "lost_in_fault")
    measures = {name: finding.measures[f"durability.rabbitmq.{name}_ops"] for name in names}
    assert measures == {
        "redelivered": 1, "dead_lettered": 1, "unsettled": 0, "lost": 1, "lost_in_steady": 0, "lost_in_fault": 1,
    }  # fmt: skip


def test_how_often_what_is_lost_was_handed_over_is_measured(tmp_path: Path) -> None:
    """Two were lost with their server, one of them in a consumer's hands, and one was rejected until it was dropped."""
    run = recorded(tiers=TIER)
    never, once, often = (published(run, LATE + number * S) for number in range(3))
    run.lose(never)
    for op, times in ((once, 1), (often, 3)):
        at = place_of(run, op)
        run.consumed[at] = replace(run.consumed[at], acked=False)
        for _ in range(times - 1):
            hand_over(run, op, redelivered=True)
    finding = next(f for f in rabbitmq(ABOUT, run.history(tmp_path, ABOUT)) if f.where.group == f"queue {QUEUE}")
    names = ("lost_ops", "unsettled_ops", "lost_handed_least", "lost_handed_most")
    assert tuple(finding.measures[f"durability.rabbitmq.{name}"] for name in names) == (3, 2, 0, 3)


def without_backlog(run: Recorded, queue: str) -> None:
    """Its consumer acknowledges each message within milliseconds."""
    sent = {op.value: op.called for op in run.good("rabbitmq.publish")}
    run.consumed = [
        replace(line, at=sent[line.value] + 5_000) if line.queue == queue else line for line in run.consumed
    ]


def test_a_queue_that_had_nothing_to_lose_is_no_pass(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    without_backlog(run, QUEUE)
    found = {finding.where.group: finding for finding in rabbitmq(ABOUT, run.history(tmp_path, ABOUT))}
    finding = found.pop(f"queue {QUEUE}")
    assert finding.verdict == "inconclusive"
    assert finding.reason == "nothing was at rest in it that the fault could have lost"
    assert finding.measures["durability.rabbitmq.at_rest_ops"] == 0
    assert {other.verdict for other in found.values()} == {"pass"}
    assert {other.measures["durability.rabbitmq.at_rest_ops"] for other in found.values()} == {20}


def test_a_loss_is_one_whatever_was_at_rest(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    without_backlog(run, QUEUE)
    lose(LATE)(run)
    found = {finding.where.group: finding for finding in rabbitmq(ABOUT, run.history(tmp_path, ABOUT))}
    assert found[f"queue {QUEUE}"].verdict == "fail"


def test_where_nothing_was_broken_nothing_has_to_be_at_rest(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    without_backlog(run, QUEUE)
    run.events = [event for event in run.events if event.name != "injected"]
    found = rabbitmq(ABOUT, run.history(tmp_path, ABOUT))
    assert {finding.verdict for finding in found} == {"pass"}
    assert not any("at rest" in finding.measured for finding in found)


@pytest.mark.parametrize(
    ("change", "rest", "gone"),
    [
        (lose(APPLIED - S), 20, 1),
        (lose(EARLY - S), 21, 1),
        (lose(LATE), 20, 0),
        (lambda run: die(run, "expired", at=APPLIED - S), 19, 0),
        (lambda run: doubt(run, there=True, at=APPLIED - S), 19, 0),
    ],
    ids=["lost at rest", "lost long before", "lost later", "dead", "unknown"],
)
def test_what_was_at_rest_is_counted_and_what_of_it_is_gone(
    change: Callable[[Recorded], object], rest: int, gone: int, tmp_path: Path
) -> None:
    run = recorded(tiers=TIER)
    change(run)
    finding = next(f for f in rabbitmq(ABOUT, run.history(tmp_path, ABOUT)) if f.where.group == f"queue {QUEUE}")
    names = ("at_rest", "lost_at_rest")
    assert tuple(finding.measures[f"durability.rabbitmq.{name}_ops"] for name in names) == (rest, gone)


def automatic(run: Recorded, *, member: str, leader: str = "rabbitmq-0", held: int = 2_900_000) -> None:
    """The server takes what it sends for acknowledged; each message is with its consumer for so long.

    The fault is done to rabbitmq-0, the queue is led by ``leader``, and its consumer is connected to ``member``.
    """
    run.change("injected", members=["rabbitmq-0"])
    run.consumed = [replace(line, came=line.at - held) for line in run.consumed]
    run.attached = [replace(line, member=member) if line.queue == QUEUE else line for line in run.attached]
    at = next(n for n, event in enumerate(run.events) if event.name == "queue-role" and event.data["queue"] == QUEUE)
    run.events[at] = Event("queue-role", run.events[at].at, run.events[at].data | {"leader": leader})


def lose_what_is_held(run: Recorded) -> None:
    """Its consumer dies with its connection before all has taken effect, and with it what it has in hand."""
    run.consumed = [
        replace(line, acked=False, at=APPLIED - 1) if line.queue == QUEUE and line.came <= BEGAN < line.at else line
        for line in run.consumed
    ]


AUTOMATIC = replace(ABOUT, stack=replace(ABOUT.stack, rabbitmq=Rabbitmq(acknowledgement="automatic")))


def of_automatic(run: Recorded, folder: Path) -> Finding:
    found = rabbitmq(AUTOMATIC, run.history(folder, AUTOMATIC))
    return next(finding for finding in found if finding.where.group == f"queue {QUEUE}")


def test_what_a_consumer_holds_is_not_at_rest_where_the_server_has_forgotten_it(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    automatic(run, member="rabbitmq-0")
    lose_what_is_held(run)
    finding = of_automatic(run, tmp_path)
    assert finding.verdict == "fail"
    assert "1 message at rest as the fault took effect, 19 more held by consumers" in finding.measured
    names = ("at_rest", "lost_at_rest", "held", "lost_held")
    assert tuple(finding.measures[f"durability.rabbitmq.{name}_ops"] for name in names) == (1, 0, 19, 19)


def test_what_a_consumer_holds_unacknowledged_is_at_rest_all_the_same(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    automatic(run, member="rabbitmq-0")
    lose_what_is_held(run)
    finding = next(f for f in rabbitmq(ABOUT, run.history(tmp_path, ABOUT)) if f.where.group == f"queue {QUEUE}")
    names = ("at_rest", "lost_at_rest", "held", "lost_held")
    assert tuple(finding.measures[f"durability.rabbitmq.{name}_ops"] for name in names) == (20, 19, 19, 19)


@pytest.mark.parametrize(
    ("member", "leader", "held", "verdict"),
    [
        ("rabbitmq-0", "rabbitmq-0", 2_900_000, "pass"),
        ("rabbitmq-2", "rabbitmq-0", 2_900_000, "inconclusive"),
        ("rabbitmq-2", "rabbitmq-1", 2_900_000, "pass"),
        ("rabbitmq-2", "rabbitmq-0", 1_000_000, "pass"),
    ],
    ids=["on the member that is hit", "elsewhere", "of a queue that nothing was done to", "most is in the queue"],
)
def test_what_is_held_elsewhere_was_not_at_stake(
    member: str, leader: str, held: int, verdict: str, tmp_path: Path
) -> None:
    run = recorded(tiers=TIER)
    automatic(run, member=member, leader=leader, held=held)
    finding = of_automatic(run, tmp_path)
    assert finding.verdict == verdict
    reason = (
        "19 of 20 messages that it could have lost were with a consumer that was connected to rabbitmq-2, "
        "which the fault did not hit"
    )
    assert finding.reason == (reason if verdict == "inconclusive" else "")


def test_a_weakness_that_could_not_be_seen_is_no_fail(tmp_path: Path) -> None:
    """Nor is the objective on what it would have lost a pass, which would make the weakness seem to be mended."""
    run = recorded(tiers=TIER)
    automatic(run, member="rabbitmq-2")
    weaknesses = tuple(
        KnownWeakness(finding=finding, group=group, within={"value": (1, 99)}, seen="always", why="it is forgotten")
        for finding, group in (("durability.rabbitmq", f"queue {QUEUE}"), ("slo.durability", ""))
    )
    slos = tuple(slo for slo in SLOS if slo.name == "durability")
    about = replace(AUTOMATIC, slos=slos, known_weaknesses=weaknesses, checks=("durability.rabbitmq",))
    judgement = judge(about, run.history(tmp_path, about))
    assert judgement.verdict == "inconclusive"
    assert {f.check for f in judgement.findings if f.verdict != "pass"} == {"durability.rabbitmq", "slo.durability"}
    assert "connected to rabbitmq-2" in next(f for f in judgement.findings if f.check == "slo.durability").reason


def test_a_consumer_that_is_not_on_record_may_have_been_anywhere(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    automatic(run, member="rabbitmq-0")
    run.attached = []
    finding = of_automatic(run, tmp_path)
    assert (finding.verdict, "somebody who is not on record" in finding.reason) == ("inconclusive", True)


@pytest.mark.parametrize(
    ("dead", "place", "verdict"),
    [(True, -1, "pass"), (False, -1, "fail"), (True, -2, "fail")],
    ids=["the last of a dead client", "the last of one that told its totals", "the last but one of a dead client"],
)
def test_a_message_that_is_there_and_not_on_record(dead: bool, place: int, verdict: str, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.ops.remove(run.good("rabbitmq.publish")[place])
    if dead:
        del run.summaries["rabbitmq"]
    found = rabbitmq(ABOUT, run.history(tmp_path, ABOUT))
    assert ("fail" in {finding.verdict for finding in found}) == (verdict == "fail")
    assert any("1 recovered" in finding.measured for finding in found) == (verdict == "pass")


def judged(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Judgement:
    about = replace(about, slos=tuple(slo for slo in SLOS if slo.name != "durability"))
    return judge(about, run.history(folder, about))


def of_check(judgement: Judgement, name: str, queue: str = QUEUE) -> Finding:
    return next(f for f in judgement.findings if f.check == name and f.where.group in {"", f"queue {queue}"})


def read_less(run: Recorded) -> None:
    run.queues = [line for line in run.queues if line.queue != OTHER]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.audited.remove("rabbitmq"), "the rabbitmq audit did not come to its end"),
        (read_less, "collaboration-sync was not drained"),
    ],
    ids=["no end", "a queue that was not read"],
)
def test_without_a_complete_drain_nothing_is_lost(
    change: Callable[[Recorded], object], reason: str, tmp_path: Path
) -> None:
    run = recorded(tiers=TIER)
    lose(EARLY)(run)
    change(run)
    judgement = judged(run, tmp_path)
    finding = of_check(judgement, "durability.rabbitmq")
    assert finding.verdict == "inconclusive"
    assert reason in finding.reason
    assert "otherwise fail" in finding.reason
    assert of_check(judgement, "order.rabbitmq").verdict == "inconclusive"
    direct = [finding for finding in judgement.findings if finding.check == "durability.direct"]
    assert {finding.verdict for finding in direct} == {"pass"}


def test_a_consumer_that_left_no_summary_may_have_had_what_is_missing(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    lose(EARLY)(run)
    del run.summaries["rabbitmq"]
    finding = of_check(judged(run, tmp_path), "durability.rabbitmq")
    assert finding.verdict == "inconclusive"
    assert "rabbitmq left no summary" in finding.reason


def test_without_a_message_nothing_is_judged(tmp_path: Path) -> None:
    history = Recorded().history(tmp_path, ABOUT)
    found = [finding for check in CHECKS.values() for finding in check(ABOUT, history)]
    assert [finding.verdict for finding in found] == ["inconclusive"] * 6


def test_a_queue_that_nothing_was_published_to_is_no_pass(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.ops = [op for op in run.ops if op.key != QUEUE]
    run.consumed = [line for line in run.consumed if line.queue != QUEUE]
    run.queues = [replace(line, messages=()) if line.queue == QUEUE else line for line in run.queues]
    history = run.history(tmp_path, ABOUT)
    for check in CHECKS.values():
        found = {finding.where.group: finding for finding in check(ABOUT, history)}
        assert {group: finding.verdict for group, finding in found.items()} == {
            f"queue {QUEUE}": "inconclusive", f"queue {OTHER}": "pass", f"queue {PRIORITIES}": "pass",
        }  # fmt: skip
        assert found[f"queue {QUEUE}"].reason == "nothing was published to it"


def test_a_loss_is_the_first_line_and_may_be_a_known_weakness_of_one_queue(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    lose(LATE)(run)
    headline = judged(run, tmp_path / "1").headline
    assert headline.startswith("fail: queue content-processing: 1 acknowledged message lost, acknowledged 3.")
    weak = KnownWeakness(
        finding="durability.rabbitmq", within={"durability.lost_ops": (1, 9)}, seen="always", why="known",
        group=f"queue {QUEUE}",
    )  # fmt: skip
    judgement = judged(run, tmp_path / "2", replace(ABOUT, known_weaknesses=(weak,)))
    assert judgement.verdict == "pass"
    assert judgement.headline.startswith("pass: known weakness, seen again: queue content-processing: 1 acknowledged")


@pytest.mark.parametrize("check", CHECKS)
def test_a_stack_without_rabbitmq_is_not_judged_by_it(check: str, tmp_path: Path) -> None:
    about = scenario()
    assert check not in {f.check for f in judge(about, recorded().history(tmp_path, about)).findings}
    with pytest.raises(SpecError, match="expected one of"):
        require_known_checks(scenario(checks=(check,)))
    require_known_checks(scenario(checks=(check,), tiers=TIER))


# order


def of_queue(run: Recorded, folder: Path, queue: str = QUEUE) -> Finding:
    found = order_of_messages(ABOUT, run.history(folder, ABOUT))
    return next(finding for finding in found if finding.where.group == f"queue {queue}")


def move(run: Recorded, op: Op, by: int) -> None:
    """The message comes so many places of its queue later."""
    line = run.consumed.pop(place_of(run, op))
    same = [place for place, other in enumerate(run.consumed) if other.queue == line.queue and other.at > line.at]
    run.consumed.insert(same[by - 1] + 1, line)


def test_one_inversion(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    op = published(run)
    move(run, op, 4)
    finding = of_queue(run, tmp_path)
    assert finding.verdict == "fail"
    assert finding.measured == "1 inversion among 414 messages given out for the first time, 0 gaps, 0 redelivered"
    assert finding.reason == "1 message came after later ones, by up to 4 places"
    (item,) = finding.evidence
    assert (item["value"], item["consumer"]) == (op.value, f"consumer-{QUEUE}")
    assert finding.measures["order.rabbitmq.inverted_ops"] == 1
    assert finding.measures["order.rabbitmq.displaced_places"] == 4


@pytest.mark.parametrize(("acked", "verdict"), [(False, "pass"), (True, "fail")])
def test_what_a_consumer_rejects_as_it_comes_overtakes_nobody(acked: bool, verdict: str, tmp_path: Path) -> None:
    """It is on record before those that the consumer had been handed earlier, and has not come to yet."""
    run = recorded(tiers=TIER)
    line = run.consumed.pop(place_of(run, published(run)))
    earlier = [place for place, other in enumerate(run.consumed) if other.queue == line.queue and other.at < line.at]
    run.consumed.insert(earlier[-4], replace(line, acked=acked))
    assert of_queue(run, tmp_path).verdict == verdict


@pytest.mark.parametrize(("confirmed_after_us", "verdict"), [(149_999, "fail"), (150_000, "pass")])
def test_confirmed_before_the_next_was_sent(confirmed_after_us: int, verdict: str, tmp_path: Path) -> None:
    """The next message to its queue is sent 150 ms later; one that was confirmed at that very instant was beside it."""
    run = recorded(tiers=TIER)
    op = published(run)
    op.returned = op.called + confirmed_after_us
    move(run, op, 1)
    assert of_queue(run, tmp_path).verdict == verdict


def test_a_message_left_behind_later_ones_is_an_inversion(tmp_path: Path) -> None:
    """It is drained as new, though a later one had been handed over."""
    run = recorded(tiers=TIER)
    op = published(run)
    run.lose(op)
    leave(run, op, QUEUE)
    finding = of_queue(run, tmp_path)
    assert (finding.verdict, finding.value) == ("fail", 1)
    assert {item["consumer"] for item in finding.evidence} == {"drained"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (flagged, "1 gap, 1 redelivered"),
        (lambda run: again(run, redelivered=True), "0 gaps, 1 redelivered"),
        (lose(EARLY), "1 gap, 0 redelivered"),
        (lambda run: die(run, "expired"), "1 gap, 0 redelivered"),
        (lambda run: doubt(run, there=False), "0 gaps, 0 redelivered"),
    ],
    ids=["came flagged only", "came again, flagged", "lost", "dead", "unknown, and not there"],
)
def test_gaps_and_what_came_again_are_told(change: Callable[[Recorded], object], told: str, tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    change(run)
    finding = of_queue(run, tmp_path)
    assert finding.verdict == "pass"
    assert told in finding.measured


def late_and_unknown(run: Recorded) -> None:
    op = published(run)
    op.end("unknown", 2 * S, "timeout")
    move(run, op, 4)


def late_and_flagged(run: Recorded) -> None:
    flagged(run)
    move(run, published(run), 4)


def late_at_another_consumer(run: Recorded) -> None:
    op = published(run)
    move(run, op, 4)
    at = place_of(run, op)
    run.consumed[at] = replace(run.consumed[at], consumer="another")


def late_and_under_way(run: Recorded) -> None:
    """It was confirmed only when the later ones had been sent."""
    op = published(run)
    op.returned = op.called + 4 * 150_000
    move(run, op, 4)


def late_of_a_repeated_publish(run: Recorded) -> None:
    again_after_a_repeated_publish(run)
    move(run, published(run), 4)


@pytest.mark.parametrize(
    "change",
    [
        late_and_unknown,
        late_and_flagged,
        late_at_another_consumer,
        late_and_under_way,
        late_of_a_repeated_publish,
    ],
)
def test_what_may_come_late(change: Callable[[Recorded], object], tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    change(run)
    assert of_queue(run, tmp_path).verdict == "pass"


def test_a_queue_with_priorities_keeps_the_order_of_messages_without_one(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    assert of_queue(run, tmp_path, PRIORITIES).verdict == "pass"
    run = recorded(tiers=TIER)
    move(run, published(run, queue=PRIORITIES), 4)
    assert of_queue(run, tmp_path, PRIORITIES).verdict == "fail"


def test_a_queue_that_gave_out_nothing_has_no_order(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.consumed = [line for line in run.consumed if line.queue != QUEUE]
    run.queues = [replace(line, messages=()) if line.queue == QUEUE else line for line in run.queues]
    finding = of_queue(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "no message was given out for the first time")


def kept(run: Recorded, keep: Callable[[Consumed], bool]) -> None:
    """Of the queue nothing is left, and only some of what was handed over."""
    run.consumed = [line for line in run.consumed if line.queue != QUEUE or keep(line)]
    run.queues = [replace(line, messages=()) if line.queue == QUEUE else line for line in run.queues]


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (lambda line: APPLIED < line.at <= APPLIED + S // 8, "no message was given out after another one"),
        (lambda line: line.at <= APPLIED, "no message was given out after another one since the fault"),
        (lambda line: line.at <= APPLIED + S // 8, ""),
    ],
    ids=["one alone", "none since the fault", "one since the fault"],
)
def test_an_order_is_shown_by_two_of_which_one_came_since_the_fault(
    keep: Callable[[Consumed], bool], reason: str, tmp_path: Path
) -> None:
    run = recorded(tiers=TIER)
    kept(run, keep)
    finding = of_queue(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive" if reason else "pass", reason)


def test_what_is_drained_came_since_the_fault(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.consumed = [line for line in run.consumed if line.queue != QUEUE or line.at <= APPLIED]
    assert of_queue(run, tmp_path).verdict == "pass"


WRITES = 100_000


@pytest.fixture(scope="module")
def long() -> History:
    """So many confirmed messages, one a millisecond, to two queues in turns; the last 1,000 were not consumed."""
    numbers = np.arange(WRITES, dtype=np.int64)
    zeros = np.zeros(WRITES, dtype=np.int32)
    queue = (numbers % 2).astype(np.int32)
    values = text_array([f"rabbitmq-1-{n}" for n in range(WRITES)])
    ops = Ops(
        client=zeros, id=numbers + 1, kind=zeros, key=queue, phase=zeros, error=zeros, group=zeros,
        stood=zeros, due=numbers * 1000, called=numbers * 1000, returned=numbers * 1000 + 500,
        outcome=np.full(WRITES, OK, dtype=np.int32), version=-1 + 0 * numbers, epoch=-1 + 0 * numbers,
        value=values, clients=("rabbitmq",), kinds=("rabbitmq.publish",), keys=text_array([QUEUE, OTHER]),
        phases=("steady",), errors=("",), standing=("",),
    )  # fmt: skip
    handed, left = slice(None, -1_000), slice(-1_000, None)
    consumed = Consumptions(
        consumer=queue[handed], queue=queue[handed], value=values[handed], at=numbers[handed] * 1000 + 700,
        redelivered=np.zeros(WRITES - 1_000, dtype=np.bool_), acked=np.ones(WRITES - 1_000, dtype=np.bool_),
        came=numbers[handed] * 1000 + 600, consumers=("c-1", "c-2"), queues=(QUEUE, OTHER),
    )  # fmt: skip
    messages = Messages(
        queue=queue[left], value=values[left], redelivered=np.zeros(1_000, dtype=np.bool_), died_in=zeros[left],
        died_of=zeros[left], queues=(QUEUE, OTHER), members=(), origins=("",), reasons=("",),
    )  # fmt: skip
    nothing = read_history(Path("nowhere"))
    audit = dataclasses.replace(nothing.audit, messages=messages)
    return dataclasses.replace(nothing, ops=ops, consumed=consumed, audit=audit)


def with_sights(long: History, rows: Ints) -> History:
    """The history whose consumers were handed these rows of it, in this order."""
    names = ("consumer", "queue", "value", "at", "redelivered", "acked", "came")
    columns = {name: getattr(long.consumed, name)[rows] for name in names}
    return dataclasses.replace(long, consumed=dataclasses.replace(long.consumed, **columns))


numbers = st.integers(0, WRITES - 1_001)


def test_a_whole_history_is_clean(long: History) -> None:
    seen = traffic(long)
    booked = book(long, seen)
    found, gaps = ordered(long, seen)
    assert (booked.lost.tolist(), booked.recovered.tolist(), booked.defects) == ([], [], ())
    assert (len(found.place), int(found.inverted.sum()), gaps.tolist()) == (WRITES, 0, [0, 0])


@settings(max_examples=10, deadline=None)
@given(lost=st.lists(numbers, unique=True, min_size=1, max_size=20))
def test_every_lost_message_and_no_other(lost: list[int], long: History) -> None:
    history = with_sights(long, np.delete(np.arange(WRITES - 1_000), lost))
    seen = traffic(history)
    booked = book(history, seen)
    assert booked.lost.tolist() == sorted(lost)
    assert booked.defects == ()
    assert not ordered(history, seen)[0].inverted.any()


@settings(max_examples=10, deadline=None)
@given(number=numbers, later=numbers)
def test_one_duplicate_in_100_000(number: int, later: int, long: History) -> None:
    history = with_sights(long, np.insert(np.arange(WRITES - 1_000), max(number, later) + 1, number))
    booked = book(history, traffic(history))
    assert booked.lost.tolist() == []
    assert [(defect.what, defect.key) for defect in booked.defects] == [("duplicated", f"rabbitmq-1-{number}")]


@settings(max_examples=10, deadline=None)
@given(number=st.integers(0, WRITES - 1_101), by=st.integers(1, 40))
def test_one_inversion_in_100_000(number: int, by: int, long: History) -> None:
    """One message comes after so many later ones of its queue, and nothing else is out of its place."""
    rows = np.arange(WRITES - 1_000)
    rows = np.insert(np.delete(rows, number), number + 2 * by, number)
    history = with_sights(long, rows)
    seen = traffic(history)
    found, gaps = ordered(history, seen)
    assert found.row[found.inverted].tolist() == [number]
    assert (found.before - found.place)[found.inverted].tolist() == [by]
    assert gaps.tolist() == [0, 0]
    assert book(history, seen).defects == ()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_it_agrees_with_counting_by_hand(data: st.DataObject) -> None:
    """Few messages of few values, however published and seen: what is lost, recovered and duplicated."""
    values = ("a-1", "a-2", "a-3")
    publishes = data.draw(st.lists(st.tuples(st.sampled_from(values), st.sampled_from(("ok", "fail", "unknown"))),
                                   min_size=1, max_size=6))  # fmt: skip
    sights = data.draw(st.lists(st.tuples(st.sampled_from(values), st.booleans()), max_size=6))
    history = small(publishes, sights)
    booked = book(history, traffic(history))
    lost = recovered = 0
    for value in values:
        outcomes = [outcome for sent, outcome in publishes if sent == value]
        times = sum(seen == value for seen, _ in sights)
        fresh = max(sum(seen == value and not flag for seen, flag in sights), min(times, 1))
        acked, unknown = outcomes.count("ok"), outcomes.count("unknown")
        lost += max(0, acked - times)
        recovered += min(max(0, fresh - acked), unknown)
    duplicated = {
        value for value in values
        if (sent := [outcome for one, outcome in publishes if one == value])
        and sum(seen == value and not flag for seen, flag in sights) > max(1, len(sent) - sent.count("fail"))
    }  # fmt: skip
    assert (len(booked.lost), len(booked.recovered)) == (lost, recovered)
    assert {defect.key for defect in booked.defects if defect.what == "duplicated"} == duplicated


def small(publishes: list[tuple[str, str]], sights: list[tuple[str, bool]]) -> History:
    """A history of one queue: publishes with their outcomes, what a consumer was handed with the flag."""
    count = len(publishes)
    numbers = np.arange(count, dtype=np.int64)
    zeros = np.zeros(max(count, len(sights)), dtype=np.int32)
    nothing = read_history(Path("nowhere"))
    ops = Ops(
        client=zeros[:count], id=numbers + 1, kind=zeros[:count], key=zeros[:count], phase=zeros[:count],
        error=zeros[:count], group=zeros[:count], due=numbers, called=numbers, returned=numbers + 1,
        outcome=np.array([("ok", "fail", "unknown").index(outcome) for _, outcome in publishes], dtype=np.int32),
        version=numbers, epoch=numbers, value=text_array([value for value, _ in publishes]), clients=("rabbitmq",),
        kinds=("rabbitmq.publish",), keys=text_array([QUEUE]), phases=("steady",), errors=("",),
        stood=zeros[:count], standing=("",),
    )  # fmt: skip
    consumed = Consumptions(
        consumer=zeros[: len(sights)], queue=zeros[: len(sights)], value=text_array([value for value, _ in sights]),
        at=np.arange(len(sights), dtype=np.int64), redelivered=np.array([flag for _, flag in sights], dtype=np.bool_),
        acked=np.ones(len(sights), dtype=np.bool_), came=np.arange(len(sights), dtype=np.int64),
        consumers=("c-1",), queues=(QUEUE,),
    )  # fmt: skip
    return dataclasses.replace(nothing, ops=ops, consumed=consumed, summaries={"rabbitmq": {}})


def test_a_queue_that_was_read_in_pieces_is_one(tmp_path: Path) -> None:
    run = recorded(tiers=TIER)
    run.queues = [QueueRead(line.queue, (message,)) for line in run.queues for message in line.messages] + [
        QueueRead(line.queue, ()) for line in run.queues
    ]
    history = run.history(tmp_path, ABOUT)
    assert {finding.verdict for check in CHECKS.values() for finding in check(ABOUT, history)} == {"pass"}
