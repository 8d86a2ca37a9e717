"""What the members of RabbitMQ said of their queues once all was healed, and what is amiss in that.

The runner waits until nothing is (`stack.converge`), and a check judges what is on record in the end by the same.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from resilience.history.record import Instant

Number = Annotated[int, Meta(ge=0, le=2**53)]


class QueueSaid(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as one member sees it."""

    queue: str
    leader: str  # "": it knows of none
    copies: tuple[str, ...]  # the members that hold one
    online: tuple[str, ...]  # those of them that take part


class MemberSaid(msgspec.Struct, frozen=True, kw_only=True):
    """A member's statement, or ``error``: why there is none."""

    error: str = ""
    told: bool = False  # whether it has told of partitions and alarms since its start
    partitioned: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    queues: tuple[QueueSaid, ...] = ()


class QueuesSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them said at a moment; the data of the event ``queues``.

    ``unacknowledged`` and ``consumers`` count by queue what one member told of all of them; a queue whose number nobody
    told is missing. ``whole_us``: since when nothing was amiss, missing if something was, or if it is not known.
    """

    members: dict[str, MemberSaid]
    unacknowledged: dict[str, Number] = {}
    consumers: dict[str, Number] = {}
    whole_us: Instant | None = None


def amiss(seen: QueuesSeen) -> list[str]:
    """Why they are not at one, or not at rest; empty if they are."""
    return [*_silent(seen), *_apart(seen), *_disputed(seen), *_orphaned(seen)]


def unknown(seen: QueuesSeen) -> list[str]:
    """What nobody has told, so that it may be amiss."""
    untold = [name for name, said in seen.members.items() if not said.error and not said.told]
    names = {queue.queue for said in seen.members.values() for queue in said.queues}
    uncounted = sorted(names - seen.unacknowledged.keys())
    return [f"{name} has not told of partitions and alarms" for name in untold] + [
        f"how much of {name} is unacknowledged is not known" for name in uncounted
    ]


def _silent(seen: QueuesSeen) -> Iterator[str]:
    return (said.error for said in seen.members.values() if said.error)


def _apart(seen: QueuesSeen) -> Iterator[str]:
    for name, said in seen.members.items():
        if said.partitioned:
            yield f"{name} says that it was cut off from {', '.join(said.partitioned)}"
        yield from (f"{name} knows of an alarm ({alarm})" for alarm in said.alarms)


def _disputed(seen: QueuesSeen) -> Iterator[str]:
    """Queues that have no leader, or are not the same to everybody."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for name, member in seen.members.items():
        for queue in member.queues:
            said[queue.queue][name] = _told(queue)
            if not queue.leader:
                yield f"{queue.queue} has no leader by the word of {name}"
    for queue_name, by_member in said.items():
        if len(set(by_member.values())) > 1:
            yield f"{queue_name}: " + "; ".join(f"{name} says {told}" for name, told in by_member.items())


def _told(queue: QueueSaid) -> str:
    return f"led by {queue.leader or 'nobody'}, held by {', '.join(queue.copies)}, online {', '.join(queue.online)}"


def _orphaned(seen: QueuesSeen) -> Iterator[str]:
    """Messages that the server takes for being with a consumer where there is none: nobody is handed them again."""
    for name, number in seen.unacknowledged.items():
        if number and not seen.consumers.get(name):
            yield f"{name} has {number} messages unacknowledged and no consumer"
