"""Which confirmed messages no consumer has been handed yet, where the server forgets a message as it sends it.

Of what others publish to the same queues nobody here knows how much there is: once some of it has come, it has all come
when nothing has for a while.
"""

import math

from resilience.history.record import Outcome

QUIET_S = 1.0  # when nothing has come for so long, nothing is on its way


class Unread:
    """Messages between their confirm and their consumer; instants are values of `time.monotonic`."""

    def __init__(self) -> None:
        """Nothing has been sent."""
        self._values: dict[int, str] = {}  # of publishes on their way, by op
        self._sent: set[str] = set()
        self._confirmed: set[str] = set()
        self._handed: set[str] = set()
        self._of_others = False  # whether anything has come that was not sent here
        self._handed_at = -math.inf

    def sent(self, op: int, value: str) -> None:
        """A message is about to be published by an op."""
        self._values[op] = value
        self._sent.add(value)

    def ended(self, op: int, outcome: Outcome) -> None:
        """The op has ended; one that was not confirmed may come or not, and nobody waits for it."""
        value = self._values.pop(op)
        if outcome == "ok":
            self._confirmed.add(value)

    def handed(self, value: str, now: float) -> None:
        """A consumer has it, perhaps before it is known to be confirmed."""
        self._handed.add(value)
        self._of_others |= value not in self._sent
        self._handed_at = now

    def over(self, now: float, since: float) -> bool:
        """Whether nothing is on its way to a consumer: all has come, or nothing has for a while, counted from ``since``
        at the earliest.
        """
        come = not self._of_others and self._confirmed <= self._handed
        return come or now - max(since, self._handed_at) >= QUIET_S
