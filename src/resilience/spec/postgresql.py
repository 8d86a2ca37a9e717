"""The PostgreSQL tier of a stack: one primary, its standbys, and every setting that changes what may be lost."""

from typing import Annotated, Literal

from msgspec import Meta

from resilience.spec.record import Record

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,40}\Z")]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Seconds = Annotated[float, Meta(ge=0, le=3_600)]


class Asynchronous(Record, frozen=True, kw_only=True, tag_field="mode", tag="async"):
    """A commit that was acknowledged is on the primary; the standbys have it a little later."""


class AnyStandbys(Record, frozen=True, kw_only=True, tag_field="mode", tag="any"):
    """A commit waits for this many standbys, whichever are first (``ANY n (…)``)."""

    standbys: Annotated[int, Meta(ge=1, le=20)] = 1


class FirstStandbys(Record, frozen=True, kw_only=True, tag_field="mode", tag="first"):
    """A commit waits for this many standbys, by their order in the stack file (``FIRST n (…)``)."""

    standbys: Annotated[int, Meta(ge=1, le=20)] = 2


Durability = Asynchronous | AnyStandbys | FirstStandbys


class Manual(Record, frozen=True, kw_only=True, tag_field="mode", tag="manual"):
    """A person promotes a standby, by a runbook: so long after the fault as it takes to be called and to be sure."""

    operator_delay_s: Seconds = 10.0


class Runbook(Record, frozen=True, kw_only=True):
    """What that person does.

    ``standby``: the one that has received most (``least-lag``), or by mistake the one that has received least; of
    several the first and the last in the stack file. ``fence``: whether nobody is promoted before the former primary is
    fenced, or seen to be gone. Without it nothing at all is done on its node: it goes on, and the PgBouncer beside it
    still leads to it.
    """

    standby: Literal["least-lag", "most-lag"] = "least-lag"
    fence: bool = True


class Pgbouncer(Record, frozen=True, kw_only=True):
    """The PgBouncer in front of each member; the fields are its own settings."""

    pool_mode: Literal["session", "transaction"] = "transaction"
    default_pool_size: Annotated[int, Meta(ge=1, le=1_000)] = 20
    max_client_conn: Annotated[int, Meta(ge=1, le=100_000)] = 500
    server_connect_timeout_s: Seconds = 2.0
    server_login_retry_s: Seconds = 1.0
    query_wait_timeout_s: Seconds = 5.0  # how long a client waits for a connection to the server; 0: for ever


class Postgresql(Record, frozen=True, kw_only=True):
    """PostgreSQL as HarmonyFlow runs it; the fields without a word about them are the server's own settings.

    ``primary`` and ``replicas`` are what the members are when the tier is formed; who is what later, only they know.
    """

    primary: Name
    replicas: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=20)]
    durability: Durability = Asynchronous()  # which standbys a commit waits for (``synchronous_standby_names``)
    synchronous_commit: Literal["off", "local", "remote_write", "on", "remote_apply"] = "on"
    wal_sender_timeout_ms: Milliseconds = 60_000  # 0: never
    wal_receiver_timeout_ms: Milliseconds = 60_000  # 0: never
    statement_timeout_ms: Milliseconds = 0  # 0: none; it does not end a commit's wait for standbys
    max_slot_wal_keep_size_mb: Annotated[int, Meta(ge=-1, le=1_000_000)] = 1_024  # -1: a lost standby fills the disk
    max_connections: Annotated[int, Meta(ge=20, le=10_000)] = 100
    failover: Manual = Manual()  # what follows the loss of a primary, where an experiment has the step `promote`
    pgbouncer: Pgbouncer = Pgbouncer()

    @property
    def members(self) -> tuple[str, ...]:
        """The servers, the primary as formed first."""
        return (self.primary, *self.replicas)

    @property
    def standbys_waited_for(self) -> int:
        """How many standbys a commit waits for before it is acknowledged."""
        if isinstance(self.durability, Asynchronous) or self.synchronous_commit in {"off", "local"}:
            return 0  # with these nothing is waited for, whatever standbys are named
        return self.durability.standbys
