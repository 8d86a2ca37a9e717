"""The load of a scenario: how much of what arrives, and the least that a verdict can rest on."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from resilience.spec.record import Record

Rate = Annotated[float, Meta(gt=0, le=100_000)]
Seconds = Annotated[float, Meta(gt=0, le=3_600)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
WORKERS_MAX = 16
Workers = Annotated[int, Meta(ge=1, le=WORKERS_MAX)]


POSTGRESQL_RATE_OPS_PER_S = 20.0  # each way, every 50 ms: outages are told to that
Isolation = Literal["read committed", "repeatable read", "serializable"]
POSTGRESQL_ISOLATION: Isolation = "serializable"  # what they read must fit some order of all of them
CONTENT_RATE_OPS_PER_S = 40.0
RABBITMQ_RATE_OPS_PER_S = 30.0  # through each of three members ten times a second: outages are told to a tenth
PERSONALIZATION_RATE_OPS_PER_S = 20.0
RABBITMQ_BACKLOG_S = 10.0  # how far consumers are behind: there has to be something in a queue that could be lost


class Load(Record, frozen=True, kw_only=True):
    """Open load: arrivals follow a schedule that never waits for answers.

    The ``…_min`` fields are the rates under which a run is inconclusive; they default to 90 % of what is asked for.
    """

    session_rate_ops_per_s: Rate = 150.0
    session_rate_ops_per_s_min: Rate | None = None
    edit_rate_ops_per_s: Rate = 50.0
    edit_rate_ops_per_s_min: Rate | None = None
    rooms: Count = 20
    room_members: Count = 5
    direct_rate_ops_per_s: Rate = 100.0  # for each Redis shard
    direct_rate_ops_per_s_min: Rate | None = None
    # through PgBouncers, and as often straight to the primary, where the stack has PostgreSQL; None:
    # `POSTGRESQL_RATE_OPS_PER_S`
    postgresql_rate_ops_per_s: Rate | None = None
    postgresql_rate_ops_per_s_min: Rate | None = None
    # ops on registers in PostgreSQL, both ways together; None: there are none
    postgresql_register_rate_ops_per_s: Rate | None = None
    # transactions on lists in PostgreSQL, through PgBouncers; None: there are none
    postgresql_list_rate_ops_per_s: Rate | None = None
    # the isolation level that they ask for; None: `POSTGRESQL_ISOLATION`
    postgresql_list_isolation: Isolation | None = None
    # of authors and readers, where the stack has the content service; None: `CONTENT_RATE_OPS_PER_S`
    content_rate_ops_per_s: Rate | None = None
    content_rate_ops_per_s_min: Rate | None = None
    # to each queue, where the stack has RabbitMQ; None: `RABBITMQ_RATE_OPS_PER_S`
    rabbitmq_rate_ops_per_s: Rate | None = None
    rabbitmq_rate_ops_per_s_min: Rate | None = None
    # every so many-th message to each queue is a poison message: its consumer can only reject it, each time; None: none
    rabbitmq_poison_every: Count | None = None
    # suggestions that are read, and interests that are set, where the stack has the personalization service; None:
    # `PERSONALIZATION_RATE_OPS_PER_S`
    personalization_rate_ops_per_s: Rate | None = None
    timeout_s: Seconds = 2.0  # of one op, seen from its client; always under stop_timeout_s
    stop_timeout_s: Seconds = 6.0  # how long unfinished ops are waited for at the end
    workers: Workers | UnsetType = UNSET  # processes that make session ops and edits, each its share; absent: 1

    def __post_init__(self) -> None:
        """A load of one process has one form, so that it has one fingerprint however it was written."""
        if self.workers == 1:
            msgspec.structs.force_setattr(self, "workers", UNSET)

    @property
    def processes(self) -> int:
        """How many processes make session ops and edits."""
        return 1 if isinstance(self.workers, UnsetType) else self.workers

    @property
    def postgresql_ops_per_s(self) -> float:
        """What is asked for each way to PostgreSQL."""
        return POSTGRESQL_RATE_OPS_PER_S if self.postgresql_rate_ops_per_s is None else self.postgresql_rate_ops_per_s

    @property
    def postgresql_isolation(self) -> Isolation:
        """The isolation level that transactions on lists ask for."""
        return POSTGRESQL_ISOLATION if self.postgresql_list_isolation is None else self.postgresql_list_isolation

    @property
    def personalization_ops_per_s(self) -> float:
        """What is asked of the personalization service."""
        rate = self.personalization_rate_ops_per_s
        return PERSONALIZATION_RATE_OPS_PER_S if rate is None else rate

    @property
    def content_ops_per_s(self) -> float:
        """What is asked for of the content service."""
        return CONTENT_RATE_OPS_PER_S if self.content_rate_ops_per_s is None else self.content_rate_ops_per_s

    @property
    def rabbitmq_ops_per_s(self) -> float:
        """What is asked for to each queue."""
        return RABBITMQ_RATE_OPS_PER_S if self.rabbitmq_rate_ops_per_s is None else self.rabbitmq_rate_ops_per_s

    @property
    def rabbitmq_backlog_messages(self) -> int:
        """How many confirmed messages consumers leave in each queue."""
        return math.ceil(self.rabbitmq_ops_per_s * RABBITMQ_BACKLOG_S)


def numbered(name: str, index: int) -> str:
    """What the process with that number is called, and the member that it runs in: the first has the plain name."""
    return f"{name}-{index}" if index else name
