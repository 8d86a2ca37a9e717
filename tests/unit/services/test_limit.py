"""Token buckets on a clock of the test's own."""

from services.config import Rate
from services.limit import Limit


def allowed(limit: Limit, client: str, count: int, now: float) -> int:
    return sum(limit.allows(client, now) for _ in range(count))


def test_a_burst_and_then_the_rate():
    limit = Limit(Rate(per_s=10, burst=5))
    assert allowed(limit, "a", 20, now=0) == 5
    assert allowed(limit, "a", 20, now=0.25) == 2
    assert allowed(limit, "a", 20, now=100) == 5  # no more than a burst, however long the pause


def test_refused_requests_cost_nothing():
    limit = Limit(Rate(per_s=1, burst=1))
    assert allowed(limit, "a", 100, now=0) == 1
    assert allowed(limit, "a", 1, now=1) == 1


def test_clients_do_not_share():
    limit = Limit(Rate(per_s=1, burst=1))
    assert [limit.allows(client, 0) for client in ("a", "b", "a")] == [True, True, False]


def test_memory_is_bounded_and_who_is_there_is_not_forgotten():
    limit = Limit(Rate(per_s=1, burst=1), clients_max=3)
    limit.allows("busy", 0)
    for number in range(100):
        limit.allows(str(number), 0)
        assert not limit.allows("busy", 0)
    assert len(limit) == 3
