"""What members' answers mean, and each thing that keeps a cluster from being ready."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from resilience.errors import StackError
from resilience.history.queues import MemberSaid, QueueSaid
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.stack import Async, Member, Redis, Stack
from resilience.stack.rabbitmq import incomplete, queues_seen
from resilience.stack.rabbitmq_view import (
    MemberView,
    QueueRole,
    QueueView,
    apart,
    counts_from_answers,
    homes,
    initial_queue_roles,
    queues_from_answer,
    roles,
    state_of_queue,
    undeclared,
    unready,
    untold,
    view_from_answers,
)
from tests.fakes import FakePlatform

NAMES = ("rabbitmq-0", "rabbitmq-1", "rabbitmq-2")
STACK = Stack(
    name="three",
    durability=Async(),
    nodes=("node-1", "node-2", "node-3"),
    restart_delay_s=1,
    session_ttl_s=600,
    scrape_interval_s=1,
    redis=Redis(),
    shards=(),
    members=tuple(Member(name=name, component="rabbitmq", node=f"node-{at}") for at, name in enumerate(NAMES, 1)),
    rabbitmq=Rabbitmq(dead_letter=False),
)
QUEUES = ("session-events", "content-processing", "collaboration-sync")


def queue(name: str = QUEUES[0], leader: str = NAMES[0], online: tuple[str, ...] = NAMES) -> QueueView:
    return QueueView(queue=name, leader=leader, copies=NAMES, online=online)


def view(**fields: Any) -> MemberView:
    whole: dict[str, Any] = {
        "running": NAMES,
        "told": True,
        "partitioned": (),
        "alarms": (),
        "queues": tuple(map(queue, QUEUES)),
    }
    return MemberView(**(whole | fields))


WELL: dict[str, MemberView | StackError] = dict.fromkeys(NAMES, view())


def test_a_whole_cluster_is_ready() -> None:
    assert apart(STACK, WELL) == []
    assert unready(STACK, WELL) == []
    assert undeclared(STACK, WELL) == []


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    said: MemberView | StackError  # by rabbitmq-1; the others say that all is well
    expect: str


@pytest.mark.parametrize(
    "case",
    [
        Case(name="silent", said=StackError("rabbitmq-1 does not answer"), expect="rabbitmq-1 does not answer"),
        Case(name="alone", said=view(running=NAMES[1:2]), expect="does not see rabbitmq-0, rabbitmq-2 running"),
        Case(name="cut off", said=view(partitioned=NAMES[:1]), expect="it was cut off from rabbitmq-0"),
        Case(name="alarm", said=view(alarms=("rabbitmq-2: disk",)), expect="an alarm (rabbitmq-2: disk)"),
        Case(name="no queue", said=view(queues=view().queues[1:]), expect="there is no queue session-events"),
        Case(name="no leader", said=view(queues=(queue(leader=""), *view().queues[1:])), expect="has no leader"),
        Case(
            name="a copy is away",
            said=view(queues=(queue(online=NAMES[:2]), *view().queues[1:])),
            expect="session-events has 2 of 3 copies online",
        ),
    ],
    ids=lambda case: case.name,
)
def test_one_members_word_is_enough_to_be_unready(case: Case) -> None:
    reasons = unready(STACK, WELL | {"rabbitmq-1": case.said})
    assert len(reasons) == 1
    assert "rabbitmq-1" in reasons[0]
    assert case.expect in reasons[0]


def test_that_nothing_was_told_is_told() -> None:
    assert untold(WELL | {"rabbitmq-0": StackError("silent")}) == []
    assert untold(WELL | {"rabbitmq-2": view(told=False)}) == ["rabbitmq-2 has not told of partitions and alarms yet"]


def test_a_classic_queue_has_one_copy() -> None:
    stack = msgspec.structs.replace(STACK, rabbitmq=Rabbitmq(queue_kind="classic", dead_letter=False))
    there = tuple(QueueView(queue=name, leader=NAMES[1], copies=NAMES[1:2], online=NAMES[1:2]) for name in QUEUES)
    assert unready(stack, dict.fromkeys(NAMES, view(queues=there))) == []
    gone = (msgspec.structs.replace(there[0], leader="", online=()), *there[1:])
    assert unready(
        stack, {NAMES[0]: view(queues=gone), NAMES[1]: view(queues=there), NAMES[2]: view(queues=there)}
    ) == ["rabbitmq-0: session-events has no leader"]


def test_queues_are_declared_until_every_member_knows_them() -> None:
    stack = msgspec.structs.replace(STACK, rabbitmq=Rabbitmq())
    assert undeclared(stack, WELL) == [f"{name}.dead" for name in QUEUES]
    assert undeclared(STACK, WELL | {"rabbitmq-2": view(queues=())}) == list(QUEUES)


def test_each_queue_begins_on_a_member_in_turn() -> None:
    assert homes(STACK) == dict(zip(QUEUES, NAMES, strict=True))
    first = [role for role in initial_queue_roles(STACK) if role.queue == QUEUES[1]]
    assert [(role.member, role.role) for role in first] == [
        ("rabbitmq-0", "follower"),
        ("rabbitmq-1", "leader"),
        ("rabbitmq-2", "follower"),
    ]
    classic = msgspec.structs.replace(STACK, rabbitmq=Rabbitmq(queue_kind="classic"))
    assert {role.role for role in initial_queue_roles(classic)} == {"leader"}
    assert initial_queue_roles(msgspec.structs.replace(STACK, rabbitmq=None)) == ()


NODES = [
    {"name": "rabbit@rabbitmq-0", "running": True, "partitions": [], "mem_alarm": False, "disk_free_alarm": False},
    {
        "name": "rabbit@rabbitmq-1",
        "running": True,
        "partitions": ["rabbit@rabbitmq-2"],
        "mem_alarm": True,
        "disk_free_alarm": 0,
    },
    {"name": "rabbit@rabbitmq-2", "running": False},
]


def test_answers_are_read_from_the_members_own_point_of_view() -> None:
    quorum = {
        "name": "q",
        "type": "quorum",
        "state": "running",
        "node": "rabbit@rabbitmq-1",
        "leader": "rabbit@rabbitmq-1",
        "members": ["rabbit@rabbitmq-2", "rabbit@rabbitmq-1", "rabbit@rabbitmq-0"],
        "online": ["rabbit@rabbitmq-1", "rabbit@rabbitmq-0"],
    }
    classic = {"name": "c", "type": "classic", "state": "running", "node": "rabbit@rabbitmq-0"}
    seen = view_from_answers("rabbitmq-1", NODES, [quorum, classic, classic | {"name": "d", "state": "down"}])
    assert seen == MemberView(
        running=NAMES[:2],
        told=True,
        partitioned=("rabbitmq-2",),
        alarms=("rabbitmq-1: memory",),
        queues=(
            QueueView(queue="q", leader="rabbitmq-1", copies=NAMES, online=NAMES[:2]),
            QueueView(queue="c", leader="rabbitmq-0", copies=NAMES[:1], online=NAMES[:1]),
            QueueView(queue="d", leader="", copies=NAMES[:1], online=()),
        ),
    )
    assert view_from_answers("rabbitmq-0", NODES, []).partitioned == ()
    assert not view_from_answers("rabbitmq-2", NODES, []).told


@pytest.mark.parametrize("nodes", [None, 3, [3], [{}], {"error": "x"}])
def test_an_answer_of_another_shape_is_a_members_misbehaviour(nodes: Any) -> None:
    with pytest.raises(StackError, match="rabbitmq-1 answers about its cluster"):
        view_from_answers("rabbitmq-1", nodes, [])


def led_by(*leaders: str) -> list[MemberView]:
    return [view(queues=(queue(leader=leader),)) for leader in leaders]


@pytest.mark.parametrize(
    ("leaders", "leader"),
    [
        (("rabbitmq-0", "rabbitmq-0", "rabbitmq-0"), "rabbitmq-0"),
        (("rabbitmq-0", "rabbitmq-1", "rabbitmq-1"), "rabbitmq-1"),
        (("rabbitmq-0", "rabbitmq-1"), ""),
        (("", "", "rabbitmq-1"), ""),
        (("rabbitmq-2",), "rabbitmq-2"),
    ],
)
def test_a_leader_is_whom_most_of_those_who_answer_name(leaders: tuple[str, ...], leader: str) -> None:
    found = roles(led_by(*leaders))
    assert [role.member for role in found if role.role == "leader"] == ([leader] if leader else [])
    followers = [QueueRole(member=name, queue=QUEUES[0], role="follower") for name in NAMES if name != leader]
    assert [role for role in found if role.role == "follower"] == (followers if leader else [])


def test_nobody_who_answers_is_nobody_who_leads() -> None:
    assert roles([]) == ()


@pytest.mark.parametrize("queues", [None, 3, [3], [{}], {"error": "x"}])
def test_so_is_one_about_its_queues(queues: Any) -> None:
    with pytest.raises(StackError, match="rabbitmq-1 answers about its queues"):
        queues_from_answer("rabbitmq-1", queues)


A, B, C = NAMES


@dataclass(frozen=True, kw_only=True)
class Said:
    name: str
    answers: tuple[tuple[str, tuple[str, ...]], ...]  # of each member that answers: the leader, and who takes part
    leader: str
    online: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "case",
    [
        Said(name="all agree", answers=((A, NAMES),) * 3, leader=A, online=NAMES),
        Said(name="one was cut off", answers=((B, (B, C)), (B, (B, C)), (A, (A,))), leader=B, online=(B, C)),
        Said(name="halves", answers=((A, (A, B)), (B, (B,))), leader="", online=(B,)),
        Said(name="an election", answers=(("", (A, B)), ("", (A, B))), leader="", online=(A, B)),
        Said(name="only one answers", answers=((C, (A, C)),), leader=C, online=(A, C)),
        Said(name="nobody answers", answers=(), leader=""),
    ],
    ids=lambda case: case.name,
)
def test_a_queue_is_what_most_of_those_who_answer_say(case: Said) -> None:
    answers = [(queue(leader=leader, online=online), queue(QUEUES[1])) for leader, online in case.answers]
    copies = NAMES if answers else ()
    expected = QueueView(queue=QUEUES[0], leader=case.leader, copies=copies, online=case.online)
    assert state_of_queue(QUEUES[0], answers) == expected


def test_what_goes_with_its_connection_is_none_of_the_stacks_queues() -> None:
    own = {"name": "amq.gen-1", "node": "rabbit@rabbitmq-1", "state": "running", "messages_unacknowledged": 1}
    other = own | {"name": "q"}
    assert [one.queue for one in queues_from_answer("rabbitmq-1", [own, other])] == ["q"]
    consumers = [{"queue": {"name": name}} for name in ("amq.gen-1", "q")]
    assert counts_from_answers("rabbitmq-1", [own, other], consumers) == ({"q": 1}, {"q": 1})


def test_what_is_unacknowledged_and_who_consumes() -> None:
    totals = [{"name": "q", "messages_unacknowledged": 3}, {"name": "its leader is away"}]
    consumers = [{"queue": {"name": "q", "vhost": "v"}}, {"queue": {"name": "q", "vhost": "v"}}]
    assert counts_from_answers("rabbitmq-1", totals, consumers) == ({"q": 3}, {"q": 2})
    for wrong in (None, [3], [{"messages_unacknowledged": 1}], [{"name": "q", "messages_unacknowledged": "x"}]):
        with pytest.raises(StackError, match="rabbitmq-1 answers about messages"):
            counts_from_answers("rabbitmq-1", wrong, consumers)


SILENT = StackError("rabbitmq-1 does not answer")
WHOLE = dict.fromkeys(NAMES, view())


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ([], ""),
        ([WHOLE | {B: SILENT}], ""),
        ([WHOLE | {B: SILENT}, WHOLE | {C: view(told=False)}], ""),
        ([WHOLE | {B: SILENT}] * 99, "rabbitmq-1 does not answer"),
        ([WHOLE | {C: view(told=False)}] * 99, "rabbitmq-2 has not told of partitions and alarms yet"),
        ([WHOLE | {A: view(partitioned=(B,))}] * 99, "rabbitmq-0 says that it was cut off from rabbitmq-1"),
    ],
    ids=["whole", "a slow answer", "told late", "silent", "untold", "partitioned"],
)
def test_a_cluster_is_looked_at_several_times(
    first: list[dict[str, MemberView | StackError]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([*first, WHOLE])
    monkeypatch.setattr("resilience.stack.rabbitmq.survey", lambda _platform: next(looks))
    said = incomplete(FakePlatform(STACK, {}, {}), within_s=0.3)
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_stack_without_it_has_no_whole_cluster() -> None:
    nothing = FakePlatform(msgspec.structs.replace(STACK, rabbitmq=None), {}, {})
    assert incomplete(nothing) == "the stack three has no RabbitMQ"


def test_what_was_seen_goes_on_record() -> None:
    nobody = FakePlatform(msgspec.structs.replace(STACK, members=()), {}, {"rabbitmq-password": "x"})
    seen = queues_seen(nobody, {A: view(queues=(queue(),)), B: StackError("rabbitmq-1 is silent")})
    said = QueueSaid(queue=QUEUES[0], leader=A, copies=NAMES, online=NAMES)
    assert seen.members == {A: MemberSaid(told=True, queues=(said,)), B: MemberSaid(error="rabbitmq-1 is silent")}
    assert (seen.unacknowledged, seen.consumers, seen.whole_us) == ({}, {}, None)
