"""What an error of PostgreSQL's says about an edit."""

import pytest

from services.database import DatabaseError
from services.room_rows import store_error_from


@pytest.mark.parametrize(
    ("text", "reason", "outcome"),
    [
        ("25006", "readonly", "fail"),
        ("55000", "readonly", "fail"),
        ("55P03", "busy", "fail"),
        ("timeout", "timeout", "unknown"),
        ("locally", "not-durable", "unknown"),
        ("57P01", "error", "unknown"),
        ("server closed the connection unexpectedly", "error", "unknown"),
    ],
)
def test_only_who_has_done_nothing_says_that_it_failed(text: str, reason: str, outcome: str):
    error = store_error_from(DatabaseError(text))
    assert (error.reason, error.outcome) == (reason, outcome)
