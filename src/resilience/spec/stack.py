"""The stack of a scenario: the members, the nodes they stand on, and every knob that changes what may be lost."""

from typing import Annotated, Literal

from msgspec import Meta
from msgspec.structs import replace

from resilience.spec.content import WORK_QUEUE, Content
from resilience.spec.load import numbered
from resilience.spec.postgresql import ETCD_PORT, Patroni, Postgresql
from resilience.spec.rabbitmq import PRIORITY_QUEUE, QUEUES, SERVER_PORT, QueueName, Rabbitmq
from resilience.spec.record import Record

Milliseconds = Annotated[int, Meta(ge=100, le=600_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
YEAR_S = 366 * 86_400
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,40}\Z")]
Module = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)*\Z", max_length=200)]
Component = Literal[
    "redis",
    "rabbitmq",
    "session",
    "collaboration",
    "personalization",  # where the stack has PostgreSQL and RabbitMQ, and asks for it
    "content",  # where articles are: PostgreSQL, Redis and RabbitMQ
    "edge",
    "prometheus",
    "redis-exporter",
    "node-exporter",
    "postgresql",
    "pgbouncer",
    "postgres-exporter",
    "etcd",  # where PostgreSQL's failover is Patroni's
    "loadgen",  # Locust: a member without a server of its own until the load is started
    "direct-client",  # likewise
    "postgresql-client",  # likewise, where the stack has PostgreSQL
    "rabbitmq-client",  # likewise, where the stack has RabbitMQ
]
LOADGEN: Component = "loadgen"
GENERATORS = (LOADGEN, "direct-client", "postgresql-client", "rabbitmq-client")
OBSERVER = "observer"  # the node that no fault may touch
OUTSIDE = "outside"  # where the edge stands, as in production

PORTS: dict[str, int] = {
    "redis": 6379,
    "rabbitmq": SERVER_PORT,
    "session": 8080,
    "collaboration": 8080,
    "personalization": 8080,
    "content": 8080,
    "edge": 8080,
    "prometheus": 9090,
    "redis-exporter": 9121,
    "node-exporter": 9100,
    "postgresql": 5432,
    "pgbouncer": 6432,
    "postgres-exporter": 9187,
    "etcd": ETCD_PORT,
    "loadgen": 9646,
    "direct-client": 9647,
    "rabbitmq-client": 9648,
    "postgresql-client": 9649,
}

GRPC_PORT = 8081  # of the session service, where other services ask it


class Async(Record, frozen=True, kw_only=True, tag_field="mode", tag="async"):
    """An acknowledged write is on the primary; a replica has it a little later."""


class Wait(Record, frozen=True, kw_only=True, tag_field="mode", tag="wait"):
    """An acknowledged write is on the primary and on this many replicas (Redis ``WAIT``)."""

    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    timeout_ms: Milliseconds = 1_000


Durability = Async | Wait


class Redis(Record, frozen=True, kw_only=True):
    """The Redis Cluster as HarmonyFlow runs it; the fields are the server's own directives."""

    cluster_node_timeout_ms: Milliseconds = 5_000
    cluster_require_full_coverage: bool = True
    cluster_allow_reads_when_down: bool = False
    cluster_replica_validity_factor: Annotated[int, Meta(ge=0, le=1_000)] = 10
    appendonly: bool = True
    appendfsync: Literal["always", "everysec", "no"] = "everysec"
    snapshot_every_s: Annotated[int, Meta(ge=0, le=YEAR_S)] = 21_600  # 0: no snapshots
    min_replicas_to_write: Annotated[int, Meta(ge=0, le=5)] = 0
    min_replicas_max_lag_s: Annotated[int, Meta(ge=0, le=600)] = 10
    shutdown_timeout_s: Annotated[int, Meta(ge=0, le=600)] = 10


class Programs(Record, frozen=True, kw_only=True):
    """What each service is: a Python module of the project, run where members are processes.

    Another one with the same interfaces (`services/README.md`) replaces the reference service, as an image's name does
    where members are containers.
    """

    session: Module = "services.session"
    collaboration: Module = "services.collaboration"
    edge: Module = "services.edge"


