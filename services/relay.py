"""A WebSocket passed through the edge: frames go over as they come, and both sides end together."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import ClientError, ClientWebSocketResponse, WSCloseCode, WSMsgType, web

CLOSE_TIMEOUT_S = 1.0

Socket = ClientWebSocketResponse[bool] | web.WebSocketResponse[bool]


class Relay:
    """One WebSocket between a client and an instance."""

    def __init__(self, client: web.WebSocketResponse[bool], upstream: ClientWebSocketResponse[bool]) -> None:
        self._client = client
        self._upstream = upstream
        self._ended = asyncio.Event()

    def end(self) -> None:
        """The instance is gone: close the client's side, so that it connects again."""
        self._ended.set()

    async def run(self) -> None:
        """Pass frames until one side ends; then close both."""
        pumps = [
            asyncio.create_task(_pump(self._client, self._upstream, self._ended.set)),
            asyncio.create_task(_pump(self._upstream, self._client, self._ended.set)),
        ]
        try:
            await self._ended.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await asyncio.gather(
                _close(self._client, self._upstream.close_code), _close(self._upstream, self._client.close_code)
            )


async def _pump(source: Socket, sink: Socket, ended: Callable[[], None]) -> None:
    try:
        with suppress(ClientError, ConnectionError):
            async for frame in source:
                if frame.type is not WSMsgType.TEXT and frame.type is not WSMsgType.BINARY:
                    return
                await sink.send_frame(frame.data, frame.type)
    finally:
        ended()


async def _close(socket: Socket, other_code: int | None) -> None:
    """Close one side with the other's code, where that can be sent; else with 1012, which asks to connect again."""
    code = other_code if other_code is not None and _sendable(other_code) else WSCloseCode.SERVICE_RESTART
    with suppress(ClientError, ConnectionError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await socket.close(code=code)


def _sendable(code: int) -> bool:
    return 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
