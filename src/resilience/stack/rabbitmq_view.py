"""What one RabbitMQ member says of its cluster, and what a cluster still lacks by the statements of all of them.

Members are named as in the stack file; a node of Erlang's is ``rabbit@`` and that name.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from resilience.errors import StackError
from resilience.spec.rabbitmq import all_queues
from resilience.spec.stack import Stack

Role = Literal["leader", "follower"]
_NODE = "rabbit@"
_COUNTED = "messages_unacknowledged"
_TOLD = frozenset({"partitions", "mem_alarm", "disk_free_alarm"})
_ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "disk"}


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A queue as a member sees it: a classic one has its only copy where its leader is."""

    queue: str
    leader: str  # "": it knows of none
    copies: tuple[str, ...]  # the members that hold one, the leader among them
    online: tuple[str, ...]  # those of them that take part


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member's statement of its cluster."""

    running: tuple[str, ...]  # whom it sees running, itself among them
    told: bool  # whether it has told of its partitions and alarms yet, which takes some seconds after its start
    partitioned: tuple[str, ...]  # from whom it says that it was cut off, and has not been put right since
    alarms: tuple[str, ...]  # ``member: memory`` or ``member: disk``: nobody may publish while there is one
    queues: tuple[QueueView, ...]


class QueueRole(msgspec.Struct, frozen=True, kw_only=True):
    """What a member is to a queue."""

    member: str
    queue: str
    role: Role


