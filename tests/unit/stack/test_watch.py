from threading import Event

import pytest

from resilience.history.clock import RunClock
from resilience.stack.watch import RoleWatch, first_statement, news, silent, stated
from tests.fakes import FakePlatform
from tests.unit.stack.views import HOSTS, NAMES, PRIMARIES, STACK, view

BY = NAMES[3]
BEFORE = stated(STACK, HOSTS, BY, view(BY))
PROMOTED = {**PRIMARIES, 1: (BY, 7)}


def test_the_first_statement_tells_the_role_and_no_health():
    assert news(None, BEFORE) == [("role", {"member": BY, "group": 1, "role": "replica", "epoch": 1})]


def test_nothing_new_is_no_news():
    assert news(BEFORE, stated(STACK, HOSTS, BY, view(BY))) == []


def test_a_suspicion_its_confirmation_and_its_end_are_news():
    suspects = stated(STACK, HOSTS, BY, view(BY, flags={NAMES[0]: "fail?"}))
    knows = stated(STACK, HOSTS, BY, view(BY, flags={NAMES[0]: "fail"}))
    assert news(BEFORE, suspects) == [("failing", {"member": NAMES[0], "by": BY, "flag": "fail?"})]
    assert news(suspects, knows) == [("failing", {"member": NAMES[0], "by": BY, "flag": "fail"})]
    assert news(knows, BEFORE) == [("failing", {"member": NAMES[0], "by": BY, "flag": "ok"})]


def test_who_is_failing_when_first_asked_is_news():
    suspects = stated(STACK, HOSTS, BY, view(BY, flags={NAMES[0]: "fail"}))
    assert ("failing", {"member": NAMES[0], "by": BY, "flag": "fail"}) in news(None, suspects)


def test_a_promotion_is_news_with_its_epoch():
    after = stated(STACK, HOSTS, BY, view(BY, primaries=PROMOTED, replicas={NAMES[4]: 2, NAMES[5]: 3}))
    assert news(BEFORE, after) == [("role", {"member": BY, "group": 1, "role": "primary", "epoch": 7})]


def test_a_primary_that_lost_its_slots_is_a_stray_of_its_shard():
    after = stated(STACK, HOSTS, NAMES[0], view(NAMES[0], primaries=PROMOTED, replicas={NAMES[4]: 2, NAMES[5]: 3}))
    assert (after.role.group, after.role.role) == (1, "stray")


def test_silence_is_news_once_and_keeps_what_was_said_of_others():
    suspects = stated(STACK, HOSTS, BY, view(BY, flags={NAMES[0]: "fail"}))
    gone = silent(suspects)
    assert news(suspects, gone) == [("role", {"member": BY, "group": 1, "role": "unreachable", "epoch": 1})]
    assert news(gone, silent(gone)) == []
    assert [name for name, _ in news(gone, BEFORE)] == ["role", "failing"]


def test_a_member_that_never_answered_is_unreachable_in_its_shard():
    assert news(None, silent(first_statement(STACK, NAMES[4], HOSTS[NAMES[4]]))) == [
        ("role", {"member": NAMES[4], "group": 2, "role": "unreachable", "epoch": 0})
    ]


def test_a_silent_member_is_followed_to_where_it_is_now():
    everybody = {member.name: HOSTS.get(member.name, "") for member in STACK.members}
    platform = FakePlatform(STACK, everybody, {"redis-password": "x"})
    watch = RoleWatch(platform, RunClock.starting_now(), lambda _event: None)
    link = watch._link(BY, HOSTS[BY])
    assert watch._followed(link) is link
    platform.addresses[BY] = "10.244.7.7"
    moved = watch._followed(link)
    assert moved is not link
    assert watch._followed(moved) is moved
    assert watch._hosts[BY] == "10.244.7.7"
    platform.addresses[BY] = ""  # it has no pod at the moment
    assert watch._followed(moved) is moved


def test_who_asks_an_api_server_where_a_member_is_has_time_of_its_own_to_end(monkeypatch: pytest.MonkeyPatch):
    released = Event()
    platform = FakePlatform(STACK, {member.name: HOSTS.get(member.name, "") for member in STACK.members}, {})
    monkeypatch.setattr(platform, "secret", lambda _name: "x" if released.wait() else "")
    monkeypatch.setattr("resilience.stack.watch.JOIN_S", 0.05)
    watch = RoleWatch(platform, RunClock.starting_now(), lambda _event: None).start()
    try:
        with pytest.raises(ExceptionGroup) as caught:
            watch.stop()
    finally:
        released.set()
    assert {str(error) for error in caught.value.exceptions} == {f"watch-{n} did not end within 0.05 s" for n in NAMES}
