from datetime import UTC, datetime, timedelta

import pytest

from resilience.backend.kubernetes.backoff import forgotten_at, next_wait_s

STARTED = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("restarts", "ran_s", "wait_s"),
    [
        (0, 1, 0),  # the first restart comes at once
        (1, 1, 10),
        (2, 1, 20),
        (3, 599.9, 40),
        (5, 1, 160),
        (6, 1, 300),  # no longer than that
        (60, 1, 300),
        (60, 600, 0),  # it has run for long enough
    ],
)
def test_how_long_the_kubelet_waits(restarts: int, ran_s: float, wait_s: float):
    assert next_wait_s(restarts, STARTED, STARTED + timedelta(seconds=ran_s)) == wait_s


def test_when_it_is_forgotten():
    assert forgotten_at(STARTED) == STARTED + timedelta(minutes=10)
