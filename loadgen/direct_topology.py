"""Who owns each shard now: what the nodes themselves say, the highest configuration epoch wins.

An isolated old primary goes on believing in itself; so does the direct client, as any client would, until some node
tells of a newer owner. From then on it never goes back to an older one.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_NODES_FIELDS = 8  # before the slots: id address flags primary ping pong epoch link


class Owner(NamedTuple):
    """The node that owns a slot, in somebody's view; ordered by ``epoch``."""

    epoch: int
    address: str  # host:port


def owners_in(view: str, slots: Iterable[int], seen_from: str) -> dict[int, Owner]:
    """The owners of slots in one node's answer to ``CLUSTER NODES``; ``seen_from`` is that node's own address."""
    owners = {}
    wanted = tuple(slots)
    for line in view.splitlines():
        fields = line.split()
        if len(fields) <= _NODES_FIELDS or "master" not in fields[2]:
            continue
        owner = Owner(int(fields[6]), _address(fields[1], seen_from))
        owned = [_range(text) for text in fields[_NODES_FIELDS:] if not text.startswith("[")]
        owners.update({slot: owner for slot in wanted if any(first <= slot <= last for first, last in owned)})
    return owners


def _address(announced: str, seen_from: str) -> str:
    """``ip:port@bus[,name]`` as host:port; a node that does not know its own address has the one it was asked at."""
    host, _, port = announced.partition("@")[0].rpartition(":")
    return f"{host or seen_from.rpartition(':')[0]}:{port}"


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


class Topology:
    """The owner of each shard by the best knowledge so far."""

    def __init__(self, slot_of_group: Mapping[int, int], primaries: Mapping[int, str]) -> None:
        """One slot stands for each shard; ``primaries`` are the owners at the start."""
        self._group_of_slot = {slot: group for group, slot in slot_of_group.items()}
        self._owners = {group: Owner(-1, address) for group, address in primaries.items()}

    def owner(self, group: int) -> str:
        """The address (host:port) to write to."""
        return self._owners[group].address

    def learn(self, view: str, seen_from: str) -> None:
        """Takes in one node's view."""
        for slot, owner in owners_in(view, self._group_of_slot, seen_from).items():
            group = self._group_of_slot[slot]
            if owner.epoch > self._owners[group].epoch:
                self._owners[group] = owner
