"""What a member of a room has of its edits: sees gaps, asks for what it missed, and delivers in order.

::

    live edit ── follows what is there ─────────────▶ delivered (live)
              ├─ lies at or before it: came by replay, or from before it joined ─▶ nothing
              │                        else ─▶ delivered (live): a duplicate, or late, and on record as such
              └─ lies beyond a gap ──▶ held, `asking` ── the missed ones ──▶ delivered (replay), then the held ones
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal, NamedTuple

Position = tuple[int, int]  # epoch, sequence number
NOTHING: Position = (-1, -1)
_REPLAYED_KEPT = 512


class Row(NamedTuple):
    """An edit with its number."""

    epoch: int
    seq: int
    edit: str

    @property
    def position(self) -> Position:
        """Its number."""
        return (self.epoch, self.seq)


class Delivery(NamedTuple):
    """An edit that reaches the member now."""

    row: Row
    how: Literal["live", "replay"]


class Inbox:
    """One member's edits. ``position`` is the last one that it has; ``asking`` while it waits for missed ones."""

    def __init__(self) -> None:
        """It has nothing yet."""
        self.position: Position = NOTHING
        self.asking = False
        self._floor: Position = NOTHING  # where it began: what came before was never its own
        self._held: list[Row] = []
        self._replayed: OrderedDict[Position, None] = OrderedDict()

    def joined(self, head: Position, rows: Iterable[Row]) -> list[Delivery]:
        """The room let the member in: it begins at the head, or gets what it missed since it left."""
        self.asking = False
        self._held.clear()
        if self.position == NOTHING:
            self.position = self._floor = head
            return []
        return self._replay(rows)

    def live(self, row: Row) -> list[Delivery]:
        """An edit was fanned out."""
        if row.position <= self.position:
            known = row.position <= self._floor or row.position in self._replayed
            self._replayed.pop(row.position, None)
            return [] if known else [Delivery(row, "live")]
        if self._follows(row):
            self.position = row.position
            return [Delivery(row, "live")]
        self._held.append(row)
        self.asking = True
        return []

    def missed(self, head: Position, rows: Iterable[Row]) -> list[Delivery]:
        """The answer to what was missed. What cannot be had is passed over: the gap stays on record as one."""
        self.asking = False
        before = self.position
        deliveries = self._replay(rows)
        stuck = self.position == before
        for row in sorted(self._held):
            if row.position <= self.position:
                self._replayed.pop(row.position, None)
            elif self._follows(row) or stuck:
                self.position = row.position
                deliveries.append(Delivery(row, "live"))
            else:
                self.asking = True
        self._held = [row for row in self._held if row.position > self.position]
        if self.position < head and not self._held:
            if stuck:
                self.position = head
            self.asking = not stuck
        return deliveries

    def head(self, head: Position) -> None:
        """Where the room stands: behind it, or ahead of it, the member asks (ahead, it is told to resynchronise)."""
        if head != self.position:
            self.asking = True

    def resync(self, head: Position) -> None:
        """The member was ahead of what is stored: it continues from the head."""
        self.position = self._floor = head
        self.asking = False
        self._held.clear()

    def _follows(self, row: Row) -> bool:
        return row.epoch == self.position[0] and row.seq == self.position[1] + 1

    def _replay(self, rows: Iterable[Row]) -> list[Delivery]:
        deliveries = []
        for row in rows:
            if row.position <= self.position:
                continue
            self.position = row.position
            self._replayed[row.position] = None
            deliveries.append(Delivery(row, "replay"))
        while len(self._replayed) > _REPLAYED_KEPT:
            self._replayed.popitem(last=False)
        return deliveries
