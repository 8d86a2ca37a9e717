"""What ends a run from another thread."""

import signal
import threading

import pytest

from resilience.interrupt import Alarm, Interrupted, interruptible
from tests.waiting import until


def wait_for(ringing: threading.Thread) -> None:
    ringing.start()
    until(lambda: False)


def test_an_alarm_ends_what_the_main_thread_does() -> None:
    with pytest.raises(Interrupted) as raised, interruptible(print):
        wait_for(threading.Thread(target=Alarm().ring))
    assert raised.value.signal == signal.SIGTERM


def test_one_that_is_off_disturbs_nobody() -> None:
    alarm = Alarm()
    with interruptible(print):
        alarm.off()
        alarm.ring()
