"""Profiles in PostgreSQL: written through the primary, read from replicas that are known to be fresh enough.

::

    instances ── beat, several times a second ──▶ primary ── replication ──▶ replica
    read ──▶ replica: the profile, and the newest beat that it has, in one snapshot
               beat older than the bound ──▶ the next replica ──▶ the primary ──▶ refused

A beat is the server's time, written in a transaction of its own. Replicas replay commits in their order: one that has
a beat has everything that was committed, and so all that anybody was told of, before that beat began. How far it is
behind is its own clock less the beat, at most. That holds also where it follows nobody any more, and where nothing else
is written, which the replica's own words about replication (`pg_last_xact_replay_timestamp`) do not tell apart. The
clocks of the database's machines have to agree to far less than the bound.

Who takes writes is behind nobody: the member that PgBouncers lead to, if it is not in recovery. One that was asked as a
replica and is not in recovery may have been promoted, or be a primary that was left behind: its beat tells.

A profile's version grows by one with each change. An event has its effect once: its row and the change are one
statement, and a row that is there changes nothing; it is written again all the same, so that its commit waits for
standbys once more.
"""

import asyncio
from typing import Any, NamedTuple

from services.config import Personalization, password_in
from services.database import Database, DatabaseError, by, make_tables, write, write_until
from services.metric import ProfileMetrics, Stores
from services.web import Refusal

BESIDE = "beside"  # what a PgBouncer calls the database of the member that it stands in front of
BEAT_S = 0.25
STEP_TIMEOUT_S = 3.0  # of making tables, of a beat, and of an event's effect
LOCK = 18  # whoever makes the tables has this advisory lock
TABLES = (
    """CREATE TABLE IF NOT EXISTS profile (
        person text PRIMARY KEY,
        version bigint NOT NULL,
        interest text NOT NULL DEFAULT '',
        sessions bigint NOT NULL DEFAULT 0,
        op text NOT NULL DEFAULT '')""",
    """CREATE TABLE IF NOT EXISTS profile_event (
        event text PRIMARY KEY,
        person text)""",
    # in a schema of its own: it is never at rest, so whoever compares what servers hold leaves it out
    "CREATE SCHEMA IF NOT EXISTS heartbeat",
    "CREATE TABLE IF NOT EXISTS heartbeat.beat (one boolean PRIMARY KEY CHECK (one), at timestamptz NOT NULL)",
)
# never back: who wrote it last may have a clock that is behind
BEAT = """INSERT INTO heartbeat.beat (one, at) VALUES (true, clock_timestamp())
    ON CONFLICT (one) DO UPDATE SET at = greatest(beat.at, clock_timestamp())"""
READ = """SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp() - beat.at)::float8,
        profile.version, profile.interest, profile.sessions
    FROM (SELECT true) asked LEFT JOIN heartbeat.beat ON true LEFT JOIN profile ON profile.person = %s"""
SET_INTEREST = """INSERT INTO profile (person, version, interest, op) VALUES (%s, 1, %s, %s)
    ON CONFLICT (person) DO UPDATE SET interest = excluded.interest, op = excluded.op,
        version = profile.version + (profile.op <> excluded.op)::int
    RETURNING version"""
# xmax is 0 in a row that this statement has added
ADD_EVENT = """WITH event AS (
        INSERT INTO profile_event (event, person) VALUES (%s, %s::text)
        ON CONFLICT (event) DO UPDATE SET event = excluded.event
        RETURNING person, xmax = 0 AS added)
    INSERT INTO profile (person, version, sessions) SELECT person, 1, 1 FROM event WHERE added AND person IS NOT NULL
    ON CONFLICT (person) DO UPDATE SET version = profile.version + 1, sessions = profile.sessions + 1"""


class Profile(NamedTuple):
    """A profile as it was read; ``version`` 0: there is nothing of this person yet."""

    version: int
    interest: str
    sessions: int  # that have ended
    source: str  # replica or primary
    lag_s: float  # how far behind it may be, at most


