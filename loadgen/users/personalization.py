"""People who look at what is suggested to them, and say what they care for, by a session of theirs.

Whose session it is the platform has to know: a person is asked for by one of the last sessions that were created for
them, which may have ended since. What a profile was told of is a version, so that a later read shows how old it is.
"""

import random
from collections import deque
from typing import NamedTuple

import msgspec

from loadgen.generator import Generator
from loadgen.http_client import EdgeClient
from loadgen.users.population import Session
from resilience.history.people import OF_PEOPLE, READ, WRITE

STREAM = "personalization"
OPS = OF_PEOPLE
PEOPLE = 20  # of each process: few enough that each is asked for more than once a second
READ_SHARE = 0.75
KNOWN_MAX = 200  # sessions; of each person some that are live, and some that have ended
OTHER_PERSON = "other-person"  # the error of an answer that is about somebody else


class Known(NamedTuple):
    """A session that was created, and whose it is."""

    session: str
    person: str
    edge: int


class People:
    """Who is there, and the sessions that are known to be theirs."""

    def __init__(self, mark: str, seed: int) -> None:
        """``mark`` sets this process's people apart from another's."""
        self._mark = mark
        self._random = random.Random(f"personalization{mark}-{seed}")  # noqa: S311  not for secrets
        self._known: deque[Known] = deque(maxlen=KNOWN_MAX)

    def of(self, number: int) -> str:
        """Whose the session with that number is."""
        return f"person{self._mark}-{number % PEOPLE}"

    def created(self, session: Session) -> None:
        """A session is there, for sure."""
        self._known.append(Known(session.id, session.person, session.edge))

    @property
    def any_known(self) -> bool:
        """Whether anybody can be asked for."""
        return bool(self._known)

    def pick(self) -> tuple[Known, bool]:
        """Whom an op is due for, and whether it reads."""
        return self._known[self._random.randrange(len(self._known))], self._random.random() < READ_SHARE


class PersonalizationUsers:
    """All of them; `act` is one op of one person."""

    def __init__(self, generator: Generator, edges: EdgeClient, people: People) -> None:
        """Nothing is sent."""
        self._generator = generator
        self._edges = edges
        self._people = people
        self._written = 0

    def act(self, due: int) -> None:
        """The op that is due at an instant: records it, sends it, records its end."""
        generator = self._generator
        known, reads = self._people.pick()
        kind, value = (READ, "") if reads else (WRITE, self._new_value())
        method, path, body = request_of(known, value)
        headers = {"X-Client": known.session, "X-Visitor": known.session, "Content-Type": "application/json"}
        if value:
            headers["X-Request-Id"] = value
        op = generator.recorder.invoked(
            stream=STREAM, kind=kind, key=known.person, value=value, group=0, phase=generator.phase_at(due), due=due
        )
        answer = self._edges.call(method, path, body, headers, first=known.edge, reads=reads)
        version, error = -1, answer.error
        if answer.outcome == "ok":
            told = answer.body.get("version")
            version = told if isinstance(told, int) else -1
            error = "" if answer.body.get("person") == known.person else OTHER_PERSON
        generator.recorder.returned(op, answer.outcome, version=version, error=error)

    def _new_value(self) -> str:
        self._written += 1
        plan = self._generator.plan
        return f"interest{plan.part.mark}-{plan.seed}-{self._written}"


def request_of(known: Known, value: str) -> tuple[str, str, bytes | None]:
    """Method, path and body; ``value`` is the op's id and the interest that it sets, "" for a read."""
    if not value:
        return "GET", f"/suggestions/{known.session}", None
    return "PUT", f"/profiles/{known.session}", msgspec.json.encode({"op": value, "interest": value})
