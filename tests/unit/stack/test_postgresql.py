"""How long PostgreSQL's members are waited for, by who asks."""

import pytest

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack import postgresql
from resilience.stack.postgresql import live_roles, unreplicated
from tests.fakes import FakePlatform, FakePostgresqlLink, FakePostgresqlLinks
from tests.histories import stack

PRIMARY = "postgresql-primary-0"


class SlowLinks(FakePostgresqlLinks):
    """Members of a busy machine: none answers within a second."""

    def __init__(self, _platform: Platform, timeout_s: float) -> None:
        super().__init__(FakePostgresqlLink(PRIMARY, "primary"))
        self._patient = timeout_s > 1.0

    def ask_each(self, sql: str) -> dict[str, list[tuple[str | None, ...]] | StackError]:
        if self._patient:
            return super().ask_each(sql)
        return {PRIMARY: StackError(f"{PRIMARY}: an answer took too long")}


def test_who_is_slow_is_unreachable_to_a_watch_and_no_reason_to_doubt_the_steady_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgresql, "PostgresqlLinks", SlowLinks)
    about = stack(tiers=("postgresql",))
    platform = FakePlatform(about, {member.name: "10.0.0.1" for member in about.members}, {})
    assert {role.role for role in live_roles(platform)} == {"unreachable"}
    reasons = unreplicated(platform)
    assert not [reason for reason in reasons if "took too long" in reason or "takes writes" in reason]
