from collections.abc import Callable
from threading import Event

import pytest

from resilience.errors import StackError
from resilience.stack.wait import Pause, wait_all, wait_until


class Clock:
    """Time that passes only while somebody pauses."""

    def __init__(self, broken_off_after: int = 1_000) -> None:
        self.at = 100.0
        self.pauses = 0
        self.broken_off_after = broken_off_after

    def now(self) -> float:
        return self.at

    def pause(self, seconds: float) -> bool:
        self.at += seconds
        self.pauses += 1
        return self.pauses >= self.broken_off_after


def met_at(clock: Clock, instant: float) -> Callable[[], str]:
    return lambda: "" if clock.now() >= instant else f"only {clock.now():.2f}"


def test_what_holds_at_once_is_not_waited_for():
    clock = Clock()
    assert wait_until("it", lambda: "", deadline=0.0, pause=clock.pause, now=clock.now) == 0.0
    assert clock.pauses == 0


def test_waits_until_it_holds():
    clock = Clock()
    took_s = wait_until("it", met_at(clock, 101), deadline=110, every_s=0.25, pause=clock.pause, now=clock.now)
    assert took_s == 1.0
    assert clock.pauses == 4


def test_is_asked_once_more_at_the_deadline():
    clock = Clock()
    assert wait_until("it", met_at(clock, 100.3), deadline=100.3, every_s=0.2, pause=clock.pause, now=clock.now) > 0.29


def test_the_deadline_raises_the_last_reason():
    clock = Clock()
    with pytest.raises(StackError, match=r"it took more than 1\.0 s: only 101\.00"):
        wait_until("it", met_at(clock, 200), deadline=101, every_s=0.4, pause=clock.pause, now=clock.now)


def test_breaking_off_raises_the_last_reason():
    clock = Clock(broken_off_after=2)
    with pytest.raises(StackError, match=r"it was broken off after 0\.5 s: only 100\.25"):
        wait_until("it", met_at(clock, 200), deadline=101, every_s=0.25, pause=clock.pause, now=clock.now)


def test_all_jobs_are_waited_for():
    done: list[str] = []
    wait_all({"a": lambda _: done.append("a"), "b": lambda _: done.append("b")})
    assert sorted(done) == ["a", "b"]


def test_a_job_that_fails_breaks_the_others_off_and_comes_first():
    started = Event()

    def fails(_pause: Pause) -> None:
        started.wait(10)
        raise StackError("a has failed")

    def waits(pause: Pause) -> None:
        started.set()
        assert pause(10)
        raise StackError("b was waiting")

    with pytest.raises(StackError, match=r"^a has failed; b was waiting$"):
        wait_all({"b": waits, "a": fails})


def test_what_is_in_vain_is_broken_off_and_its_reason_stands_alone():
    def waits(pause: Pause) -> None:
        assert pause(10)
        raise StackError("a was waiting")

    with pytest.raises(StackError, match=r"^nobody will come$"):
        wait_all({"a": waits}, lambda: "nobody will come")


def test_an_error_that_is_no_answer_of_the_stack_comes_out_as_it_is():
    def broken(_pause: Pause) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_all({"a": broken, "b": lambda _: None})
