"""Who serves which slot, merged from what several nodes say.

A *view* is one node's answer to `CLUSTER NODES`. A node that is cut off from its peers still answers, with the map as
it was; so a *claim* (this primary serves these slots) carries its configuration epoch, and of two claims on a slot the
one with the higher epoch wins: Redis gives every failover a higher one.
"""

from dataclasses import dataclass
from itertools import chain

from services.slot import SLOTS

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True, order=True)
class Claim:
    """A primary's claim on the slots `first..last`."""

    epoch: int
    first: int
    last: int
    owner: Address


@dataclass(frozen=True, kw_only=True)
class View:
    """What one node says: all nodes that it knows, and the claims of the primaries among them."""

    nodes: frozenset[Address]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class Topology:
    """All known nodes, and for each slot the primary that serves it (`None`: nobody claims it)."""

    nodes: frozenset[Address]
    owners: tuple[Address | None, ...]

    def owner(self, slot: int) -> Address | None:
        """The primary that serves the slot."""
        return self.owners[slot]

    @property
    def has_owners(self) -> bool:
        """Whether anybody serves anything: a cluster that is not formed has nodes, and no owners."""
        return any(self.owners)

    @property
    def primaries(self) -> str:
        """The primaries in the order of their slots, for a log."""
        return ", ".join(f"{owner[0]}:{owner[1]}" for owner in dict.fromkeys(self.owners) if owner is not None)


def view_from_text(text: str, asked: Address) -> View:
    """One node's answer to `CLUSTER NODES`. Raises `ValueError` if it is not one."""
    rows = [line.split(" ") for line in text.splitlines() if line]
    known = {row[0]: address for row in rows if (address := _address(row, asked)) is not None}
    claims = chain.from_iterable(_claims(row, known[row[0]]) for row in rows if row[0] in known)
    return View(nodes=frozenset(known.values()), claims=tuple(claims))


def merged(views: list[View]) -> Topology:
    """The topology in which for each slot the claim with the highest epoch holds."""
    owners: list[Address | None] = [None] * SLOTS
    for claim in sorted({claim for view in views for claim in view.claims}):
        owners[claim.first : claim.last + 1] = [claim.owner] * (claim.last + 1 - claim.first)
    return Topology(nodes=frozenset().union(*(view.nodes for view in views)), owners=tuple(owners))


def _address(row: list[str], asked: Address) -> Address | None:
    if len(row) < 8:
        raise ValueError(f"not a row of CLUSTER NODES: {' '.join(row)!r}")
    flags = row[2].split(",")
    if "noaddr" in flags or "handshake" in flags:
        return None
    host, _, port = row[1].split(",")[0].split("@")[0].rpartition(":")
    if not host and "myself" in flags:
        host = asked[0]  # a node that nobody has met does not know its own address
    return (host, int(port)) if host and int(port) else None


def _claims(row: list[str], owner: Address) -> list[Claim]:
    if "master" not in row[2].split(","):
        return []
    ranges = [text for text in row[8:] if not text.startswith("[")]  # in brackets: slots that are just moving
    return [_claim(text, int(row[6]), owner) for text in ranges]


def _claim(text: str, epoch: int, owner: Address) -> Claim:
    first, _, last = text.partition("-")
    claim = Claim(epoch=epoch, first=int(first), last=int(last or first), owner=owner)
    if not 0 <= claim.first <= claim.last < SLOTS:
        raise ValueError(f"not a range of slots: {text!r}")
    return claim
