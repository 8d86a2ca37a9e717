"""A member of a room, as a test drives it: what it sends, and everything that it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

Message = dict[str, Any]


class RoomClient:
    """One connection; `read` gives the next message of a type and keeps the others for later."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._kept: list[Message] = []

    async def send(self, kind: str, **content: Any) -> None:
        await self._socket.send_json({"type": kind, **content})

    async def send_text(self, text: str) -> None:
        await self._socket.send_str(text)

    async def read(self, *kinds: str, timeout_s: float = 5, **having: Any) -> Message:
        """The next message of one of the kinds that has these values."""
        async with asyncio.timeout(timeout_s):
            return await self._next(kinds, having)

    async def nothing(self, kind: str, for_s: float) -> bool:
        """Whether no message of the kind comes for so long."""
        try:
            await self.read(kind, timeout_s=for_s)
        except TimeoutError:
            return True
        return False

    async def edit(self, text: str) -> Message:
        """The answer to an edit."""
        await self.send("edit", edit=text)
        return await self.read("ack", "refused", edit=text)

    async def closed(self, timeout_s: float = 5) -> int | None:
        """Read to the end; the code that the connection was closed with."""
        async with asyncio.timeout(timeout_s):
            async for _ in self._socket:
                pass
        return self._socket.close_code

    async def _next(self, kinds: tuple[str, ...], having: Message) -> Message:
        for message in self._kept:
            if _fits(message, kinds, having):
                self._kept.remove(message)
                return message
        while True:
            frame = await self._socket.receive()
            if frame.type is not WSMsgType.TEXT:
                raise ConnectionError(f"closed: {self._socket.close_code}")
            received: Message = json.loads(frame.data)
            if _fits(received, kinds, having):
                return received
            self._kept.append(received)


def _fits(message: Message, kinds: tuple[str, ...], having: Message) -> bool:
    return message["type"] in kinds and all(message.get(name) == value for name, value in having.items())


@asynccontextmanager
async def connection(address: str, room: str, **headers: str) -> AsyncIterator[RoomClient]:
    """A connection that has not joined yet."""
    async with (
        ClientSession(headers=headers) as session,
        session.ws_connect(f"http://{address}/rooms/{room}/ws") as socket,
    ):
        yield RoomClient(socket)


@asynccontextmanager
async def member(address: str, room: str, name: str, epoch: int = -1, seq: int = -1) -> AsyncIterator[RoomClient]:
    """A connection that has sent its join; `joined` is still to be read."""
    async with connection(address, room) as client:
        await client.send("join", member=name, epoch=epoch, seq=seq)
        yield client
