"""The harness outside as its runner hears it: there, gone, or nobody to be heard."""

import threading

import pytest

from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.heartbeat import SILENT_S, Heartbeat, Listener, beating, ended_when_silent
from tests.fakes import FakeConfigMap
from tests.waiting import until


class Line:
    """What both write to and read from, and the runner's clock."""

    def __init__(self) -> None:
        self.map = FakeConfigMap()
        self.now_s = 1_000.0
        api = Api(self.map.call, "a cluster", sleep=lambda _seconds: None, patience_s=0.0)
        self.heartbeat = Heartbeat(api)
        self.listener = Listener(api, lambda: self.now_s)

    def heard_after(self, seconds: float) -> float:
        self.now_s += seconds
        return self.listener.silent_s()


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_harness_that_says_so_is_there(line: Line) -> None:
    for _ in range(9):
        line.heartbeat.beat()
        assert line.heard_after(10.0) == 0.0


@pytest.mark.parametrize("beats", [0, 1])
def test_one_that_says_nothing_more_is_silent_whether_it_ever_spoke_or_not(line: Line, beats: int) -> None:
    for _ in range(beats):
        line.heartbeat.beat()
    assert [line.heard_after(10.0) for _ in range(8)] == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    line.heartbeat.beat()
    assert line.heard_after(10.0) == 0.0


def test_while_the_api_server_is_away_nobody_is_missed(line: Line) -> None:
    line.heartbeat.beat()
    assert [line.heard_after(10.0) for _ in range(3)] == [0.0, 10.0, 20.0]
    line.map.away = 1
    assert line.heard_after(500.0) == 0.0
    assert [line.heard_after(10.0) for _ in range(2)] == [0.0, 10.0], "the harness could not be heard either"


def test_where_nothing_can_be_said_any_more_nobody_is_there(line: Line) -> None:
    line.heartbeat.beat()
    line.heard_after(0.0)
    line.map.there = False
    assert [line.heard_after(10.0) for _ in range(3)] == [0.0, 10.0, 20.0]
    line.heartbeat.beat()  # to nobody, and without an error


def test_a_harness_says_so_from_the_beginning(line: Line) -> None:
    with beating(line.heartbeat):
        until(lambda: line.map.data == {"alive": "1"})


class Heard(Listener):
    """A listener that has been told what it hears."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    def silent_s(self) -> float:
        return self.seconds.pop(0)


def test_the_run_of_one_that_is_gone_is_ended_once() -> None:
    said: list[str] = []
    with ended_when_silent(Heard(0.0, SILENT_S - 1, SILENT_S + 3, SILENT_S), said.append, every_s=0.0):
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "listener"])
    assert said == ["the harness outside has been silent for 63 s and counts as gone: the run ends here"]
