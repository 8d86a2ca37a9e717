"""The PostgreSQL client: unique rows, on a schedule that never waits for answers, each in a commit of its own.

Where the load asks for it there are ops on registers besides (`registers`), and transactions on lists (`lists`), each
kind on connections of its own. Transactions all go through a PgBouncer.

Every other row, and every other op on a register, goes through a PgBouncer, as the platform's own go, the others
straight to the primary. Who that is, all members are asked ten times a second; the highest timeline wins, and an older
one never again. A PgBouncer that cannot be reached is left for the next.

Run as ``python -m loadgen.postgresql_client PLAN``.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import OperationalError

from loadgen.list_transaction import LISTS, Transaction
from loadgen.lists import AT_ONCE as TRANSACTIONS_AT_ONCE
from loadgen.lists import Lists
from loadgen.postgresql_link import (
    PUT,
    READ,
    REGISTERS,
    SWAP,
    TABLE,
    Node,
    Row,
    Settle,
    Statement,
    UnreachedError,
    ask,
    connected,
    conninfo_of,
)
from loadgen.registers import AT_ONCE, KINDS, Asked, Kind, Registers
from loadgen.scheduled import Arrivals, ScheduledClient, main
from resilience.history.record import MISMATCH, Outcome
from resilience.history.transaction import KIND as TRANSACTION
from resilience.history.transaction import TABLE as LISTS_KEY
from resilience.history.transaction import text_of, told_text
from resilience.history.way import KIND, row_key, way_of
from resilience.spec.plan import LoadPlan

CLIENT = "postgresql"
REGISTER_STREAM = "registers"
LIST_STREAM = "lists"
STANDBY = "standby"  # the error of a read that a standby answered
POLL_S = 0.1
POLL_TIMEOUT_S = 0.3
PREPARE_TIMEOUT_S = 2.0
_TIMELINE = b"""SELECT CASE WHEN NOT pg_is_in_recovery() THEN
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END"""


class Primary:
    """Who takes writes, by the best knowledge so far."""

    def __init__(self, address: str) -> None:
        """``address`` (host:port): who does at the start."""
        self.address = address
        self._timeline = 0

    def learn(self, address: str, timeline: int) -> None:
        """A member says that it takes writes on a timeline."""
        if timeline > self._timeline:
            self.address, self._timeline = address, timeline


class Turn:
    """The PgBouncer that is written through: the first that can be reached, in a circle from the last that could."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Begins with the first."""
        self._addresses = addresses
        self._at = 0

    @property
    def address(self) -> str:
        """The one whose turn it is (host:port)."""
        return self._addresses[self._at]

    def next(self) -> None:
        """It could not be reached."""
        self._at = (self._at + 1) % len(self._addresses)


