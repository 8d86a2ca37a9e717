"""The process that tells a container's end, on a process of this test that stands for it."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from resilience.agent import withhold
from resilience.agent.error import AgentError
from resilience.agent.process import STOPPED, Process, look_up
from resilience.agent.withhold import Withhold, keeper_of
from tests.waiting import until


@pytest.fixture
def keeper() -> Iterator[Process]:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    found = look_up(child.pid)
    assert found
    yield found
    child.kill()
    child.communicate()


def step(**place: Any) -> Withhold:
    return Withhold.from_json("test-1", {"members": [{"name": "redis-cluster-0", **place}]})


def state(process: Process) -> str:
    found = look_up(process.pid)
    return found.state if found else ""


def test_it_stands_still_until_it_is_undone(keeper: Process):
    held = step(keeper_pid=keeper.pid, keeper_start=keeper.start)
    held.do()
    until(lambda: state(keeper) == STOPPED)
    assert [item["observed"] for item in held.undone()] == ["redis-cluster-0"]
    held.undo()
    until(lambda: state(keeper) != STOPPED)
    held.undo()  # harmless when repeated
    assert [item["ok"] for item in held.undone()] == [True]


def test_another_process_of_that_number_is_not_touched(keeper: Process):
    held = step(keeper_pid=keeper.pid, keeper_start=keeper.start + 1)
    with pytest.raises(AgentError, match=f"redis-cluster-0: .* process {keeper.pid}, is gone"):
        held.do()
    held.undo()
    assert held.undone()[0]["ok"]
    assert state(keeper) != STOPPED


def test_a_pod_that_nothing_stands_beside(keeper: Process):
    with pytest.raises(AgentError, match="redis-cluster-0: no process beside it tells its end"):
        step(server_pid=keeper.pid)


def test_a_servers_keeper_is_its_parent(keeper: Process):
    found = keeper_of(keeper)
    assert found
    assert found.pid == os.getpid()


@pytest.mark.parametrize(
    ("parent", "in_pod"),
    [(1, False), (None, True)],
    ids=["the node's first process", "another one of the pod"],
)
def test_what_must_not_be_stopped_is_no_keeper(
    keeper: Process, parent: int | None, in_pod: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(withhold, "_is_in_pod", lambda _pid: in_pod)
    assert keeper_of(Process(keeper.pid, keeper.start, parent or keeper.parent)) is None
