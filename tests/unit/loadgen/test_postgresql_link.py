"""What a server's answer to a write means, and connections that stand, hang or are lost, against a fake one."""

import asyncio
import time

import pytest
from psycopg import OperationalError
from psycopg.pq import ConnStatus

from loadgen import postgresql_link
from loadgen.postgresql_client import Primary, Turn
from loadgen.postgresql_link import Answer, Ended, Node, Statement, UnreachedError, outcome_of, unreached_class
from loadgen.recorder import Op


def answer(code: str = "", severity: str = "ERROR", message: bytes = b"", *, locally: bool = False) -> Answer:
    said = Answer()
    said.code, said.severity, said.message, said.locally = code, severity, message, locally
    return said


@pytest.mark.parametrize(
    ("said", "expect"),
    [
        (answer(), Ended("ok", "")),
        (answer(locally=True), Ended("ok", "acked-locally")),
        (answer("25006"), Ended("fail", "25006")),  # a standby
        (answer("23505"), Ended("fail", "23505")),
        (answer("57014"), Ended("fail", "57014")),
        (answer("40001"), Ended("fail", "40001")),
        (answer("40003"), Ended("unknown", "40003")),
        (answer("57P03", "FATAL"), Ended("fail", "57P03")),
        (answer("53300", "FATAL"), Ended("fail", "53300")),
        (answer("57P01", "FATAL"), Ended("unknown", "57P01")),
        (answer("XX000"), Ended("unknown", "XX000")),
        (answer("08P01", "FATAL", b"server conn crashed?"), Ended("unknown", "08P01")),
        (answer("08P01", "FATAL", b"query_wait_timeout"), Ended("fail", "08P01")),
        (answer("08P01", "FATAL", b"server login has been failing, try again later"), Ended("fail", "08P01")),
    ],
)
def test_outcomes(said: Answer, expect: Ended) -> None:
    assert outcome_of(said) == expect


@pytest.mark.parametrize(
    ("said", "expect"),
    [
        (b'connection to server at "x" failed: Connection refused\n', "refused"),
        (b"FATAL:  the database system is starting up", "57P03"),
        (b"FATAL:  sorry, too many clients already", "53300"),
        (b"No route to host", "unreachable"),
    ],
)
def test_why_nothing_could_be_sent(said: bytes, expect: str) -> None:
    assert unreached_class(said) == expect


def test_an_older_primary_is_never_gone_back_to() -> None:
    primary = Primary("a:5432")
    primary.learn("b:5432", 2)
    primary.learn("a:5432", 1)
    assert primary.address == "b:5432"


def test_pgbouncers_take_turns() -> None:
    turn = Turn(("a", "b"))
    turn.next()
    assert turn.address == "b"
    turn.next()
    assert turn.address == "a"


class FakeConnection:
    """A connection that answers as a test says."""

    def __init__(self) -> None:
        self.status = ConnStatus.OK
        self.closed = False

    def finish(self) -> None:
        self.closed = True


class Rig:
    """A node whose connections are fakes, and what became of its writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, links_max: int = 2) -> None:
        self.ended: dict[str, Ended] = {}
        self.connections: list[FakeConnection] = []
        self.refuses = False
        self.said: Answer | Exception = answer()
        self.hangs = asyncio.Event()
        self.hangs.set()
        monkeypatch.setattr(postgresql_link, "connected", self._connected)
        monkeypatch.setattr(postgresql_link, "ask", self._ask)
        self.node = Node(b"", lambda write, outcome, error: self.ended.update({write.key: Ended(outcome, error)}),
                         links_max=links_max)  # fmt: skip

    async def _connected(self, _conninfo: bytes) -> FakeConnection:
        if self.refuses:
            raise UnreachedError("refused")
        self.connections.append(FakeConnection())
        return self.connections[-1]

    async def _ask(self, _connection: FakeConnection, _sql: bytes, _values: tuple[str, ...]) -> Answer:
        await self.hangs.wait()
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def write(self, key: str, expires_at: float = 1e9) -> None:
        op = Op(1, "postgresql.write", "steady", "direct", 0)
        self.node.submit(Statement(op, key, "v", expires_at, values=(key, "v")))
        for _ in range(10):
            await asyncio.sleep(0)


def has_room(node: Node) -> bool:
    return node.has_room


async def test_an_idle_connection_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    await rig.write("a")
    await rig.write("b")
    assert rig.ended == {"a": Ended("ok", ""), "b": Ended("ok", "")}
    assert len(rig.connections) == 1
    await rig.node.close()
    assert rig.connections[0].closed


async def test_what_could_not_be_sent_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.refuses = True
    await rig.write("a")
    assert rig.ended == {"a": Ended("fail", "refused")}
    assert rig.node.unreached


async def test_a_write_whose_connection_is_lost_may_have_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.said = OperationalError("gone")
    await rig.write("a")
    assert rig.ended == {"a": Ended("unknown", "lost")}
    assert rig.connections[0].closed


async def test_a_write_that_takes_too_long_is_settled_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, links_max=1)
    rig.hangs.clear()
    await rig.write("a", expires_at=time.monotonic() + 10)
    rig.node.expire(time.monotonic())
    assert not has_room(rig.node)
    rig.node.expire(time.monotonic() + 11)
    for _ in range(10):
        await asyncio.sleep(0)
    assert rig.ended == {"a": Ended("unknown", "timeout")}
    assert has_room(rig.node)
    assert rig.connections[0].closed
    assert not rig.node.unreached


async def test_an_error_of_our_own_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.said = RuntimeError("ours")
    await rig.write("a")
    assert isinstance(rig.node.problem, RuntimeError)
