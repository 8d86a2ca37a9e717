"""Topologies out of what nodes say, also when they do not agree."""

import pytest

from services.topology import View, merged, view_from_text

P1, P2, P3, R1 = (("198.18.0.1", 6379), ("198.18.0.2", 6379), ("198.18.0.3", 6379), ("198.18.0.4", 6379))
BEFORE = """\
aaa 198.18.0.1:6379@16379,redis-0 myself,master - 0 0 1 connected 0-5460
bbb 198.18.0.2:6379@16379,redis-1 master - 0 1 2 connected 5461-10922
ccc 198.18.0.3:6379@16379,redis-2 master - 0 1 3 connected 10923-16382 16383 [93-<-aaa]
ddd 198.18.0.4:6379@16379,redis-3 slave aaa 0 1 1 connected
"""
AFTER = """\
aaa 198.18.0.1:6379@16379 master,fail - 9 1 1 disconnected
bbb 198.18.0.2:6379@16379 myself,master - 0 1 2 connected 5461-10922
ccc 198.18.0.3:6379@16379 master - 0 1 3 connected 10923-16383
ddd 198.18.0.4:6379@16379 master - 0 1 7 connected 0-5460
"""


def view(text: str) -> View:
    return view_from_text(text, ("asked", 1))


def test_all_slots_have_their_owner():
    topology = merged([view(BEFORE)])
    assert topology.nodes == {P1, P2, P3, R1}
    assert topology.primaries == "198.18.0.1:6379, 198.18.0.2:6379, 198.18.0.3:6379"
    assert [topology.owner(slot) for slot in (0, 5_460, 5_461, 10_923, 16_383)] == [P1, P1, P2, P3, P3]


@pytest.mark.parametrize("views", [[BEFORE, AFTER], [AFTER, BEFORE], [BEFORE, AFTER, BEFORE, BEFORE]])
def test_the_higher_epoch_wins_over_a_node_that_was_cut_off(views: list[str]):
    topology = merged([view(text) for text in views])
    assert topology.owner(0) == R1
    assert topology.owner(5_461) == P2
    assert topology.nodes == {P1, P2, P3, R1}


def test_only_the_node_that_was_cut_off_answers():
    assert merged([view(BEFORE)]).owner(0) == P1


def test_slots_that_nobody_claims_have_no_owner():
    topology = merged([view("aaa 198.18.0.1:6379@16379 myself,master - 0 0 1 connected 7")])
    assert topology.owner(7) == P1
    assert topology.owner(8) is None
    assert merged([]).owner(0) is None


@pytest.mark.parametrize(
    ("row", "nodes"),
    [
        ("aaa :6379@16379 myself,master - 0 0 0 connected", {("asked", 6379)}),
        ("aaa :0@0 master,noaddr - 0 0 0 disconnected", set()),
        ("aaa 198.18.0.1:6379@16379 handshake - 0 0 0 disconnected", set()),
        ("aaa fd00::1:6379@16379 master - 0 0 0 connected", {("fd00::1", 6379)}),
    ],
    ids=["does not know its own address", "has no address", "not met yet", "IPv6"],
)
def test_addresses(row: str, nodes: set[tuple[str, int]]):
    assert view(row).nodes == nodes


@pytest.mark.parametrize(
    "text", ["what", "aaa 198.18.0.1:6379@1 master - 0 0 1 connected 9-99999", "a 1.2.3.4:x@1 c d e f g h"]
)
def test_what_is_not_a_view_is_refused(text: str):
    with pytest.raises(ValueError):
        view(text)


def test_a_cluster_that_is_not_formed_has_nodes_and_no_owners():
    row = "07c37dfeb235213a872192d90877d0cd55635b91 198.18.1.10:6379@16379 myself,master - 0 0 1 connected"
    asked = ("198.18.1.10", 6379)
    assert not merged([view_from_text(row, asked)]).has_owners
    assert merged([view_from_text(f"{row} 0-5460", asked)]).has_owners
