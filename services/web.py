"""What all services share as HTTP servers: error answers, `/healthz`, `/metrics`, start and graceful stop."""

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry, generate_latest

from services.config import Config, ConfigError, read_config
from services.metric import RequestMetrics
from services.task import end

BODY_BYTES_MAX = 65_536
STOP_TIMEOUT_S = 3.0
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z"  # no braces: a hash tag stays one; no quotes: safe in JSON

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ID = re.compile(ID_PATTERN)
log = logging.getLogger("services")


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """A request that is answered with an error."""

    def __init__(self, status: int, error: str, outcome: Literal["fail", "unknown"] = "fail", **details: Any) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.outcome = outcome
        self.details = details

    def response(self) -> web.Response:
        """The answer: one line of JSON, and the outcome as a header too."""
        answer = json_response({"error": self.error, "outcome": self.outcome, **self.details}, status=self.status)
        answer.headers["X-Outcome"] = self.outcome
        return answer


class BrokenOffError(Exception):
    """Something that a service cannot do without has ended; the text is its name."""


def matches_id(text: str) -> bool:
    """Whether a text can be an id (of a session, a room, a member, an op)."""
    return _ID.fullmatch(text) is not None


def id_from(request: web.Request, name: str = "id") -> str:
    """The id in a part of the request's path. Raises `Refusal`."""
    text = request.match_info[name]
    if not matches_id(text):
        raise Refusal(400, "bad-id")
    return text


def json_response(content: Any, *, status: int = 200) -> web.Response:
    """`content` as one line of JSON."""
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


async def body_from[T](request: web.Request, decoder: msgspec.json.Decoder[T], deadline: float) -> T:
    """The request's body as what the decoder describes. Raises `Refusal`."""
    try:
        async with asyncio.timeout_at(deadline):
            return decoder.decode(await request.read())
    except TimeoutError:
        raise Refusal(408, "slow-body") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(400, "too-large") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "bad-request", detail=str(error)) from None


def guard(metrics: RequestMetrics) -> Middleware:
    """A middleware that turns whatever goes wrong into an answer, and books every request."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        started = loop.time()
        response = await _answer(request, handler)
        if isinstance(response, web.WebSocketResponse):
            return response  # its messages are booked, each by itself
        route = request.match_info.route.name or "other"
        metrics.observe(route, _outcome(response), loop.time() - started)
        return response

    return guarded


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.response()
    except web.HTTPException as error:
        return Refusal(error.status, error.reason.lower().replace(" ", "-")).response()
    except Exception as error:  # the server's boundary: the client gets an answer, the log the cause
        if isinstance(error, ConnectionResetError) and request.transport is None:
            return Refusal(500, "gone", "unknown").response()  # to nobody: whoever asked has left, nothing is broken
        log.exception("%s %s", request.method, request.rel_url.raw_path)
        return Refusal(500, "internal", "unknown").response()


def _outcome(response: web.StreamResponse) -> str:
    if response.status < 400:
        return "ok"
    if response.status < 500:
        return "rejected"
    return response.headers.get("X-Outcome", "unknown")


class Service:
    """One service's HTTP server. A service is not healthy before it is ready, and no more when it is stopping."""

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._sleep = sleep
        self._registry = registry
        self._ready = ready
        self._stopping = False
        self._runner: web.AppRunner | None = None

    def application(self, requests: RequestMetrics) -> web.Application:
        """A new application with a `guard` over all requests, `/healthz` and `/metrics`."""
        app = web.Application(middlewares=[guard(requests)], client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/healthz", self._healthz, name="healthz")
        app.router.add_get("/metrics", self._metrics, name="metrics")
        return app

    async def start(self, app: web.Application) -> int:
        """Listen; the port that was taken. Raises `OSError`."""
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT_S - 1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._config.host, self._config.port, backlog=1_024).start()
        port = int(self._runner.addresses[0][1])
        log.info("%s listens on %s:%d", self._config.name, self._config.host, port)
        return port

    async def stop(self) -> None:
        """Be unfit for `drain_s`; then accept nothing more, let what is in flight finish, close in `STOP_TIMEOUT_S`.

        While it drains it serves as before: what reaches a connection in the instant that it is closed is lost to
        whoever asked, so first those who look at its health are to turn away.
        """
        self._stopping = True
        log.info("%s stops", self._config.name)
        await self._sleep(self._config.drain_s)
        if self._runner is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._runner.cleanup()
        except TimeoutError:
            log.warning("stopped with requests in flight")

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        if self._stopping or not self._ready():
            raise Refusal(503, "stopping" if self._stopping else "not-ready")
        return json_response({"status": "ok"})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


async def wait_for_signal(*beside: asyncio.Task[Any]) -> None:
    """Return at the first SIGTERM or SIGINT.

    What runs ``beside`` a service has no end of its own. Raises `BrokenOffError` if one ends before: without it the
    service would be half of what it says that it is, and only who reads its metrics would see that.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((stopped, *beside), return_when=asyncio.FIRST_COMPLETED)
    await end(stopped)
    ended = [task for task in beside if task.done()]
    if ended and not stop.is_set():
        raise BrokenOffError(ended[0].get_name()) from ended[0].exception()


def main(serve: Callable[[Config], Awaitable[None]]) -> int:
    """Run one service with the configuration file in argv[1]; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m services.NAME CONFIG.json\n")
        return 2
    try:
        config = read_config(Path(sys.argv[1]))
        uvloop.run(_awaited(serve(config)))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot serve: {error}\n")
        return 4
    return 0


async def _awaited(service: Awaitable[None]) -> None:
    await service
