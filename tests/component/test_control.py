"""The control socket and the doors, over real sockets."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.local.control import NAME, Call, ControlServer, ask, listen
from resilience.backend.local.forward import LOOPBACK, Door, Forwarder, listen_on_loopback
from resilience.errors import FaultError, HostError, StackError

pytestmark = pytest.mark.component


class Handlers:
    """What a stack would do, as far as a test can see it."""

    def __init__(self) -> None:
        self.left = threading.Event()  # the caller went away while it was waited for

    def echo(self, call: Call) -> Mapping[str, Any]:
        return {"heard": call.data["text"]}

    def write(self, call: Call) -> Mapping[str, Any]:
        os.write(call.streams[1], b"out")
        os.write(call.streams[2], os.read(call.streams[0], 100))
        return {}

    def refuse(self, _call: Call) -> Mapping[str, Any]:
        raise FaultError("no such thing")

    def wait(self, call: Call) -> Mapping[str, Any]:
        try:
            call.wait(30)
        except StackError:
            self.left.set()
        return {}


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def folder(tmp_path: Path, handlers: Handlers) -> Iterator[Path]:
    deep = tmp_path / ("x" * 120)  # longer than a socket's path may be
    deep.mkdir()
    table = {"echo": handlers.echo, "write": handlers.write, "refuse": handlers.refuse, "wait": handlers.wait}
    with listen(deep) as listener, ControlServer(listener, table):
        yield deep


def raw(folder: Path, line: bytes) -> dict[str, Any]:
    handle = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"/proc/self/fd/{handle}/{NAME}")
        connection.sendall(line)
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
    os.close(handle)
    return answer


def test_a_request_is_answered_however_long_it_is(folder: Path):
    assert ask(folder, {"do": "echo", "text": "a\nb"}) == {"heard": "a\nb"}
    long = "x" * 1_000_000
    assert ask(folder, {"do": "echo", "text": long}) == {"heard": long}
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"do": "fly"}\n', b'{"do": []}\n', b'{"do": "echo"}\n']
)
def test_what_is_no_request_is_said_so_and_the_next_is_answered(folder: Path, line: bytes):
    assert "a request that is none" in raw(folder, line)["error"]
    assert ask(folder, {"do": "echo", "text": ""}) == {"heard": ""}


def test_an_error_inside_is_raised_outside_in_its_words(folder: Path):
    with pytest.raises(StackError, match=r"^no such thing$"):
        ask(folder, {"do": "refuse"})


def test_streams_travel_with_the_request(folder: Path):
    (given, giver), (out, said), (complained, complaint) = (os.pipe() for _ in range(3))
    os.write(giver, b"in")
    ask(folder, {"do": "write"}, streams=(given, said, complaint))
    assert (os.read(out, 100), os.read(complained, 100)) == (b"out", b"in")
    for end in (given, giver, out, said, complained, complaint):
        os.close(end)


def test_a_caller_that_goes_away_is_noticed(folder: Path, handlers: Handlers):
    with pytest.raises(StackError, match="does not answer"):
        ask(folder, {"do": "wait"}, timeout_s=0.2)
    assert handlers.left.wait(10)


def test_where_nobody_listens_no_stack_is_up(tmp_path: Path):
    with pytest.raises(StackError, match="no stack is up"):
        ask(tmp_path / "nowhere", {"do": "echo"})
    with pytest.raises(StackError, match="no stack is up"):
        ask(tmp_path, {"do": "echo"})
    listen(tmp_path).close()  # its file stays behind, as after a kill
    with pytest.raises(StackError, match="no stack is up"):
        ask(tmp_path, {"do": "echo"})
    with listen(tmp_path), pytest.raises(StackError, match="does not answer"):  # it listens, and nobody accepts
        ask(tmp_path, {"do": "echo"}, timeout_s=0.2)


# --- doors -----------------------------------------------------------------------------------------------------------


def all_of(connection: socket.socket) -> bytes:
    return b"".join(iter(partial(connection.recv, 65_536), b""))


def server(answer: bytes) -> socket.socket:
    """A member that reads until its caller has said all, then answers with how much that was."""
    listener = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    read = len(all_of(connection))
                    connection.sendall(b"%d " % read + answer)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def through(port: int, data: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), 5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return all_of(connection)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_each_door_leads_to_its_member_and_back():
    with server(b"a") as a, server(b"b") as b:
        doors = [Door(listen_on_loopback(0, "--port"), LOOPBACK, port_of(member)) for member in (a, b)]
        with Forwarder(doors):
            big = b"x" * 3_000_000
            assert through(port_of(doors[0].listener), big) == b"3000000 a"
            assert through(port_of(doors[1].listener), b"") == b"0 b"


def test_a_member_that_is_not_there_is_an_end_and_the_door_stays():
    with socket.create_server((LOOPBACK, 0)) as gone:
        port = port_of(gone)
    door = Door(listen_on_loopback(0, "--port"), LOOPBACK, port)
    with Forwarder([door]):
        assert through(port_of(door.listener), b"") == b""
        assert through(port_of(door.listener), b"") == b""


def test_a_door_opens_on_this_machine_alone_and_only_once():
    with listen_on_loopback(0, "--port-edge") as door:
        assert door.getsockname()[0] == "127.0.0.1"
        with pytest.raises(HostError, match=r"Address already in use; name another by --port-edge"):
            listen_on_loopback(port_of(door), "--port-edge")
