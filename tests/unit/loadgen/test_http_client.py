"""What an answer of the edge, or its absence, means."""

import http.client

import pytest

from loadgen.http_client import OpTimeoutError, error_class, outcome_of


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
