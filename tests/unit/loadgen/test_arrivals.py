"""The schedule of arrivals."""

from itertools import islice, pairwise

import pytest

from loadgen.arrivals import Schedule


def dues(count: int, **changes):
    fields = {"rate_ops_per_s": 100.0, "start_us": 5_000_000, "seed": 7}
    return list(islice(Schedule(**(fields | changes)), count))


def test_the_same_seed_gives_the_same_instants():
    assert dues(500) == dues(500)
    assert dues(500) != dues(500, seed=8)


def test_instants_are_in_order_and_not_before_the_start():
    instants = dues(1_000)
    assert instants[0] >= 5_000_000
    assert all(before <= after for before, after in pairwise(instants))


def test_every_second_holds_its_rate():
    instants = dues(1_000)
    for second in range(10):
        start = 5_000_000 + second * 1_000_000
        assert sum(start <= due < start + 1_000_000 for due in instants) == 100


@pytest.mark.parametrize("rate", [1.0, 150.0, 300.0])
def test_without_jitter_the_distances_are_equal(rate):
    instants = dues(50, rate_ops_per_s=rate, jitter=False)
    assert all(abs(after - before - 1e6 / rate) <= 1 for before, after in pairwise(instants))
