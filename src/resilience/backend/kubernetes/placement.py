"""Where a cluster's scheduler has put the members, and which of them are to be pairs then: pure.

The stack file places members for the local backend. In a cluster the scheduler does, under the manifests' constraints;
what has to hold is that a shard's primary and replica never stand on the same node.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import product

import msgspec

from resilience.errors import StackError
from resilience.spec.stack import Shard, Stack


def placed(stack: Stack, nodes: Mapping[str, str]) -> Stack:
    """The stack as it stands: members on the nodes that they were found on, shards paired across nodes.

    ``nodes``: the node of each member that runs; others stay where the stack file has them. The same placement gives
    the same pairs. Raises `StackError` where no such pairs exist.
    """
    members = tuple(msgspec.structs.replace(one, node=nodes.get(one.name, one.node)) for one in stack.members)
    found = msgspec.structs.replace(stack, members=members)
    redis = {member.name: member.node for member in found.of("redis")}
    return msgspec.structs.replace(found, shards=paired(redis, len(stack.shards)))


def paired(nodes: Mapping[str, str], shards: int) -> tuple[Shard, ...]:
    """Shards of one primary and one replica on different nodes, the primaries spread over the nodes.

    Raises `StackError` if a node holds so many members that they cannot all have a partner elsewhere.
    """
    names = sorted(nodes)
    if len(names) != 2 * shards:
        raise StackError(f"pairs of Redis members: expected {2 * shards} members, found {len(names)}")
    by_node: dict[str, list[str]] = {}
    for name in names:
        by_node.setdefault(nodes[name], []).append(name)
    fullest = max(by_node, key=lambda node: len(by_node[node]))
    if len(by_node[fullest]) > shards:
        raise StackError(
            f"pairs of Redis members: {len(by_node[fullest])} of {len(names)} stand on {fullest}, so some would have "
            "to pair there; make room on other nodes"
        )
    # Node after node: whoever stands half the row further on stands on another node, as no node holds more than half.
    row = [name for node in sorted(by_node, key=lambda node: (-len(by_node[node]), node)) for name in by_node[node]]
    couples = [(row[number], row[number + shards]) for number in range(shards)]
    led_by = min(product(*couples), key=lambda leaders: _most(Counter(nodes[name] for name in leaders)))
    shards_made = [
        Shard(primary=leader, replicas=(second if leader == first else first,))
        for leader, (first, second) in zip(led_by, couples, strict=True)
    ]
    return tuple(sorted(shards_made, key=lambda shard: shard.primary))


def _most(counts: Counter[str]) -> int:
    return max(counts.values())
