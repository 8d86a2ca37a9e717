from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from resilience.errors import StackError
from resilience.stack.redis_survey import (
    Attached,
    Replication,
    Survey,
    Surveys,
    diverged,
    fields_from_info,
    replication_from_info,
    unready,
    written_before,
)
from tests.unit.stack.views import HOSTS, NAMES, PRIMARIES, REPLICAS, STACK, view

Surveyed = dict[str, Survey | StackError]
OFFSET = 1_000


def healthy() -> Surveyed:
    return {
        name: Survey(
            view=view(name),
            state="ok",
            replication=Replication(
                offset=OFFSET,
                link_up=True,
                attached=() if name in REPLICAS else (Attached(host=HOSTS[NAMES[at + 3]], online=True, offset=OFFSET),),
            ),
        )
        for at, name in enumerate(NAMES)
    }


def but(member: str, **changed: object) -> Surveyed:
    surveys = healthy()
    one = surveys[member]
    assert isinstance(one, Survey)
    return surveys | {member: msgspec.structs.replace(one, **changed)}


def replicating(member: str, *attached: Attached, link_up: bool = True) -> Surveyed:
    return but(member, replication=Replication(offset=OFFSET, link_up=link_up, attached=attached))


@dataclass(frozen=True)
class Case:
    name: str
    surveys: Surveys
    reason: str


HOST_3 = HOSTS[NAMES[3]]
NOT_READY = (
    Case("a member is silent", healthy() | {NAMES[4]: StackError("redis-cluster-4: refused")}, "redis-cluster-4: ref"),
    Case("a member says fail", but(NAMES[5], state="fail"), "redis-cluster-5: cluster_state:fail"),
    Case("no replica attached", replicating(NAMES[0]), f"redis-cluster-0: 0 of 1 replicas online, not {HOST_3}"),
    Case(
        "a replica that is still copying",
        replicating(NAMES[0], Attached(host=HOST_3, online=False, offset=0)),
        "redis-cluster-0: 0 of 1 replicas online",
    ),
    Case(
        "somebody else's replica",
        replicating(NAMES[0], Attached(host=HOSTS[NAMES[4]], online=True, offset=OFFSET)),
        f"not {HOST_3}",
    ),
    Case(
        "a replica that is none any more",
        but(NAMES[3], view=view(NAMES[3], replicas={NAMES[4]: 2, NAMES[5]: 3})),
        "shard 1 has 0 of 1 replicas",
    ),
    Case(
        "a shard that nobody owns",
        {
            name: msgspec.structs.replace(one, view=view(name, primaries={2: PRIMARIES[2], 3: PRIMARIES[3]}))
            for name, one in healthy().items()
            if isinstance(one, Survey)
        },
        "shard 1 has no primary",
    ),
)
NOT_CONVERGED = (
    Case("a suspicion", but(NAMES[1], view=view(NAMES[1], flags={NAMES[2]: "fail?"})), "takes 198.18.1.2 for fail?"),
    Case("a slot on the move", but(NAMES[1], view=view(NAMES[1], moving="[5461->-x]")), "slots are being moved"),
    Case(
        "a stranger",
        but(NAMES[1], view=view(NAMES[1], flags={NAMES[5]: "handshake"})),
        "redis-cluster-1 knows 5 of 6 members",
    ),
    Case(
        "two views of one shard",
        but(NAMES[5], view=view(NAMES[5], primaries={**PRIMARIES, 1: (NAMES[3], 1)})),
        "redis-cluster-5 and redis-cluster-0 disagree",
    ),
    Case(
        "slots without owner in one view",
        but(NAMES[5], view=view(NAMES[5], primaries={2: PRIMARIES[2], 3: PRIMARIES[3]})),
        "knows the owners of 10923 of 16384 slots",
    ),
    Case(
        "a replica lags",
        replicating(NAMES[0], Attached(host=HOST_3, online=True, offset=OFFSET - 1)),
        f"redis-cluster-0: replica {HOST_3} has acknowledged 999 of 1000 bytes",
    ),
    Case("a link that is down", replicating(NAMES[3], link_up=False), "redis-cluster-3 has no link to its primary"),
)


def test_a_healthy_cluster_is_ready_and_converged():
    assert unready(STACK, HOSTS, healthy()) == []
    assert diverged(STACK, HOSTS, healthy()) == []


@pytest.mark.parametrize("case", NOT_READY, ids=lambda case: case.name)
def test_what_is_not_ready_is_said(case: Case):
    assert any(case.reason in reason for reason in unready(STACK, HOSTS, case.surveys))


@pytest.mark.parametrize("case", NOT_READY + NOT_CONVERGED, ids=lambda case: case.name)
def test_what_has_not_converged_is_said(case: Case):
    assert any(case.reason in reason for reason in diverged(STACK, HOSTS, case.surveys))


@pytest.mark.parametrize("case", NOT_CONVERGED, ids=lambda case: case.name)
def test_readiness_asks_for_less_than_convergence(case: Case):
    assert unready(STACK, HOSTS, case.surveys) == []


def test_a_replica_has_to_catch_up_only_with_what_was_written_by_the_first_look():
    behind = replicating(NAMES[0], Attached(host=HOST_3, online=True, offset=OFFSET - 1))
    assert diverged(STACK, HOSTS, behind, {NAMES[0]: OFFSET - 1}) == []
    assert diverged(STACK, HOSTS, behind, {NAMES[0]: OFFSET}) != []


def test_the_first_look_decides_what_was_written():
    later = but(NAMES[0], replication=Replication(offset=OFFSET + 5, link_up=True, attached=()))
    anew = but(NAMES[0], replication=Replication(offset=3, link_up=True, attached=()))
    silent: Surveyed = {NAMES[0]: StackError("refused")}
    first = written_before({}, healthy())
    assert first == dict.fromkeys(NAMES, OFFSET)
    assert written_before(first, later)[NAMES[0]] == OFFSET
    assert written_before(first, silent) == first
    assert written_before(first, anew)[NAMES[0]] == 3


PRIMARY_INFO = """# Replication\r
role:master\r
connected_slaves:2\r
slave0:ip=198.18.1.3,port=6379,state=online,offset=84,lag=0\r
slave1:ip=198.18.1.9,port=6379,state=wait_bgsave,offset=0,lag=3\r
slave_repl_offset:0\r
master_repl_offset:98\r
"""
REPLICA_INFO = "role:slave\r\nmaster_link_status:{}\r\nslave_read_only:1\r\nmaster_repl_offset:98\r\n"


def test_replication_is_read():
    assert replication_from_info(PRIMARY_INFO) == Replication(
        offset=98,
        link_up=True,
        attached=(
            Attached(host="198.18.1.3", online=True, offset=84),
            Attached(host="198.18.1.9", online=False, offset=0),
        ),
    )
    assert replication_from_info(REPLICA_INFO.format("up")).link_up
    assert not replication_from_info(REPLICA_INFO.format("down")).link_up


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: "",
        lambda text: text.replace("master_repl_offset:98", ""),
        lambda text: text.replace("offset=84", "offset=x"),
        lambda text: text.replace("ip=198.18.1.3,", ""),
    ],
    ids=["empty", "no offset", "no number", "no address"],
)
def test_replication_that_cannot_be_read_is_refused(broken: Callable[[str], str]):
    with pytest.raises(StackError):
        replication_from_info(broken(PRIMARY_INFO))


def test_fields_are_read():
    assert fields_from_info("# Server\r\na:1\r\n\r\nb:x:y\r\n") == {"a": "1", "b": "x:y"}