class Profiles:
    """The tables of one database, on its primary and on its replicas."""

    def __init__(self, settings: Personalization, metrics: ProfileMetrics, stores: Stores) -> None:
        """Nothing is connected. Raises `ConfigError`."""
        user, password = settings.user, password_in(settings.postgresql_password_file)
        self._bound_s = settings.staleness_bound_s
        self._metrics = metrics
        self._stores = stores
        self._primary = Database(settings.postgresql, user=user, password=password)
        self._replicas = [
            Database((address,), user=user, password=password, name=BESIDE) for address in settings.replicas
        ]
        self._next = 0  # the replica that is asked first: the last that was fresh

    async def close(self) -> None:
        """Closes what is idle."""
        for database in (self._primary, *self._replicas):
            await database.close()

    async def beat_on(self) -> None:
        """Makes the tables, then beats until it is cancelled; whatever goes wrong with the database is tried again.

        What else goes wrong is nobody's but this program's, and its end: whoever started it looks at that.
        """
        made = False
        while True:
            deadline = _now() + STEP_TIMEOUT_S
            try:
                if not made:
                    await make_tables(self._primary, LOCK, TABLES, deadline)
                    made = True
                async with self._primary.connection(deadline) as connection:
                    await write(connection, BEAT, (), deadline)
                self._stores.is_well("postgresql")
            except DatabaseError as error:
                self._stores.tell("postgresql", str(error))
            await asyncio.sleep(BEAT_S)

    async def read(self, person: str, deadline: float) -> Profile:
        """The profile, no staler than the bound by what the server says. Raises `Refusal`: `stale`, or `postgresql`.

        Each server has an equal share of the time that is left.
        """
        reason = "postgresql"
        tries = len(self._replicas) + 1
        for number in range(tries):
            left_s = deadline - _now()
            is_last = number == tries - 1
            database = self._primary if is_last else self._replicas[self._next]
            try:
                found = await _read(database, person, deadline - left_s * (1 - 1 / (tries - number)))
            except DatabaseError as error:
                self._stores.tell("postgresql" if is_last else "replica", str(error))
            else:
                self._stores.is_well("postgresql" if is_last else "replica")
                if is_last and found.source == "primary":
                    found = found._replace(lag_s=0.0)
                if found.lag_s <= self._bound_s:
                    self._metrics.reads[found.source].inc()
                    return found
                self._metrics.stale.inc()
                reason = "stale"
            if not is_last:
                self._next = (self._next + 1) % len(self._replicas)
        raise Refusal(503, reason, "fail")

    async def set_interest(self, person: str, op: str, interest: str, deadline: float) -> int:
        """What a person cares for; the profile's version with it, the same if the op is repeated. Raises `Refusal`."""
        try:
            cursor = await write_until(self._primary, SET_INTEREST, (person, interest, op), deadline, self._told)
            row: Any = await cursor.fetchone()
        except DatabaseError as error:
            raise Refusal(503, "postgresql", "unknown") from error
        assert row is not None  # it returns one, written or as it was
        self._stores.is_well("postgresql")
        return int(row[0])

    async def add(self, event: str, person: str | None) -> None:
        """The effect of an event, once: of nobody's session that it has come. Raises `DatabaseError`."""
        deadline = _now() + STEP_TIMEOUT_S
        try:
            async with self._primary.connection(deadline) as connection:
                await write(connection, ADD_EVENT, (event, person), deadline)
        except DatabaseError as error:
            self._told(error)
            raise
        self._stores.is_well("postgresql")

    def _told(self, error: DatabaseError) -> None:
        self._stores.tell("postgresql", str(error))


async def _read(database: Database, person: str, deadline: float) -> Profile:
    """The profile as one server has it. Raises `DatabaseError`."""
    async with database.connection(deadline) as connection:
        cursor = await by(deadline, connection.execute(READ.encode(), (person,)))
        row: Any = await cursor.fetchone()
    recovering, lag_s, version, interest, sessions = row
    behind_s = float("inf") if lag_s is None else max(0.0, lag_s)  # it may have seen no beat yet
    return Profile(version or 0, interest or "", sessions or 0, "replica" if recovering else "primary", behind_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