class Nodes:
    """The addresses that one kind of op went to so far."""

    def __init__(self, conninfo: Callable[[str], bytes], settle: Settle, links_max: int) -> None:
        """``links_max``: of each, how many of these ops may be without an answer at the same time."""
        self._conninfo = conninfo
        self._settle = settle
        self._links_max = links_max
        self._nodes: dict[str, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def at(self, address: str) -> Node:
        """The one at an address (host:port)."""
        if address not in self._nodes:
            self._nodes[address] = Node(self._conninfo(address), self._settle, links_max=self._links_max)
        return self._nodes[address]


class Heard(NamedTuple):
    """What became of an op on a register; ``stood`` is what a read saw, and what a compare-and-set was to find."""

    outcome: Outcome
    stood: str
    error: str


def said(asked: Asked) -> tuple[bytes, tuple[str, ...]]:
    """The statement of an op on a register, and its values."""
    key = asked.register.key
    statements: dict[Kind, tuple[bytes, tuple[str, ...]]] = {
        "register.read": (READ, (key,)),
        "register.write": (PUT, (key, asked.value)),
        "register.swap": (SWAP, (key, asked.value, asked.expected)),
    }
    return statements[asked.kind]


def heard(asked: Asked, outcome: Outcome, error: str, rows: Sequence[Row]) -> Heard:
    """What the server's answer means: a read that was not answered did nothing, nor did one that a standby answered."""
    if asked.kind == "register.swap":
        missed = outcome == "ok" and not rows
        return Heard(outcome, asked.expected, MISMATCH if missed else error)
    if asked.kind == "register.write":
        return Heard(outcome, "", error)
    if outcome != "ok" or not rows:
        return Heard("fail", "", error)
    standby, value = rows[0]
    return Heard("fail", "", STANDBY) if standby == "t" else Heard("ok", value or "", "")


def _kinds(plan: LoadPlan) -> tuple[str, ...]:
    """The kinds of ops that there may be."""
    lists = plan.postgresql is not None and plan.postgresql.list_rate_ops_per_s is not None
    return (KIND, *KINDS, *((TRANSACTION,) if lists else ()))


class PostgresqlClient(ScheduledClient):
    """The connections, and the watch over who is primary."""

    def __init__(self, plan: LoadPlan) -> None:
        """See `ScheduledClient`. Raises `ValueError` for a plan without PostgreSQL."""
        super().__init__(CLIENT, _kinds(plan), plan)
        if plan.postgresql is None:
            raise ValueError("the plan has no PostgreSQL")
        postgresql = self._postgresql = plan.postgresql
        self._password = Path(postgresql.password_file).read_text().strip()
        self._primary = Primary(postgresql.members[postgresql.primary])
        self._turn = Turn(postgresql.pgbouncers)
        self._row_nodes = Nodes(self._conninfo, self._settle, postgresql.links_max)
        self._register_nodes = Nodes(self._conninfo, self._settle_asked, postgresql.register_links_max)
        self._registers = Registers("pg", plan.seed)
        self._asked: dict[int, Asked] = {}  # by the op's number
        self._list_nodes = Nodes(self._conninfo, self._settle_transaction, postgresql.list_links_max)
        self._lists = Lists("pg", plan.seed)

    @property
    def _rate_ops_per_s(self) -> float:
        return 2 * self._postgresql.rate_ops_per_s

    @property
    def _standing(self) -> int:
        return sum(node.stands for node in self._all_nodes())

    def _all_nodes(self) -> list[Node]:
        return [*self._row_nodes, *self._register_nodes, *self._list_nodes]

    def _arrivals(self) -> list[Arrivals]:
        rate = self._postgresql.register_rate_ops_per_s
        turns = [] if rate is None else [Arrivals(rate / AT_ONCE, self._send_turn)]
        transactions = self._postgresql.list_rate_ops_per_s
        if transactions is not None:
            turns.append(Arrivals(transactions / TRANSACTIONS_AT_ONCE, self._send_transactions))
        return [*super()._arrivals(), *turns]

    def _watches(self) -> list[Coroutine[Any, Any, None]]:
        return [self._watch(address) for address in self._postgresql.members.values()]

    def _tick(self) -> None:
        now = time.monotonic()
        for node in self._all_nodes():
            node.expire(now)
            if node.problem is not None:
                raise node.problem

    async def _close(self) -> None:
        for node in self._all_nodes():
            await node.close()

    async def _prepare(self) -> None:
        """Makes the tables, before anything is due. Tries until they are there."""
        lists = () if self._postgresql.list_rate_ops_per_s is None else (LISTS,)
        for table in (TABLE, REGISTERS, *lists):
            await self._make(table.encode())

    async def _make(self, table: bytes) -> None:
        while True:
            try:
                async with asyncio.timeout(PREPARE_TIMEOUT_S):
                    answer = await self._told(self._primary.address, table)
            except (UnreachedError, OperationalError, TimeoutError):
                await asyncio.sleep(POLL_S)
                continue
            if not answer:
                return
            await asyncio.sleep(POLL_S)

    async def _told(self, address: str, sql: bytes) -> str:
        """Says something to a member once; the error's code, "" if there was none."""
        connection = await connected(self._conninfo(address))
        try:
            return (await ask(connection, sql)).code
        finally:
            connection.finish()

    def _send(self, n: int, due: int) -> None:
        recorder, phase = self.generator.recorder, self.generator.phase_at(due)
        key, value = row_key(n), f"{CLIENT}-{self._plan.seed}-{n}"
        way = way_of(key)
        node = self._way(self._row_nodes, direct=way == "direct")
        if not node.has_room:
            recorder.dropped(KIND, phase, due)
            return
        op = recorder.invoked(stream=way, kind=KIND, key=key, value=value, group=0, phase=phase, due=due)
        node.submit(Statement(op, key, value, self._expires_at(), values=(key, value)))

    def _send_turn(self, n: int, due: int) -> None:
        """Ops on one register at the same time, every other one straight to the primary."""
        recorder, phase = self.generator.recorder, self.generator.phase_at(due)
        for place, asked in enumerate(self._registers.turn(n)):
            node = self._way(self._register_nodes, direct=bool(place % 2))
            if not node.has_room:
                recorder.dropped(asked.kind, phase, due)
                continue
            key, value = asked.register.key, asked.value
            op = recorder.invoked(
                stream=REGISTER_STREAM, kind=asked.kind, key=key, value=value, group=0, phase=phase, due=due
            )
            self._asked[op.id] = asked
            sql, values = said(asked)
            node.submit(Statement(op, key, value, self._expires_at(), sql=sql, values=values))

    def _send_transactions(self, _n: int, due: int) -> None:
        """Transactions on the same lists at the same time."""
        recorder, phase = self.generator.recorder, self.generator.phase_at(due)
        for steps in self._lists.turn():
            node = self._way(self._list_nodes, direct=False)
            if not node.has_room:
                recorder.dropped(TRANSACTION, phase, due)
                continue
            value = text_of(steps)
            op = recorder.invoked(
                stream=LIST_STREAM, kind=TRANSACTION, key=LISTS_KEY, value=value, group=0, phase=phase, due=due
            )
            isolation = self._postgresql.list_isolation
            node.submit(Transaction(op, LISTS_KEY, value, self._expires_at(), steps=steps, isolation=isolation))

    def _expires_at(self) -> float:
        return time.monotonic() + self._plan.load.timeout_s

    def _way(self, nodes: Nodes, *, direct: bool) -> Node:
        """Where the next one goes: to the primary, or to the PgBouncer that can be reached, as far as is known."""
        if direct:
            return nodes.at(self._primary.address)
        node = nodes.at(self._turn.address)
        if node.unreached:
            node.unreached = False
            self._turn.next()
        return nodes.at(self._turn.address)

    def _conninfo(self, address: str) -> bytes:
        return conninfo_of(address, self._postgresql.user, self._password, self._postgresql.database)

    def _settle(self, write: Statement, outcome: Outcome, error: str) -> None:
        self.generator.recorder.returned(write.op, outcome, error=error)

    def _settle_asked(self, write: Statement, outcome: Outcome, error: str) -> None:
        asked = self._asked.pop(write.op.id)
        ended = heard(asked, outcome, error, write.rows)
        self._registers.ended(asked, ended.outcome, ended.stood, mismatch=ended.error == MISMATCH)
        self.generator.recorder.answered(write.op, ended.outcome, ended.stood, ended.error)

    def _settle_transaction(self, write: Statement, outcome: Outcome, error: str) -> None:
        assert isinstance(write, Transaction)  # nothing else is sent over these links
        self._lists.ended(write.steps, outcome)
        self.generator.recorder.answered(write.op, outcome, told_text(write.told), error)

    async def _watch(self, address: str) -> None:
        """Asks one member whether it takes writes, again and again; one that does not answer says nothing."""
        while True:
            try:
                connection = await connected(self._conninfo(address))
            except UnreachedError:
                await asyncio.sleep(POLL_S)
                continue
            try:
                while True:
                    async with asyncio.timeout(POLL_TIMEOUT_S):
                        answer = await ask(connection, _TIMELINE)
                    if answer.rows and (timeline := answer.rows[0][0]):
                        self._primary.learn(address, int(timeline))
                    await asyncio.sleep(POLL_S)
            except (OperationalError, TimeoutError):
                await asyncio.sleep(POLL_S)
            finally:
                connection.finish()


if __name__ == "__main__":
    sys.exit(main(PostgresqlClient))
