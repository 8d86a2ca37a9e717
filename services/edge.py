"""The edge: one address for all services, with health checks, a rate limit, A/B buckets and safe retries."""

import asyncio
import hashlib
import sys
import uuid
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWSTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    TCPConnector,
    WSServerHandshakeError,
    web,
)
from yarl import URL

from services.config import Config
from services.limit import Limit
from services.metric import EdgeMetrics, RequestMetrics, new_registry
from services.relay import Relay
from services.upstream import Upstream, Upstreams, check_forever, is_refusal
from services.web import BODY_BYTES_MAX, Refusal, Service, main, matches_id, wait_for_signal

CONNECT_TIMEOUT_S = 0.3
FOUND_WITHIN_S = 10.0  # as long as it takes a node that comes back to have names and routes again
FOUND_LOOK_S = 0.05
WS_HEARTBEAT_S = 1.5  # of silence, then a ping that has to be answered in half that time
CLIENT_HEARTBEAT_S = 20.0
VISITOR_COOKIE = "visitor"
PASSED_HEADERS = ("Content-Type", "X-Client", "X-Visitor")
RETURNED_HEADERS = ("Content-Type", "X-Outcome", "Retry-After")

# of each service that answers over HTTP: the routes that lead to it, by their names
FORWARDED = {
    "session": {"sessions": "/sessions", "session": "/sessions/{rest:.*}"},
    "content": {"articles": "/articles", "article": "/articles/{rest:.*}"},
    "personalization": {"suggestions": "/suggestions/{rest:.*}", "profiles": "/profiles/{rest:.*}"},
}

Bucket = Literal["A", "B"]


def bucket_from_visitor(visitor: str) -> Bucket:
    """The half that a visitor belongs to, always the same."""
    return "A" if hashlib.sha256(visitor.encode()).digest()[0] % 2 == 0 else "B"


def forwarding(config: Config) -> dict[str, dict[str, str]]:
    """The routes of each service that stands behind this edge."""
    return {component: paths for component, paths in FORWARDED.items() if component in config.upstreams}


class NotSentError(Exception):
    """An instance could not be reached: nothing was sent."""


