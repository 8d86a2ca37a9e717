"""Counts of the second before, and in all."""

import pytest

from loadgen.tally import Tally, quantile


@pytest.mark.parametrize(
    ("values", "q", "expect"),
    [([], 0.99, 0.0), ([5.0], 0.99, 5.0), ([float(n) for n in range(100)], 0.99, 99.0), ([3.0, 1.0, 2.0], 0.5, 2.0)],
)
def test_quantile(values, q, expect):
    assert quantile(values, q) == expect


def test_a_second_is_handed_out_once():
    tally = Tally()
    tally.sent(0.002)
    tally.sent(0.001)
    tally.ended("session", "ok")
    tally.ended("session", "fail")
    first = tally.second()
    assert first == {"lag_ms_p99": 2.0, "sent": 2, "ok": 1, "fail": 1, "unknown": 0, "ok_by": {"session": 1}}
    assert tally.second() == {"lag_ms_p99": 0.0, "sent": 0, "ok": 0, "fail": 0, "unknown": 0, "ok_by": {}}
    assert (tally.sent_total, tally.total("ok"), tally.total("fail")) == (2, 1, 1)
