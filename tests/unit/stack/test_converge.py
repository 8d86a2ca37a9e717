"""Since when RabbitMQ is whole, and why its counts are waited for."""

import msgspec
import pytest

from resilience.history.queues import QueuesSeen
from resilience.spec.rabbitmq import QUEUES
from resilience.stack.converge import QueuesLook
from resilience.stack.rabbitmq import COUNTED_WITHIN_S
from tests.fakes import FakePlatform
from tests.histories import queues_seen, stack

WELL = msgspec.convert(queues_seen(), QueuesSeen)
ORPHANED = msgspec.structs.replace(WELL, unacknowledged=dict.fromkeys(WELL.unacknowledged, 1))


class At:
    """A look, and the instant that it is told."""

    def __init__(self, quiet_since: float | None = None) -> None:
        self.s = 100.0
        self.look = QueuesLook(FakePlatform(stack(), {}, {}), quiet_since, now=lambda: self.s)

    def hear(self, after_s: float, seen: QueuesSeen, *reasons: str) -> list[str]:
        self.s = 100.0 + after_s
        return self.look.heard(seen, reasons)


def test_counts_have_to_be_younger_than_the_beginning() -> None:
    at = At()
    assert at.hear(0.0, WELL) == ["RabbitMQ's counts of messages may be older than the end of the load"]
    assert at.hear(COUNTED_WITHIN_S, WELL) == []
    assert at.look.whole_s == 0.0, "that it was whole is known from the first look on"


def test_what_was_counted_since_the_load_had_closed_is_young_enough() -> None:
    at = At(quiet_since=97.0)
    assert at.hear(COUNTED_WITHIN_S - 3.1, WELL) != []
    assert at.hear(COUNTED_WITHIN_S - 3.0, WELL) == []


def test_it_is_whole_since_the_last_time_that_it_was_not() -> None:
    at = At()
    assert at.hear(1.0, WELL) != []
    assert at.hear(2.0, ORPHANED)[0] == f"{QUEUES[0]} has 1 messages unacknowledged and no consumer"
    assert at.look.whole_s is None
    assert at.hear(3.0, WELL, "rabbitmq-0 does not see rabbitmq-1 running") != []
    assert at.hear(7.0, WELL) == []
    assert at.hear(8.0, WELL) == []
    assert at.look.whole_s == 7.0


SLOW = msgspec.structs.replace(
    WELL,
    members=WELL.members
    | {"rabbitmq-0": msgspec.structs.replace(WELL.members["rabbitmq-0"], error="rabbitmq-0 does not answer")},
)
UNCOUNTED = msgspec.structs.replace(WELL, unacknowledged={})


@pytest.mark.parametrize("slow", [SLOW, UNCOUNTED], ids=["a member", "the counts"])
def test_one_slow_answer_takes_nothing_back(slow: QueuesSeen) -> None:
    at = At()
    at.hear(0.0, WELL)
    for after_s in (1.0, 2.0):
        assert at.hear(after_s, slow) != [], "all the same it is waited for"
        assert (at.look.last, at.look.whole_s) == (WELL, 0.0)
    at.hear(3.0, slow)
    assert (at.look.last, at.look.whole_s) == (slow, None), "it is not slow, it is silent"
    at.hear(4.0, WELL)
    at.hear(5.0, slow)
    assert (at.look.last, at.look.whole_s) == (WELL, 4.0)


def test_what_is_amiss_is_seen_at_once() -> None:
    at = At()
    at.hear(0.0, WELL)
    at.hear(1.0, ORPHANED)
    assert (at.look.last, at.look.whole_s) == (ORPHANED, None)


def test_a_first_answer_that_is_missing_is_all_that_there_is() -> None:
    at = At()
    at.hear(0.0, SLOW)
    assert at.look.last == SLOW


def test_a_reason_is_told_once() -> None:
    silent = {"rabbitmq-0": msgspec.structs.replace(WELL.members["rabbitmq-0"], error="rabbitmq-0 is silent")}
    seen = msgspec.structs.replace(WELL, members=WELL.members | silent)
    assert At().hear(9.0, seen, "rabbitmq-0 is silent") == ["rabbitmq-0 is silent"]


def test_a_stack_without_it_has_nothing_to_wait_for() -> None:
    assert At().look.amiss() == []
