"""Deliveries owed and made, in the phase of the edit."""

import pytest

from loadgen.deliveries import Deliveries
from resilience.history.record import DELIVERED_IN_TIME_US
from tests.unit.loadgen.generators import Rig

ACKED = 10_000_000


def counted(arrivals: list[tuple[int, str]], acked: int = ACKED):
    rig = Rig()
    deliveries = Deliveries(rig.metrics, room_members=5)
    deliveries.sent("e-fault-1", "fault", ACKED - 1_000)
    events = [(at, name) for at, name in arrivals] + ([(acked, "")] if acked else [])
    for at, name in sorted(events):
        if name:
            deliveries.arrived("e-fault-1", name, at)
        else:
            deliveries.acked("e-fault-1", at)
    values = [rig.sample("load_deliveries_total", phase="fault", outcome=what) for what in ("expected", "delivered")]
    return values, deliveries


@pytest.mark.parametrize(
    ("arrivals", "expect"),
    [
        pytest.param([], [5, 0], id="nobody"),
        pytest.param([(ACKED + 1, "a"), (ACKED + 2, "b")], [5, 2], id="two"),
        pytest.param([(ACKED - 500, "a")], [5, 1], id="before the acknowledgement"),
        pytest.param([(ACKED + 1, "a"), (ACKED + 2, "a")], [5, 1], id="twice at one"),
        pytest.param([(ACKED + DELIVERED_IN_TIME_US, "a")], [5, 1], id="just in time"),
        pytest.param([(ACKED + DELIVERED_IN_TIME_US + 1, "a")], [5, 0], id="too late"),
    ],
)
def test_counts(arrivals, expect):
    assert counted(arrivals)[0] == expect


def test_an_edit_that_was_not_acknowledged_is_owed_to_nobody():
    assert counted([(ACKED + 1, "a")], acked=0)[0] == [0, 0]


def test_outstanding_until_everybody_has_it_or_it_is_too_late():
    _, deliveries = counted([(ACKED + 1, "a"), (ACKED + 2, "b")])
    assert deliveries.outstanding(ACKED + 10) == 3
    assert deliveries.outstanding(ACKED + DELIVERED_IN_TIME_US + 1) == 0


def test_edits_of_others_are_no_concern():
    _, deliveries = counted([])
    deliveries.arrived("someone-else", "a", ACKED)
