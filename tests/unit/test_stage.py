"""What the stage tells the terminal, and puts on record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.backend.base import MemberState
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.fault.ledger import Entry, Ledger
from resilience.history.event import flaw
from resilience.history.queues import QueuesSeen
from resilience.history.record import Event
from resilience.spec.fault import FaultSpec, Injection, Kill, PowerOff, Target
from resilience.spec.read import read_stack
from resilience.stack import patroni
from resilience.stack.converge import Converged
from resilience.stack.http_link import HttpAnswer
from resilience.stage import broken_now, hit_members, note_patroni, note_takeovers, queues_on_record, unanswered
from tests.fakes import FakePlatform
from tests.histories import queues_seen


def ledger_of(folder: Path, fault: FaultSpec, nodes: tuple[str, ...], *, healed: bool) -> Ledger:
    injection = Injection(
        id="one-1", fault=fault, target=Target(component="redis"), members=("redis-cluster-0", "session-0"),
        nodes=nodes, ttl_s=35.0, steps=(), watch=(),
    )  # fmt: skip
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append(Entry(at_us=1, injection="one-1", state="planned", spec=injection))
    ledger.append(Entry(at_us=2, injection="one-1", state="applied", began_us=1))
    if healed:
        ledger.append(Entry(at_us=3, injection="one-1", state="healed", by="request"))
    return ledger


@pytest.mark.parametrize(
    ("fault", "nodes", "healed", "text"),
    [
        (PowerOff(), ("node-1",), False, "power-off of node-1, redis-cluster-0, session-0"),
        (Kill(restart=False), (), False, "kill of redis-cluster-0, session-0"),
        (Kill(restart=False), (), True, ""),
    ],
    ids=["a node", "members", "healed"],
)
def test_what_is_broken_now(tmp_path: Path, fault: FaultSpec, nodes: tuple[str, ...], healed: bool, text: str) -> None:
    assert broken_now(ledger_of(tmp_path, fault, nodes, healed=healed)) == text


def test_before_anything_was_planned_nothing_is_broken(tmp_path: Path) -> None:
    assert broken_now(Ledger(tmp_path / "ledger.jsonl")) == ""


def test_a_ledger_that_cannot_be_read_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(
        b"nonsense\n" + msgspec.json.encode(Entry(at_us=1, injection="a", state="x"))
    )
    assert "ledger.jsonl:1" in broken_now(Ledger(tmp_path / "ledger.jsonl"))


def test_who_was_hit_is_in_the_ledger(tmp_path: Path) -> None:
    assert hit_members(Ledger(tmp_path / "ledger.jsonl")) == frozenset()
    ledger = ledger_of(tmp_path, PowerOff(), ("node-1",), healed=True)
    assert hit_members(ledger) == {"redis-cluster-0", "session-0"}
    ledger.path.write_bytes(b"nonsense\n")
    assert hit_members(ledger) == frozenset()


def test_a_platform_that_does_not_answer_is_on_record_and_no_error() -> None:
    noted: list[tuple[str, object]] = []
    with unanswered(lambda name, data: noted.append((name, data)), "audit-incomplete"):
        fail_with(StackError("shard 1 has no primary that answers"))
    assert noted == [("audit-incomplete", {"reason": "shard 1 has no primary that answers"})]
    with pytest.raises(OSError, match="no space"), unanswered(lambda *_: pytest.fail("noted"), "audit-incomplete"):
        fail_with(OSError("no space"))


@pytest.mark.parametrize(("took_s", "whole_us"), [(1.5, 2_500_000), (None, None)])
def test_what_ended_the_waiting_is_on_record_and_nothing_is_asked_again(
    took_s: float | None, whole_us: int | None
) -> None:
    last = msgspec.convert(queues_seen(), QueuesSeen)
    converged = Converged(ok=True, took_s=2.0, reason="", queues_took_s=took_s, queues=last)
    seen = queues_on_record(converged, 1_000_000)
    assert seen is not None
    assert (seen.members, seen.whole_us) == (last.members, whole_us)
    assert queues_on_record(Converged(ok=True, took_s=2.0, reason=""), 0) is None


def noted_of_patroni(
    monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Any], name: str = "postgresql-patroni"
) -> list[Event]:
    """What is on record of a stack whose members answer so, or not at all."""

    def http_ask(member: MemberState, path: str, *, port: int) -> HttpAnswer:
        if member.name not in answers:
            raise StackError(f"{member.name} does not answer {path} at {port}")
        body = msgspec.json.encode(answers[member.name][path])
        return HttpAnswer(member=member.name, status=200, body=body)

    monkeypatch.setattr(patroni, "http_ask", http_ask)
    stack = read_stack(PROJECT_ROOT, f"stacks/local/{name}.yaml")
    platform = FakePlatform(stack, {member.name: "198.18.0.1" for member in stack.members}, {})
    noted: list[Event] = []
    for note in (note_patroni, note_takeovers):
        note(platform, lambda name, data: noted.append(Event(name, 0, data)))
    return noted


def test_what_patroni_tells_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
    config = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1}
    told = {"/config": config, "/history": [[1, 99, "why", "when", second]]}
    other = told | {"/config": config | {"ttl": 20}}
    settings, takeovers = noted_of_patroni(monkeypatch, {first: told, second: other, third: told})
    assert (flaw(settings), flaw(takeovers)) == ("", "")
    assert (settings.data["config"]["ttl"], settings.data["members"]) == (30, [first, third])
    assert takeovers.data == {"takeovers": [{"timeline": 2, "member": second}]}


def test_nothing_is_where_it_is_silent_or_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted_of_patroni(monkeypatch, {}) == []
    assert noted_of_patroni(monkeypatch, {"postgresql-primary-0": {}}, "postgresql") == []


def fail_with(error: Exception) -> None:
    raise error
