"""Queues are emptied through whoever is left, whoever breaks off, and of both parts of a cluster that is in two."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from resilience.backend.base import MemberState
from resilience.history.record import AuditLine, Drained, QueueRead
from resilience.history.writer import Writer
from resilience.stack.rabbitmq_drain import Emptying, spared_first
from tests.fakes import FakeWay

QUEUES = ("q-1", "q-2")


def messages(*values: str) -> list[Drained]:
    return [Drained(value, redelivered=False) for value in values]


def held(*values: str) -> dict[str, list[Drained]]:
    """These in the first queue, nothing in the other."""
    return {"q-1": messages(*values), "q-2": []}


class Drain:
    """An emptying and what it has written."""

    def __init__(self, path: Path, ways: Iterable[FakeWay]) -> None:
        self._path = path
        self._writer = Writer(path)
        self._writer.open()
        self.emptying = Emptying(tuple(ways), QUEUES, self._writer)

    def read(self) -> list[tuple[str, str, list[str]]]:
        self._writer.flush()
        lines = msgspec.json.Decoder(AuditLine).decode_lines(self._path.read_bytes())
        return [
            (line.member, line.queue, [message.value for message in line.messages])
            for line in lines
            if isinstance(line, QueueRead)
        ]


def test_all_is_read_through_the_first(tmp_path: Path) -> None:
    cluster = held("a", "b", "c")
    ways = [FakeWay("rabbitmq-1", cluster), FakeWay("rabbitmq-0", cluster)]
    drain = Drain(tmp_path / "audit.jsonl", ways)
    assert drain.emptying.unfinished() == ""
    assert drain.read() == [("rabbitmq-1", "q-1", ["a", "b"]), ("rabbitmq-1", "q-1", ["c"]), ("rabbitmq-1", "q-2", [])]
    assert drain.emptying.count == 3
    assert [way.opened for way in ways] == [1, 0]


def test_an_empty_queue_has_one_line(tmp_path: Path) -> None:
    way = FakeWay("rabbitmq-1", held())
    drain = Drain(tmp_path / "audit.jsonl", [way])
    way.unacknowledged = 1
    assert drain.emptying.unfinished() == "rabbitmq-1: q-1 holds 1 messages, 1 of them unacknowledged"
    assert drain.emptying.unfinished() != ""
    way.unacknowledged = 0
    way.held["q-1"] += messages("came back")
    assert drain.emptying.unfinished() == ""
    assert drain.read() == [
        ("rabbitmq-1", "q-1", []), ("rabbitmq-1", "q-2", []), ("rabbitmq-1", "q-1", ["came back"]),
    ]  # fmt: skip


def test_whoever_is_silent_is_asked_last_from_then_on(tmp_path: Path) -> None:
    cluster = held("a")
    silent, other = FakeWay("rabbitmq-1", cluster, silent=True), FakeWay("rabbitmq-2", cluster)
    drain = Drain(tmp_path / "audit.jsonl", [silent, other])
    other.unacknowledged = 1
    assert drain.emptying.unfinished().startswith("rabbitmq-2: q-1 holds 1")
    silent.silent, other.unacknowledged = False, 0
    other.held["q-1"] += messages("b")
    assert drain.emptying.unfinished() == ""
    assert {member for member, _, _ in drain.read()} == {"rabbitmq-2"}


def test_where_one_breaks_off_another_goes_on(tmp_path: Path) -> None:
    cluster = held("a", "b", "c")
    drain = Drain(
        tmp_path / "audit.jsonl", [FakeWay("rabbitmq-1", cluster, breaks_after=1), FakeWay("rabbitmq-2", cluster)]
    )
    assert drain.emptying.unfinished() == ""
    assert drain.read() == [("rabbitmq-1", "q-1", ["a", "b"]), ("rabbitmq-2", "q-1", ["c"]), ("rabbitmq-2", "q-2", [])]


def test_both_parts_of_a_cluster_are_emptied(tmp_path: Path) -> None:
    drain = Drain(tmp_path / "audit.jsonl", [FakeWay("rabbitmq-1", held("a")), FakeWay("rabbitmq-0", held("stray"))])
    assert drain.emptying.unfinished() == ""
    assert ("rabbitmq-0", "q-1", ["stray"]) in drain.read()


@pytest.mark.parametrize(
    ("ways", "reason"),
    [
        ([], "there is no member"),
        ([FakeWay("rabbitmq-0", held(), silent=True)], "rabbitmq-0 does not answer"),
        ([FakeWay("rabbitmq-0", held("a"), breaks_after=0)], "rabbitmq-0 broke off"),
    ],
    ids=["nobody", "silent", "hands out nothing"],
)
def test_where_nobody_answers_nothing_is_read(tmp_path: Path, ways: list[FakeWay], reason: str) -> None:
    assert Drain(tmp_path / "audit.jsonl", ways).emptying.unfinished() == reason


def test_those_that_were_hit_come_last() -> None:
    names = ("redis-cluster-0", "rabbitmq-0", "rabbitmq-1", "rabbitmq-2")
    states = [state(name) for name in names]
    assert [one.name for one in spared_first(states, ())] == list(names[1:])
    assert [one.name for one in spared_first(states, {"rabbitmq-0"})] == ["rabbitmq-1", "rabbitmq-2", "rabbitmq-0"]


def state(name: str) -> MemberState:
    component = "redis" if name.startswith("redis") else "rabbitmq"
    return MemberState(name=name, component=component, node="node-1", address="", running=True, identity="", restarts=0)
