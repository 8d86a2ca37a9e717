"""The PostgreSQL client: unique rows, on a schedule that never waits for answers, each in a commit of its own.

Every other row goes through a PgBouncer, as the platform's own go, the others straight to the primary. Who that is, all
members are asked ten times a second; the highest timeline wins, and an older one never again. A PgBouncer that cannot
be reached is left for the next.

Run as ``python -m loadgen.postgresql_client PLAN``.
"""

import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from psycopg import OperationalError

from loadgen.direct_write import Write
from loadgen.postgresql_link import TABLE, Node, UnreachedError, ask, connected, conninfo_of
from loadgen.scheduled import ScheduledClient, main
from resilience.history.record import Outcome
from resilience.history.way import KIND, row_key, way_of
from resilience.spec.plan import LoadPlan

CLIENT = "postgresql"
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


class PostgresqlClient(ScheduledClient):
    """The connections, and the watch over who is primary."""

    def __init__(self, plan: LoadPlan) -> None:
        """See `ScheduledClient`. Raises `ValueError` for a plan without PostgreSQL."""
        super().__init__(CLIENT, KIND, plan)
        if plan.postgresql is None:
            raise ValueError("the plan has no PostgreSQL")
        postgresql = self._postgresql = plan.postgresql
        self._password = Path(postgresql.password_file).read_text().strip()
        self._links_max = postgresql.links_max
        self._primary = Primary(postgresql.members[postgresql.primary])
        self._turn = Turn(postgresql.pgbouncers)
        self._nodes: dict[str, Node] = {}

    @property
    def _rate_ops_per_s(self) -> float:
        return 2 * self._postgresql.rate_ops_per_s

    @property
    def _standing(self) -> int:
        return sum(node.stands for node in self._nodes.values())

    def _watches(self) -> list[Coroutine[Any, Any, None]]:
        return [self._watch(address) for address in self._postgresql.members.values()]

    def _tick(self) -> None:
        now = time.monotonic()
        for node in self._nodes.values():
            node.expire(now)
            if node.problem is not None:
                raise node.problem

    async def _close(self) -> None:
        for node in self._nodes.values():
            await node.close()

    async def _prepare(self) -> None:
        """Makes the table, before anything is due. Tries until it is there."""
        while True:
            try:
                async with asyncio.timeout(PREPARE_TIMEOUT_S):
                    answer = await self._asked(self._primary.address, TABLE.encode())
            except (UnreachedError, OperationalError, TimeoutError):
                await asyncio.sleep(POLL_S)
                continue
            if not answer:
                return
            await asyncio.sleep(POLL_S)

    async def _asked(self, address: str, sql: bytes) -> str:
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
        node = self._node(self._primary.address) if way == "direct" else self._through()
        if not node.has_room:
            recorder.dropped(KIND, phase, due)
            return
        op = recorder.invoked(stream=way, kind=KIND, key=key, value=value, group=0, phase=phase, due=due)
        node.submit(Write(op, key, value, time.monotonic() + self._plan.load.timeout_s))

    def _through(self) -> Node:
        """The PgBouncer that can be reached, as far as is known."""
        node = self._node(self._turn.address)
        if node.unreached:
            node.unreached = False
            self._turn.next()
        return self._node(self._turn.address)

    def _node(self, address: str) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(self._conninfo(address), self._settle, links_max=self._links_max)
        return self._nodes[address]

    def _conninfo(self, address: str) -> bytes:
        return conninfo_of(address, self._postgresql.user, self._password, self._postgresql.database)

    def _settle(self, write: Write, outcome: Outcome, error: str) -> None:
        self.generator.recorder.returned(write.op, outcome, error=error)

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
