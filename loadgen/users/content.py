"""Journeys of authors and readers: what a due op sends, and what its answer means to the library."""

import msgspec

from loadgen.generator import Generator
from loadgen.http_client import EdgeClient
from loadgen.users.library import Library, Turn
from resilience.history.content import OF_ARTICLES

STREAM = "content"
OPS = OF_ARTICLES
CATALOGUE = "catalogue"  # the key of an op that looks at it
LIVE_S = 0.5  # in quiet times so many seconds' worth of ops is spread over all live articles


def request_of(turn: Turn, value: str) -> tuple[str, str, bytes | None]:
    """Method, path and body of a turn; ``value`` is the op's id, which the service keeps with article and job."""
    if turn.article is None:
        return "GET", "/articles", None
    path = f"/articles/{turn.article.id}"
    if turn.step == "create":
        return "POST", "/articles", msgspec.json.encode({"article": turn.article.id, "op": value, "body": value})
    if turn.step == "update":
        return "PUT", path, msgspec.json.encode({"op": value, "version": turn.article.version, "body": value})
    return "GET", path, None


class ContentUsers:
    """All authors and readers; `act` is one op of one of them."""

    def __init__(self, generator: Generator, edges: EdgeClient, library: Library) -> None:
        """Nothing is sent."""
        self._generator = generator
        self._edges = edges
        self._library = library
        self._written = 0
        self._asked = 0

    def act(self, due: int) -> None:
        """The op that is due at an instant: records it, sends it, records its end."""
        generator, turn = self._generator, self._library.pick()
        self._asked += 1
        key = CATALOGUE if turn.article is None else turn.article.id
        reads = turn.step in {"read", "list"}
        value = "" if reads else self._new_value()
        method, path, body = request_of(turn, value)
        headers = {"X-Client": key, "X-Visitor": key, "Content-Type": "application/json"}
        if value:
            headers["X-Request-Id"] = value
        kind, phase = f"content.{turn.step}", generator.phase_at(due)
        op = generator.recorder.invoked(stream=STREAM, kind=kind, key=key, value=value, group=0, phase=phase, due=due)
        answer = self._edges.call(method, path, body, headers, first=self._asked, reads=reads)
        version = answer.body.get("version") if answer.outcome == "ok" else None
        generator.recorder.returned(
            op, answer.outcome, version=version if isinstance(version, int) else -1, error=answer.error
        )
        self._library.settle(turn, answer.outcome, answer.status, answer.body)

    def _new_value(self) -> str:
        self._written += 1
        plan = self._generator.plan
        return f"author{plan.part.mark}-{plan.seed}-{self._written}"
