"""A tiny platform in one process: the edge's interface for sessions, rooms and suggestions, kept in memory.

Run as ``python tests/component/fake_platform.py PORT``; it can be stopped with SIGSTOP like any server, and SIGUSR1
cuts all WebSockets.
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web


class Rooms:
    """Rooms with their logs and the sockets that are in them."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[int, int, str]]] = {}
        self.sockets: dict[str, set[web.WebSocketResponse]] = {}

    def head(self, room: str) -> tuple[int, int]:
        log = self.logs.setdefault(room, [])
        return log[-1][:2] if log else (1, 0)

    async def fan_out(self, room: str, message: dict[str, Any]) -> None:
        for socket in tuple(self.sockets.setdefault(room, set())):
            with suppress(ConnectionError):
                await socket.send_str(json.dumps(message))

    def cut(self) -> None:
        for socket in [socket for sockets in self.sockets.values() for socket in sockets]:
            transport = socket.get_extra_info("socket")
            transport.shutdown(2)

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for room in tuple(self.sockets):
                epoch, seq = self.head(room)
                await self.fan_out(room, {"type": "head", "epoch": epoch, "seq": seq})


ROOMS = web.AppKey("rooms", Rooms)
PROFILES = web.AppKey("profiles", dict[str, int])  # the version of each person's
SESSIONS = web.AppKey("sessions", dict[str, dict[str, Any]])
BEAT = web.AppKey("beat", asyncio.Task[None])


async def create(request: web.Request) -> web.Response:
    body = await request.json()
    request.app[SESSIONS][body["session"]] = {
        "version": 1, "state": "live", "data": body["data"], "person": body.get("person"),
    }  # fmt: skip
    return web.json_response({"session": body["session"], "version": 1}, status=201)


async def read(request: web.Request) -> web.Response:
    session = request.app[SESSIONS].get(request.match_info["id"])
    if session is None:
        return refused(404, "not-found")
    return web.json_response({"session": request.match_info["id"], **session})


async def write(request: web.Request) -> web.Response:
    session = request.app[SESSIONS].get(request.match_info["id"])
    body = await request.json()
    if session is None:
        return refused(404, "not-found")
    if session["state"] == "ended":
        return refused(410, "ended")
    if body.get("version", session["version"]) != session["version"]:
        return refused(409, "conflict", version=session["version"])
    session["version"] += 1
    session["state"] = "ended" if request.path.endswith("/end") else "live"
    return web.json_response({"version": session["version"]})


def refused(status: int, error: str, **more: Any) -> web.Response:
    body = {"error": error, "outcome": "fail", **more}
    return web.json_response(body, status=status, headers={"X-Outcome": "fail"})


async def person_of(request: web.Request, *, changed: int) -> web.Response:
    """The profile of whose session it is, after so many changes."""
    session = request.app[SESSIONS].get(request.match_info["id"], {})
    if (person := session.get("person")) is None:
        return refused(404, "nobodys")
    profiles = request.app[PROFILES]
    profiles[person] = profiles.get(person, 0) + changed
    return web.json_response({"person": person, "version": profiles[person]})


async def suggest(request: web.Request) -> web.Response:
    return await person_of(request, changed=0)


async def change(request: web.Request) -> web.Response:
    await request.json()
    return await person_of(request, changed=1)


async def room_socket(request: web.Request) -> web.WebSocketResponse:
    rooms, room = request.app[ROOMS], request.match_info["room"]
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await answer(rooms, room, socket, json.loads(message.data))
    finally:
        rooms.sockets.setdefault(room, set()).discard(socket)
    return socket


async def answer(rooms: Rooms, room: str, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
    epoch, seq = rooms.head(room)
    match message["type"]:
        case "join" | "missed":
            had = (message["epoch"], message["seq"])
            rows = [row for row in rooms.logs[room] if row[:2] > had] if had != (-1, -1) else []
            kind = "joined" if message["type"] == "join" else "missed"
            rooms.sockets.setdefault(room, set()).add(socket)
            await socket.send_str(json.dumps({"type": kind, "epoch": epoch, "seq": seq, "edits": rows}))
        case "edit":
            row = (epoch, seq + 1, message["edit"])
            rooms.logs[room].append(row)
            numbered = {"epoch": row[0], "seq": row[1], "edit": row[2]}
            await socket.send_str(json.dumps({"type": "ack", **numbered}))
            await rooms.fan_out(room, {"type": "edit", **numbered})


async def started(app: web.Application) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, app[ROOMS].cut)
    app[BEAT] = asyncio.create_task(app[ROOMS].beat())


def main() -> None:
    app = web.Application()
    app[ROOMS], app[SESSIONS], app[PROFILES] = Rooms(), {}, {}
    app.on_startup.append(started)
    app.router.add_post("/sessions", create)
    app.router.add_get("/sessions/{id}", read)
    app.router.add_put("/sessions/{id}", write)
    app.router.add_post("/sessions/{id}/{what}", write)
    app.router.add_get("/suggestions/{id}", suggest)
    app.router.add_put("/profiles/{id}", change)
    app.router.add_get("/rooms/{room}/ws", room_socket)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
