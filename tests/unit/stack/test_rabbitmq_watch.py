"""Queues are told of as they are first seen, and as their leader or those who take part change."""

import json
from typing import Any

import msgspec

from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.event import flaw
from resilience.history.record import Event
from resilience.stack.rabbitmq_view import QueueView
from resilience.stack.rabbitmq_watch import QueueWatch
from tests.fakes import FakePlatform
from tests.histories import stack

A, B, C = NAMES = ("rabbitmq-0", "rabbitmq-1", "rabbitmq-2")
QUEUE = "session-events"
SILENT = StackError("rabbitmq-0 does not answer")


def said(leader: str, *online: str) -> tuple[QueueView, ...]:
    return (QueueView(queue=QUEUE, leader=leader, copies=NAMES, online=online),)


def told(*answers: tuple[str, tuple[QueueView, ...] | StackError]) -> list[dict[str, Any]]:
    """What is told as these members answer, one after the other."""
    events: list[Event] = []
    platform = FakePlatform(stack(tiers=("rabbitmq",)), dict.fromkeys(NAMES, "198.18.0.1"), {})
    platform.states = lambda: tuple(map(platform.state, NAMES))  # type: ignore[method-assign]
    watch = QueueWatch(platform, RunClock.starting_now(), events.append)
    for member, answer in answers:
        watch.heard(member, answer)
    assert [flaw(event) for event in events] == [""] * len(events)
    return [json.loads(msgspec.json.encode(event.data)) for event in events]


def row(leader: str, *online: str, copies: tuple[str, ...] = NAMES) -> dict[str, Any]:
    return {"queue": QUEUE, "leader": leader, "copies": list(copies), "online": list(online)}


def test_a_queue_is_told_once_as_long_as_nothing_changes() -> None:
    assert told(*((member, said(A, *NAMES)) for member in (*NAMES, *NAMES))) == [row(A, *NAMES)]


def test_a_change_of_the_leader_is_told_as_most_say_it() -> None:
    whole = [(member, said(A, *NAMES)) for member in NAMES]
    assert told(*whole, (A, SILENT), (B, said(B, B, C)), (C, said(B, B, C))) == [
        row(A, *NAMES), row("", B, C), row(B, B, C),
    ]  # fmt: skip


def test_one_that_was_cut_off_changes_nothing() -> None:
    whole = [(member, said(A, *NAMES)) for member in NAMES]
    assert told(*whole, (C, said(C, C)), (C, said("", C))) == [row(A, *NAMES)]


def test_that_a_follower_is_away_is_told() -> None:
    assert told((A, said(A, *NAMES)), (A, said(A, A, B)), (A, said(A, *NAMES))) == [
        row(A, *NAMES), row(A, A, B), row(A, *NAMES),
    ]  # fmt: skip


def test_where_nobody_answers_nobody_is_known_to_lead() -> None:
    assert told((A, said(A, *NAMES)), (A, SILENT), (A, SILENT)) == [row(A, *NAMES), row("", copies=())]
