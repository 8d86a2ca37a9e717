"""The collaboration service: people who edit in one room, connected by WebSocket, over all instances."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from aiohttp import ClientConnectionResetError, ClientError, WSCloseCode, WSMsgType, web
from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry

from services.config import Config
from services.fanout import Deliver, Fan, Fanout
from services.metric import FanoutMetrics, RequestMetrics, RoomMetrics, new_registry
from services.order import Edit as NumberedEdit
from services.order import edit_from_payload
from services.redis_cluster import RedisCluster, cluster_of
from services.redis_node import StoreError
from services.room import Member, Room
from services.room_log import NOTHING, Log, Position, RoomLog
from services.task import end
from services.web import BODY_BYTES_MAX, ID_PATTERN, Refusal, Service, id_from, main, wait_for_signal

JOIN_TIMEOUT_S = 5.0
SUBSCRIBE_TIMEOUT_S = 0.3
HEARTBEAT_S = 5.0
MEMBERS_MAX = 10_000  # connections to one instance

Epoch = Annotated[int, Meta(ge=-1, le=2**40)]
Seq = Annotated[int, Meta(ge=-1, le=2**40)]


class Join(Struct, frozen=True, tag="join"):
    """The first message; the position of the last edit that the client has (-1, -1: none)."""

    member: Annotated[str, Meta(pattern=ID_PATTERN)]
    epoch: Epoch = -1
    seq: Seq = -1


class Edit(Struct, frozen=True, tag="edit"):
    """An edit; its text is unique in the room."""

    edit: Annotated[str, Meta(min_length=1, max_length=16_384)]


class Missed(Struct, frozen=True, tag="missed"):
    """A question for what follows a position."""

    epoch: Epoch
    seq: Seq


class Presence(Struct, frozen=True, tag="presence"):
    """A question for who is in the room."""


Message = Join | Edit | Missed | Presence
_decoder = msgspec.json.Decoder(Message)


class Collaboration:
    """The rooms with members on this instance."""

    def __init__(
        self,
        log: Log,
        fan: Callable[[Deliver], Fan],
        config: Config,
        *,
        requests: RequestMetrics,
        rooms: RoomMetrics,
    ) -> None:
        self._timeout_s = config.timeout_s
        self._log = log
        self._requests = requests
        self._metrics = rooms
        self._fanout = fan(self._deliver)
        self._rooms: dict[str, Room] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    def add_routes(self, app: web.Application) -> None:
        """Add the route, and the end of all connections when the service stops."""
        app.router.add_get("/rooms/{room:[^/]+}/ws", self.connect, name="connect")
        app.on_shutdown.append(self._close_sockets)

    def open(self) -> None:
        """Begin to hear of other instances' edits."""
        self._fanout.open()

    async def close(self) -> None:
        """Stop the fan-out and the rooms."""
        await self._fanout.close()
        for room in self._rooms.values():
            await room.close()

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """One member's connection, from its join to its end."""
        name = id_from(request, "room")
        if len(self._sockets) >= MEMBERS_MAX:
            raise Refusal(503, "full")
        socket = web.WebSocketResponse(
            timeout=1.0, heartbeat=HEARTBEAT_S, compress=False, max_msg_size=BODY_BYTES_MAX, decode_text=True
        )
        if not socket.can_prepare(request):
            raise Refusal(400, "not-a-websocket")
        await socket.prepare(request)
        self._sockets.add(socket)
        self._metrics.members.set(len(self._sockets))
        try:
            await self._serve(socket, name)
        finally:
            self._sockets.discard(socket)
            self._metrics.members.set(len(self._sockets))
        return socket

    async def _serve(self, socket: web.WebSocketResponse, name: str) -> None:
        join = await _join_from(socket)
        if join is None:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"join first")
            return
        room, member = await self._room(name), Member(join.member)
        writer = asyncio.create_task(_write(socket, member, self._metrics), name=f"write-{name}")
        try:
            if await self._answer("join", member, None, room.join(member, _position(join.epoch, join.seq))):
                await self._take_messages(socket, room, member)
            else:
                member.outbox.put_nowait(None)
                await writer  # says why, and closes
        finally:
            await end(writer)
            await room.leave(member)
            await self._done_with(room)

    async def _room(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name, self._log, self._metrics, self._timeout_s)
            self._metrics.rooms.set(len(self._rooms))
        room.users += 1
        if room.users == 1:
            # First the subscription, then the log: what is appended in between is seen twice rather than never.
            await self._fanout.subscribe(name, SUBSCRIBE_TIMEOUT_S)
        return room

    async def _done_with(self, room: Room) -> None:
        room.users -= 1
        if room.users:
            return
        self._fanout.unsubscribe(room.name)
        del self._rooms[room.name]
        self._metrics.rooms.set(len(self._rooms))
        await room.close()

    async def _take_messages(self, socket: web.WebSocketResponse, room: Room, member: Member) -> None:
        """One message after the other: a member's edits are numbered in the order in which it sent them."""
        async for frame in frames_of(socket):
            match _message_from_frame(frame):
                case Edit(edit=text):
                    await self._answer("edit", member, text, self._edit(room, member, text))
                case Missed(epoch=epoch, seq=seq):
                    await self._answer("missed", member, None, room.repair(member, _position(epoch, seq)))
                case Presence():
                    await self._answer("presence", member, None, _presence(room, member))
                case _:
                    self._requests.observe("message", "rejected", 0)
                    member.send(_refused(None, "bad-request", "fail"))

    async def _edit(self, room: Room, member: Member, text: str) -> None:
        stored = await room.edit(text)
        epoch, seq = stored.edit
        member.send(msgspec.json.encode({"type": "ack", "edit": text, "epoch": epoch, "seq": seq}))
        self._fanout.publish(room.name, NumberedEdit(position=stored.edit, base=stored.base, text=text))

    async def _answer(self, route: str, member: Member, edit: str | None, work: Awaitable[None]) -> bool:
        """Do the work and book it; a failure of the store is told to the member."""
        loop = asyncio.get_running_loop()
        started, outcome = loop.time(), "ok"
        try:
            await work
        except StoreError as error:
            outcome = error.outcome
            member.send(_refused(edit, error.reason, error.outcome))
        self._requests.observe(route, outcome, loop.time() - started)
        return outcome == "ok"

    def _deliver(self, name: str, payload: str) -> None:
        room = self._rooms.get(name)
        if room is not None:
            with contextlib.suppress(msgspec.DecodeError):  # not ours; the head tells if something is missing
                room.deliver(edit_from_payload(payload))

    async def _close_sockets(self, _: web.Application) -> None:
        await asyncio.gather(
            *(socket.close(code=WSCloseCode.GOING_AWAY, message=b"stopping") for socket in self._sockets)
        )


