from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import pytest

from resilience.spec.stack import Shard
from resilience.stack.cluster_nodes import ClusterView, view_from_text
from resilience.stack.redis_role import decide, group_of_slot, owners, shard_slots
from tests.unit.stack.views import HOSTS, NAMES, PRIMARIES, REPLICAS, STACK, node_id, view, views

FAILED_OVER = {**PRIMARIES, 1: (NAMES[3], 7)}
FOLLOWS = {NAMES[0]: 1, NAMES[4]: 2, NAMES[5]: 3}  # the old primary has become a replica
ALONE = {NAMES[4]: 2, NAMES[5]: 3}  # the old primary is gone
STRAY = f"{'e' * 40} :6379@16379 myself,master - 0 0 0 connected"  # it has lost its data folder


@dataclass(frozen=True)
class Case:
    name: str
    views: Mapping[str, ClusterView]
    expect: tuple[str, ...]  # "group role epoch" of each member


CASES = (
    Case(
        "healthy", views(), ("1 primary 1", "2 primary 2", "3 primary 3", "1 replica 1", "2 replica 2", "3 replica 3")
    ),
    Case(
        "a primary is silent and nobody has taken its place",
        views(NAMES[0]),
        ("1 unreachable 1", "2 primary 2", "3 primary 3", "1 replica 1", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "the silent primary was replaced",
        {n: view(n, primaries=FAILED_OVER, replicas=ALONE, flags={NAMES[0]: "fail"}) for n in NAMES[1:]},
        ("1 unreachable 0", "2 primary 2", "3 primary 3", "1 primary 7", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "only the promoted member knows of it yet",
        views() | {NAMES[3]: view(NAMES[3], primaries=FAILED_OVER, replicas=ALONE)},
        ("1 stray 1", "2 primary 2", "3 primary 3", "1 primary 7", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "the old primary is cut off and has not heard of the vote",
        {n: view(n, primaries=FAILED_OVER, replicas=ALONE) for n in NAMES} | {NAMES[0]: view(NAMES[0])},
        ("1 stray 1", "2 primary 2", "3 primary 3", "1 primary 7", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "the old primary is back as a replica",
        {n: view(n, primaries=FAILED_OVER, replicas=FOLLOWS) for n in NAMES},
        ("1 replica 7", "2 primary 2", "3 primary 3", "1 primary 7", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "a silent replica of a shard that has moved",
        {n: view(n, primaries=FAILED_OVER, replicas=FOLLOWS) for n in NAMES[1:]},
        ("1 unreachable 7", "2 primary 2", "3 primary 3", "1 primary 7", "2 replica 2", "3 replica 3"),
    ),
    Case(
        "a member came back empty and belongs to no cluster",
        views() | {NAMES[4]: view_from_text(STRAY)},
        ("1 primary 1", "2 primary 2", "3 primary 3", "1 replica 1", "2 stray 0", "3 replica 3"),
    ),
    Case("nobody answers", {}, tuple(f"{at % 3 + 1} unreachable 0" for at in range(6))),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_roles_are_decided_from_the_views(case: Case):
    roles = decide(STACK, HOSTS, case.views)
    assert tuple(f"{role.group} {role.role} {role.epoch}" for role in roles) == case.expect
    assert [role.member for role in roles] == list(NAMES)
    assert [role.address for role in roles] == list(HOSTS.values())


def test_never_two_primaries_of_a_shard():
    for case in CASES:
        groups = [role.group for role in decide(STACK, HOSTS, case.views) if role.role == "primary"]
        assert len(groups) == len(set(groups)), case.name


def test_two_owners_with_one_epoch_are_decided_by_the_majority_of_views():
    collided = {**PRIMARIES, 1: (NAMES[3], 1)}
    seen = views() | {n: view(n, primaries=collided, replicas=ALONE) for n in NAMES[2:]}
    assert owners(STACK, HOSTS, seen)[1] == NAMES[3]


def test_an_owner_that_is_no_member_of_the_stack_is_not_taken():
    elsewhere = {name: host for name, host in HOSTS.items() if name != NAMES[0]}
    seen = {name: view(name) for name in elsewhere}
    assert 1 not in owners(STACK, elsewhere, seen)


@pytest.mark.parametrize(
    ("count", "expect"),
    [
        (1, ((0, 16383),)),
        (3, ((0, 5460), (5461, 10922), (10923, 16383))),  # as redis-cli divides them
        (4, ((0, 4095), (4096, 8191), (8192, 12287), (12288, 16383))),
    ],
)
def test_slots_are_divided_evenly(count: int, expect: tuple[tuple[int, int], ...]):
    shards = tuple(Shard(primary=f"redis-{at}", replicas=()) for at in range(count))
    stack = msgspec.structs.replace(STACK, shards=shards)
    assert shard_slots(stack) == expect
    for group, (first, last) in enumerate(expect, 1):
        assert group_of_slot(stack, first) == group_of_slot(stack, last) == group


def test_the_views_of_these_tests_name_ids_consistently():
    assert view(NAMES[3]).node(view(NAMES[3]).myself.primary_id) == view(NAMES[3]).at(HOSTS[NAMES[0]])
    assert node_id(NAMES[0]) == view(NAMES[0]).myself.id
    assert set(REPLICAS) == set(NAMES[3:])