class Edge:
    """Routes requests to the instances behind it."""

    def __init__(self, config: Config, requests: RequestMetrics, metrics: EdgeMetrics) -> None:
        self._timeout_s = config.timeout_s
        self._requests = requests
        self._metrics = metrics
        self._limit = Limit(config.rate)
        self._upstreams = {
            component: Upstreams(Upstream(address, metrics.healthy[address]) for address in addresses)
            for component, addresses in config.upstreams.items()
        }
        self._forwarding = forwarding(config)
        self._client: ClientSession | None = None
        self._checks: list[asyncio.Task[None]] = []
        self._relays: set[Relay] = set()

    def add_routes(self, app: web.Application) -> None:
        """Add the routes, and the end of all WebSockets when the edge stops."""
        app.router.add_get("/rooms/{room:[^/]+}/ws", self.relay, name="rooms")
        for component, paths in self._forwarding.items():
            for name, path in paths.items():
                app.router.add_route("*", path, partial(self.forward, component), name=name)
        app.on_shutdown.append(self._end_relays)

    async def open(self) -> None:
        """Begin to check the instances' health."""
        timeout = ClientTimeout(total=self._timeout_s, connect=CONNECT_TIMEOUT_S)
        self._client = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=15),
            timeout=timeout,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        )
        # aiohttp sends a PUT again when the connection breaks after it was sent. We decide what is sent again.
        self._client._retry_connection = False  # noqa: SLF001 - there is no public switch; a test holds this
        for upstreams in self._upstreams.values():
            for upstream in upstreams.all:
                self._checks.append(asyncio.create_task(check_forever(upstream, self._client)))

    async def find(self) -> None:
        """Return once there is an instance of each kind, or in `FOUND_WITHIN_S`: people are told that there is none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FOUND_WITHIN_S):
                while not all(upstreams.found for upstreams in self._upstreams.values()):  # noqa: ASYNC110  checks end it
                    await asyncio.sleep(FOUND_LOOK_S)

    async def close(self) -> None:
        """Stop checking and close all connections."""
        for check in self._checks:
            check.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def forward(self, component: str, request: web.Request) -> web.StreamResponse:
        """Pass a request to an instance of a service."""
        bucket = self._admit(request)
        try:
            response = await self._forwarded(component, request)
        except Refusal as refusal:
            response = refusal.response()
        response.headers["X-Bucket"] = bucket
        response.headers["X-Request-Id"] = _request_id(request)
        return response

    async def relay(self, request: web.Request) -> web.StreamResponse:
        """Pass a WebSocket to an instance of the collaboration service."""
        bucket = self._admit(request)
        socket = web.WebSocketResponse(
            timeout=1.0, heartbeat=CLIENT_HEARTBEAT_S, compress=False, max_msg_size=BODY_BYTES_MAX, decode_text=False
        )
        if not socket.can_prepare(request):
            raise Refusal(400, "not-a-websocket")
        upstream, upstream_socket = await self._ws_connected(request)
        relay = Relay(socket, upstream_socket)
        forget = upstream.on_gone(relay.end)
        self._relays.add(relay)
        self._metrics.relays.set(len(self._relays))
        try:
            socket.headers["X-Bucket"] = bucket
            await socket.prepare(request)
            await relay.run()
        finally:
            forget()
            self._relays.discard(relay)
            self._metrics.relays.set(len(self._relays))
            with suppress(ClientError, OSError):
                await upstream_socket.close()
        return socket

    def _admit(self, request: web.Request) -> Bucket:
        """The visitor's bucket. Raises `Refusal` if the client is over its rate."""
        address = request.remote or ""
        client = request.headers.get("X-Client", "")[:128] or address
        if not self._limit.allows(client, asyncio.get_running_loop().time()):
            self._metrics.limited.inc()
            raise Refusal(429, "rate")
        return bucket_from_visitor(request.headers.get("X-Visitor") or request.cookies.get(VISITOR_COOKIE) or address)

    async def _forwarded(self, component: str, request: web.Request) -> web.Response:
        """The answer of one instance; of a second one where that is safe. Raises `Refusal`."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        body = await _body(request, self._timeout_s)
        upstreams = self._upstreams[component]
        tried: Upstream | None = None
        error: BaseException | None = None
        for _ in range(2):
            upstream = upstreams.choose(but=tried)
            if upstream is None:
                break
            if tried is not None:
                self._metrics.retries.inc()
            tried = upstream
            try:
                return await self._asked(upstream, request, body, deadline)
            except NotSentError as not_sent:
                error = not_sent
            except (ClientError, TimeoutError, OSError) as unknown:
                error = unknown
                if request.method != "GET":
                    break  # it may have been done
        raise _refusal_from_error(error)

    async def _asked(self, upstream: Upstream, request: web.Request, body: bytes, deadline: float) -> web.Response:
        """One instance's answer. Raises `NotSentError`, or what aiohttp raises once something was sent."""
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise NotSentError("late")
        assert self._client is not None
        try:
            async with self._client.request(
                request.method,
                URL(upstream.base + request.raw_path, encoded=True),
                data=body or None,
                headers=_passed(request),
                allow_redirects=False,
                timeout=ClientTimeout(total=left_s, connect=min(CONNECT_TIMEOUT_S, left_s)),
            ) as answer:
                content = await answer.read()
                headers = {name: answer.headers[name] for name in RETURNED_HEADERS if name in answer.headers}
                return web.Response(status=answer.status, body=content, headers=headers)
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            if is_refusal(error):
                upstream.refused()
            raise NotSentError(str(error)) from error

    async def _ws_connected(self, request: web.Request) -> tuple[Upstream, Any]:
        """An instance that took the WebSocket. Raises `Refusal`; a handshake does nothing, so any failure is `fail`."""
        assert self._client is not None
        tried: Upstream | None = None
        for _ in range(2):
            upstream = self._upstreams["collaboration"].choose(but=tried)
            if upstream is None:
                break
            tried = upstream
            try:
                async with asyncio.timeout(self._timeout_s):
                    return upstream, await self._client.ws_connect(
                        URL(upstream.base + request.raw_path, encoded=True),
                        headers=_passed(request),
                        heartbeat=WS_HEARTBEAT_S,
                        timeout=ClientWSTimeout(ws_close=1.0),
                        max_msg_size=0,  # a service's own answers; what it takes is limited on the client's side
                        decode_text=False,
                    )
            except WSServerHandshakeError as error:
                raise Refusal(error.status, "upstream") from error
            except (ClientError, TimeoutError, OSError) as error:
                if is_refusal(error):
                    upstream.refused()
        raise Refusal(503, "no-upstream" if tried is None else "upstream")

    async def _end_relays(self, _: web.Application) -> None:
        for relay in tuple(self._relays):
            relay.end()


def _request_id(request: web.Request) -> str:
    given = str(request.get("request_id") or request.headers.get("X-Request-Id", ""))
    request["request_id"] = given if matches_id(given) else uuid.uuid4().hex
    return str(request["request_id"])


def _passed(request: web.Request) -> dict[str, str]:
    headers = {name: request.headers[name] for name in PASSED_HEADERS if name in request.headers}
    headers["X-Request-Id"] = _request_id(request)
    return headers


async def _body(request: web.Request, timeout_s: float) -> bytes:
    if not request.body_exists:
        return b""
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise Refusal(408, "slow-body") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(400, "too-large") from None


def _refusal_from_error(error: BaseException | None) -> Refusal:
    if error is None:
        return Refusal(503, "no-upstream")
    if isinstance(error, NotSentError):
        return Refusal(503, "upstream")
    return Refusal(504 if isinstance(error, TimeoutError) else 502, "upstream", "unknown")


async def serve(config: Config) -> None:
    """Serve as the edge until a signal comes."""
    registry = new_registry()
    routes = [name for paths in forwarding(config).values() for name in paths]
    requests = RequestMetrics(registry, (*routes, "rooms"))
    addresses = [address for many in config.upstreams.values() for address in many]
    edge = Edge(config, requests, EdgeMetrics(registry, addresses))
    service = Service(config, registry, lambda: True)
    app = service.application(requests)
    edge.add_routes(app)
    await edge.open()
    await edge.find()  # a client that is refused a connection tries the other edge
    await service.start(app)
    await wait_for_signal()
    await service.stop()
    await edge.close()


if __name__ == "__main__":
    sys.exit(main(serve))
