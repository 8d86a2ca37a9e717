"""Whose word counts when the nodes disagree about who owns a shard."""

import pytest

from loadgen.direct_topology import Owner, Topology, owners_in

OLD, NEW, OTHER = "10.0.0.1:6379", "10.0.0.4:6379", "10.0.0.2:6379"


def line(address: str, flags: str, epoch: int, slots: str = "", link: str = "connected") -> str:
    return f"{address}id {address}@16379,name {flags} - 0 1700000000 {epoch} {link} {slots}".strip()


ISOLATED = "\n".join([line(OLD, "myself,master", 1, "0-5460"), line(OTHER, "master,fail?", 2, "5461-16383")])
MAJORITY = "\n".join([
    line(OLD, "master,fail", 1),
    line(NEW, "master", 7, "0-5460"),
    line(OTHER, "myself,master", 2, "5461-10000 10001 10002-16383 [93->-abc]"),
    line("10.0.0.5:6379", "slave", 2),
])  # fmt: skip


def topology() -> Topology:
    return Topology({1: 100, 2: 10_001}, {1: "redis-cluster-0:6379", 2: "redis-cluster-1:6379"})


def test_owners_of_slots():
    assert owners_in(MAJORITY, (100, 10_001), OTHER) == {100: Owner(7, NEW), 10_001: Owner(2, OTHER)}


def test_slots_that_nobody_owns_are_not_named():
    assert owners_in(ISOLATED.replace("5461-16383", "5461-9000"), (10_001,), OLD) == {}


def test_a_node_that_does_not_know_its_address_has_the_one_it_was_asked_at():
    view = line(":6379", "myself,master", 1, "0-16383")
    assert owners_in(view, (5,), "10.0.0.9:6379") == {5: Owner(1, "10.0.0.9:6379")}


def test_at_the_start_the_plan_counts():
    assert topology().owner(1) == "redis-cluster-0:6379"


@pytest.mark.parametrize("views", [[(ISOLATED, OLD), (MAJORITY, OTHER)], [(MAJORITY, OTHER), (ISOLATED, OLD)]])
def test_the_highest_epoch_wins_in_any_order(views):
    known = topology()
    for view, seen_from in views:
        known.learn(view, seen_from)
    assert known.owner(1) == NEW
    assert known.owner(2) == OTHER


def test_the_isolated_primary_is_written_to_until_somebody_tells_of_another():
    known = topology()
    known.learn(ISOLATED, OLD)
    assert known.owner(1) == OLD
    known.learn(MAJORITY, OTHER)
    assert known.owner(1) == NEW
    known.learn(ISOLATED, OLD)  # it still believes in itself
    assert known.owner(1) == NEW


@pytest.mark.parametrize("view", ["", "garbage", "id 10.0.0.1:6379@1 master - 0 0 9 connected"])
def test_a_view_that_says_nothing_changes_nothing(view):
    known = topology()
    known.learn(view, OLD)
    assert known.owner(1) == "redis-cluster-0:6379"
