from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.backend.kubernetes.placement import paired, placed
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.spec.read import read_stack

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
NAMES = [f"redis-cluster-{number}" for number in range(6)]


@given(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=6, max_size=6))
def test_pairs_never_share_a_node_wherever_the_scheduler_put_them(nodes: list[str]):
    where = dict(zip(NAMES, nodes, strict=True))
    if max(Counter(nodes).values()) > 3:
        with pytest.raises(StackError, match="stand on"):
            paired(where, 3)
        return
    shards = paired(where, 3)
    assert sorted(name for shard in shards for name in (shard.primary, *shard.replicas)) == NAMES
    assert all(where[shard.primary] != where[shard.replicas[0]] for shard in shards)


@given(st.permutations(["a", "a", "b", "b", "c", "c"]))
def test_two_on_each_node_have_one_primary_each(nodes: list[str]):
    where = dict(zip(NAMES, nodes, strict=True))
    assert sorted(where[shard.primary] for shard in paired(where, 3)) == ["a", "b", "c"]


def test_the_same_placement_gives_the_same_pairs():
    where = dict(zip(NAMES, "aabbcc", strict=True))
    assert paired(where, 3) == paired(dict(reversed(where.items())), 3)


def test_too_few_members():
    with pytest.raises(StackError, match="expected 6 members, found 5"):
        paired(dict.fromkeys(NAMES[:5], "a"), 3)


def test_the_stack_stands_where_it_was_found():
    where = {f"redis-cluster-{number}": f"node-{number // 2 + 1}" for number in range(6)} | {"session-0": "node-3"}
    stack = placed(STACK, where)
    assert {member.name: member.node for member in stack.of("redis")} == {name: where[name] for name in NAMES}
    assert stack.member("session-0").node == "node-3"
    assert stack.member("session-1").node == STACK.member("session-1").node
    assert len(stack.shards) == 3
