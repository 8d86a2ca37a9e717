"""The population of live sessions, and which of them does what when an op is due.

A session's journey is: create, eight updates, heartbeats and reads in any order, end. It has at most one op on its
way. The shard of an op is chosen first, and alone by chance: if all sessions of that shard wait for answers another
one is created there, so that a shard that answers nothing goes on being asked as often as before.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loadgen.shards import ShardMap
from resilience.history.record import Outcome

Step = Literal["create", "read", "heartbeat", "update", "end"]
MIDDLE: tuple[Step, ...] = ("update", "update", "update", "update", "heartbeat", "heartbeat", "read", "read")
_GONE = frozenset({404, 410})


@dataclass(slots=True)
class Session:
    """One session as its client knows it. ``doubtful``: an op's outcome is unknown, so it is read before anything."""

    id: str
    group: int
    edge: int  # which edge its client tries first
    steps: list[Step]  # the rest of its journey, the next one last
    version: int = 0
    doubtful: bool = False
    person: str = ""  # whose it is, where that is told to the platform

    def next_step(self) -> Step:
        """What it does next."""
        return "read" if self.doubtful else self.steps[-1]


class Population:
    """All live sessions of this generator."""

    def __init__(
        self, shards: ShardMap, size: int, seed: int | str, person_of: Callable[[int], str] = lambda _: ""
    ) -> None:
        """``size``: how many sessions are live in quiet times; at least one in each shard.

        The sessions' ids come from the seed, so that several processes need one each. ``person_of`` says whose a
        session is, by its number; "": nobody's in particular.
        """
        self._person_of = person_of
        self._shards = shards
        self._seed = seed
        self._random = random.Random(f"population-{seed}")  # noqa: S311  not for secrets
        self._groups = shards.groups or (0,)
        self._size_of_group = max(1, round(size / len(self._groups)))
        self._live = dict.fromkeys(self._groups, 0)
        self._idle: dict[int, list[Session]] = {group: [] for group in self._groups}
        self._born = 0

    @property
    def live(self) -> int:
        """How many sessions are live."""
        return sum(self._live.values())

    def pick(self) -> tuple[Session, Step]:
        """The session that an op is due for, and what it does; it is busy until `settle`."""
        group = self._random.choice(self._groups)
        idle = self._idle[group]
        if self._live[group] < self._size_of_group or not idle:
            session = self._create(group)
        else:
            index = self._random.randrange(len(idle))
            idle[index], idle[-1] = idle[-1], idle[index]
            session = idle.pop()
        return session, session.next_step()

    def _create(self, group: int) -> Session:
        self._live[group] += 1
        middle = self._random.sample(MIDDLE, len(MIDDLE))
        self._born += 1
        person = self._person_of(self._born)
        return Session(self._new_id(group), group, self._born, ["end", *middle, "create"], person=person)

    def _new_id(self, group: int) -> str:
        while True:
            name = f"s-{self._random.getrandbits(64):016x}"
            if self._shards.group_of(name) == group:
                return name

    def settle(self, session: Session, step: Step, outcome: Outcome, status: int, body: Mapping[str, Any]) -> None:
        """What became of an op that was picked; the session may be picked again, or is over."""
        ended = outcome == "ok" and (step == "end" or body.get("state") == "ended")
        if ended or status in _GONE or (step == "create" and outcome == "fail"):
            self._live[session.group] -= 1
            return
        self._learn(session, step, outcome, status, body)
        self._idle[session.group].append(session)

    @staticmethod
    def _learn(session: Session, step: Step, outcome: Outcome, status: int, body: Mapping[str, Any]) -> None:
        if outcome == "unknown":
            session.doubtful = True
        version = body.get("version")
        if isinstance(version, int) and (outcome == "ok" or status == 409):
            session.version = version
        if outcome == "ok":
            session.doubtful = False
            if session.steps[-1] in {step, "create"}:  # a doubtful creation turned out to have happened
                session.steps.pop()
