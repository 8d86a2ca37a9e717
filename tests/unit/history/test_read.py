"""Reading a run back: columns, outcomes, and what is said of damage."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resilience.history.columns import FAIL, OK, OUTCOMES, UNFINISHED, UNKNOWN
from resilience.history.lines import BATCH_BYTES, Damage, read_batches
from resilience.history.read import History, read_history
from resilience.history.record import (
    MISMATCH,
    Answered,
    AuditDone,
    ClockPair,
    Consumed,
    Delivered,
    DirectRead,
    Drained,
    Dropped,
    Event,
    Invoked,
    Joined,
    Left,
    Line,
    ListRead,
    OutboxRead,
    PhaseWindow,
    QueryFailed,
    QueueRead,
    Returned,
    RoomRead,
    RowRead,
    Series,
    SessionRead,
)
from resilience.history.writer import Writer


def write(path: Path, *lines: Line) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path) as writer:
        for line in lines:
            writer.append(line)


def op(number: int, kind: str = "direct.write", key: str = "k", value: str = "v") -> Invoked:
    return Invoked(number, kind, key, value, 1, "steady", number * 1000, number * 1000 + 10)


def history_of(directory: Path, *ops: Line, client: str = "direct") -> History:
    write(directory / "history.jsonl", PhaseWindow("steady", 0, 10))
    write(directory / "load" / f"{client}.ops.jsonl", *ops)
    return read_history(directory)


def test_answers_are_joined_to_what_was_invoked(tmp_path: Path) -> None:
    history = history_of(
        tmp_path,
        op(1), op(2, "session.update", "s-1", "locust-1"), Returned(2, "ok", 2500, 7), op(3), op(4),
        Returned(4, "fail", 4600, error="refused"), Returned(1, "unknown", 4700, error="timeout"),
    )  # fmt: skip
    ops = history.ops
    assert len(ops) == 4
    assert ops.id.tolist() == [1, 2, 3, 4]
    assert [OUTCOMES[code] for code in ops.outcome] == ["unknown", "ok", "unknown", "fail"]
    assert [ops.errors[code] for code in ops.error] == ["timeout", "", UNFINISHED, "refused"]
    assert ops.returned.tolist() == [4700, 2500, -1, 4600]
    assert ops.version.tolist() == [-1, 7, -1, -1]
    assert ops.value.tolist() == ["v", "locust-1", "v", "v"]
    assert [ops.keys[code] for code in ops.key] == ["k", "s-1", "k", "k"]
    assert ops.name(1) == "direct/2"
    assert history.problems == ()
    assert history.torn == 0


def test_the_ops_of_all_clients_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "load" / "locust.ops.jsonl", op(1, "session.read"), Returned(1, "ok", 9))
    history = history_of(tmp_path, op(1), Returned(1, "fail", 8))
    ops = history.ops
    assert ops.clients == ("direct", "locust")
    assert ops.outcome[ops.of_client("direct")].tolist() == [FAIL]
    assert ops.outcome[ops.of_client("locust")].tolist() == [OK]
    assert not ops.of_client("nobody").any()


def test_choosing_ops(tmp_path: Path) -> None:
    ops = history_of(tmp_path, op(1), op(2, "session.read"), op(3, "session.end")).ops
    assert ops.of_kind("session.").tolist() == [False, True, True]
    assert ops.of_kind("session.read", "direct.write").tolist() == [True, True, False]
    assert not ops.of_kind("session").any()
    assert ops.in_phase("steady").all()
    assert not ops.in_phase("fault", "nowhere").any()


def test_everything_else_is_merged(tmp_path: Path) -> None:
    write(tmp_path / "history.jsonl", Event("role", 30, {}), PhaseWindow("fault", 20, 40), ClockPair(5, 6),
          Event("stack-up", 1, {}))  # fmt: skip
    write(tmp_path / "load" / "locust.stats.jsonl", Event("generator", 10, {"client": "locust", "cpu_ratio": 0.2}))
    (tmp_path / "load" / "locust.summary.json").write_text('{"exit": 0}')
    write(tmp_path / "audit.jsonl", DirectRead("k", None, 2), DirectRead("k", "v", 2),
          RoomRead("r", 1, 3, ((3, 1, "e"),)), SessionRead("s", 1, True, "live", 1, 60, ((1, "op", ""),)))  # fmt: skip
    write(tmp_path / "samples.jsonl", Series("up", {"job": "x"}, (1.0,), (0.0,)), QueryFailed("y", "timeout"))
    history = history_of(
        tmp_path, Joined("m", "r", 1, 0, 5), Delivered("m", "r", 1, 1, "e", 6, "live"),
        Delivered("m", "r", 1, 2, "f", 7, "replay"), Left("m", "r", 9, "lost"), Dropped("session.read", "fault", 8),
        client="locust",
    )  # fmt: skip
    assert [event.name for event in history.events] == ["stack-up", "generator", "role"]
    assert [event.at for event in history.events_of("role", "generator")] == [10, 30]
    assert history.window("fault") == PhaseWindow("fault", 20, 40)
    assert history.window("recovery") is None
    assert history.clock == (ClockPair(5, 6),)
    assert history.summaries == {"locust": {"exit": 0}}
    direct = history.audit.direct
    assert [history.key(code) for code in direct.key] == ["k"], "a key that was read twice is there as it was read last"
    assert (direct.value.tolist(), direct.there.tolist(), direct.group.tolist()) == (["v"], [True], [2])
    assert history.audit.direct_lines == 2
    assert history.audit.rooms["r"].log == ((3, 1, "e"),)
    assert history.audit.sessions["s"].version == 1
    assert [(line.selector, list(line.times_s), list(line.values)) for line in history.series] == [("up", [1.0], [0.0])]
    assert history.queries_failed == (QueryFailed("y", "timeout"),)
    assert history.dropped == (("locust", Dropped("session.read", "fault", 8)),)
    assert history.deliveries.live.tolist() == [True, False]
    assert [history.deliveries.edits[code] for code in history.deliveries.edit] == ["e", "f"]
    assert [line.receiver for line in history.joins] == ["m"]
    assert [line.why for line in history.leaves] == ["lost"]


def test_messages_that_consumers_were_handed(tmp_path: Path) -> None:
    """In the order in which they came, file by file; where there are none the columns are empty."""
    write(tmp_path / "load" / "other.ops.jsonl", Consumed("c-2", "q-2", "v-1", 3, redelivered=True, acked=False))
    history = history_of(
        tmp_path,
        op(1, "rabbitmq.publish", "q-1", "v-1"), Consumed("c-1", "q-1", "v-1", 9, redelivered=False, acked=True),
        Returned(1, "ok", 9), Consumed("c-1", "q-1", "v-1", 8, redelivered=True, acked=True), client="rabbitmq",
    )  # fmt: skip
    consumed = history.consumed
    assert len(consumed) == 3
    assert [consumed.consumers[code] for code in consumed.consumer] == ["c-2", "c-1", "c-1"]
    assert [consumed.queues[code] for code in consumed.queue] == ["q-2", "q-1", "q-1"]
    assert consumed.value.tolist() == ["v-1", "v-1", "v-1"]
    assert consumed.at.tolist() == [3, 9, 8]
    assert consumed.redelivered.tolist() == [True, False, True]
    assert consumed.acked.tolist() == [False, True, True]
    assert history.ops.outcome.tolist() == [OK]
    assert (len(read_history(tmp_path / "nowhere").consumed), history.problems) == (0, ())


def test_what_an_answer_of_a_register_speaks_of(tmp_path: Path) -> None:
    """Its line ends an op as any other does; an answer that speaks of no value has none."""
    ops = history_of(
        tmp_path, op(1, "register.read", "r"), op(2, "register.swap", "r"), op(3, "register.read", "r"),
        op(4, "register.write", "r"), Answered(2, "ok", 6, "v-1", MISMATCH), Answered(1, "ok", 5, "v-2"),
        Answered(3, "ok", 7, ""), Returned(4, "ok", 8),
    ).ops  # fmt: skip
    assert [ops.standing[code] for code in ops.stood] == ["v-2", "v-1", "", ""]
    assert ops.outcome.tolist() == [OK] * 4
    assert ops.returned.tolist() == [5, 6, 7, 8]
    assert [ops.errors[code] for code in ops.error] == ["", MISMATCH, "", ""]
    assert (ops.version.tolist(), ops.epoch.tolist()) == ([-1] * 4, [-1] * 4)
    unanswered = history_of(tmp_path / "other", op(1, "register.read", "r")).ops
    assert (unanswered.stood.tolist(), unanswered.standing) == ([0], ("",))


def test_what_was_in_the_table_and_in_the_queues(tmp_path: Path) -> None:
    """Rows and messages keep their order and stand as often as they were read; an empty queue was read, too."""
    write(
        tmp_path / "audit.jsonl",
        RowRead("pg:1", "v-1", "postgresql-replica-0", 2), RowRead("pg:2", None, "postgresql-replica-0", 2),
        RowRead("pg:1", "v-1", "postgresql-primary-0", 1), AuditDone("postgresql", 3, 7),
        QueueRead("q-1", (Drained("v-1", redelivered=False), Drained("v-1", redelivered=True))), QueueRead("q-2", ()),
        QueueRead("q-1", (Drained("v-2", redelivered=False, died_in="q-3", died_of="expired"),), "rabbitmq-1"),
        ListRead("l-1", "v-1,v-2", "postgresql-primary-0", 1), ListRead("l-2", "", "postgresql-replica-0", 2),
        AuditDone("rabbitmq", 3, 8), OutboxRead("session-ended/s-1/o-1", True, "postgresql-primary-0", 1),
    )  # fmt: skip
    history = history_of(tmp_path, op(1, "postgresql.write", "pg:2", "v-1"))
    audit = history.audit
    rows, messages = audit.rows, audit.messages
    assert [history.key(code) for code in rows.key] == ["pg:1", "pg:2", "pg:1"]
    assert (audit.strangers, rows.key[1]) == (("pg:1",), history.ops.key[0])
    assert rows.value.tolist() == ["v-1", "", "v-1"]
    assert rows.there.tolist() == [True, False, True]
    assert [rows.sources[code] for code in rows.source] == [
        ("postgresql-replica-0", 2), ("postgresql-replica-0", 2), ("postgresql-primary-0", 1),
    ]  # fmt: skip
    assert [messages.queues[code] for code in messages.queue] == ["q-1", "q-1", "q-1"]
    assert messages.queues == ("q-1", "q-2")
    assert messages.members == ("rabbitmq-1",), "older lines do not say through whom"
    assert messages.value.tolist() == ["v-1", "v-1", "v-2"]
    assert messages.redelivered.tolist() == [False, True, False]
    assert [messages.origins[code] for code in messages.died_in] == ["", "", "q-3"]
    assert [messages.reasons[code] for code in messages.died_of] == ["", "", "expired"]
    assert audit.lists == {"l-1": "v-1,v-2", "l-2": ""}
    assert audit.list_sources == (("postgresql-primary-0", 1), ("postgresql-replica-0", 2))
    assert audit.outbox == (OutboxRead("session-ended/s-1/o-1", True, "postgresql-primary-0", 1),)
    assert [(done.kind, done.count) for done in audit.done] == [("postgresql", 3), ("rabbitmq", 3)]
    nothing = read_history(tmp_path / "nowhere").audit
    assert (len(nothing.rows), len(nothing.messages), nothing.messages.queues) == (0, 0, ())


def test_a_phase_that_never_ended_has_no_window(tmp_path: Path) -> None:
    write(tmp_path / "history.jsonl", PhaseWindow("fault", 20, -1))
    assert read_history(tmp_path).window("fault") is None


@dataclass(frozen=True, kw_only=True)
class Damaged:
    name: str
    file: str
    content: bytes
    torn: int = 0
    problem: str = ""
    kept: int = 2  # ops


GOOD = b'["i",1,"direct.write","k","v",1,"steady",1,2]\n["i",2,"direct.write","k","v",1,"steady",1,2]\n'
OPS = "load/direct.ops.jsonl"
DAMAGED = (
    Damaged(name="whole", file=OPS, content=GOOD),
    Damaged(name="torn", file=OPS, content=GOOD + b'["i",3,"dire', torn=1),
    Damaged(name="torn inside a character", file=OPS, content=GOOD + b'["i",3,"\xc3', torn=1),
    Damaged(name="whole without its end of line", file=OPS, content=GOOD[:-1]),
    Damaged(name="broken in the middle", file=OPS, content=b'["i",9,\n' + GOOD, problem="load/direct.ops.jsonl:1: "),
    Damaged(name="broken, with its end of line", file=OPS, content=GOOD + b'["i",3,"dire\n',
            problem="load/direct.ops.jsonl:3: "),
    Damaged(name="an empty line", file=OPS, content=GOOD + b"\n" + GOOD[:0], problem="load/direct.ops.jsonl:3: "),
    Damaged(name="no text at all", file=OPS, content=b"\xff\xfe\n" + GOOD, problem="load/direct.ops.jsonl:1: "),
    Damaged(name="an unknown record", file=OPS, content=b'["q",1]\n' + GOOD, problem="load/direct.ops.jsonl:1: "),
    Damaged(name="a wrong type", file=OPS, content=b'["r","1","ok",5]\n' + GOOD, problem="load/direct.ops.jsonl:1: "),
    Damaged(name="an unknown outcome", file=OPS, content=b'["r",1,"good",5]\n' + GOOD, problem="direct.ops.jsonl:1: "),
    Damaged(name="two lines in one", file=OPS, content=GOOD.replace(b"\n", b"", 1), problem=":1: ", kept=0),
    Damaged(name="an answer to nothing", file=OPS, content=GOOD + b'["r",7,"ok",5]\n',
            problem="1 answers to ops that were never invoked"),
    Damaged(name="answered twice", file=OPS, content=GOOD + b'["r",1,"ok",5]\n["r",1,"fail",6]\n',
            problem="an op was answered twice"),
    Damaged(name="an id used twice", file=OPS, content=GOOD + GOOD, problem="an op id was used twice", kept=4),
    Damaged(name="a broken summary", file="load/direct.summary.json", content=b"{", kept=0,
            problem="load/direct.summary.json:1: "),
    Damaged(name="broken stats", file="load/direct.stats.jsonl", content=b"[]\n", kept=0,
            problem="load/direct.stats.jsonl:1: "),
    Damaged(name="a torn audit", file="audit.jsonl", content=b'["direct","k', kept=0, torn=1),
    Damaged(name="a torn message", file=OPS, content=GOOD + b'["c","c-1","q-1","v-', torn=1),
    Damaged(name="a message that does not say whether it is redelivered", file=OPS, problem="load/direct.ops.jsonl:3: ",
            content=GOOD + b'["c","c-1","q-1","v-1",5]\n'),
    Damaged(name="a flag that is none", file=OPS, problem="load/direct.ops.jsonl:3: ",
            content=GOOD + b'["c","c-1","q-1","v-1",5,"no",true]\n'),
    Damaged(name="a torn row", file="audit.jsonl", content=b'["row","pg:1","v-1","postgre', kept=0, torn=1),
    Damaged(name="a row of nobody", file="audit.jsonl", content=b'["row","pg:1","v-1"]\n', kept=0,
            problem="audit.jsonl:1: "),
    Damaged(name="a torn queue", file="audit.jsonl", content=b'["queue","q-1",[["v-1",false', kept=0, torn=1),
    Damaged(name="a message that is no message", file="audit.jsonl", content=b'["queue","q-1",["v-1"]]\n', kept=0,
            problem="audit.jsonl:1: "),
    Damaged(name="an audit of something else", file="audit.jsonl", content=b'["audited","mongodb",3,7]\n', kept=0,
            problem="audit.jsonl:1: "),
    Damaged(name="broken samples", file="samples.jsonl", content=b'["series","up",{},[1],[null]]\n', kept=0,
            problem="samples.jsonl:1: "),
    Damaged(name="a series with a value at no instant", file="samples.jsonl", kept=0, problem="a series of up has not",
            content=b'["series","up",{},[1,2],[1,1,1]]\n'),
    Damaged(name="a series that goes back", file="samples.jsonl", kept=0, problem="a series of up has not one value",
            content=b'["series","up",{},[2,1],[1,1]]\n'),
    Damaged(name="two values at an instant", file="samples.jsonl", kept=0, problem="a series of up has not one value",
            content=b'["series","up",{},[1,1],[1,1]]\n'),
)  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED, ids=lambda case: case.name)
def test_damage_is_named_and_the_rest_is_kept(case: Damaged, tmp_path: Path) -> None:
    write(tmp_path / "history.jsonl")
    (tmp_path / "load").mkdir()
    (tmp_path / case.file).write_bytes(case.content)
    history = read_history(tmp_path)
    assert history.torn == case.torn
    assert len(history.problems) == (1 if case.problem else 0), history.problems
    assert all(case.problem in problem for problem in history.problems)
    assert len(history.ops) == case.kept


@pytest.mark.parametrize(
    ("name", "field", "data"),
    [
        ("pressure", "busy_ratio", {"cpus": 2}),
        ("generator", "cpu_ratio", {"client": "locust"}),
        ("generator", "client", {"cpu_ratio": 0.2}),
        ("member", "what", {"member": "session-0"}),
        ("member", "member", {"what": "exited"}),
        ("experiment", "deviated", {"status": "completed"}),
        ("converged", "ok", {"took_s": 1.0}),
        ("shards", "primary", {"shards": [{"group": 1, "slots": [[0, 16383]]}]}),
        ("shards", "primary", {"shards": [{"group": 1, "primary": "redis-cluster-0"}]}),
        ("shards", "replicas", {"shards": [{"group": 1, "primary": "10.0.0.1:6379", "replicas": ["redis-cluster-3"]}]}),
    ],
)
def test_an_event_that_lacks_what_verdicts_rest_on(name: str, field: str, data: dict[str, Any], tmp_path: Path) -> None:
    """What is missing would be taken for nothing: no load, no death, no deviation."""
    write(tmp_path / "history.jsonl", Event(name, 7, data))
    history = read_history(tmp_path)
    assert history.events == ()
    (problem,) = history.problems
    assert f"event '{name}' at 7" in problem
    assert field in problem


def test_no_history_at_all(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert history.problems == ("history.jsonl: missing",)
    assert len(history.ops) == 0
    assert len(history.deliveries) == 0


def clock_line(number: int) -> bytes:
    return b'["clock",%8d,1]\n' % number  # all of one length


BATCH_LINES = -(-BATCH_BYTES // len(clock_line(0)))


@pytest.mark.parametrize("broken", [0, BATCH_LINES - 1, BATCH_LINES, 2 * BATCH_LINES + 4])
def test_batches_do_not_show(broken: int, tmp_path: Path) -> None:
    """A broken line costs itself and nothing else, wherever batches begin; its number is the file's."""
    lines = [clock_line(number) for number in range(2 * BATCH_LINES + 5)]
    lines[broken] = b"[\n"
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(lines))
    damage = Damage()
    found = [line.at for batch in read_batches(path, ClockPair, damage) for line in batch]
    assert found == [number for number in range(len(lines)) if number != broken]
    assert [problem.split(":")[1] for problem in damage.problems] == [str(broken + 1)]


