"""Session journeys: what a due session op sends, and what its answer means to the session."""

from collections.abc import Callable

import msgspec

from loadgen.generator import Generator
from loadgen.http_client import EdgeClient
from loadgen.users.population import Population, Session, Step

STREAM = "session"
OPS = ("session.create", "session.read", "session.heartbeat", "session.update", "session.end")
LIVE_S = 1.0  # in quiet times a session does one op in so many seconds


def request_of(session: Session, step: Step, value: str) -> tuple[str, str, bytes | None]:
    """Method, path and body of a step; ``value`` is the op's id, which the service keeps in the session's log."""
    path = f"/sessions/{session.id}"
    match step:
        case "create":
            person = {"person": session.person} if session.person else {}
            return (
                "POST",
                "/sessions",
                msgspec.json.encode({"session": session.id, "op": value, "data": value, **person}),
            )
        case "read":
            return "GET", path, None
        case "heartbeat":
            return "POST", f"{path}/heartbeat", msgspec.json.encode({"op": value})
        case "update":
            body = {"op": value, "version": session.version, "data": value}
            return "PUT", path, msgspec.json.encode(body)
        case "end":
            return "POST", f"{path}/end", msgspec.json.encode({"op": value})


class SessionUsers:
    """All people with sessions; `act` is one op of one of them."""

    def __init__(
        self,
        generator: Generator,
        edges: EdgeClient,
        population: Population,
        created: Callable[[Session], None] = lambda _: None,
    ) -> None:
        """Nothing is sent. ``created`` is told of each session whose creation was acknowledged."""
        self._created = created
        self._generator = generator
        self._edges = edges
        self._population = population
        self._written = 0

    def act(self, due: int) -> None:
        """The op that is due at an instant: records it, sends it, records its end."""
        generator = self._generator
        session, step = self._population.pick()
        value = "" if step == "read" else self._new_value()
        method, path, body = request_of(session, step, value)
        headers = {"X-Client": session.id, "X-Visitor": session.id, "Content-Type": "application/json"}
        if value:
            headers["X-Request-Id"] = value
        kind, phase = f"session.{step}", generator.phase_at(due)
        op = generator.recorder.invoked(
            stream=STREAM, kind=kind, key=session.id, value=value, group=session.group, phase=phase, due=due
        )
        answer = self._edges.call(method, path, body, headers, first=session.edge, reads=step == "read")
        version = answer.body.get("version") if answer.outcome == "ok" else None
        generator.recorder.returned(
            op, answer.outcome, version=version if isinstance(version, int) else -1, error=answer.error
        )
        if step == "create" and answer.outcome == "ok":
            self._created(session)
        self._population.settle(session, step, answer.outcome, answer.status, answer.body)

    def _new_value(self) -> str:
        self._written += 1
        plan = self._generator.plan
        return f"locust{plan.part.mark}-{plan.seed}-{self._written}"
