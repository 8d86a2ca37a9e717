"""A command in a pod comes to an end, whatever becomes of the API server."""

import threading
from socket import create_server

import pytest
from kubernetes.client import ApiClient, Configuration

from resilience.backend.kubernetes import calling
from resilience.backend.kubernetes.calling import bounded, caller_of_pod, trips_from_pod
from resilience.errors import StackError


def test_a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calling, "_GRACE_S", 0.1)
    with create_server(("127.0.0.1", 0)) as server:
        settings = Configuration(host=f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(calling, "_api_of_pod", lambda: lambda: ApiClient(settings))
        with pytest.raises(StackError, match=r"redis/agent-x: cannot be called: no answer within 0\.2 s"):
            caller_of_pod()("redis", "agent-x", ("true",), "", 0.1)
        with pytest.raises(StackError, match="no answer within"):
            trips_from_pod()("redis", "agent-x", ("true",), 0.1)


def test_what_comes_in_time_is_handed_on() -> None:
    assert bounded(lambda: 7, 5.0) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        bounded(lambda: int("x"), 5.0)


def test_what_hangs_keeps_no_process_from_its_end() -> None:
    never, before = threading.Event(), threading.enumerate()
    with pytest.raises(TimeoutError):
        bounded(never.wait, 0.05)
    (left,) = [thread for thread in threading.enumerate() if thread not in before]
    assert left.daemon
    never.set()
    left.join(5.0)
