"""The lines of a history's files: one JSON array a line, its first element says which record it is.

Instants are microseconds on the run's clock (`RunClock`). Ops, deliveries and consumed messages are written by the
clients' processes (``load/<client>.ops.jsonl``), everything else by the runner and the chaos process
(``history.jsonl``).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

INSTANT_MAX_US = 30 * 86_400 * 1_000_000  # no run takes a month, and sums of instants fit 64 bits
Instant = Annotated[int, Meta(ge=-INSTANT_MAX_US, le=INSTANT_MAX_US)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]

Outcome = Literal["ok", "fail", "unknown"]


class Line(msgspec.Struct, frozen=True, array_like=True):
    """Base of all lines."""


class Invoked(Line, frozen=True, tag="i"):
    """An op is about to be sent. ``group`` is the Redis shard (1, 2, …) that its key belongs to, 0 where none does."""

    id: Int64  # counts from 1 in each client's file
    # e.g. session.update, content.read, collaboration.edit, direct.write, postgresql.write, rabbitmq.publish,
    # register.read
    kind: str
    key: str  # of a publish the queue's name
    value: str  # unique for a write, "" for a read
    group: Int32
    phase: str
    due: Instant  # intended start
    called: Instant


ACKED_LOCALLY = "acked-locally"  # the error of a write that is ok and that no synchronous standby has confirmed


class Returned(Line, frozen=True, tag="r"):
    """The op ended, as its client saw it; an op without this line is unknown (``unfinished``)."""

    id: Int64
    outcome: Outcome
    returned: Instant
    version: Int64 = -1  # the version, or the sequence number of an edit, that the answer named; -1: none
    epoch: Int64 = -1  # the epoch of an edit
    error: str = ""  # a short class of error, e.g. "timeout", "http-503", "refused"


MISMATCH = "mismatch"  # the error of a compare-and-set that was answered: something else stood there


class Answered(Line, frozen=True, tag="a"):
    """An op that reads ended, as its client saw it: a `Returned` that speaks of a value.

    ``stood`` is what a read of a register saw there, and what a compare-and-set was to find there, "": nothing; of a
    transaction on lists what it was told (`history.transaction`).
    """

    id: Int64
    outcome: Outcome
    returned: Instant
    stood: str
    error: str = ""


class Dropped(Line, frozen=True, tag="x"):
    """An arrival that was due and never sent, since the generator had no place for it."""

    kind: str
    phase: str
    due: Instant


class Joined(Line, frozen=True, tag="j"):
    """A receiver is a member of a room from here on; ``epoch`` and ``seq`` are the last edit it has."""

    receiver: str  # unique for one member of one room over the whole run
    room: str
    epoch: Int64
    seq: Int64
    at: Instant


DELIVERED_IN_TIME_US = 2_000_000  # an edit counts as delivered to a receiver up to so long after its acknowledgement


class Delivered(Line, frozen=True, tag="d"):
    """An edit reached a receiver; ``how``: ``live`` as it was fanned out, ``replay`` after it had asked for it."""

    receiver: str
    room: str
    epoch: Int64
    seq: Int64
    edit: str  # the value of the collaboration.edit op
    at: Instant
    how: Literal["live", "replay"]


class Left(Line, frozen=True, tag="l"):
    """The receiver's connection ended; ``why``: ``stop`` (by itself), ``lost`` or ``resync``."""

    receiver: str
    room: str
    at: Instant
    why: Literal["stop", "lost", "resync"]


NEVER = -1  # an instant that is not on record


class Consumed(Line, frozen=True, tag="c"):
    """A consumer was handed a message of a queue; ``redelivered`` is the server's own flag on it.

    ``acked``: its acknowledgement was about to be sent; else the consumer lost the message with its connection, and
    never sent one. One line for each time that a message is handed over; ``came`` is when, ``at`` when one or the other
    came to pass: in between the consumer held it.
    """

    consumer: str  # unique for one consumer (one channel of one connection) over the whole run
    queue: str
    value: str  # the value of the rabbitmq.publish op
    at: Instant
    redelivered: bool
    acked: bool
    came: Instant = NEVER  # older records do not say


class Attached(Line, frozen=True, tag="k"):
    """The server has taken a consumer of a queue, which is connected to ``member``."""

    consumer: str  # as in `Consumed`
    queue: str
    member: str
    at: Instant


class Detached(Line, frozen=True, tag="q"):
    """A consumer is one no more; ``why``: ``stop`` (by itself, nothing was on its way to it), or ``lost``."""

    consumer: str
    at: Instant
    why: Literal["stop", "lost"]


class PhaseWindow(Line, frozen=True, tag="phase"):
    """A phase, ``[start, end)``; written when it ends (``end`` -1: it never did)."""

    phase: str
    start: Instant
    end: Instant


class Event(Line, frozen=True, tag="event"):
    """Something that happened at an instant. ``name`` is one of `history.event.NAMES`, ``data`` is plain JSON."""

    name: str
    at: Instant
    data: dict[str, Any]


class ClockPair(Line, frozen=True, tag="clock"):
    """The same instant on both clocks, once a second: ``wall`` in microseconds since 1970 (UTC)."""

    at: Instant
    wall: Int64


class DirectRead(Line, frozen=True, tag="direct"):
    """Audit: a key of the direct client as the shard's primary has it after healing; ``value`` None: not there."""

    key: str
    value: str | None
    group: Int32


class SessionRead(Line, frozen=True, tag="session"):
    """Audit: a session as stored after healing. ``log`` rows are (version, op id, hash of the predecessor)."""

    key: str
    group: Int32
    exists: bool
    state: str  # live, ended, or "" if it does not exist
    version: Int64
    ttl_s: Int64
    log: tuple[tuple[Int64, str, str], ...]


