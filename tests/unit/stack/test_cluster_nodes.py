from dataclasses import dataclass

import pytest

from resilience.errors import StackError
from resilience.stack.cluster_nodes import ClusterNode, view_from_text

A, B, C = "a" * 40, "b" * 40, "c" * 40
MYSELF = f"{A} 198.18.0.2:6379@16379 myself,master - 0 0 1 connected 0-5460"


@dataclass(frozen=True)
class Case:
    name: str
    line: str
    expect: ClusterNode


def node(**changed: object) -> ClusterNode:
    plain: dict[str, object] = {
        "id": B,
        "host": "198.18.0.3",
        "port": 6379,
        "flags": frozenset({"master"}),
        "primary_id": "",
        "epoch": 2,
        "linked": True,
        "slots": (),
        "moving": (),
    }
    return ClusterNode(**{**plain, **changed})  # type: ignore[arg-type]


CASES = (
    Case("primary", f"{B} 198.18.0.3:6379@16379 master - 0 1700 2 connected 0-9", node(slots=((0, 9),))),
    Case("host name", f"{B} 198.18.0.3:6379@16379,redis-cluster-1 master - 0 1700 2 connected", node()),
    Case("aux fields", f"{B} 198.18.0.3:6379@16379,,shard-id=69bc master - 0 1700 2 connected", node()),
    Case(
        "single slots and ranges",
        f"{B} 198.18.0.3:6379@16379 master - 0 1700 2 connected 7 9-10 16383",
        node(slots=((7, 7), (9, 10), (16383, 16383))),
    ),
    Case(
        "replica",
        f"{B} 198.18.0.3:6379@16379 slave {C} 0 1700 2 connected",
        node(flags=frozenset({"slave"}), primary_id=C),
    ),
    Case(
        "suspected, link down",
        f"{B} 198.18.0.3:6379@16379 master,fail? - 1699 1700 2 disconnected 0-9",
        node(flags=frozenset({"master", "fail?"}), linked=False, slots=((0, 9),)),
    ),
    Case(
        "failed",
        f"{B} 198.18.0.3:6379@16379 master,fail - 1699 1700 2 disconnected",
        node(flags=frozenset({"master", "fail"}), linked=False),
    ),
    Case(
        "handshake",
        f"{B} 198.18.0.3:6379@16379 handshake - 0 0 0 connected",
        node(flags=frozenset({"handshake"}), epoch=0),
    ),
    Case(
        "no address",
        f"{B} :0@0 master,noaddr - 1699 1700 2 disconnected",
        node(host="", port=0, flags=frozenset({"master", "noaddr"}), linked=False),
    ),
    Case(
        "slots in migration",
        f"{B} 198.18.0.3:6379@16379 master - 0 1700 2 connected 0-9 [3->-{C}] [12-<-{C}]",
        node(slots=((0, 9),), moving=(f"[3->-{C}]", f"[12-<-{C}]")),
    ),
    Case(
        "IPv6", f"{B} fd00::3:6379@16379 master - 0 1700 2 connected", node(host="fd00::3")
    ),
    Case("no failover", f"{B} 198.18.0.3:6379@16379 master,nofailover - 0 1700 2 connected", node(
        flags=frozenset({"master", "nofailover"}))),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_line_becomes_a_node(case: Case):
    assert view_from_text(f"{MYSELF}\n{case.line}\n").nodes[1] == case.expect


@pytest.mark.parametrize(
    ("flags", "flag", "met"),
    [
        ("master", "ok", True),
        ("slave,fail?", "fail?", True),
        ("slave,fail", "fail", True),
        ("handshake", "ok", False),
        ("slave,fail,noaddr", "fail", False),
    ],
)
def test_flags_say_who_is_met_and_who_is_suspected(flags: str, flag: str, met: bool):
    found = node(flags=frozenset(flags.split(",")))
    assert (found.flag, found.met) == (flag, met)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{B} 198.18.0.3:6379@16379 master - 0 0 2 connected",  # nobody is the member itself
        f"{MYSELF}\n{B} 198.18.0.3:6379@16379 master - 0 0",
        f"{MYSELF}\n{B} 198.18.0.3 master - 0 0 2 connected",
        f"{MYSELF}\n{B} 198.18.0.3:6379@16379 master - 0 0 two connected",
        f"{MYSELF}\n{B} 198.18.0.3:6379@16379 master - 0 0 2 connected x",
        f"{MYSELF}\n{B} 198.18.0.3:6379@16379 master - 0 0 2 connected 0-",
    ],
)
def test_what_cannot_be_read_is_refused(text: str):
    with pytest.raises(StackError):
        view_from_text(text)


def test_a_view_finds_nodes():
    view = view_from_text(f"{MYSELF}\n{B} 198.18.0.3:6379@16379 master - 0 0 2 connected 5461-16383\n")
    first = view.nodes[0]
    assert view.myself is first
    assert view.owner(5460) is first
    assert view.owner(5461) is view.nodes[1] is view.at("198.18.0.3") is view.node(B)
    assert view.node(C) is view.at("198.18.0.9") is None
    assert view.owned_slots == 16_384


def test_a_slot_may_have_no_owner():
    view = view_from_text(MYSELF)
    assert view.owner(5461) is None
    assert view.owned_slots == 5_461
