"""Slots and shards."""

import pytest

from loadgen.shards import ShardMap, slot_of
from resilience.spec.plan import ShardPlan

SHARDS = tuple(
    ShardPlan(group=group, primary=f"10.0.0.{group}:6379", replicas=(), slots=slots)
    for group, slots in ((1, ((0, 5460),)), (2, ((5461, 10922),)), (3, ((10923, 16000), (16001, 16383))))
)


@pytest.mark.parametrize(("tag", "slot"), [("123456789", 12739), ("foo", 12182), ("", 0)])
def test_slots_are_those_of_redis(tag, slot):
    assert slot_of(tag) == slot


def test_every_slot_has_its_shard():
    shards = ShardMap(SHARDS)
    assert shards.groups == (1, 2, 3)
    assert shards.group_of("foo") == 3
    assert {shards.group_of(f"k{n}") for n in range(100)} == {1, 2, 3}


@pytest.mark.parametrize("group", [1, 2, 3])
def test_a_tag_is_found_for_each_shard(group):
    shards = ShardMap(SHARDS)
    assert shards.group_of(shards.tag_for(group, "d")) == group


def test_no_tag_for_a_shard_that_is_not_there():
    with pytest.raises(ValueError, match="shard 9"):
        ShardMap(SHARDS).tag_for(9, "d")
