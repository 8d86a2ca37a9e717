"""What a Redis member says about its cluster (``CLUSTER NODES``), as records.

One member's statement is a *view*: it may be old, and views may contradict each other. A line of it::

    <id> <ip:port@bus[,hostname]> <flags> <primary id or -> <ping> <pong> <config epoch> <link> [<slot> ...]

where a slot is ``7``, ``0-5460``, or in migration ``[93->-<id>]`` and ``[77-<-<id>]``.
"""

from typing import Literal

import msgspec

from resilience.errors import StackError

SLOTS = 16_384
Flag = Literal["ok", "fail?", "fail"]


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node as one member sees it."""

    id: str
    host: str  # "" where the member does not know it (its own before it met anybody, or noaddr)
    port: int
    flags: frozenset[str]
    primary_id: str  # "" for a primary
    epoch: int  # its config epoch; a replica shows its primary's
    linked: bool  # the cluster bus is connected
    slots: tuple[tuple[int, int], ...]  # inclusive ranges
    moving: tuple[str, ...]  # slots that are being migrated or imported, as written

    @property
    def is_myself(self) -> bool:
        """Whether this is the member whose view it is."""
        return "myself" in self.flags

    @property
    def is_primary(self) -> bool:
        """Whether it is a primary, with slots or without."""
        return "master" in self.flags

    @property
    def met(self) -> bool:
        """Whether it is a member with an address, and no longer in handshake (its id is a random one until then)."""
        return not self.flags & {"handshake", "noaddr"}

    @property
    def flag(self) -> Flag:
        """Whether the view's member takes it for alive, suspects it, or knows of the majority's verdict."""
        if "fail" in self.flags:
            return "fail"
        return "fail?" if "fail?" in self.flags else "ok"

    def owns(self, slot: int) -> bool:
        """Whether a slot is its own."""
        return any(first <= slot <= last for first, last in self.slots)


class ClusterView(msgspec.Struct, frozen=True):
    """All nodes that one member knows, itself included."""

    nodes: tuple[ClusterNode, ...]

    @property
    def myself(self) -> ClusterNode:
        """The member whose view this is."""
        return next(node for node in self.nodes if node.is_myself)

    @property
    def owned_slots(self) -> int:
        """How many slots have an owner in this view."""
        return sum(last - first + 1 for node in self.nodes for first, last in node.slots)

    def owner(self, slot: int) -> ClusterNode | None:
        """Who owns a slot, as this member sees it."""
        return next((node for node in self.nodes if node.owns(slot)), None)

    def node(self, node_id: str) -> ClusterNode | None:
        """The node of that id."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def at(self, host: str) -> ClusterNode | None:
        """The node that was met at that address."""
        return next((node for node in self.nodes if node.host == host and node.met), None)


def view_from_text(text: str) -> ClusterView:
    """Reads the answer to ``CLUSTER NODES``. Raises `StackError` on a line that it cannot read."""
    view = ClusterView(tuple(_node(line) for line in text.splitlines() if line.strip()))
    if not any(node.is_myself for node in view.nodes):
        raise StackError(f"CLUSTER NODES without a line for the member itself: {text!r}")
    return view


def _node(line: str) -> ClusterNode:
    try:
        node_id, address, flags, primary_id, _, _, epoch, link, *slots = line.split()
        host, _, port = address.split(",")[0].partition("@")[0].rpartition(":")
        return ClusterNode(
            id=node_id,
            host=host,
            port=int(port),
            flags=frozenset(flags.split(",")),
            primary_id="" if primary_id == "-" else primary_id,
            epoch=int(epoch),
            linked=link == "connected",
            slots=tuple(_slot_range(slot) for slot in slots if not slot.startswith("[")),
            moving=tuple(slot for slot in slots if slot.startswith("[")),
        )
    except ValueError as error:
        raise StackError(f"a line of CLUSTER NODES cannot be read: {line!r}") from error


def _slot_range(text: str) -> tuple[int, int]:
    first, ranged, last = text.partition("-")
    return int(first), int(last if ranged else first)
