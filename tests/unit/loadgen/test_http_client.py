"""What an answer of the edge, or its absence, means."""

import http.client
import time

import pytest

from loadgen.http_client import AVOID_S, Edge, OpTimeoutError, error_class, outcome_of


@pytest.mark.parametrize(
    ("status", "x_outcome", "expect"),
    [
        (200, None, "ok"),
        (201, None, "ok"),
        (204, "fail", "ok"),
        (503, "fail", "fail"),
        (503, "unknown", "unknown"),
        (503, None, "unknown"),
        (504, "nonsense", "unknown"),
        (409, "fail", "fail"),
        (409, None, "fail"),
        (429, None, "fail"),
        (302, None, "fail"),
        (408, "unknown", "unknown"),
    ],
)
def test_outcome_of(status, x_outcome, expect):
    assert outcome_of(status, x_outcome) == expect


@pytest.mark.parametrize(
    ("error", "expect"),
    [
        (OpTimeoutError(), "timeout"),
        (http.client.RemoteDisconnected(""), "closed"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "connect-timeout"),
        (http.client.BadStatusLine("x"), "protocol"),
        (OSError(113, "no route"), "unreachable"),
        (ValueError(), "ValueError"),
    ],
)
def test_error_class(error, expect):
    assert error_class(error) == expect


class Socket:
    """As a connection has one."""

    def settimeout(self, _timeout_s: float | None) -> None:
        """Waits for ever from now on."""


def test_an_edge_that_could_not_be_reached_is_tried_by_one_op_at_a_time_until_it_can(monkeypatch):
    edge = Edge("http://edge-0:8080")
    outcomes = [TimeoutError(), TimeoutError(), None, None]
    avoided_s = []  # by others, while one op connects

    def connect(connection: http.client.HTTPConnection) -> None:
        avoided_s.append(edge.avoided_until - time.monotonic())
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        connection.sock = Socket()

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            edge.connect(7.0)
        assert edge.avoided_until - time.monotonic() == pytest.approx(AVOID_S, abs=0.5)
    for _ in range(2):
        edge.connect(7.0)
        assert edge.avoided_until == 0.0
    first, second, third, fourth = avoided_s
    assert [second, third] == pytest.approx([7.0, 7.0], abs=0.5)
    assert max(first, fourth) < 0, "nobody avoids an edge of which nothing bad is known"
