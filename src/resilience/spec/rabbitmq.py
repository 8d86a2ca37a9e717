"""The RabbitMQ cluster of a stack: every knob of it that changes what may be lost, or for how long nothing is taken."""

from typing import Annotated, Literal

from msgspec import Meta

from resilience.spec.record import Record

QueueName = Literal["session-events", "content-processing", "collaboration-sync"]
QUEUES: tuple[QueueName, ...] = ("session-events", "content-processing", "collaboration-sync")
PRIORITY_QUEUE: QueueName = "session-events"
ROOM_QUEUE: QueueName = "collaboration-sync"
ROOM_EXCHANGE = ROOM_QUEUE  # by which edits come into it, where they are events, and to each instance of the service
VHOST = "harmonyflow"
USER = "harmonyflow"
SERVER_PORT, MANAGEMENT_PORT, METRICS_PORT = 5672, 15672, 15692
DISTRIBUTION_PORT = 25672  # by which members talk to one another

YEAR_MS = 366 * 86_400_000


class Rabbitmq(Record, frozen=True, kw_only=True):
    """The cluster as HarmonyFlow runs it; the fields are the server's own settings, policies and queue arguments.

    Messages of a quorum queue have two priorities in RabbitMQ 4.0, always: 0 to 4 and those over it. A classic queue
    has those that it was declared with, so ``max_priority`` is for them alone. ``delivery_limit`` is for quorum queues
    alone: a classic queue delivers a message as often as it comes back. ``delivery_mode`` is that of every message that
    is published, ``acknowledgement`` the mode of every consumer: with ``automatic`` a message is acknowledged as the
    server has sent it, whatever becomes of it then.
    """

    cluster_partition_handling: Literal["ignore", "pause_minority", "autoheal"] = "pause_minority"
    net_ticktime_s: Annotated[int, Meta(ge=4, le=3_600)] = 60  # a silent peer is given up after 75 to 125 % of it
    queue_kind: Literal["quorum", "classic"] = "quorum"
    max_priority: Annotated[int, Meta(ge=1, le=255)] = 5  # of session-events
    message_ttl_ms: Annotated[int, Meta(ge=1_000, le=YEAR_MS)] = 3_600_000
    delivery_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    dead_letter: bool = True  # False: what is expired or delivered too often is gone
    delivery_mode: Literal["persistent", "transient"] = "persistent"  # a quorum queue keeps either kind on its disks
    acknowledgement: Literal["manual", "automatic"] = "manual"


def dead_letter_queue(queue: str) -> str:
    """The queue that takes what a queue gives up."""
    return f"{queue}.dead"


def dead_letter_exchange(queue: str) -> str:
    """The exchange that a queue gives it up to."""
    return f"{queue}.dlx"


def all_queues(rabbitmq: Rabbitmq) -> tuple[str, ...]:
    """Every queue there is, those for dead letters last."""
    return QUEUES + (tuple(map(dead_letter_queue, QUEUES)) if rabbitmq.dead_letter else ())
