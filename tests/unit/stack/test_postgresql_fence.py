"""When a member of PostgreSQL is fenced or gone, when it is not known to be, and what is on record of it."""

from functools import partial
from typing import Any

import pytest

from resilience.errors import StackError
from resilience.stack import postgresql_fence
from resilience.stack.postgresql_fence import fenced, standing
from resilience.stack.wait import wait_until
from tests.fakes import FakePlatform, FakePostgresqlLink, FakePostgresqlLinks
from tests.histories import stack

A = "postgresql-primary-0"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_fence, "wait_until", partial(wait_until, every_s=0.001))


def platform() -> FakePlatform:
    return FakePlatform(stack(tiers=("postgresql",)), {A: "10.0.0.1"}, {})


def outcome(server: FakePostgresqlLink) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    said: list[tuple[str, dict[str, Any]]] = []
    links: Any = FakePostgresqlLinks(server)
    return fenced(platform(), links, A, lambda name, data: said.append((name, data))), said


@pytest.mark.parametrize(
    ("role", "silent", "running", "expect", "words"),
    [
        ("gone", 0, True, "gone", "its host refuses connections"),
        ("primary", -1, False, "gone", "its platform says that no server runs"),
        ("standby", 0, True, "standby", "it is a standby"),
        ("primary", 0, True, "primary", "it takes writes"),
        ("primary", -1, True, "unknown", f"it neither answers nor refuses: {A}: connection timed out"),
    ],
    ids=["refused", "no server runs", "a standby", "a primary", "silence"],
)
def test_only_what_is_seen_to_have_stopped_is_gone(
    role: Any, silent: int, running: bool, expect: str, words: str
) -> None:
    where, server = platform(), FakePostgresqlLink(A, role)
    where.stopped, server.silent = (set() if running else {A}), silent
    link: Any = server
    assert standing(where, link) == (expect, words)


def test_a_primary_is_told_to_stop_and_seen_to_which_is_on_record_before_and_after() -> None:
    server = FakePostgresqlLink(A, "primary")
    done, said = outcome(server)
    assert (done.how, server.told) == ("fenced", ["fence"])
    assert done.seen == ("it takes writes", "its host refuses connections")
    assert [name for name, _ in said] == ["stopping", "fenced"]
    assert said[0][1]["member"] == A
    assert said[1][1]["members"] == (A,)


def test_a_slow_primary_is_silent_for_some_looks_and_is_fenced_all_the_same() -> None:
    server = FakePostgresqlLink(A, "primary")
    server.silent = 3
    done, _ = outcome(server)
    assert (done.how, server.told) == ("fenced", ["fence"])
    assert done.seen[0].startswith("it neither answers nor refuses")


def test_an_order_that_does_not_come_to_it_is_given_again() -> None:
    server = FakePostgresqlLink(A, "primary")
    server.deaf = 2
    done, _ = outcome(server)
    assert (done.how, server.told) == ("fenced", ["fence"])


@pytest.mark.parametrize(("role", "how"), [("gone", "gone"), ("standby", "standby")])
def test_who_takes_no_writes_is_told_nothing(role: Any, how: str) -> None:
    server = FakePostgresqlLink(A, role)
    done, said = outcome(server)
    assert (done.how, server.told, said) == (how, [], [])


def test_who_stays_silent_is_neither_fenced_nor_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_fence, "KNOWN_WITHIN_S", 0.01)
    server = FakePostgresqlLink(A, "primary")
    server.silent = -1
    with pytest.raises(StackError, match=rf"fencing {A} took more than .* s: it neither answers nor refuses"):
        outcome(server)


def test_who_goes_on_is_not_fenced_and_that_it_was_tried_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_fence, "FENCED_WITHIN_S", 0.01)
    server, said = FakePostgresqlLink(A, "primary"), []
    server.deaf = -1
    links: Any = FakePostgresqlLinks(server)
    with pytest.raises(StackError, match="it takes writes"):
        fenced(platform(), links, A, lambda name, _data: said.append(name))
    assert said == ["stopping"]
