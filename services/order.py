"""The order in which a room's edits are passed on.

Edits are numbered by Redis and published by the instance that took them, so that two of them can overtake each other.
An early one is held for a moment; when the moment is over the gap is filled from the log, and if that cannot be read
the early one is passed on: then the receivers see the gap and ask.
"""

from dataclasses import dataclass

import msgspec

from services.room_log import Position


@dataclass(frozen=True, kw_only=True, order=True)
class Edit:
    """A numbered edit; `base` is the seq at which its epoch began."""

    position: Position
    base: int
    text: str


class Order:
    """Puts edits in order; `last` is the position of the last one that was passed on."""

    def __init__(self, last: Position) -> None:
        self.last = last
        self._held: dict[Position, Edit] = {}

    @property
    def holding(self) -> bool:
        """Whether an early edit is held."""
        return bool(self._held)

    def offer(self, edit: Edit) -> list[Edit]:
        """What is to be passed on now: nothing for an edit that is early or was passed on already."""
        if edit.position > self.last:
            self._held[edit.position] = edit
        return self._take(gaps=False)

    def fill(self, rows: list[Edit]) -> list[Edit]:
        """What the log has after `last`, and what follows it now."""
        taken = [row for row in sorted(rows) if row.position > self.last]
        if taken:
            self.restart(taken[-1].position)
        return taken + self._take(gaps=False)

    def release(self) -> list[Edit]:
        """All that is held, with its gaps."""
        return self._take(gaps=True)

    def restart(self, last: Position) -> None:
        """Go on from another position."""
        self.last = last
        self._held = {position: edit for position, edit in self._held.items() if position > last}

    def _take(self, *, gaps: bool) -> list[Edit]:
        taken: list[Edit] = []
        for position in sorted(self._held):
            if not gaps and not self._follows(self._held[position]):
                break
            taken.append(self._held.pop(position))
            self.last = position
        return taken

    def _follows(self, edit: Edit) -> bool:
        epoch, seq = edit.position
        # A new epoch goes on where the old one ended; if it began earlier, edits were rolled back: nothing follows.
        return seq == self.last[1] + 1 and (epoch == self.last[0] or edit.base == self.last[1])


def payload_from_edit(edit: Edit) -> str:
    """An edit as it travels between instances."""
    return msgspec.json.encode((*edit.position, edit.base, edit.text)).decode()


def edit_from_payload(payload: str) -> Edit:
    """An edit that came from another instance. Raises `msgspec.DecodeError`."""
    epoch, seq, base, text = msgspec.json.decode(payload, type=tuple[int, int, int, str])
    return Edit(position=(epoch, seq), base=base, text=text)
