"""Lists are left after some appends, and outlive an outage; what becomes of a transaction is read off its answers."""

import asyncio
from collections import Counter

import pytest
from psycopg import OperationalError
from psycopg.pq import ConnStatus

from loadgen import list_transaction
from loadgen.list_transaction import ABOUT, APPEND, BEGIN, CONTENT, ROLLED_BACK, STANDBY, Transaction
from loadgen.lists import APPENDS_MAX, APPENDS_MIN, AT_ONCE, STANDING, STEPS_MAX, STEPS_MIN, Lists
from loadgen.postgresql_link import Answer, Ended, Link
from loadgen.recorder import Op
from resilience.history.record import ACKED_LOCALLY, Outcome
from resilience.history.transaction import Step, Told


def asked(lists: Lists, turns: int, outcome: Outcome = "ok") -> list[tuple[Step, ...]]:
    """The transactions of so many turns, all of which end so."""
    done = []
    for _ in range(turns):
        turn = lists.turn()
        done += turn
        for steps in turn:
            lists.ended(steps, outcome)
    return done


def test_several_at_a_time_meet_on_a_few_lists() -> None:
    turn = Lists("pg", 1).turn()
    assert len(turn) == AT_ONCE
    assert len({step.key for steps in turn for step in steps}) <= STANDING
    done = asked(Lists("pg", 1), 200)
    assert {len(steps) for steps in done} == set(range(STEPS_MIN, STEPS_MAX + 1))
    assert any(len({step.key for step in steps if step.value}) > 1 for steps in done)
    assert any(not any(step.value for step in steps) for steps in done), "none only reads"
    assert any(max(Counter(step.key for step in steps if step.value).values(), default=0) > 1 for steps in done)


def test_a_list_is_left_after_some_appends() -> None:
    done = asked(Lists("pg", 1), 300)
    appends = list(Counter(step.key for steps in done for step in steps if step.value).values())
    first, whole = appends[:STANDING], appends[STANDING:-STANDING]
    assert min(first) < APPENDS_MIN // 2
    most = APPENDS_MAX + AT_ONCE * STEPS_MAX
    assert all(APPENDS_MIN <= number < most for number in whole)
    assert len(set(whole)) > 1


def test_values_are_appended_once_and_in_the_order_of_lists() -> None:
    done = asked(Lists("pg", 1), 300)
    values = [step.value for steps in done for step in steps if step.value]
    assert len(set(values)) == len(values)
    assert 0.4 < len(values) / sum(map(len, done)) < 0.6
    lists = list(dict.fromkeys(step.key for steps in done for step in steps))
    numbers = {key: int(key.rpartition("-")[2]) for key in lists}
    standing: dict[str, int] = {}
    generator = Lists("pg", 1)
    for _ in range(300):
        turn = generator.turn()
        standing = {one.key: at for at, one in enumerate(generator._standing)}
        for steps in turn:
            places = [standing[step.key] for step in steps if step.value]
            assert places == sorted(places)
            generator.ended(steps, "ok")
    assert len(numbers) > STANDING


def test_the_same_seed_asks_the_same() -> None:
    assert asked(Lists("pg", 7), 50) == asked(Lists("pg", 7), 50) != asked(Lists("pg", 8), 50)


def test_what_fails_uses_no_list_up() -> None:
    keys = {step.key for steps in asked(Lists("pg", 1), 200, "fail") for step in steps}
    assert len(keys) == STANDING
    assert len({step.key for steps in asked(Lists("pg", 1), 200, "unknown") for step in steps}) > STANDING


STEPS = (Step("l", "1.0"), Step("l"), Step("m"))
SAID = [BEGIN["repeatable read"], ABOUT, APPEND, CONTENT, CONTENT, b"COMMIT"]


