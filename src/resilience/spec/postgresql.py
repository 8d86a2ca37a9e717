"""The PostgreSQL tier of a stack: one primary, its standbys, and every setting that changes what may be lost."""

from typing import Annotated, Literal

from msgspec import Meta

from resilience.spec.record import Record

ETCD_PORT, ETCD_PEER_PORT = 2379, 2380  # for those who ask it; for its members among each other
PATRONI_PORT = 8008  # of a PostgreSQL member's Patroni: who asks it is told who is primary

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


class Patroni(Record, frozen=True, kw_only=True, tag_field="mode", tag="patroni"):
    """Patroni promotes a standby by itself; who is primary is a key in etcd, which its holder has to renew in time.

    The fields are Patroni's own settings, and their least values its own: it would change what is under them.
    """

    ttl_s: Annotated[int, Meta(ge=20, le=3_600)] = 30  # so long after it was renewed last the key is gone
    loop_wait_s: Annotated[int, Meta(ge=1, le=3_600)] = 10  # how often it is renewed
    retry_timeout_s: Annotated[int, Meta(ge=3, le=3_600)] = 10  # of etcd and of the server: then a primary steps down
    maximum_lag_on_failover_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 1_048_576  # more: a standby is no candidate
    # off: `durability` names the standbys, and any may be promoted; on (of `first`), quorum (of `any`): Patroni names
    # them by what is there, and promotes none that a commit did not wait for
    synchronous_mode: Literal["off", "on", "quorum"] = "off"
    synchronous_mode_strict: bool = False  # False: a primary that has lost all standbys waits for none
    failsafe_mode: bool = False  # True: a primary that has lost etcd goes on while all other members answer it

    @property
    def told(self) -> dict[str, int | bool | str]:
        """The same as Patroni itself tells it."""
        mode = {"off": False, "on": True}.get(self.synchronous_mode, self.synchronous_mode)
        return {
            "ttl": self.ttl_s,
            "loop_wait": self.loop_wait_s,
            "retry_timeout": self.retry_timeout_s,
            "maximum_lag_on_failover": self.maximum_lag_on_failover_bytes,
            "synchronous_mode": mode,
            "synchronous_mode_strict": self.synchronous_mode_strict,
            "failsafe_mode": self.failsafe_mode,
        }


Failover = Manual | Patroni


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
    failover: Failover = Manual()  # what follows the loss of a primary; `manual`: an experiment's step `promote`
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
