"""Whether RabbitMQ's members agree about their queues after healing, and nothing is held that nobody will be handed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilience.check.finding import Finding
from resilience.check.rabbitmq.agreement import agreement
from resilience.history.event import flaw
from resilience.history.record import Event
from tests.histories import END, RECOVERY, Recorded, S, queues_seen, recorded, scenario

ABOUT = scenario(slos=(), tiers=("rabbitmq",))
QUEUE = "session-events"
Seen = dict[str, Any]


def judged(run: Recorded, folder: Path) -> Finding:
    (finding,) = agreement(ABOUT, run.history(folder, ABOUT))
    return finding


def test_members_that_agree(tmp_path: Path) -> None:
    finding = judged(recorded(tiers=("rabbitmq",)), tmp_path)
    assert (finding.verdict, finding.reason) == ("pass", "")
    assert finding.measures == {"convergence.queues_took_s": (END + 2 * S + S // 2 - RECOVERY) / S}
    assert finding.measured.startswith("3 members asked, 6 queues the same to all, at the latest ")


def of_member(name: str, **fields: Any) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        seen["members"][name] = seen["members"][name] | fields

    return change


def of_queue(member: str, **fields: Any) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        queues = seen["members"][member]["queues"]
        index = next(at for at, queue in enumerate(queues) if queue["queue"] == QUEUE)
        queues[index] = queues[index] | fields

    return change


def of_all(**fields: Any) -> Callable[[Seen], None]:
    def change(seen: Seen) -> None:
        for name in seen["members"]:
            of_queue(name, **fields)(seen)

    return change


def orphaned(seen: Seen) -> None:
    seen["unacknowledged"][QUEUE] = 40


def consumed(seen: Seen) -> None:
    orphaned(seen)
    seen["consumers"][QUEUE] = 1


def forgotten(seen: Seen) -> None:
    for said in seen["members"].values():
        said["queues"] = [queue for queue in said["queues"] if queue["queue"] != QUEUE]


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Seen], Any]
    verdict: str
    reason: str = ""


@pytest.mark.parametrize(
    "case",
    [
        Case(name="another leader", change=of_queue("rabbitmq-2", leader="rabbitmq-0"), verdict="fail",
             reason="rabbitmq-2 says led by rabbitmq-0, held by rabbitmq-0, rabbitmq-1, rabbitmq-2"),
        Case(name="other members", change=of_queue("rabbitmq-2", copies=["rabbitmq-1", "rabbitmq-2"]), verdict="fail",
             reason="rabbitmq-2 says led by rabbitmq-1, held by rabbitmq-1, rabbitmq-2, online"),
        Case(name="no leader", change=of_all(leader=""), verdict="fail",
             reason="session-events has no leader by the word of rabbitmq-0"),
        Case(name="a copy is away", change=of_all(online=["rabbitmq-1", "rabbitmq-2"]), verdict="fail",
             reason="session-events has 2 of 3 copies online by the word of rabbitmq-0"),
        Case(name="no queue", change=forgotten, verdict="fail", reason="rabbitmq-0 knows of no queue session-events"),
        Case(name="silent", verdict="fail", reason="rabbitmq-0 does not answer",
             change=of_member("rabbitmq-0", error="rabbitmq-0 does not answer", queues=[])),
        Case(name="partitioned", change=of_member("rabbitmq-0", partitioned=["rabbitmq-2"]), verdict="fail",
             reason="rabbitmq-0 says that it was cut off from rabbitmq-2"),
        Case(name="alarm", change=of_member("rabbitmq-1", alarms=["rabbitmq-2: disk"]), verdict="fail",
             reason="rabbitmq-1 knows of an alarm (rabbitmq-2: disk)"),
        Case(name="orphaned", change=orphaned, verdict="fail",
             reason="session-events has 40 messages unacknowledged and no consumer"),
        Case(name="consumed", change=consumed, verdict="pass"),
        Case(name="untold", change=of_member("rabbitmq-1", told=False), verdict="inconclusive",
             reason="rabbitmq-1 has not told of partitions and alarms"),
        Case(name="uncounted", change=lambda seen: seen["unacknowledged"].pop(QUEUE), verdict="inconclusive",
             reason="how much of session-events is unacknowledged is not known"),
        Case(name="a member not asked", change=lambda seen: seen["members"].pop("rabbitmq-2"), verdict="inconclusive",
             reason="rabbitmq-2 was not asked"),
    ],
    ids=lambda case: case.name,
)  # fmt: skip
def test_what_is_amiss_is_said(case: Case, tmp_path: Path) -> None:
    run, seen = recorded(tiers=("rabbitmq",)), queues_seen()
    case.change(seen)
    run.change("queues", **seen)
    finding = judged(run, tmp_path)
    assert finding.verdict == case.verdict
    assert case.reason in finding.reason
    assert bool(finding.measures) == (case.verdict == "pass")


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (None, "what the members said of their queues is not on record"),
        (RECOVERY - S, "the members were asked before all was healed"),
        (END - 1, "the members were asked before the load had ended"),
        (END, ""),
    ],
    ids=["no look", "before healing", "under load", "at the end"],
)
def test_no_look_and_one_before_all_was_over_mean_nothing(at: int | None, reason: str, tmp_path: Path) -> None:
    run = recorded(tiers=("rabbitmq",))
    run.drop("queues")
    if at is not None:
        run.events.append(Event("queues", at, queues_seen()))
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive" if reason else "pass", reason)


def test_a_look_that_never_found_all_well_has_no_time(tmp_path: Path) -> None:
    run = recorded(tiers=("rabbitmq",))
    run.change("queues", whole_us=None)
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.measures) == ("pass", {})


def test_what_nobody_can_read_is_damage() -> None:
    assert flaw(Event("queues", 1, queues_seen())) == ""
    assert "unacknowledged" in flaw(Event("queues", 1, queues_seen() | {"unacknowledged": 3}))
