"""The edge: real instances behind it where that matters, small ones that fail on purpose where it does not."""

import asyncio
import base64
import hashlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import ClientSession

from tests.component.redis_on_loopback import Cluster, wait_until
from tests.component.room_client import connection, member
from tests.component.service_process import Service, free_port, redis_settings, service

pytestmark = pytest.mark.component
REDIS_PORT = 17_720  # of the first of its servers, see `conftest.cluster`


class Platform:
    """Two instances of each service, and an edge in front of them."""

    def __init__(self, cluster: Cluster, folder: Path, stack: ExitStack) -> None:
        self.sessions, self.rooms = (
            [stack.enter_context(service(folder, module, **redis_settings(cluster))) for _ in range(2)]
            for module in ("session", "collaboration")
        )
        self.edge = stack.enter_context(
            service(
                folder,
                "edge",
                upstreams={
                    "session": [one.address for one in self.sessions],
                    "collaboration": [one.address for one in self.rooms],
                },
            )
        )
        wait_until(lambda: all(self.healthy(one) for one in (*self.sessions, *self.rooms)), "all instances are in")

    def healthy(self, one: Service) -> bool:
        return self.edge.metric(f'upstream_healthy{{upstream="{one.address}"}}') == 1


@pytest.fixture(scope="module")
def platform(cluster: Cluster, folder: Path) -> Iterator[Platform]:
    with ExitStack() as stack:
        yield Platform(cluster, folder, stack)


@pytest.fixture
def own_platform(cluster: Cluster, folder: Path) -> Iterator[Platform]:
    """For tests that end a part of it."""
    with ExitStack() as stack:
        yield Platform(cluster, folder, stack)


@dataclass
class Instance:
    """A small instance that does to a connection what the test wants; `seen` are the requests other than checks."""

    act: Callable[[socket.socket, bytes], None]
    seen: list[bytes] = field(default_factory=list)
    healthy: bool = True
    port: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    def stop(self) -> None:
        """Nobody is there any more: connections are closed, new ones refused."""
        for accepted in self.connections:
            with suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            self.connections.append(accepted)
            threading.Thread(target=self._serve_one, args=(accepted,), daemon=True).start()

    def _serve_one(self, accepted: socket.socket) -> None:
        with accepted:
            while request := _request_from(accepted):
                if request.startswith(b"GET /healthz "):
                    answer(accepted, 200 if self.healthy else 503, b"{}")
                else:
                    self.seen.append(request)
                    self.act(accepted, request)


