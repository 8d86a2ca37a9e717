"""Who is what in the Redis Cluster: pure, from the members' views.

A *shard* has a number from 1, in the order of the stack file, and is known by its first slot as it was formed: that
outlives every failover. The primary of a shard is the owner with the highest config epoch in any view that could be
had (an epoch is won by a vote of the majority, so a member that was cut off cannot have a higher one); if two owners
claim the same epoch, the one whom more views name.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import msgspec

from resilience.spec.stack import Stack
from resilience.stack.cluster_nodes import SLOTS, ClusterNode, ClusterView

# stray: it answers, but the cluster does not follow it: an outvoted primary, or one without any slot
Role = Literal["primary", "replica", "stray", "unreachable"]


class RedisRole(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis member's part in the cluster."""

    member: str
    group: int  # number of its shard
    role: Role
    epoch: int  # config epoch of its shard's primary as this member knows it; of an unreachable one, as others do
    address: str


def shard_slots(stack: Stack) -> tuple[tuple[int, int], ...]:
    """The slots of each shard as it is formed, inclusive: divided evenly, as ``redis-cli`` does it."""
    count = len(stack.shards)
    return tuple((round(index * SLOTS / count), round((index + 1) * SLOTS / count) - 1) for index in range(count))


def group_of_slot(stack: Stack, slot: int) -> int:
    """The number of the shard that a slot belongs to as formed."""
    return next(group for group, (first, last) in enumerate(shard_slots(stack), 1) if first <= slot <= last)


def formed_group(stack: Stack, member: str) -> int:
    """The number of the shard that the stack file puts a member into; 0 if none."""
    for group, shard in enumerate(stack.shards, 1):
        if member == shard.primary or member in shard.replicas:
            return group
    return 0


def group_in_view(stack: Stack, view: ClusterView, node: ClusterNode) -> int:
    """The number of the shard that a node serves or replicates, as one view has it; 0 if none."""
    owner = node if node.is_primary else view.node(node.primary_id)
    if owner is None:
        return 0
    return next((group for group, (first, _) in enumerate(shard_slots(stack), 1) if owner.owns(first)), 0)


def own_role(stack: Stack, member: str, address: str, view: ClusterView) -> RedisRole:
    """What a member says of itself, whether others agree or not."""
    myself = view.myself
    group = group_in_view(stack, view, myself)
    role: Role = "replica" if not myself.is_primary else "primary" if group else "stray"
    group = group or formed_group(stack, member)
    return RedisRole(member=member, group=group, role=role, epoch=myself.epoch, address=address)


def owners(stack: Stack, hosts: Mapping[str, str], views: Mapping[str, ClusterView]) -> dict[int, str]:
    """The member that is the primary of each shard, by the rule of this module; a shard that nobody owns is left out.

    ``hosts`` are the members' addresses by name, ``views`` what could be had.
    """
    return {
        group: member
        for group, (first, _) in enumerate(shard_slots(stack), 1)
        if (member := _owner(first, hosts, views)) is not None
    }


def _owner(slot: int, hosts: Mapping[str, str], views: Mapping[str, ClusterView]) -> str | None:
    claims: Counter[tuple[int, str]] = Counter()
    members = {host: name for name, host in hosts.items()}
    for name, view in views.items():
        owner = view.owner(slot)
        if owner is not None:
            # A member's own line may lack the address, and its own name is certain.
            claims[owner.epoch, name if owner.is_myself else members.get(owner.host, "")] += 1
    known = {claim: count for claim, count in claims.items() if claim[1]}
    return max(known, key=lambda claim: (claim[0], known[claim]))[1] if known else None


def decide(stack: Stack, hosts: Mapping[str, str], views: Mapping[str, ClusterView]) -> tuple[RedisRole, ...]:
    """The roles of all members, in the order of ``hosts``; a member without a view is unreachable."""
    primaries = owners(stack, hosts, views)
    return tuple(_decided(stack, name, host, views, primaries) for name, host in hosts.items())


def _decided(
    stack: Stack, member: str, host: str, views: Mapping[str, ClusterView], primaries: Mapping[int, str]
) -> RedisRole:
    if member not in views:
        return _unreachable(stack, member, host, views)
    role = own_role(stack, member, host, views[member])
    if role.role == "primary" and primaries.get(role.group) != member:
        return msgspec.structs.replace(role, role="stray")
    return role


def _unreachable(stack: Stack, member: str, host: str, views: Mapping[str, ClusterView]) -> RedisRole:
    seen = [(view, node) for view in views.values() if (node := view.at(host)) is not None]
    groups = Counter(group for view, node in seen if (group := group_in_view(stack, view, node)))
    group = groups.most_common(1)[0][0] if groups else formed_group(stack, member)
    epoch = max((node.epoch for _, node in seen), default=0)
    return RedisRole(member=member, group=group, role="unreachable", epoch=epoch, address=host)
