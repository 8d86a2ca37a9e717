"""The plan that the runner hands to the load generator's processes, as a JSON file."""

import math
from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from resilience.spec.load import POSTGRESQL_ISOLATION, WORKERS_MAX, Isolation, Load
from resilience.spec.record import Record
from resilience.spec.stack import Durability


class ShardPlan(Record, frozen=True, kw_only=True):
    """A Redis shard at the start: its number (from 1), its members' addresses (``host:port``) and its slots."""

    group: int
    primary: str
    replicas: tuple[str, ...]
    slots: tuple[tuple[int, int], ...]  # inclusive ranges


class PostgresqlPlan(Record, frozen=True, kw_only=True):
    """Where the PostgreSQL client writes, and how often."""

    members: dict[str, str]  # host:port by name
    pgbouncers: tuple[str, ...]  # host:port, the one beside the primary first
    primary: str  # the member that takes writes at the start
    user: str
    database: str
    password_file: str
    rate_ops_per_s: float  # through PgBouncers, and as often straight to the primary
    links_max: int  # connections to one address
    register_rate_ops_per_s: float | None = None  # both ways together; None: there are no registers
    register_links_max: int = 0  # connections to one address besides, for ops on registers
    list_rate_ops_per_s: float | None = None  # through PgBouncers; None: there are no lists
    list_isolation: Isolation = POSTGRESQL_ISOLATION
    list_links_max: int = 0  # connections to one address besides, for transactions on lists


OUTSTANDING_SHARE = 1.5  # places for writes on their way, as a multiple of what a silent server fills
OUTSTANDING_MIN = 16


def links_max(load: Load) -> int:
    """How many writes of the PostgreSQL client may wait for their answers at one address."""
    return _places(load.postgresql_ops_per_s, load)


def register_links_max(load: Load) -> int:
    """How many of its ops on registers may wait for their answers at one address: every other one goes to each."""
    rate = load.postgresql_register_rate_ops_per_s
    return 0 if rate is None else _places(rate / 2, load)


def list_links_max(load: Load) -> int:
    """How many of its transactions on lists may be under way at one address."""
    rate = load.postgresql_list_rate_ops_per_s
    return 0 if rate is None else _places(rate, load)


def _places(rate_ops_per_s: float, load: Load) -> int:
    return max(OUTSTANDING_MIN, math.ceil(rate_ops_per_s * load.timeout_s * OUTSTANDING_SHARE))


class Share(Record, frozen=True, kw_only=True):
    """What one of several processes makes of the session ops and edits, all of which follow one schedule.

    Of its arrivals it has every ``of``-th from number ``index`` on, of the rooms likewise.
    """

    index: Annotated[int, Meta(ge=0, lt=WORKERS_MAX)] = 0
    of: Annotated[int, Meta(ge=1, le=WORKERS_MAX)] = 1
    begins_us: int | None = None  # when the schedule does, on the run's clock; None: as the process begins to send

    @property
    def mark(self) -> str:
        """What sets this process's values and choices apart from another's; "" for the first, as for an only one."""
        return str(self.index) if self.index else ""

    def of_all[T](self, everything: Sequence[T]) -> Sequence[T]:
        """Its part of what is divided."""
        return everything[self.index :: self.of]


WHOLE = Share()


class RabbitmqPlan(Record, frozen=True, kw_only=True):
    """Where the RabbitMQ client publishes and consumes, and how often."""

    members: dict[str, str]  # host:port by name
    queues: tuple[str, ...]
    vhost: str
    user: str
    password_file: str
    rate_ops_per_s: float  # to each queue
    backlog_messages: Annotated[int, Meta(ge=0)]  # how many confirmed messages consumers leave in each queue
    persistent: bool = True  # the delivery mode of every message
    automatic_ack: bool = False  # the server takes what it has sent to a consumer for acknowledged
    poison_every: int = 0  # every so many-th message to each queue is one that its consumer rejects; 0: none


class LoadPlan(Record, frozen=True, kw_only=True):
    """Everything that Locust and the direct client need to know.

    Each process writes ``<directory>/<client>.ops.jsonl`` (ops), ``<directory>/<client>.stats.jsonl`` (a ``generator``
    event a second), ``<directory>/<client>.clock.jsonl`` (how its clock stands to the runner's) and, at its end,
    ``<directory>/<client>.summary.json``. Phases come from ``<directory>/phases.jsonl`` (`history.phase.PhaseBoard`).
    """

    base_ns: int  # of the run's clock
    boot_id: str  # of the runner's kernel, by whose clock that is
    seed: int
    load: Load
    directory: str
    edges: tuple[str, ...]  # base URLs of both edges, e.g. http://edge-0:8080
    shards: tuple[ShardPlan, ...]
    redis_password_file: str
    durability: Durability
    session_ttl_s: int
    latency_bounds_s: tuple[float, ...]  # bounds of the histograms' buckets; every SLO's threshold is one of them
    metrics_port: Annotated[int, Meta(ge=1, le=65_535)]
    postgresql: PostgresqlPlan | None = None  # for its client alone
    rabbitmq: RabbitmqPlan | None = None  # for its client alone
    personalization_rate_ops_per_s: float | None = None  # for Locust; None: the stack has no such service
    content_rate_ops_per_s: float | None = None  # of authors and readers, for Locust alone; None: there is no content
    clock_address: str = ""  # host:port where that clock is told (`load.clock`); "": nobody stands under another kernel
    share: Share | UnsetType = UNSET  # absent: all of it

    @property
    def part(self) -> Share:
        """What this process makes of the session ops and edits."""
        return WHOLE if isinstance(self.share, UnsetType) else self.share
