"""How many members of a room got an acknowledged edit, and in time."""

from collections import OrderedDict
from dataclasses import dataclass, field

from loadgen.metrics import LoadMetrics
from resilience.history.record import DELIVERED_IN_TIME_US

_KEPT_US = 30_000_000


@dataclass(slots=True)
class _Edit:
    phase: str
    sent_at: int
    acked_at: int = -1
    receivers: set[str] = field(default_factory=set)


class Deliveries:
    """Counts, for each acknowledged edit, the members that it is due at and those that it reached in time.

    An arrival may come before the acknowledgement: it is counted once the edit is known to be acknowledged.
    """

    def __init__(self, metrics: LoadMetrics, room_members: int) -> None:
        """``room_members``: how many members each room has, connected or not."""
        self._metrics = metrics
        self._room_members = room_members
        self._edits: OrderedDict[str, _Edit] = OrderedDict()

    def sent(self, edit: str, phase: str, at: int) -> None:
        """An edit is about to go out; ``phase`` is its op's."""
        self._edits[edit] = _Edit(phase, at)
        while next(iter(self._edits.values())).sent_at < at - _KEPT_US:
            self._edits.popitem(last=False)

    def acked(self, edit: str, at: int) -> None:
        """The edit was acknowledged: from now on every member is owed it."""
        known = self._edits[edit]
        known.acked_at = at
        self._metrics.deliveries(known.phase, expected=self._room_members, delivered=len(known.receivers))

    def arrived(self, edit: str, receiver: str, at: int) -> None:
        """The edit reached a member; a second arrival at the same one is not counted."""
        known = self._edits.get(edit)
        if known is None or receiver in known.receivers:
            return
        known.receivers.add(receiver)
        if known.acked_at >= 0 and at <= known.acked_at + DELIVERED_IN_TIME_US:
            self._metrics.deliveries(known.phase, delivered=1)

    def outstanding(self, now: int) -> int:
        """How many arrivals of acknowledged edits may still come in time."""
        young = (e for e in self._edits.values() if e.acked_at >= 0 and now <= e.acked_at + DELIVERED_IN_TIME_US)
        return sum(max(0, self._room_members - len(edit.receivers)) for edit in young)
