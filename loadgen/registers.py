"""Registers: short-lived keys that several ops read, write and compare-and-set at the same time.

A register is a key whose value is read as a whole. A few stand at a time and take turns; whoever's turn it is gets
`AT_ONCE` ops, so that they meet. One that has had `OPS_MAX` ops or a few less is left for a fresh one: in which order
they took effect has to be found out afterwards, and that takes the longer the more there are. An op that failed did
nothing and does not count. After one of unknown outcome a register is *in doubt*: it is only read, and not left, until
a read is answered. So it outlives an outage, and shows what is left of it.

Each value is written once in a run. A compare-and-set is meant for the value that was last heard of.
"""

import random
from dataclasses import dataclass
from typing import Literal

from resilience.history.record import Outcome

STANDING = 4
AT_ONCE = 4
OPS_MAX = 40
OPS_MIN = 36  # so that they do not end together, from the first ones on, which get a part of that each
NOTHING = ""  # what stands in a register that was never written to

Kind = Literal["register.read", "register.write", "register.swap"]
KINDS: tuple[Kind, ...] = ("register.read", "register.write", "register.swap")
_WEIGHTS = (2, 1, 1)


@dataclass(slots=True)
class Register:
    """One key; ``last`` is the value last heard of, ``left`` how many ops it is still good for."""

    key: str
    left: int
    last: str = NOTHING
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """An op on a register: ``value`` is what it writes ("": a read), ``expected`` what a compare-and-set is to find."""

    register: Register
    kind: Kind
    value: str = ""
    expected: str = NOTHING


class Registers:
    """Which op is sent next, from a seed and from what became of those before."""

    def __init__(self, prefix: str, seed: int) -> None:
        """Keys and values begin with the prefix."""
        self._prefix = f"{prefix}-{seed}"
        self._random = random.Random(f"registers-{seed}")  # noqa: S311  not for secrets
        self._made = 0
        self._values = 0
        self._standing = [self._fresh(part) for part in range(1, STANDING + 1)]

    def turn(self, n: int) -> list[Asked]:
        """The ops of turn ``n``, which counts from 0: all of them on one register, to be sent at the same time."""
        place = n % STANDING
        if self._standing[place].left <= 0 and not self._standing[place].in_doubt:
            self._standing[place] = self._fresh()
        return [self._asked(self._standing[place]) for _ in range(AT_ONCE)]

    def ended(self, asked: Asked, outcome: Outcome, stood: str, *, mismatch: bool = False) -> None:
        """What became of an op; ``stood`` is what a read saw."""
        if outcome == "fail":
            return
        asked.register.left -= 1
        if outcome == "unknown":
            asked.register.in_doubt = True
        elif asked.kind == "register.read":
            asked.register.in_doubt = False
        if outcome == "ok" and not mismatch:
            asked.register.last = stood if asked.kind == "register.read" else asked.value

    def _fresh(self, part: int = STANDING) -> Register:
        """A register that is good for so many parts of what one gets, of `STANDING`."""
        self._made += 1
        ops = self._random.randint(OPS_MIN, OPS_MAX) * part // STANDING
        return Register(f"{self._prefix}-register-{self._made}", ops)

    def _asked(self, register: Register) -> Asked:
        (kind,) = self._random.choices(KINDS, _WEIGHTS)
        if kind == "register.read" or register.in_doubt:
            return Asked(register, "register.read")
        self._values += 1
        value = f"{self._prefix}-r{self._values}"
        if kind == "register.write" or register.last == NOTHING:  # there is nothing to be compared with
            return Asked(register, "register.write", value)
        return Asked(register, kind, value, register.last)
