"""What is on record of backends that were cancelled, also where that was broken off."""

from typing import Any

import pytest

from resilience.errors import StackError
from resilience.stack import postgresql_cancel
from resilience.stack.postgresql_cancel import CANCEL, WAITING, Cancelled, cancel_waiting, cancellation_proof
from tests.fakes import FakePostgresqlLink, FakePostgresqlLinks

A = "postgresql-primary-0"
PLATFORM: Any = None  # the links are the test's


class Waiting(FakePostgresqlLink):
    """A primary where backends wait; it breaks off after so many questions about them."""

    def __init__(self, breaks_after: int = -1) -> None:
        super().__init__(A, "primary")
        self.left = breaks_after

    def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        if sql not in {CANCEL, WAITING}:
            return super().ask(sql)
        if self.left == 0:
            raise StackError(f"{A}: an answer took too long")
        self.left -= 1
        return [("7 now", "t"), ("8 now", "f")] if sql == CANCEL else []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    waiting = Waiting()
    monkeypatch.setattr(postgresql_cancel, "PostgresqlLinks", lambda *_where: FakePostgresqlLinks(waiting))
    monkeypatch.setattr(postgresql_cancel, "EVERY_S", 0.001)
    return waiting


def test_each_wait_is_told_once_as_it_is_cancelled(server: Waiting) -> None:
    said: list[Any] = []
    done = cancel_waiting(PLATFORM, 0.005, lambda name, data: said.append((name, data)))
    assert said == [("cancelling", {"member": A, "backends": 1})]
    assert (done.member, done.backends, done.trouble) == (A, frozenset({"7 now"}), "")
    assert cancellation_proof(PLATFORM, done).holds
    assert server.role == "primary"


def test_what_was_cancelled_is_known_also_where_that_is_broken_off_and_is_no_success(server: Waiting) -> None:
    server.left = 1
    done = cancel_waiting(PLATFORM, 60.0)
    assert (done.backends, done.trouble) == (frozenset({"7 now"}), f"{A}: an answer took too long")
    proof = cancellation_proof(PLATFORM, done)
    assert [one.what for one in proof.evidence if not one.ok] == ["of them still waiting", "cancelling"]


def test_that_nobody_knows_whether_they_wait_still_is_no_proof(server: Waiting) -> None:
    server.left = 0
    proof = cancellation_proof(PLATFORM, Cancelled(member=A, backends=frozenset({"7 now"})))
    assert [one.observed for one in proof.evidence] == ["1", f"not known: {A}: an answer took too long"]
    assert not proof.holds
