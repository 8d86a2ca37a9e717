"""Which Redis shard a key belongs to."""

import binascii
from collections.abc import Iterable

from resilience.spec.plan import ShardPlan

SLOTS = 16_384


def slot_of(tag: str) -> int:
    """The slot of a hash tag (CRC16 XMODEM modulo 16384)."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


class ShardMap:
    """The shards by their slots, as they were at the start; slots do not move in a run."""

    def __init__(self, shards: Iterable[ShardPlan]) -> None:
        """Slots that no shard has belong to group 0."""
        self._group_of_slot = [0] * SLOTS
        groups = []
        for shard in shards:
            groups.append(shard.group)
            for first, last in shard.slots:
                self._group_of_slot[first : last + 1] = [shard.group] * (last + 1 - first)
        self.groups = tuple(groups)

    def group_of(self, tag: str) -> int:
        """The number of the shard that a hash tag belongs to; 0 if none does."""
        return self._group_of_slot[slot_of(tag)]

    def tag_for(self, group: int, stem: str) -> str:
        """The first tag ``<stem>-0``, ``<stem>-1`` … that belongs to a shard. Raises `ValueError` if none is found."""
        for number in range(SLOTS * 4):
            tag = f"{stem}-{number}"
            if self.group_of(tag) == group:
                return tag
        raise ValueError(f"no tag {stem}-… belongs to shard {group}")
