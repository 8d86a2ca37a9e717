"""Which PostgreSQL members have not come as far as the primary had."""

import pytest

from resilience.errors import StackError
from resilience.stack.postgresql_copies import apart
from resilience.stack.postgresql_role import Look, Looks

A, B = "postgresql-primary-0", "postgresql-replica-0"


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (Look(recovering=True, timeline=2, written=9, replayed=7), ""),
        (Look(recovering=True, timeline=2, written=9, replayed=6), f"{B} has replayed 6 of 7 bytes"),
        (Look(recovering=True, timeline=2, written=9), f"{B} has replayed 0 of 7 bytes"),
        (Look(recovering=True, timeline=1, written=9, replayed=9), f"{B} is on timeline 1, not on 2"),
        (Look(recovering=False, timeline=1, written=9), f"{B} is on timeline 1, not on 2"),
        (StackError(f"{B}: silence"), f"{B}: silence"),
    ],
    ids=["as far", "behind", "nothing yet", "an old timeline", "a stray", "silent"],
)
def test_who_is_not_there_yet(look: Look | StackError, reason: str) -> None:
    seen: Looks = {A: Look(recovering=False, timeline=2, written=8), B: look}
    assert apart(seen, timeline=2, written=7) == ([reason] if reason else [])
