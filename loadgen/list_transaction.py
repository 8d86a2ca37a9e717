"""A transaction on lists (`lists`) as the server is told it: statement by statement, at an isolation level, to COMMIT.

It first asks at which level it is run, and whether by a standby: that would tell what it has, and who is asked is meant
to be the primary. Whatever goes wrong before COMMIT was sent has undone all of it; after that it is as with any write.
"""

from dataclasses import dataclass, field

from psycopg import OperationalError
from psycopg.pq.abc import PGconn

from loadgen.postgresql_link import Ended, Statement, ask, outcome_of
from resilience.history.transaction import TABLE, Step, Told
from resilience.spec.load import POSTGRESQL_ISOLATION, Isolation

STANDBY = "standby"  # the error of a transaction that a standby ran
ROLLED_BACK = "rolled-back"  # that of one whose COMMIT was answered with ROLLBACK
LISTS = f"CREATE TABLE IF NOT EXISTS {TABLE} (key text PRIMARY KEY, value text NOT NULL)"
BEGIN: dict[Isolation, bytes] = {
    "read committed": b"BEGIN ISOLATION LEVEL READ COMMITTED",
    "repeatable read": b"BEGIN ISOLATION LEVEL REPEATABLE READ",
    "serializable": b"BEGIN ISOLATION LEVEL SERIALIZABLE",
}
ABOUT = b"SELECT pg_is_in_recovery(), current_setting('transaction_isolation')"
CONTENT = b"SELECT value FROM lists WHERE key = $1"
APPEND = b"""INSERT INTO lists (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = lists.value || ',' || excluded.value"""


@dataclass(slots=True)
class Transaction(Statement):
    """Some steps in one transaction; ``level`` and ``contents`` are what it was told of itself and of its reads."""

    steps: tuple[Step, ...] = ()
    isolation: Isolation = POSTGRESQL_ISOLATION
    level: str = ""
    contents: list[str] = field(default_factory=list)

    @property
    def told(self) -> Told:
        """What it was told so far."""
        return Told(self.level, tuple(self.contents))

    async def said(self, connection: PGconn) -> Ended:
        """See `Statement`."""
        error = await self._prepared(connection)
        if error:
            await _rolled_back(connection)
            return Ended("fail", error)
        self.sent = True
        answer = await ask(connection, b"COMMIT")
        if not answer.code and answer.done != b"COMMIT":
            return Ended("fail", ROLLED_BACK)
        return outcome_of(answer)

    async def _prepared(self, connection: PGconn) -> str:
        """Everything before COMMIT; the error that it came to, "" if there was none."""
        begun = await ask(connection, BEGIN[self.isolation])
        about = begun if begun.code else await ask(connection, ABOUT)
        if about.code:
            return about.code
        standby, level = about.rows[0]
        if standby == "t":
            return STANDBY
        self.level = level or ""
        for key, value in self.steps:
            answer = await ask(connection, APPEND if value else CONTENT, (key, value) if value else (key,))
            if answer.code:
                return answer.code
            if not value:
                self.contents.append((answer.rows[0][0] or "") if answer.rows else "")
        return ""


async def _rolled_back(connection: PGconn) -> None:
    """What its connection is lost over is undone, too: the transaction's own error says more."""
    try:
        await ask(connection, b"ROLLBACK")
    except OperationalError:
        return
