"""Connections that a pod is asked to open: the very words that run there, run here."""

import socket
import subprocess
import sys
from collections.abc import Sequence

from resilience.backend.machine.connection import ACCEPTED, opened
from resilience.backend.machine.control_plane import ControlPlane
from resilience.errors import StackError

POD = {"namespace": "monitoring", "pod": "witness-0", "container": "witness"}


def here(_namespace: str, _pod: str, _container: str, argv: Sequence[str]) -> str:
    return subprocess.run([sys.executable, *argv[1:]], capture_output=True, text=True, check=True).stdout


def plane(run: object = here) -> ControlPlane:
    return ControlPlane(lambda: None, run)  # type: ignore[arg-type, return-value]


def test_each_is_told_in_its_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.create_server(("127.0.0.1", 0)) as closed:
        there, nobody = (f"127.0.0.1:{one.getsockname()[1]}" for one in (open_one, closed))
        closed.close()
        assert opened(plane(), POD, [there, nobody, there]) == [ACCEPTED, "connection refused", ACCEPTED]


def test_a_pod_that_cannot_be_asked_has_seen_nothing() -> None:
    def away(*_asked: object) -> str:
        raise StackError("no such container")

    assert opened(plane(away), POD, ["a:1", "b:1"]) == ["not known: no such container"] * 2
    assert opened(plane(away), POD, []) == []
