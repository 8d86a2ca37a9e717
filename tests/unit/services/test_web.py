"""How a service ends, and what its log says of a request that could not be answered."""

import asyncio
import os
import signal
from collections.abc import Awaitable

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry

from services.config import Config
from services.metric import RequestMetrics
from services.web import BrokenOffError, Refusal, Service, guard, wait_for_signal


class Ending:
    """A service that is told to end, and what its health was before and while it waited."""

    def __init__(self, drain_s: float) -> None:
        config, registry = Config(name="session-0", port=0, drain_s=drain_s), CollectorRegistry()
        self.service = Service(config, registry, lambda: True, sleep=self.sleep)
        self.app = self.service.application(RequestMetrics(registry, ()))
        self.health: list[str] = []
        self.slept: list[float] = []

    async def play(self) -> None:
        await self.look()
        await self.service.stop()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.look()

    async def look(self) -> None:
        (handler,) = (route.handler for route in self.app.router["healthz"] if route.method == "GET")
        answer = handler(make_mocked_request("GET", "/healthz"))
        assert isinstance(answer, Awaitable)
        try:
            self.health.append(str((await answer).status))
        except Refusal as refusal:
            self.health.append(f"{refusal.status} {refusal.error}")


@pytest.mark.parametrize("drain_s", [0.0, 2.0])
def test_a_service_that_is_told_to_end_says_so_for_a_while_before_it_closes(drain_s: float):
    ending = Ending(drain_s)
    asyncio.run(ending.play())
    assert ending.health == ["200", "503 stopping"]
    assert ending.slept == [drain_s]


def test_it_listens_while_it_drains(monkeypatch: pytest.MonkeyPatch):
    """What is closed at once loses whatever is on its way there."""
    done: list[str] = []

    async def play() -> None:
        async def sleep(_seconds: float) -> None:
            done.append("drained")

        async def cleanup(_runner: web.AppRunner) -> None:
            done.append("closed")

        async def start(_site: web.TCPSite) -> None:
            """Opens no socket."""

        monkeypatch.setattr(web.AppRunner, "cleanup", cleanup)
        monkeypatch.setattr(web.AppRunner, "addresses", [("127.0.0.1", 8080)])
        monkeypatch.setattr(web.TCPSite, "start", start)
        service = Service(Config(name="session-0", port=0, drain_s=2.0), CollectorRegistry(), lambda: True, sleep)
        await service.start(web.Application())
        await service.stop()

    asyncio.run(play())
    assert done == ["drained", "closed"]


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_service_and_leaves_what_runs_beside_it(number: signal.Signals):
    beside = asyncio.create_task(for_ever())
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
    await asyncio.wait_for(wait_for_signal(beside), 5.0)
    assert not beside.done()
    beside.cancel()


@pytest.mark.parametrize("cause", [ValueError("no such beat"), OSError("reset"), None])
async def test_the_end_of_what_runs_beside_a_service_is_its_own(cause: Exception | None):
    """Whatever it is: one that ended as if all were well would not be missed."""

    async def ends() -> None:
        if cause:
            raise cause

    beside = [asyncio.create_task(for_ever()), asyncio.create_task(ends(), name="beats")]
    with pytest.raises(BrokenOffError, match="beats") as caught:
        await asyncio.wait_for(wait_for_signal(*beside), 5.0)
    assert caught.value.__cause__ is cause
    beside[0].cancel()


@pytest.mark.parametrize(
    ("gone", "error", "logged"),
    [(True, ConnectionResetError(), 0), (False, ConnectionResetError(), 1), (True, ValueError(), 1)],
)
async def test_only_that_whoever_asked_has_left_is_no_error_of_the_service(
    gone: bool, error: Exception, logged: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    async def handler(_request: web.Request) -> web.StreamResponse:
        raise error

    request = make_mocked_request("GET", "/rooms/room-1/ws")
    monkeypatch.setattr(request.protocol, "transport", None if gone else asyncio.Transport())
    monkeypatch.setattr(request.match_info.route, "name", "room")
    answer = await guard(RequestMetrics(CollectorRegistry(), ("room",)))(request, handler)
    assert answer.status == 500
    assert len([record for record in caplog.records if record.exc_info]) == logged
