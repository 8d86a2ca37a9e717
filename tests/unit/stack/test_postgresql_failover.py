"""Whom a person promotes."""

import pytest

from resilience.errors import StackError
from resilience.stack.postgresql_failover import candidate
from resilience.stack.postgresql_role import Look, Looks

A, B, C = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
DEAD = StackError("refused")


def standby(written: int | None, timeline: int = 1) -> Look:
    return Look(recovering=True, timeline=timeline, written=written)


@pytest.mark.parametrize(
    ("looks", "expect"),
    [
        ({A: DEAD, B: standby(10), C: standby(11)}, C),
        ({A: DEAD, B: standby(10), C: standby(10)}, B),
        ({A: DEAD, B: standby(10), C: DEAD}, B),
        ({A: DEAD, B: standby(None), C: standby(1)}, C),
        ({A: DEAD, B: standby(10), C: standby(5, timeline=2)}, C),
        ({A: standby(99), B: standby(10), C: DEAD}, B),
        ({A: Look(recovering=False, timeline=1, written=99), B: standby(10), C: standby(9)}, B),
    ],
    ids=["more", "as much", "the only one", "nothing yet", "a later timeline", "not the former", "no writer"],
)
def test_the_standby_that_has_received_most(looks: Looks, expect: str) -> None:
    assert candidate(looks, A) == expect


def test_where_no_standby_answers_nobody_is_promoted() -> None:
    with pytest.raises(StackError, match="no standby answers"):
        candidate({A: DEAD, B: DEAD, C: DEAD}, A)
