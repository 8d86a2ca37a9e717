"""The schedule of arrivals."""

from itertools import islice, pairwise

import pytest

from loadgen.arrivals import Schedule, share_of
from resilience.spec.plan import WHOLE, Share


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


@pytest.mark.parametrize("of", [1, 2, 3, 16])
def test_the_shares_are_the_schedule_divided(of):
    shares = [list(share_of(dues(480), Share(index=index, of=of), 0)) for index in range(of)]
    assert {len(share) for share in shares} == {480 // of}
    assert sorted(due for share in shares for due in share) == dues(480)
    assert all(len(set(one) & set(other)) == 0 for one, other in pairwise(shares))


def test_who_comes_late_begins_with_what_is_due_then():
    whole, late_us = dues(100), dues(100)[40]
    assert list(share_of(whole, WHOLE, 0)) == whole
    assert list(share_of(whole, Share(index=1, of=2, begins_us=whole[0]), late_us)) == whole[41::2]
