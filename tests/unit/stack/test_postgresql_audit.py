"""Whose table is read back."""

import pytest

from resilience.errors import StackError
from resilience.stack.postgresql_audit import source_of
from resilience.stack.postgresql_role import Look, Looks

A, B, C = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
SILENT = StackError("an answer took too long")


def writer(timeline: int) -> Look:
    return Look(recovering=False, timeline=timeline)


def standby(timeline: int) -> Look:
    return Look(recovering=True, timeline=timeline)


@pytest.mark.parametrize(
    ("looks", "timeline_min", "expect"),
    [
        ({A: writer(1), B: standby(1), C: standby(1)}, 0, (A, 1)),
        ({A: writer(1), B: writer(2), C: SILENT}, 2, (B, 2)),
        ({A: SILENT, B: writer(2), C: SILENT}, 2, (B, 2)),
        ({A: writer(3), B: SILENT, C: SILENT}, 2, (A, 3)),
    ],
    ids=["all are well", "beside a stray", "alone", "later than anybody saw"],
)
def test_the_primary_on_the_latest_timeline(looks: Looks, timeline_min: int, expect: tuple[str, int]) -> None:
    assert source_of(looks, timeline_min) == expect


@pytest.mark.parametrize(
    ("looks", "timeline_min", "reason"),
    [
        ({A: SILENT, B: standby(1), C: standby(1)}, 1, "no PostgreSQL member takes writes"),
        ({A: writer(1), B: SILENT, C: SILENT}, 2, f"{A} takes writes on timeline 1, and timeline 2 has been seen"),
        ({A: writer(1), B: SILENT, C: standby(2)}, 1, f"{A} takes writes on timeline 1, and timeline 2 has been seen"),
        ({A: SILENT, B: writer(2), C: writer(2)}, 2, f"{B} and {C} take writes on the same timeline 2"),
    ],
    ids=["nobody", "a stray, by the record", "a stray, by a standby", "two that were promoted"],
)
def test_nobody_whose_table_would_say_nothing(looks: Looks, timeline_min: int, reason: str) -> None:
    with pytest.raises(StackError, match=f"^{reason}$"):
        source_of(looks, timeline_min)