class RoomRead(Line, frozen=True, tag="room"):
    """Audit: a room's stored log, rows of (epoch, sequence, value of the edit).

    Where logs are in PostgreSQL, ``member`` is the one that it was read from, on ``timeline``, and the group is 0;
    "" and 0 where they are in Redis. ``unpublished`` are the sequence numbers of rows that are not marked as confirmed
    by RabbitMQ, where edits are its events.
    """

    key: str
    group: Int32
    epoch: Int64
    log: tuple[tuple[Int64, Int64, str], ...]
    member: str = ""
    timeline: Int64 = 0
    unpublished: tuple[Int64, ...] = ()


class RowRead(Line, frozen=True, tag="row"):
    """Audit: a row of PostgreSQL's table as one member has it after healing; ``value`` None: there is no such row.

    A line for each row of the table, whoever wrote it, in the order in which they were read, and one for each key that
    was asked for and is not there. ``timeline`` is the one that the member was on as it was read.
    """

    key: str
    value: str | None
    member: str
    timeline: Int64


class ListRead(Line, frozen=True, tag="list"):
    """Audit: a list of PostgreSQL as one member has it after healing, its values as `history.transaction` has them.

    ``timeline`` is the one that the member was on as it was read.
    """

    key: str
    content: str
    member: str
    timeline: Int64


class OutboxRead(Line, frozen=True, tag="outbox"):
    """Audit: a row of the session service's outbox as one member has it after healing, in the order of its writing.

    ``published``: it is marked as confirmed by RabbitMQ. ``timeline`` is the one that the member was on.
    """

    event: str  # the row's id, `history.outbox.event_of`
    published: bool
    member: str
    timeline: Int64


class EffectRead(Line, frozen=True, tag="effect"):
    """Audit: an event that has had its effect on profiles, as one member has it after healing.

    ``person`` is whose session it was, "" where it was nobody's. ``timeline`` is the one that the member was on.
    """

    event: str
    person: str
    member: str
    timeline: Int64


class ProfileRead(Line, frozen=True, tag="profile"):
    """Audit: a person's profile as one member has it after healing: its version, and how many ends it has counted."""

    person: str
    version: Int64
    sessions: Int64
    member: str
    timeline: Int64


class ArticleRead(Line, frozen=True, tag="article"):
    """Audit: an article of the content service as one member has it after healing; ``op`` is its last change."""

    article: str
    version: Int64
    op: str
    member: str
    timeline: Int64


class JobRead(Line, frozen=True, tag="job"):
    """Audit: a job of the content service as one member has it after healing, in the order of its writing.

    ``written``: it has its row (one without was worked off all the same), which is of ``version`` of its article.
    ``published``: that is marked as confirmed by RabbitMQ. ``worked``: how often its effect was written, 0 for none.
    """

    job: str  # the row's id, `history.content.job_of`
    version: Int64  # 0 without a row
    written: bool
    published: bool
    worked: Int64
    member: str
    timeline: Int64


class Drained(msgspec.Struct, frozen=True, array_like=True):
    """A message that was taken out of a queue when all was over.

    ``died_in`` and ``died_of`` are what its headers say of its first death, "" for one that never died: the queue that
    it was dropped from and the reason (``expired``, ``rejected``, ``maxlen``, ``delivery_limit``).
    """

    value: str
    redelivered: bool
    died_in: str = ""
    died_of: str = ""


class QueueRead(Line, frozen=True, tag="queue"):
    """Audit: what was still in a queue after healing, in the order in which it came out.

    A long queue has several lines, an empty one has a line without a message. ``member`` is the one that it was read
    through, "" in older records.
    """

    queue: str
    messages: tuple[Drained, ...]
    member: str = ""


AuditKind = Literal["direct", "session", "room", "postgresql", "lists", "outbox", "profiles", "content", "rabbitmq"]


class AuditDone(Line, frozen=True, tag="audited"):
    """Audit: everything of that kind that was asked for has been read.

    ``count`` are the keys of ``direct``, ``session`` and ``room``, the `RowRead` lines of ``postgresql``, the
    `ListRead` lines of ``lists``, the `OutboxRead` lines of ``outbox``, the `EffectRead` and `ProfileRead` lines of
    ``profiles``, the `ArticleRead` and `JobRead` lines of ``content``, the messages of ``rabbitmq``; queues count as
    read once they were empty and nobody held a message unacknowledged.
    """

    kind: AuditKind
    count: Int64
    at: Instant


class Series(Line, frozen=True, tag="series"):
    """Raw samples of one Prometheus series, as they were stored (``samples.jsonl``); times are wall seconds.

    ``selector`` is the query that asked for it, ``labels`` what Prometheus calls it.
    """

    selector: str
    labels: dict[str, str]
    times_s: Sequence[float]
    values: Sequence[float]


class QueryFailed(Line, frozen=True, tag="query-failed"):
    """A query to Prometheus that gave no usable answer (``samples.jsonl``)."""

    selector: str
    reason: str


OpLine = Invoked | Returned | Answered | Dropped | Joined | Delivered | Left | Consumed | Attached | Detached
RunLine = PhaseWindow | Event | ClockPair
AuditLine = (
    DirectRead
    | SessionRead
    | RoomRead
    | RowRead
    | ListRead
    | OutboxRead
    | EffectRead
    | ProfileRead
    | ArticleRead
    | JobRead
    | QueueRead
    | AuditDone
)
SampleLine = Series | QueryFailed