class Server:
    """A connection that answers statements; ``instead`` are its answers to some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **instead: Answer | Exception) -> None:
        self.said: list[bytes] = []
        self.status = ConnStatus.OK
        self.instead = instead
        self.closed = False
        self.hangs_at = b""
        monkeypatch.setattr(list_transaction, "ask", self._ask)

    async def _ask(self, _connection: "Server", sql: bytes, _values: tuple[str, ...] = ()) -> Answer:
        self.said.append(sql)
        if sql == self.hangs_at:
            await asyncio.Event().wait()
        names = {APPEND: "append", CONTENT: "content", ABOUT: "about", b"COMMIT": "commit", b"ROLLBACK": "rollback"}
        said = self.instead.get(names.get(sql, "begin"))
        if isinstance(said, Exception):
            raise said
        if said is not None:
            return said
        answer = Answer()
        answer.done = sql.split()[0]
        if sql == ABOUT:
            answer.rows = [("f", "repeatable read")]
        elif sql == CONTENT:
            answer.rows = [("0.1,1.0",)]
        return answer

    def finish(self) -> None:
        self.closed = True


def transaction() -> Transaction:
    op = Op(1, "list.transaction", "steady", "lists", 0)
    return Transaction(op, "lists", "", 1e9, steps=STEPS, isolation="repeatable read")


def refused(code: str, severity: str = "ERROR") -> Answer:
    answer = Answer()
    answer.code, answer.severity = code, severity
    return answer


def locally() -> Answer:
    answer = Answer()
    answer.done, answer.locally = b"COMMIT", True
    return answer


def standby() -> Answer:
    answer = Answer()
    answer.rows = [("t", "repeatable read")]
    return answer


def undone() -> Answer:
    answer = Answer()
    answer.done = b"ROLLBACK"
    return answer


async def test_a_transaction_is_said_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    server, write = Server(monkeypatch), transaction()
    assert await write.said(server) == Ended("ok", "")  # type: ignore[arg-type]  # a fake connection
    assert server.said == SAID
    assert write.told == Told("repeatable read", ("0.1,1.0", "0.1,1.0"))


@pytest.mark.parametrize(
    ("instead", "ended", "sent", "last"),
    [
        ({"begin": refused("57P03")}, Ended("fail", "57P03"), False, b"ROLLBACK"),
        ({"about": standby()}, Ended("fail", STANDBY), False, b"ROLLBACK"),
        ({"append": refused("40001")}, Ended("fail", "40001"), False, b"ROLLBACK"),
        ({"append": refused("25006")}, Ended("fail", "25006"), False, b"ROLLBACK"),
        ({"append": refused("57P01", "FATAL")}, Ended("fail", "57P01"), False, b"ROLLBACK"),
        ({"content": refused("57P01", "FATAL"), "rollback": OperationalError("gone")}, Ended("fail", "57P01"), False,
         b"ROLLBACK"),
        ({"commit": refused("40001")}, Ended("fail", "40001"), True, b"COMMIT"),
        ({"commit": undone()}, Ended("fail", ROLLED_BACK), True, b"COMMIT"),
        ({"commit": refused("57P01", "FATAL")}, Ended("unknown", "57P01"), True, b"COMMIT"),
        ({"commit": locally()}, Ended("ok", ACKED_LOCALLY), True, b"COMMIT"),
    ],
    ids=["begin", "standby", "conflict", "read-only", "ended", "ended and lost", "conflict at commit", "rolled back",
         "ended at commit", "locally"],
)  # fmt: skip
async def test_what_became_of_it(
    instead: dict[str, Answer | Exception], ended: Ended, sent: bool, last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, write = Server(monkeypatch, **instead), transaction()
    assert await write.said(server) == ended  # type: ignore[arg-type]
    assert (write.sent, server.said[-1]) == (sent, last)


async def over_a_link(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Link, list[Ended], asyncio.Task[None]]:
    async def connected(_conninfo: bytes) -> Server:
        await asyncio.sleep(0)
        return server

    monkeypatch.setattr("loadgen.postgresql_link.connected", connected)
    ended: list[Ended] = []
    link = Link(b"", lambda _write, outcome, error: ended.append(Ended(outcome, error)))
    task = asyncio.create_task(link.run())
    link.submit(transaction())
    for _ in range(20):
        await asyncio.sleep(0)
    return link, ended, task


@pytest.mark.parametrize(("at", "outcome"), [(APPEND, "fail"), (b"COMMIT", "unknown")], ids=["before", "at commit"])
async def test_one_whose_time_is_over(at: bytes, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before COMMIT was sent nothing of it can be there: it never will be."""
    server = Server(monkeypatch)
    server.hangs_at = at
    link, ended, task = await over_a_link(server, monkeypatch)
    assert ended == []
    assert link.expired(2e9)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended == [Ended(outcome, "timeout")]
    assert server.closed


@pytest.mark.parametrize(("at", "outcome"), [("append", "fail"), ("commit", "unknown")])
async def test_one_whose_connection_is_lost(at: str, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, **{at: OperationalError("gone")})
    _, ended, _ = await over_a_link(server, monkeypatch)
    assert ended == [Ended(outcome, "lost")]
