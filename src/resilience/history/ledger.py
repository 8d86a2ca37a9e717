"""A line of ``ledger.jsonl``, as far as verdicts rest on it: when an injection was planned, applied, healed.

Who injects writes it before anything is touched and once all is undone (`fault.ledger`), so it knows of what is still
broken even where nobody lived to tell an event.
"""

import msgspec

from resilience.history.record import NEVER, Instant


class Booked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of an injection, and when."""

    at_us: Instant  # when it was planned, was wholly applied, or had been undone
    injection: str
    state: str  # planned, applied or healed
    by: str = ""  # healed: request, rollback or heal-all; or, unasked: ttl, restart or leave (of an agent)
    began_us: Instant = NEVER  # applied: when the first step began; healed: when undoing did

    @property
    def undoing_us(self) -> int:
        """When the undoing of what was healed began; in a line of an older harness, when it had ended."""
        return self.at_us if self.began_us == NEVER else self.began_us
