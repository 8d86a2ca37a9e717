"""What round trips tell of another kernel's clock."""

from resilience.spec.clock import Offset, Trip, offset_from_trips

MS = 1_000_000


def test_the_best_trip_counts_with_its_midpoint_and_half_of_it() -> None:
    """The other clock is 250 ms ahead; the ways of the best trip take 2 ms and 4 ms, of the others longer."""
    there = 250 * MS
    trips = [
        Trip(0, 40 * MS + there, 50 * MS),
        Trip(100 * MS, 102 * MS + there, 106 * MS),
        Trip(200 * MS, 201 * MS + there, 220 * MS),
    ]
    found = offset_from_trips(trips)
    assert found == Offset(249 * MS, 3 * MS)
    assert abs(found.offset_ns - there) <= found.error_ns


def test_an_odd_trip_is_not_told_better_than_it_is() -> None:
    assert offset_from_trips([Trip(0, 0, 3)]) == Offset(-2, 2)


def test_no_trip_tells_nothing() -> None:
    assert offset_from_trips([]) is None
