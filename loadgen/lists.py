"""Lists: short-lived keys that transactions append to and read, several at the same time.

A few stand at a time. Each turn is `AT_ONCE` transactions of some steps each, every one of them on any of these lists,
so that they meet. A list that has had `APPENDS_MAX` appends or a few less is left for a fresh one: each read tells all
that it holds. Only what may have been committed counts, so that lists outlive an outage, and what is left of them is
seen.

Each value is appended once in a run. A transaction appends in the order of its lists, whatever it reads in between:
none waits in a circle for another one's.
"""

import random
from dataclasses import dataclass

from resilience.history.record import Outcome
from resilience.history.transaction import Step

STANDING = 3
AT_ONCE = 3
STEPS_MIN, STEPS_MAX = 2, 4
APPENDS_MAX = 30
APPENDS_MIN = 26  # so that they do not end together, from the first ones on, which get a part of that each


@dataclass(slots=True)
class StandingList:
    """One key; ``left`` is how many appends it is still good for."""

    key: str
    left: int


class Lists:
    """Which transactions are sent next, from a seed and from what became of those before."""

    def __init__(self, prefix: str, seed: int) -> None:
        """Keys begin with the prefix."""
        self._prefix = f"{prefix}-{seed}"
        self._random = random.Random(f"lists-{seed}")  # noqa: S311  not for secrets
        self._made = 0
        self._asked = 0
        self._standing = [self._fresh(part) for part in range(1, STANDING + 1)]

    def turn(self) -> list[tuple[Step, ...]]:
        """The transactions of the next turn, to be sent at the same time."""
        self._standing = [one if one.left > 0 else self._fresh() for one in self._standing]
        return [self._transaction() for _ in range(AT_ONCE)]

    def ended(self, steps: tuple[Step, ...], outcome: Outcome) -> None:
        """What became of a transaction."""
        if outcome == "fail":
            return
        appended = [step.key for step in steps if step.value]
        for one in self._standing:
            one.left -= appended.count(one.key)

    def _fresh(self, part: int = STANDING) -> StandingList:
        """A list that is good for so many parts of what one gets, of `STANDING`."""
        self._made += 1
        appends = self._random.randint(APPENDS_MIN, APPENDS_MAX) * part // STANDING
        return StandingList(f"{self._prefix}-list-{self._made}", appends)

    def _transaction(self) -> tuple[Step, ...]:
        self._asked += 1
        number = self._random.randint(STEPS_MIN, STEPS_MAX)
        places = [self._random.randrange(STANDING) for _ in range(number)]
        appends = [self._random.random() < 1 / 2 for _ in range(number)]
        in_order = iter(sorted(place for place, append in zip(places, appends, strict=True) if append))
        steps = []
        for at, (place, append) in enumerate(zip(places, appends, strict=True)):
            key = self._standing[next(in_order) if append else place].key
            steps.append(Step(key, f"{self._asked}.{at}" if append else ""))
        return tuple(steps)
