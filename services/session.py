"""The session service: what a person is doing, kept in Redis for seven days and changed by compare-and-set.

Where it has an outbox, each end of a session that is acknowledged is followed by an event (`services.outbox`). Where
it has a gRPC port, other services ask it there whose a session is (`services.session_rpc`).
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry

from services.config import Config
from services.metric import RequestMetrics, new_registry
from services.redis_cluster import RedisCluster, cluster_of
from services.redis_node import StoreError
from services.script import Script
from services.web import (
    ID_PATTERN,
    Refusal,
    Service,
    body_from,
    id_from,
    json_response,
    main,
    wait_for_signal,
)

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Data = Annotated[str, Meta(max_length=16_384)]


class Create(Struct, frozen=True):
    """The body of a create; `person` is whose session it is, where that is known."""

    session: Id
    op: Id
    data: Data
    person: Id | None = None


class Update(Struct, frozen=True):
    """The body of an update; `version` is the one that it replaces."""

    op: Id
    version: Annotated[int, Meta(ge=0, le=2**53)]
    data: Data


class Touch(Struct, frozen=True):
    """The body of a heartbeat or an end."""

    op: Id


class Events(Protocol):
    """Where the service says that a session has ended; `services.outbox.SessionEvents` is the real one."""

    async def ended(self, session: str, op: str, deadline: float) -> str:
        """The id of the event, once it is certain that there will be one. Raises `Refusal`."""
        ...


class Sessions:
    """The routes of the session service."""

    def __init__(self, cluster: RedisCluster, config: Config, events: Events | None = None) -> None:
        self._cluster = cluster
        self._events = events
        self._ttl_s = config.session_ttl_s
        self._timeout_s = config.timeout_s
        self._write_script = Script.load("session")
        self._read_script = Script.load("session_read")
        self._owner_script = Script.load("session_owner")
        self._create_body = msgspec.json.Decoder(Create)
        self._update_body = msgspec.json.Decoder(Update)
        self._touch_body = msgspec.json.Decoder(Touch)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/sessions", self.create, name="create")
        app.router.add_get("/sessions/{id:[^/]+}", self.read, name="read")
        app.router.add_put("/sessions/{id:[^/]+}", self.update, name="update")
        app.router.add_post("/sessions/{id:[^/]+}/heartbeat", self.heartbeat, name="heartbeat")
        app.router.add_post("/sessions/{id:[^/]+}/end", self.end, name="end")

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Begin a session."""
        deadline = self._deadline()
        body = await body_from(request, self._create_body, deadline)
        version = await self._write(body.session, "create", body.op, deadline, data=body.data, person=body.person)
        return json_response({"session": body.session, "version": version}, status=201)

    async def read(self, request: web.Request) -> web.StreamResponse:
        """A session as it is."""
        session = id_from(request)
        version, state, data = await self._stored(self._read_script, session, self._deadline())
        return json_response({"session": session, "version": int(version), "state": state, "data": data})

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Replace the data of the version that the client knows."""
        session, deadline = id_from(request), self._deadline()
        body = await body_from(request, self._update_body, deadline)
        version = await self._write(session, "update", body.op, deadline, expected=body.version, data=body.data)
        return json_response({"version": version})

    async def heartbeat(self, request: web.Request) -> web.StreamResponse:
        """The person is still there."""
        session, op, deadline = await self._touched(request)
        return json_response({"version": await self._write(session, "heartbeat", op, deadline)})

    async def end(self, request: web.Request) -> web.StreamResponse:
        """The session is over; it stays readable until its time is over."""
        session, op, deadline = await self._touched(request)
        version = await self._write(session, "end", op, deadline)
        if self._events is None:
            return json_response({"version": version})
        event = await self._events.ended(session, op, deadline)  # only then is it acknowledged
        return json_response({"version": version, "event": event})

    async def owner(self, session: str, deadline: float) -> tuple[str | None, str]:
        """Whose session it is, if anybody's, and its state. Raises `Refusal`."""
        _, state, person = await self._stored(self._owner_script, session, deadline)
        return person, state

    async def _stored(self, script: Script, session: str, deadline: float) -> Any:
        """What a script that only reads finds of a session. Raises `Refusal`."""
        try:
            stored = await self._cluster.run(script, (f"session:{{{session}}}",), (), durable=False, deadline=deadline)
        except StoreError as error:
            raise Refusal(503, error.reason, "fail") from error  # a read has no effect
        if stored is None:
            raise Refusal(404, "missing")
        return stored

    async def _touched(self, request: web.Request) -> tuple[str, str, float]:
        """Which session a request without content is about, its op, and until when it has to be answered."""
        session, deadline = id_from(request), self._deadline()
        body = await body_from(request, self._touch_body, deadline)
        return session, body.op, deadline

    async def _write(
        self,
        session: str,
        action: str,
        op: str,
        deadline: float,
        *,
        expected: int = 0,
        data: str = "",
        person: str | None = None,
    ) -> int:
        keys = (f"session:{{{session}}}", f"session-log:{{{session}}}")
        args = (action, op, self._ttl_s, expected, data, *(() if person is None else (person,)))
        try:
            word, version = await self._cluster.run(self._write_script, keys, args, durable=True, deadline=deadline)
        except StoreError as error:
            raise Refusal(503, error.reason, error.outcome) from error
        if word == "done":
            return int(version)
        if word == "conflict":
            raise Refusal(409, "conflict", version=version)
        if word == "ended":
            raise Refusal(410, "ended", version=version)
        raise Refusal(404, "missing")

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


async def serve(config: Config) -> None:
    """Serve sessions until a signal comes."""
    registry = new_registry()
    cluster = cluster_of(config, registry)
    rpc_routes = () if config.grpc_port is None else ("rpc-whose",)
    routes = RequestMetrics(registry, ("create", "read", "update", "heartbeat", "end", *rpc_routes))
    service = Service(config, registry, lambda: cluster.ready)
    app = service.application(routes)
    async with outbox_of(config, registry) as events:
        sessions = Sessions(cluster, config, events)
        sessions.add_routes(app)
        await service.start(app)
        async with answering(sessions, config, routes):
            await cluster.open()
            await wait_for_signal()
            await service.stop()
    await cluster.close()


@asynccontextmanager
async def answering(sessions: Sessions, config: Config, metrics: RequestMetrics) -> AsyncIterator[None]:
    """Other services' questions are answered meanwhile, where the configuration has a port for them."""
    if config.grpc_port is None:
        yield
        return
    from services.rpc import Call, RpcServer  # where nobody asks nobody waits for gRPC's library
    from services.session_rpc import WHOSE, Owner, Session

    async def whose(question: Session, call: Call) -> Owner:
        person, state = await sessions.owner(question.session, call.deadline)
        return Owner(person=person, state=state)

    server = RpcServer(config.host, config.grpc_port, timeout_s=config.timeout_s, metrics=metrics)
    server.serve(WHOSE, whose)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


@asynccontextmanager
async def outbox_of(config: Config, registry: CollectorRegistry) -> AsyncIterator[Events | None]:
    """The outbox that the configuration asks for, while it is open; None if it asks for none."""
    if config.outbox is None:
        yield None
        return
    from services.outbox import SessionEvents  # without an outbox nobody waits for its libraries

    events = SessionEvents(config.outbox, registry)
    events.open()
    try:
        yield events
    finally:
        await events.close()


if __name__ == "__main__":
    sys.exit(main(serve))
