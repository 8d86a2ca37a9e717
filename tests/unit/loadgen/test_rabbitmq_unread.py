"""When nothing is on its way to a consumer any more."""

from loadgen.rabbitmq_unread import QUIET_S, Unread

BEGAN = 100.0


def of_two() -> Unread:
    """Two messages were confirmed, and one was not."""
    unread = Unread()
    for op in (1, 2, 3):
        unread.sent(op, f"v-{op}")
    unread.ended(1, "ok")
    unread.ended(2, "ok")
    unread.ended(3, "unknown")
    return unread


def test_it_is_over_as_soon_as_all_that_was_confirmed_has_come() -> None:
    unread = of_two()
    assert not unread.over(BEGAN, BEGAN)
    unread.handed("v-2", BEGAN)
    assert not unread.over(BEGAN + 0.1, BEGAN)
    unread.handed("v-1", BEGAN + 0.1)
    assert unread.over(BEGAN + 0.1, BEGAN), "nobody waits for what may not be there"


def test_a_message_may_come_before_its_confirm() -> None:
    unread = Unread()
    unread.sent(1, "v-1")
    unread.handed("v-1", BEGAN)
    unread.ended(1, "ok")
    assert unread.over(BEGAN, BEGAN)


def test_what_is_lost_is_not_waited_for_when_all_is_quiet() -> None:
    unread = of_two()
    unread.handed("v-1", BEGAN - 9.0)
    assert not unread.over(BEGAN + QUIET_S - 0.01, BEGAN), "nobody has listened long enough"
    unread.handed("v-1", BEGAN + QUIET_S - 0.01)
    assert not unread.over(BEGAN + QUIET_S, BEGAN), "it is not quiet: something came again"
    assert unread.over(BEGAN + 2 * QUIET_S - 0.01, BEGAN)


def test_what_others_publish_is_on_its_way_until_all_is_quiet() -> None:
    unread = of_two()
    unread.handed("session-ended/s-1/o-1", BEGAN)
    unread.handed("v-1", BEGAN)
    unread.handed("v-2", BEGAN)
    assert not unread.over(BEGAN + QUIET_S - 0.01, BEGAN), "another one may come"
    assert unread.over(BEGAN + QUIET_S, BEGAN)
