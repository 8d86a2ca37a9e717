"""What a session's steps send."""

from dataclasses import replace

import msgspec
import pytest

from loadgen.users.population import Session
from loadgen.users.session import request_of

SESSION = Session("s-1", 1, 0, [], version=4)


@pytest.mark.parametrize(
    ("step", "method", "path", "body"),
    [
        ("create", "POST", "/sessions", {"session": "s-1", "op": "v", "data": "v"}),
        ("read", "GET", "/sessions/s-1", None),
        ("heartbeat", "POST", "/sessions/s-1/heartbeat", {"op": "v"}),
        ("update", "PUT", "/sessions/s-1", {"op": "v", "version": 4, "data": "v"}),
        ("end", "POST", "/sessions/s-1/end", {"op": "v"}),
    ],
)
def test_request_of(step, method, path, body):
    sent = request_of(SESSION, step, "v")
    assert sent[:2] == (method, path)
    assert (msgspec.json.decode(sent[2]) if sent[2] else None) == body


def test_a_session_that_is_somebodys_says_so_as_it_is_created():
    sent = request_of(replace(SESSION, person="anna"), "create", "v")[2]
    assert sent is not None
    assert msgspec.json.decode(sent) == {"session": "s-1", "op": "v", "data": "v", "person": "anna"}
