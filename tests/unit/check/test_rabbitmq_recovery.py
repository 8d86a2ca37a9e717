"""How long no message of a queue of RabbitMQ was handed to anybody, and that somebody was before the load ended."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from resilience.check.compose import judge
from resilience.check.finding import Finding
from resilience.check.rabbitmq.recovery import NAME, SETTLED_AFTER_S, recovery_of_consumers
from resilience.history.record import NEVER, Drained, Event
from resilience.spec.fault import Partition
from resilience.spec.rabbitmq import QUEUES, Rabbitmq
from resilience.spec.scenario import Scenario
from tests.histories import APPLIED, BEGAN, END, FAULT, RECOVERY, Recorded, S, measured_slo, recorded, scenario

Handling = Literal["ignore", "pause_minority", "autoheal"]
TIER = ("rabbitmq",)
WHOLE = scenario(tiers=TIER)
ABOUT = replace(WHOLE, stack=replace(WHOLE.stack, rabbitmq=Rabbitmq(net_ticktime_s=4)))
BOUND_S = 5 + SETTLED_AFTER_S
QUEUE, OTHER = "session-events", "content-processing"  # led by rabbitmq-0 and rabbitmq-1, as their consumers have it


def hit(*members: str) -> Recorded:
    """A run whose fault was done to these members of RabbitMQ, too."""
    run = recorded(tiers=TIER)
    run.change("injected", members=[*run.event("injected").data["members"], *members])
    return run


def without(run: Recorded, start: int, end: int, *queues: str) -> Recorded:
    """From one instant to another nothing of these queues is handed to anybody; then all of it is."""
    run.consumed = [
        replace(line, came=end, at=max(end, line.at)) if line.queue in queues and start <= line.came < end else line
        for line in run.consumed
    ]
    return run


def never_again(run: Recorded, start: int, *queues: str) -> Recorded:
    """From an instant on nothing of these queues is handed to anybody; all of it is there as they are drained."""
    gone = [line for line in run.consumed if line.queue in queues and line.came >= start]
    run.consumed = [line for line in run.consumed if line not in gone]
    run.queues = [
        replace(read, messages=(*(Drained(x.value, False) for x in gone if x.queue == read.queue), *read.messages))
        for read in run.queues
    ]
    return run


def found(run: Recorded, folder: Path, about: Scenario = ABOUT) -> dict[str, Finding]:
    findings = recovery_of_consumers(about, run.history(folder, about))
    return {finding.where.group.removeprefix("queue "): finding for finding in findings}


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    run: Callable[[], Recorded]
    says: str = ""  # of session-events; nothing: it is a pass
    title: str = ""
    first_s: float | None = None


LATE = APPLIED + round(BOUND_S * S)
CASES = (
    Case(name="nothing happened", run=hit, title="all the time"),
    Case(name="its leader hit, and nobody noticed", run=lambda: hit("rabbitmq-0"), first_s=0.1,
         title="after its leader rabbitmq-0 was hit"),
    Case(name="its leader hit, and served again", first_s=8,
         run=lambda: without(hit("rabbitmq-0"), APPLIED, APPLIED + 8 * S, QUEUE)),
    Case(name="its leader hit, and served again at the last moment", first_s=BOUND_S - 0.3,
         run=lambda: without(hit("rabbitmq-0"), APPLIED, LATE - 3 * S // 10, QUEUE)),
    Case(name="its leader hit, and served again too late", first_s=BOUND_S + 0.1,
         run=lambda: without(hit("rabbitmq-0"), APPLIED, LATE + S // 10, QUEUE),
         says="later than the configuration explains"),
    Case(name="never again", run=lambda: never_again(hit("rabbitmq-0"), APPLIED, QUEUE),
         says="no message was handed to anybody in the last"),
    Case(name="served again, and then no more", first_s=9, says="no message was handed to anybody in the last",
         run=lambda: never_again(without(hit("rabbitmq-0"), APPLIED, APPLIED + 9 * S, QUEUE), END - 5 * S, QUEUE)),
    Case(name="without at the end, most of a second", first_s=0.1,
         run=lambda: never_again(hit("rabbitmq-0"), END - 800_000, QUEUE)),
    Case(name="without at the end", first_s=0.1, run=lambda: never_again(hit("rabbitmq-0"), END - 1_300_000, QUEUE),
         says="no message was handed to anybody in the last"),
    Case(name="a copy hit", run=lambda: without(hit("rabbitmq-1"), APPLIED, APPLIED + 8 * S, QUEUE), first_s=8,
         title="after rabbitmq-1 was hit, which holds a copy of it"),
    Case(name="left alone, most of a second", run=lambda: without(hit(), BEGAN, BEGAN + 700_000, QUEUE)),
    Case(name="left alone, and without", run=lambda: without(hit(), BEGAN, BEGAN + 1_300_000, QUEUE),
         says="which nothing excuses"),
    Case(name="without before the fault", run=lambda: without(hit("rabbitmq-0"), FAULT - 9 * S, FAULT - 2 * S, QUEUE),
         first_s=0.1),
    Case(name="a moment without, long after the fault", first_s=0.1,
         run=lambda: without(hit("rabbitmq-0"), RECOVERY + 5 * S, RECOVERY + 6 * S, QUEUE)),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_must_be_said_of_a_queue_that_hands_out_nothing(case: Case, tmp_path: Path) -> None:
    of_each = found(case.run(), tmp_path)
    finding = of_each.pop(QUEUE)
    assert finding.verdict == ("fail" if case.says else "pass")
    assert case.says in finding.reason
    assert case.title in finding.title
    assert finding.measures.get(f"{NAME}.first_delivery_s") == (
        None if case.first_s is None else pytest.approx(case.first_s, abs=0.1)
    )
    assert {other.verdict for other in of_each.values()} == {"pass"}


@pytest.mark.parametrize(
    ("handling", "cut_from", "verdict"),
    [("pause_minority", "peers", "fail"), ("autoheal", "peers", "pass"), ("ignore", "peers", "pass"),
     ("autoheal", "clients", "fail"), ("autoheal", None, "fail")],
)  # fmt: skip
def test_who_was_cut_off_keeps_its_consumers_unless_it_has_to_stop(
    handling: Handling, cut_from: Literal["peers", "clients"] | None, verdict: str, tmp_path: Path
) -> None:
    """Without messages until 14 s after healing, which came 20 s after the fault."""
    assert ABOUT.experiment is not None
    cut = ABOUT.experiment if cut_from is None else replace(ABOUT.experiment, fault=Partition(cut_from=cut_from))
    rabbitmq = Rabbitmq(net_ticktime_s=4, cluster_partition_handling=handling)
    about = replace(ABOUT, experiment=cut, stack=replace(ABOUT.stack, rabbitmq=rabbitmq))
    run = without(hit("rabbitmq-0"), APPLIED, RECOVERY + 14 * S, QUEUE)
    assert found(run, tmp_path, about)[QUEUE].verdict == verdict


def seen(run: Recorded, queue: str, **fields: object) -> Recorded:
    at = next(n for n, event in enumerate(run.events) if event.name == "queue-role" and event.data["queue"] == queue)
    run.events[at] = Event("queue-role", run.events[at].at, run.events[at].data | fields)
    return run


def test_of_a_classic_queue_its_member_and_its_consumers_are_hit(tmp_path: Path) -> None:
    """Nobody else holds a copy, so what befalls the others excuses nothing."""
    for member, verdict in (("rabbitmq-2", "pass"), ("rabbitmq-1", "pass"), ("rabbitmq-0", "fail")):
        run = without(hit(member), APPLIED, APPLIED + 8 * S, OTHER)
        seen(run, OTHER, leader="rabbitmq-2", copies=["rabbitmq-2"], online=["rabbitmq-2"])
        finding = found(run, tmp_path / member)[OTHER]
        assert finding.verdict == verdict, member
        assert ("rabbitmq-1 was hit, to which its consumer was connected" in finding.title) == (member == "rabbitmq-1")
    run = without(hit("rabbitmq-1"), APPLIED, APPLIED + 8 * S, OTHER)
    seen(run, OTHER, leader="rabbitmq-2", copies=["rabbitmq-2"], online=["rabbitmq-2"])
    run.detached = [replace(line, at=BEGAN - S) for line in run.detached]
    assert found(run, tmp_path / "gone")[OTHER].verdict == "fail", "its consumer was there no more"


def test_of_a_queue_that_nobody_saw_every_member_may_hold_a_copy(tmp_path: Path) -> None:
    run = without(hit("rabbitmq-2"), APPLIED, APPLIED + 8 * S, *QUEUES)
    run.drop("queue-role")
    run.attached = []
    assert {finding.verdict for finding in found(run, tmp_path).values()} == {"pass"}


def test_a_record_that_does_not_say_when_messages_came_is_judged_by_what_was_dealt_with(tmp_path: Path) -> None:
    run = never_again(hit("rabbitmq-0"), APPLIED, QUEUE)
    run.consumed = [replace(line, came=NEVER) for line in run.consumed]
    assert {queue: one.verdict for queue, one in found(run, tmp_path).items()} == {
        queue: "fail" if queue == QUEUE else "pass" for queue in QUEUES
    }


def test_what_is_handed_over_once_the_load_has_ended_is_too_late(tmp_path: Path) -> None:
    run = without(hit("rabbitmq-0"), RECOVERY, END + S, QUEUE)
    assert found(run, tmp_path)[QUEUE].verdict == "fail"


def test_consumers_that_never_came_to_a_message_say_nothing(tmp_path: Path) -> None:
    run = never_again(hit(), 0, QUEUE)
    finding = found(run, tmp_path)[QUEUE]
    assert finding.verdict == "inconclusive"
    assert finding.reason == "no consumer dealt with a message before the load ended"


def test_a_run_that_serves_nobody_until_its_drain_is_a_fail(tmp_path: Path) -> None:
    """Nothing is lost, everything is in order, all members agree; and no consumer had a message since the fault."""
    about = replace(ABOUT, slos=(), checks=("durability.rabbitmq", "order.rabbitmq", "convergence.queues", NAME))
    judgement = judge(about, never_again(hit("rabbitmq-0"), APPLIED, *QUEUES).history(tmp_path, about))
    assert judgement.verdict == "fail"
    assert {finding.check for finding in judgement.findings if finding.verdict != "pass"} == {NAME}


@pytest.mark.parametrize(("most_s", "verdict"), [(9.0, "pass"), (7.0, "fail")])
def test_an_objective_bounds_the_outage(most_s: float, verdict: str, tmp_path: Path) -> None:
    slo = measured_slo("consumer-outage", f"{NAME}.outage_s", most_s)
    about = replace(ABOUT, slos=(slo,), checks=(NAME,))
    run = without(hit("rabbitmq-0"), APPLIED, APPLIED + 8 * S, QUEUE)
    assert judge(about, run.history(tmp_path, about)).verdict == verdict