class Personalization(Record, frozen=True, kw_only=True):
    """The personalization service: profiles in PostgreSQL, which the ends of sessions change by their events."""

    staleness_bound_s: Annotated[float, Meta(ge=0.5, le=3_600)] = 2.0  # no suggestion is of a profile older than this
    program: Module = "services.personalization"  # as in `Programs`


class Collaboration(Record, frozen=True, kw_only=True):
    """Where the collaboration service keeps the logs of rooms, and what brings edits to all of its instances.

    An edit is acknowledged once it is in its log. By RabbitMQ it is an event of its row, so the log has rows then.
    """

    log: Literal["redis", "postgresql"] = "redis"
    fanout: Literal["redis", "rabbitmq"] = "redis"


class Member(Record, frozen=True, kw_only=True):
    """One member: ``node`` is a platform node, ``observer`` (which no fault may touch) or ``outside`` (the edge)."""

    name: Name
    component: Component
    node: Name


class Shard(Record, frozen=True, kw_only=True):
    """One shard as it is formed: the slots are divided evenly in the order of the stack file."""

    primary: Name
    replicas: Annotated[tuple[Name, ...], Meta(max_length=20)]


class Stack(Record, frozen=True, kw_only=True):
    """All components of a scenario."""

    name: Name
    durability: Durability
    nodes: Annotated[tuple[Name, ...], Meta(max_length=100)]  # the platform's failure domains
    restart_delay_s: Seconds  # how long the platform takes to start a dead member again
    session_ttl_s: Annotated[int, Meta(ge=1, le=10 * YEAR_S)]
    scrape_interval_s: Annotated[float, Meta(ge=0.5, le=60)]
    redis: Redis
    shards: Annotated[tuple[Shard, ...], Meta(max_length=100)]
    members: Annotated[tuple[Member, ...], Meta(max_length=500)]
    programs: Programs = Programs()
    postgresql: Postgresql | None = None  # a tier that a stack may have
    rabbitmq: Rabbitmq | None = None  # None: this stack has none
    personalization: Personalization | None = None  # needs both
    content: Content | None = None  # likewise
    collaboration: Collaboration | None = None  # None: all of it is in Redis

    @property
    def has_outbox(self) -> bool:
        """Whether events follow the ends of sessions: there is a database for their rows, and a queue for them."""
        return self.postgresql is not None and self.rabbitmq is not None

    @property
    def load_queues(self) -> tuple[QueueName, ...]:
        """The queues that the load's own client publishes to and reads: those that no service consumes."""
        consumed = {PRIORITY_QUEUE: self.personalization is not None, WORK_QUEUE: self.content is not None}
        return tuple(queue for queue in QUEUES if not consumed.get(queue)) if self.rabbitmq is not None else ()

    def program(self, component: str) -> str:
        """The module that a service's members run."""
        if component == "personalization" and self.personalization is not None:
            return self.personalization.program
        if component == "content" and self.content is not None:
            return self.content.program
        return str(getattr(self.programs, component))

    @property
    def has_rooms_in_postgresql(self) -> bool:
        """Whether the logs of rooms are in PostgreSQL; else they are in Redis."""
        return self.collaboration is not None and self.collaboration.log == "postgresql"

    @property
    def has_room_events(self) -> bool:
        """Whether edits are events of RabbitMQ; else they are distributed by Redis alone."""
        return self.collaboration is not None and self.collaboration.fanout == "rabbitmq"

    @property
    def patroni(self) -> Patroni | None:
        """How Patroni fails PostgreSQL over, None where it does not."""
        failover = self.postgresql.failover if self.postgresql is not None else None
        return failover if isinstance(failover, Patroni) else None

    def member(self, name: str) -> Member:
        """The member of that name. Raises `KeyError` if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise KeyError(name)

    def of(self, component: str) -> tuple[Member, ...]:
        """The members of a component, in the order of the stack file."""
        return tuple(member for member in self.members if member.component == component)

    def with_workers(self, number: int) -> "Stack":
        """The stack with so many members for processes of Locust: its own first one, and the others beside that."""
        first, *others = self.of(LOADGEN)
        at = self.members.index(first)
        rest = tuple(member for member in self.members if member not in others)
        workers = tuple(replace(first, name=numbered(first.name, index)) for index in range(number))
        return replace(self, members=(*rest[:at], *workers, *rest[at + 1 :]))
