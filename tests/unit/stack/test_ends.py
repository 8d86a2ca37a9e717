"""Servers that end while somebody waits for them."""

import pytest

from resilience.errors import StackError
from resilience.stack.ends import ENDS_MAX, SHOWN, Ends
from tests.fakes import FakePlatform
from tests.histories import stack

NAMES = tuple(member.name for member in stack().members)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform(stack(), dict.fromkeys(NAMES, "198.18.0.1"), {})


def test_while_all_run_there_is_nothing_to_tell(platform: FakePlatform):
    platform.restarts["session-0"] = 40  # before anybody waited
    platform.stopped.add("loadgen")  # it has no server
    ends = Ends(platform)
    assert ends.told() == ()
    assert ends.too_many() == ""


def test_a_server_that_is_dead_is_told_of_before_it_is_started_again(platform: FakePlatform):
    ends = Ends(platform)
    platform.stopped.add("session-0")
    platform.last_words["session-0"] = "cannot serve:  [Errno 98]"
    assert ends.told() == ("session-0 ended once, its log with: cannot serve: [Errno 98]",)
    platform.restarts["session-0"] = 1
    platform.stopped.remove("session-0")
    assert ends.told() == ("session-0 ended once, its log with: cannot serve: [Errno 98]",)


def test_one_that_says_nothing_or_too_much(platform: FakePlatform):
    ends = Ends(platform)
    platform.restarts |= {"session-0": 2, "edge-0": 1}
    platform.last_words |= {"session-0": "", "edge-0": "x" * 4_000}
    silent, loud = ends.told()
    assert silent == "session-0 ended 2 times, without a word"
    assert loud == f"edge-0 ended once, its log with: {'x' * SHOWN}"


def test_of_many_the_worst_are_told_of(platform: FakePlatform):
    ends = Ends(platform)
    platform.restarts |= dict.fromkeys(("redis-cluster-0", "redis-cluster-1", "session-0", "collaboration-0"), 1)
    platform.restarts["edge-0"] = 2
    platform.last_words |= dict.fromkeys(NAMES, "no such file")
    *told, more = ends.told()
    assert [piece.split()[0] for piece in told] == ["edge-0", "redis-cluster-0", "redis-cluster-1"]
    assert more == "2 more servers ended"


def test_waiting_is_given_up_for_one_that_ends_again_and_again(platform: FakePlatform):
    platform.restarts["session-0"] = 1
    ends = Ends(platform)
    platform.restarts |= {"session-0": ENDS_MAX, "edge-0": 1, "collaboration-0": 1}
    assert ends.too_many() == ""
    platform.restarts["session-0"] += 1
    assert ends.too_many() == "waiting was given up"


def test_a_platform_that_cannot_be_seen_hides_no_other_error(platform: FakePlatform):
    ends = Ends(platform)
    platform.addresses.clear()
    with pytest.raises(StackError):
        platform.states()
    assert ends.told() == ()
    assert ends.too_many() == ""