async def frames_of(socket: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """What a member sends until its connection ends, be it before a ping of its own could be answered."""
    with contextlib.suppress(ClientConnectionResetError):
        async for frame in socket:
            yield frame


async def _join_from(socket: web.WebSocketResponse) -> Join | None:
    try:
        frame = await socket.receive(timeout=JOIN_TIMEOUT_S)
    except (TimeoutError, ClientConnectionResetError):
        return None
    message = _message_from_frame(frame)
    return message if isinstance(message, Join) else None


def _message_from_frame(frame: Any) -> Message | None:
    """What a frame says; `None` if it is not one of ours."""
    if frame.type is not WSMsgType.TEXT:
        return None
    try:
        message: Message = _decoder.decode(frame.data)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return message


def _position(epoch: int, seq: int) -> Position:
    return NOTHING if min(epoch, seq) < 0 else (epoch, seq)


async def _presence(room: Room, member: Member) -> None:
    member.send(msgspec.json.encode({"type": "presence", "members": await room.presence()}))


def _refused(edit: str | None, error: str, outcome: str) -> bytes:
    return msgspec.json.encode({"type": "refused", "edit": edit, "error": error, "outcome": outcome})


async def _write(socket: web.WebSocketResponse, member: Member, metrics: RoomMetrics) -> None:
    """Send what is in the member's outbox, until the connection ends or has to."""
    with contextlib.suppress(ClientError, ConnectionError):
        while (message := await member.outbox.get()) is not None:
            await socket.send_frame(message, WSMsgType.TEXT)
        if member.overflowed:
            metrics.overflows.inc()
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER)


async def serve(config: Config) -> None:
    """Serve rooms until a signal comes."""
    registry = new_registry()
    cluster = cluster_of(config, registry)
    requests = RequestMetrics(registry, ("connect", "join", "edit", "missed", "presence", "message"))
    service = Service(config, registry, lambda: cluster.ready)
    app = service.application(requests)
    async with log_of(config, cluster) as log:
        fan = fan_of(config, cluster, registry)
        rooms = Collaboration(log, fan, config, requests=requests, rooms=RoomMetrics(registry))
        rooms.add_routes(app)
        await service.start(app)
        await cluster.open()
        rooms.open()
        await wait_for_signal()
        await service.stop()
        await rooms.close()
    await cluster.close()


def fan_of(config: Config, cluster: RedisCluster, registry: CollectorRegistry) -> Callable[[Deliver], Fan]:
    """What brings edits to all instances by the configuration, once it is told whom to call for each."""
    metrics = FanoutMetrics(registry)
    if config.rooms is None or not config.rooms.rabbitmq:
        return lambda deliver: Fanout(cluster, deliver, metrics)
    from services.event_fanout import EventFanout  # without RabbitMQ nobody waits for its library

    rooms = config.rooms
    return lambda deliver: EventFanout(rooms, deliver, metrics, registry)


@asynccontextmanager
async def log_of(config: Config, cluster: RedisCluster) -> AsyncIterator[Log]:
    """The logs of rooms where the configuration has them kept."""
    if config.rooms is None:
        yield RoomLog(cluster)
        return
    from services.room_rows import RowLog  # without PostgreSQL nobody waits for its library

    rows = RowLog(config.rooms, cluster)
    try:
        yield rows
    finally:
        await rows.close()


if __name__ == "__main__":
    sys.exit(main(serve))
