"""What is amiss in a stack that should be in its steady state."""

from collections.abc import Sequence

from resilience.backend.base import Platform
from resilience.fault.base import MemberRole
from resilience.spec.stack import Stack
from resilience.stack.prometheus import STARTED_LATER


def members_down(platform: Platform) -> list[str]:
    """The names of members whose server does not run; those that get theirs with the load are not counted."""
    return [state.name for state in platform.states() if not state.running and state.component not in STARTED_LATER]


def shards_without_replica(stack: Stack, roles: Sequence[MemberRole]) -> list[str]:
    """What each shard lacks of one primary and its replicas, in words."""
    lacking = []
    for group, shard in enumerate(stack.shards, start=1):
        mine = [role.role for role in roles if role.group == group]
        primaries, replicas = mine.count("primary"), mine.count("replica")
        if primaries != 1 or replicas < len(shard.replicas):
            lacking.append(f"shard {group} has {primaries} primaries and {replicas} of {len(shard.replicas)} replicas")
    return lacking