def view_from_answers(member: str, nodes: Any, queues: Any) -> MemberView:
    """The statement in the answers to ``/api/nodes`` and ``/api/queues/VHOST``. Raises `StackError` for other ones."""
    known = queues_from_answer(member, queues)
    try:
        mine: dict[str, Any] = next((node for node in nodes if _member(node["name"]) == member), {})
        return MemberView(
            running=_members(node["name"] for node in nodes if node.get("running")),
            told=mine.keys() >= _TOLD,
            partitioned=_members(mine.get("partitions", ())),
            alarms=tuple(
                f"{_member(node['name'])}: {alarm}"
                for node in nodes
                for field, alarm in _ALARMS.items()
                if node.get(field)
            ),
            queues=known,
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise StackError(f"{member} answers about its cluster what cannot be understood: {error!r}") from error


def queues_from_answer(member: str, queues: Any) -> tuple[QueueView, ...]:
    """The queues in a member's answer to ``/api/queues/VHOST``. Raises `StackError` for another one.

    What belongs to a connection, and goes with it, is none of the stack's.
    """
    try:
        return tuple(_queue(queue) for queue in queues if _lasts(queue["name"]))
    except (TypeError, KeyError, AttributeError) as error:
        raise StackError(f"{member} answers about its queues what cannot be understood: {error!r}") from error


def _lasts(queue: str) -> bool:
    """Whether it is not one that a server has named for a client."""
    return not queue.startswith("amq.")


def _queue(queue: Any) -> QueueView:
    leader = queue.get("leader") or queue.get("node") or ""
    running = queue.get("state") == "running"
    copies = queue.get("members") or ([leader] if leader else [])
    online = queue.get("online") if "members" in queue else (copies if running else [])
    return QueueView(
        queue=queue["name"],
        leader=_member(leader) if running else "",
        copies=_members(copies),
        online=_members(online or ()),
    )


def _members(nodes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(map(_member, nodes)))


def _member(node: str) -> str:
    return node.removeprefix(_NODE)


def counts_from_answers(member: str, totals: Any, consumers: Any) -> tuple[dict[str, int], dict[str, int]]:
    """What is unacknowledged, and how many consumers there are, by queue. Raises `StackError` for other answers.

    Of a queue whose leader is away a member knows no number.
    """
    try:
        held = {queue["name"]: int(queue[_COUNTED]) for queue in totals if _COUNTED in queue}
        consumed = Counter(str(consumer["queue"]["name"]) for consumer in consumers)
        return _lasting(held), _lasting(consumed)
    except (TypeError, KeyError, ValueError) as error:
        raise StackError(f"{member} answers about messages what cannot be understood: {error!r}") from error


def _lasting(counts: Mapping[str, int]) -> dict[str, int]:
    return {queue: number for queue, number in counts.items() if _lasts(queue)}


def apart(stack: Stack, views: Mapping[str, MemberView | StackError]) -> list[str]:
    """Why the members are not one cluster that takes messages; empty if they are."""
    names = [member.name for member in stack.of("rabbitmq")]
    reasons: list[str] = []
    for name in names:
        view = views[name]
        if isinstance(view, StackError):
            reasons.append(str(view))
            continue
        if away := [other for other in names if other not in view.running]:
            reasons.append(f"{name} does not see {', '.join(away)} running")
        if view.partitioned:
            reasons.append(f"{name} says that it was cut off from {', '.join(view.partitioned)}")
        reasons += [f"{name} knows of an alarm ({alarm})" for alarm in view.alarms]
    return reasons


def unready(stack: Stack, views: Mapping[str, MemberView | StackError]) -> list[str]:
    """Why this is no cluster whose queues are complete, in the eyes of each of its members; empty if it is."""
    reasons = apart(stack, views)
    for name, view in views.items():
        if isinstance(view, MemberView):
            reasons += [f"{name}: {reason}" for reason in _incomplete(stack, view)]
    return reasons


def untold(views: Mapping[str, MemberView | StackError]) -> list[str]:
    """The members that have not told of partitions and alarms since their start: that there is none is not known."""
    silent = (name for name, view in views.items() if isinstance(view, MemberView) and not view.told)
    return [f"{name} has not told of partitions and alarms yet" for name in silent]


def _incomplete(stack: Stack, view: MemberView) -> Iterator[str]:
    assert stack.rabbitmq is not None
    copies = len(stack.of("rabbitmq")) if stack.rabbitmq.queue_kind == "quorum" else 1
    known = {queue.queue: queue for queue in view.queues}
    for name in all_queues(stack.rabbitmq):
        queue = known.get(name)
        if queue is None:
            yield f"there is no queue {name}"
        elif not queue.leader:
            yield f"{name} has no leader"
        elif len(queue.online) < copies:
            yield f"{name} has {len(queue.online)} of {copies} copies online"


def undeclared(stack: Stack, views: Mapping[str, MemberView | StackError]) -> list[str]:
    """The queues that some member does not know of yet."""
    assert stack.rabbitmq is not None
    known = [{queue.queue for queue in view.queues} for view in views.values() if isinstance(view, MemberView)]
    return [name for name in all_queues(stack.rabbitmq) if not all(name in queues for queues in known)]


def homes(stack: Stack) -> dict[str, str]:
    """The member that each queue is declared on, and is led by until something happens to it: each in turn."""
    assert stack.rabbitmq is not None
    members = stack.of("rabbitmq")
    return {name: members[at % len(members)].name for at, name in enumerate(all_queues(stack.rabbitmq))}


def initial_queue_roles(stack: Stack) -> tuple[QueueRole, ...]:
    """Who leads and who follows each queue right after they were declared; nobody where there is no RabbitMQ."""
    if stack.rabbitmq is None:
        return ()
    every = [member.name for member in stack.of("rabbitmq")]
    return tuple(
        QueueRole(member=member, queue=name, role="leader" if member == home else "follower")
        for name, home in homes(stack).items()
        for member in (every if stack.rabbitmq.queue_kind == "quorum" else [home])
    )


def roles(views: Sequence[MemberView]) -> tuple[QueueRole, ...]:
    """Who leads each queue and who follows, by the statement of most members; of a queue that they disagree about in
    halves nobody is known to be the leader.
    """
    return roles_by([view.queues for view in views])


def roles_by(answers: Sequence[Sequence[QueueView]]) -> tuple[QueueRole, ...]:
    """The same by each member's answer about the queues."""
    names = dict.fromkeys(queue.queue for queues in answers for queue in queues)
    return tuple(role for name in names for role in _roles_in(name, _stated(name, answers)))


def state_of_queue(name: str, answers: Sequence[Sequence[QueueView]]) -> QueueView:
    """A queue by the word of most of those who answered: its leader, and whom more than half of them see take part.

    Nobody is known to lead it where they disagree in halves, or where nobody answered.
    """
    stated = _stated(name, answers)
    seen = [member for queue in stated for member in queue.online]
    return QueueView(
        queue=name,
        leader=_of_most([queue.leader for queue in stated]),
        copies=tuple(sorted({copy for queue in stated for copy in queue.copies})),
        online=tuple(sorted({member for member in seen if 2 * seen.count(member) > len(stated)})),
    )


def _stated(name: str, answers: Sequence[Sequence[QueueView]]) -> list[QueueView]:
    return [queue for queues in answers for queue in queues if queue.queue == name]


def _roles_in(name: str, stated: Sequence[QueueView]) -> Iterator[QueueRole]:
    leader = _of_most([queue.leader for queue in stated])
    for member in sorted({copy for queue in stated for copy in queue.copies}):
        if member == leader:
            yield QueueRole(member=member, queue=name, role="leader")
        elif leader:
            yield QueueRole(member=member, queue=name, role="follower")


def _of_most(leaders: Sequence[str]) -> str:
    """The leader that more than half of those who answered name, "" if there is none."""
    return next((leader for leader in leaders if leader and 2 * leaders.count(leader) > len(leaders)), "")
