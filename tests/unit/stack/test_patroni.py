"""What Patroni and its etcd say of themselves, as answers that are given here."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from resilience.backend.base import MemberState
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, Patroni
from resilience.spec.read import read_stack
from resilience.spec.stack import Stack
from resilience.stack import patroni
from resilience.stack.http_link import HttpAnswer
from resilience.stack.patroni import Takeover
from tests.fakes import FakePlatform

STACK = read_stack(PROJECT_ROOT, "stacks/local/postgresql-patroni.yaml")
TOLD = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1, "postgresql": {"x": 1}}
FIRST, SECOND, THIRD = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"


def platform(stack: Stack = STACK) -> FakePlatform:
    return FakePlatform(stack, {member.name: "198.18.0.1" for member in stack.members}, {})


def waiting(durability: Durability, failover: Patroni) -> FakePlatform:
    assert STACK.postgresql is not None
    tier = msgspec.structs.replace(STACK.postgresql, durability=durability, failover=failover)
    return platform(msgspec.structs.replace(STACK, postgresql=tier))


def answer_with(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Any], status: int = 200) -> None:
    """Each member answers with this, whatever it is asked; who is not among them does not answer."""

    def http_ask(member: MemberState, path: str, *, port: int | None = None) -> HttpAnswer:
        if member.name not in answers:
            raise StackError(f"{member.name} does not answer GET {path} at {port}")
        return HttpAnswer(member=member.name, status=status, body=msgspec.json.encode(answers[member.name]))

    monkeypatch.setattr(patroni, "http_ask", http_ask)


def test_who_tells_by_what_it_goes_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, {FIRST: TOLD, SECOND: ["no object"], THIRD: {"ttl": "soon"}})
    told = patroni.config(platform())
    assert list(told) == [FIRST]
    assert (told[FIRST].ttl, told[FIRST].loop_wait, told[FIRST].synchronous_mode) == (30, 10, False)


def test_whom_patroni_made_primary_is_told_by_the_first_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [1, 83_886_080, "no recovery target specified", "2026-11-30T16:00:00+00:00", SECOND]
    unnamed = [2, 83_886_999, "no recovery target specified"]  # before Patroni has named who it was
    answer_with(monkeypatch, {FIRST: {"no": "list"}, SECOND: [first, unnamed], THIRD: []})
    assert patroni.takeovers(platform()) == [Takeover(timeline=2, member=SECOND)]
    answer_with(monkeypatch, {FIRST: [["one"]], SECOND: [[{}]]})
    assert patroni.takeovers(platform()) == []
    answer_with(monkeypatch, {SECOND: [[{}]]})
    with pytest.raises(StackError, match="does not answer GET /history"):
        patroni.takeovers(platform())


def test_etcd_that_has_no_majority_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, {"etcd-0": {}, "etcd-1": {}, "etcd-2": {}})
    assert patroni.without_majority(platform()) == []
    answer_with(monkeypatch, {"etcd-0": {"health": "false"}, "etcd-1": {}}, status=503)
    reasons = patroni.without_majority(platform())
    assert [reason.partition(" ")[0] for reason in reasons] == ["etcd-0", "etcd-1", "etcd-2"]
    assert reasons[2].startswith("etcd-2 does not answer")


@pytest.mark.parametrize(
    ("roles", "mode", "expect"),
    [
        (("leader", "quorum_standby", "quorum_standby"), "quorum", []),
        (("leader", "quorum_standby", "replica"), "quorum", ["Patroni has named 1 of 2 standbys"]),
        (("leader", "replica", "replica"), "quorum", ["Patroni has named 0 of 2 standbys"]),
        (("leader", "sync_standby", "replica"), "on", []),
        (("leader", "replica", "replica"), "on", ["Patroni has named 0 of 1 standbys"]),
    ],
)
def test_nobody_is_promoted_before_patroni_has_named_the_standbys(
    roles: tuple[str, ...], mode: str, expect: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [{"name": name, "role": role} for name, role in zip((FIRST, SECOND, THIRD), roles, strict=True)]
    answer_with(monkeypatch, {SECOND: {"members": members}})
    failover = msgspec.convert({"mode": "patroni", "synchronous_mode": mode}, Patroni)
    assert patroni.unnamed(waiting(AnyStandbys(standbys=1), failover)) == expect


def test_where_patroni_names_nobody_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, {})
    assert patroni.unnamed(waiting(Asynchronous(), Patroni())) == []
    assert patroni.unnamed(waiting(AnyStandbys(standbys=1), Patroni())) == []
    asked = waiting(AnyStandbys(standbys=1), Patroni(synchronous_mode="quorum"))
    assert patroni.unnamed(asked) == ["no Patroni tells which standbys it has named"]