def _request_from(accepted: socket.socket) -> bytes:
    """A whole request; nothing when the connection was closed."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            data += _more(accepted)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += _more(accepted)
    except OSError:
        return b""
    return data


def _more(accepted: socket.socket) -> bytes:
    data = accepted.recv(65_536)
    if not data:
        raise ConnectionResetError
    return data


def answer(accepted: socket.socket, status: int, body: bytes, **headers: str) -> None:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    accepted.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def fine(accepted: socket.socket, _: bytes) -> None:
    answer(accepted, 200, b'{"fine":true}')


def hang_up(accepted: socket.socket, _: bytes) -> None:
    accepted.shutdown(socket.SHUT_RDWR)


def fall_silent(accepted: socket.socket, request: bytes) -> None:
    """Take a WebSocket, and then answer nothing on it, not even a ping."""
    key = next(line[19:] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = ["HTTP/1.1 101 Switching", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"]
    accepted.sendall("\r\n".join([*lines, "", ""]).encode())
    time.sleep(4)


def say_nothing(_: socket.socket, __: bytes) -> None:
    time.sleep(1.5)


@contextmanager
def instance(act: Callable[[socket.socket, bytes], None]) -> Iterator[Instance]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = Instance(act, port=listener.getsockname()[1])
        threading.Thread(target=one.serve, args=(listener,), daemon=True).start()
        yield one
        listener.shutdown(socket.SHUT_RDWR)
    one.stop()


@contextmanager
def edge_over(folder: Path, *instances: Instance, **settings: Any) -> Iterator[Service]:
    upstreams = {"session": [one.address for one in instances], "collaboration": []}
    with service(folder, "edge", upstreams=upstreams, **settings) as edge:
        for one in instances:
            wait_until(lambda one=one: is_in(edge, one), f"{one.address} is in")  # type: ignore[misc]
        yield edge


def is_in(edge: Service, one: Instance) -> bool:
    return edge.metric(f'upstream_healthy{{upstream="{one.address}"}}') == 1


def post(edge: Service, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{edge.url}/sessions", data=b'{"a":1}', headers=named, timeout=3)


def outcome_of(response: requests.Response) -> tuple[int, str, str]:
    return response.status_code, response.json()["error"], response.headers["X-Outcome"]


def test_requests_reach_every_instance_with_their_id(folder: Path):
    with instance(fine) as one, instance(fine) as other, edge_over(folder, one, other) as edge:
        answers = [post(edge, X_Request_Id=f"id-{number}") for number in range(10)]
        assert [a.headers["X-Request-Id"] for a in answers] == [f"id-{number}" for number in range(10)]
        assert (len(one.seen), len(other.seen)) == (5, 5)
        assert sum(f"X-Request-Id: id-{n}".encode() in r for n in range(10) for r in (*one.seen, *other.seen)) == 10
        assert post(edge, X_Request_Id="bad id").headers["X-Request-Id"] != "bad id"


def test_nobody_is_let_in_before_there_is_an_instance(folder: Path):
    """Who connects earlier is refused, and tries the other edge; a second later all is well."""
    with instance(fine) as one:
        one.healthy = False
        threading.Timer(1.0, setattr, (one, "healthy", True)).start()
        with service(folder, "edge", upstreams={"session": [one.address], "collaboration": []}) as edge:
            assert post(edge).status_code == requests.codes.ok


def test_articles_go_to_the_content_service_where_the_platform_has_one(folder: Path):
    with instance(fine) as one, instance(fine) as other:
        upstreams = {"session": [one.address], "content": [other.address], "collaboration": []}
        with service(folder, "edge", upstreams=upstreams) as edge:
            answers = [requests.get(f"{edge.url}{path}", timeout=3) for path in ("/articles", "/articles/a-1?b=c")]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert [request.split(b" ")[1] for request in other.seen] == [b"/articles", b"/articles/a-1?b=c"]
            assert edge.metric('service_requests_total{outcome="ok",route="article"}') == 1
        with edge_over(folder, one) as edge:
            assert requests.get(f"{edge.url}/articles", timeout=3).status_code == requests.codes.not_found
    assert one.seen == []


def test_an_instance_that_is_not_healthy_is_out_and_comes_back(folder: Path):
    with instance(fine) as one, instance(fine) as other, edge_over(folder, one, other) as edge:
        one.healthy = False
        time.sleep(0.3)  # at most one check has failed
        assert is_in(edge, one)
        wait_until(lambda: not is_in(edge, one), "it is out", timeout_s=2)
        seen = len(one.seen)
        assert [post(edge).status_code for _ in range(6)] == [200] * 6
        assert len(one.seen) == seen
        one.healthy = True
        wait_until(lambda: is_in(edge, one), "it is back", timeout_s=2)
        other.healthy = one.healthy = False
        wait_until(lambda: not is_in(edge, one) and not is_in(edge, other), "both are out", timeout_s=3)
        assert outcome_of(post(edge)) == (503, "no-upstream", "fail")


@pytest.mark.parametrize(("act", "status"), [(hang_up, 502), (say_nothing, 504)], ids=["hangs up", "says nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_was_sent_is_never_sent_again(
    folder: Path, method: str, act: Callable[[socket.socket, bytes], None], status: int
):
    with instance(act) as one, instance(act) as other, edge_over(folder, one, other) as edge:
        started = time.monotonic()
        refused = requests.request(method, f"{edge.url}/sessions/a", data=b'{"a":1}', timeout=3)
        assert time.monotonic() - started < 1.2
        assert outcome_of(refused) == (status, "upstream", "unknown")
        assert len(one.seen) + len(other.seen) == 1


def test_what_was_sent_on_a_used_connection_is_not_sent_again_either(folder: Path):
    answered = threading.Event()

    def fine_once(accepted: socket.socket, request: bytes) -> None:
        (hang_up if answered.is_set() else fine)(accepted, request)
        answered.set()

    with instance(fine_once) as one, edge_over(folder, one) as edge:
        assert requests.put(f"{edge.url}/sessions/a", data=b"{}", timeout=3).status_code == 200
        assert outcome_of(requests.put(f"{edge.url}/sessions/a", data=b"{}", timeout=3)) == (502, "upstream", "unknown")
        assert len(one.seen) == 2


def test_a_read_is_tried_at_a_second_instance(folder: Path):
    with instance(hang_up) as one, instance(fine) as other, edge_over(folder, one, other) as edge:
        answers = [requests.get(f"{edge.url}/sessions/a", timeout=3).status_code for _ in range(4)]
        assert answers == [200] * 4
        assert one.seen
        assert edge.metric("edge_retries_total") == len(one.seen)


def test_a_write_is_tried_at_a_second_instance_if_the_first_refused_the_connection(folder: Path):
    with instance(fine) as other, ExitStack() as stack:
        one = stack.enter_context(instance(fine))
        with edge_over(folder, one, other) as edge:
            stack.close()  # nobody listens there any more
            answers = [post(edge).status_code for _ in range(4)]
            assert answers == [200] * 4
            assert not is_in(edge, one)  # at once, not after two checks
            assert len(other.seen) == 4


def test_nothing_sent_is_a_failure_not_an_open_outcome(folder: Path):
    with ExitStack() as stack:
        one = stack.enter_context(instance(fine))
        with edge_over(folder, one) as edge:
            stack.close()
            status, error, outcome = outcome_of(post(edge))
            assert (status, error in ("upstream", "no-upstream"), outcome) == (503, True, "fail")


def test_a_client_over_its_rate_is_refused_and_others_are_not(folder: Path):
    with instance(fine) as one, edge_over(folder, one, rate={"per_s": 1, "burst": 5}) as edge:
        answers = [post(edge, X_Client="greedy") for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
        assert outcome_of(answers[-1]) == (429, "rate", "fail")
        assert post(edge, X_Client="modest").status_code == 200
        assert post(edge).status_code == 200  # counted by its address
        assert len(one.seen) == 7
        assert edge.metric("edge_limited_total") == 2
        wait_until(lambda: post(edge, X_Client="greedy").status_code == 200, "it may again", timeout_s=3)


def test_a_visitor_stays_in_its_bucket(folder: Path):
    with instance(fine) as one:
        with edge_over(folder, one) as edge, edge_over(folder, one) as other_edge:
            first = {name: post(edge, X_Visitor=name).headers["X-Bucket"] for name in map(str, range(40))}
            again = {name: post(other_edge, X_Visitor=name).headers["X-Bucket"] for name in first}
            by_cookie = {
                name: requests.get(f"{edge.url}/sessions/a", cookies={"visitor": name}, timeout=3).headers["X-Bucket"]
                for name in first
            }
        assert first == again == by_cookie
        assert set(first.values()) == {"A", "B"}


@pytest.mark.parametrize(
    ("path", "size", "status"), [("/sessions", 100_000, 400), ("/nothing", 0, 404), ("/rooms/a/ws", 0, 400)]
)
def test_bad_input_is_answered_in_one_line(folder: Path, path: str, size: int, status: int):
    with instance(fine) as one, edge_over(folder, one) as edge:
        refused = requests.request("POST" if size else "GET", edge.url + path, data=b"x" * size, timeout=3)
        assert (refused.status_code, refused.headers["X-Outcome"]) == (status, "fail")
        assert b"\n" not in refused.content
        assert not one.seen


def test_sessions_through_the_edge(platform: Platform):
    url = platform.edge.url
    body = {"session": "s-edge", "op": "o1", "data": "d"}
    created = requests.post(f"{url}/sessions", json=body, timeout=3)
    assert (created.status_code, created.json()) == (201, {"session": "s-edge", "version": 1})
    conflict = requests.put(f"{url}/sessions/s-edge", json={"op": "o2", "version": 7, "data": "e"}, timeout=3)
    assert (conflict.status_code, conflict.headers["X-Outcome"], conflict.json()["version"]) == (409, "fail", 1)
    assert requests.get(f"{url}/sessions/s-edge", timeout=3).json()["data"] == "d"


async def test_edits_through_the_edge_reach_members_at_both_instances(platform: Platform):
    address = platform.edge.address
    async with member(address, "r-edge", "a") as first, member(address, "r-edge", "b") as second:
        await first.read("joined")
        await second.read("joined")
        assert [one.metric("ws_members") for one in platform.rooms] == [1, 1]
        ack = await first.edit("hello")
        for client in (first, second):
            got = await client.read("edit")
            assert got == {"type": "edit", "epoch": ack["epoch"], "seq": ack["seq"], "edit": "hello"}


async def test_a_websocket_has_a_bucket_too(platform: Platform):
    url = f"http://{platform.edge.address}"
    async with (
        ClientSession(headers={"X-Visitor": "7"}) as session,
        session.ws_connect(f"{url}/rooms/r/ws") as ws,
        session.get(f"{url}/sessions/a") as over_http,
    ):
        assert ws._response.headers["X-Bucket"] == over_http.headers["X-Bucket"]


@pytest.mark.parametrize(("how", "within_s"), [(signal.SIGKILL, 1.0), (signal.SIGSTOP, 3.0)], ids=["dead", "silent"])
async def test_a_client_is_let_go_when_its_instance_is_lost(
    own_platform: Platform, how: signal.Signals, within_s: float
):
    address = own_platform.edge.address
    async with member(address, "r-lost", "a") as client, member(address, "r-lost", "b") as other:
        await client.read("joined")
        await other.read("joined")
        own_platform.rooms[0].process.send_signal(how)
        ends = [asyncio.create_task(one.closed(timeout_s=within_s)) for one in (client, other)]
        done, still_open = await asyncio.wait(ends, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        assert [one.result() for one in done] == [1012]
        assert len(still_open) == 1  # only the one that was there
        for one in still_open:
            one.cancel()
        async with member(address, "r-lost", "a") as again:  # comes in through the other instance
            await again.read("joined", timeout_s=2)


async def test_a_client_is_let_go_when_only_its_own_connection_has_fallen_silent(folder: Path):
    with instance(fall_silent) as one:
        async with AsyncExitStack() as stack:
            edge = stack.enter_context(service(folder, "edge", upstreams={"collaboration": [one.address]}))
            wait_until(lambda: is_in(edge, one), "it is in")
            client = await stack.enter_async_context(connection(edge.address, "r-silent"))
            assert await client.closed(timeout_s=3) == 1012
            assert is_in(edge, one)  # its health checks are fine


async def test_a_client_that_leaves_is_let_go_behind_the_edge(platform: Platform):
    async with member(platform.edge.address, "r-left", "a") as client:
        await client.read("joined")
        assert sum(one.metric("ws_members") for one in platform.rooms) == 1
    wait_until(lambda: sum(one.metric("ws_members") for one in platform.rooms) == 0, "it left", timeout_s=2)


async def test_a_stop_of_the_edge_closes_its_websockets(own_platform: Platform):
    async with member(own_platform.edge.address, "r-stop", "a") as client:
        await client.read("joined")
        stopping = asyncio.create_task(asyncio.to_thread(own_platform.edge.stop))
        assert await client.closed() is not None
        assert await stopping == 0


async def test_no_room_without_an_instance(folder: Path):
    with instance(fine) as one, edge_over(folder, one) as edge:
        async with ClientSession() as session:
            url = f"http://{edge.address}/rooms/a/ws"
            headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
            async with session.get(url, headers=headers) as refused:
                assert (refused.status, json.loads(await refused.read())["error"]) == (503, "no-upstream")


def test_the_edge_answers_before_any_instance_is_there(folder: Path):
    upstreams = {"session": [f"127.0.0.1:{free_port()}"], "collaboration": []}
    with service(folder, "edge", upstreams=upstreams) as edge:
        assert outcome_of(post(edge)) == (503, "no-upstream", "fail")


async def test_a_rude_client_is_closed_through_the_edge_with_the_same_code(platform: Platform):
    async with connection(platform.edge.address, "r-rude") as client:
        await client.send("presence")
        assert await client.closed() == 1008