@pytest.mark.parametrize("line", [b'["clock",1,1] ["clock",2,1]\n', b'["clock",1,\n1]\n', b"\n"])
def test_a_line_holds_one_record(line: bytes, tmp_path: Path) -> None:
    """Whole records that do not stand on a line each are broken, though a reader of many could take them."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(clock_line(7) + line)
    damage = Damage()
    assert [line.at for batch in read_batches(path, ClockPair, damage) for line in batch] == [7]
    assert damage.problems
    assert damage.problems[0].split(":")[1] == "2"


def test_columns_are_columns(tmp_path: Path) -> None:
    """Two hundred bytes an op is what a line may have; read, no op is an object."""
    count = 2_000
    history = history_of(tmp_path, *(line for n in range(1, count + 1) for line in (op(n), Returned(n, "ok", n))))
    ops = history.ops
    columns = [getattr(ops, name) for name in type(ops).__slots__]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    assert all(array.dtype.kind != "O" for array in arrays)
    assert sum(array.nbytes for array in arrays) < 120 * count
    assert (ops.outcome != UNKNOWN).all()


def test_messages_and_rows_are_columns(tmp_path: Path) -> None:
    count = 2_000
    write(tmp_path / "audit.jsonl", *(RowRead(f"pg:{n}", f"v-{n}", "m", 1) for n in range(count)),
          *(QueueRead("q", (Drained(f"v-{n}", redelivered=False),)) for n in range(count)))  # fmt: skip
    history = history_of(tmp_path, *(Consumed("c", "q", f"v-{n}", n, False, True) for n in range(count)))
    for found in (history.consumed, history.audit.rows, history.audit.messages):
        columns = [getattr(found, name) for name in type(found).__slots__]
        arrays = [column for column in columns if isinstance(column, np.ndarray)]
        assert len(found) == count
        assert all(array.dtype.kind != "O" for array in arrays)
        assert sum(array.nbytes for array in arrays) < 50 * count


def test_samples_are_packed(tmp_path: Path) -> None:
    """No sample is an object, and instants that several series share are there once."""
    times_s = tuple(1.5 + n for n in range(100))
    lines = [Series(f"s-{n}", {}, times_s, tuple(float(n) for n in range(100))) for n in range(3)]
    write(tmp_path / "samples.jsonl", *lines, Series("other", {}, (7.0,), (8.0,)), Series("empty", {}, (), ()))
    history = history_of(tmp_path)
    read = {line.selector: line for line in history.series}
    assert list(read["s-1"].times_s) == list(times_s)
    assert read["s-2"].values[99] == 99.0
    assert read["s-0"].times_s is read["s-2"].times_s
    assert (list(read["other"].times_s), list(read["other"].values)) == ([7.0], [8.0])
    assert not read["empty"].times_s
    assert {type(line.values) for line in history.series} == {array}
    assert history.problems == ()


def test_an_unreadable_file_is_not_silently_empty(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    unreadable: Callable[[Path], History] = read_history
    with pytest.raises(IsADirectoryError):
        unreadable(tmp_path)
