"""The runner's view of a command in a pod of its own, by the files of their common folder."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilience.backend.kubernetes.beside import EXIT, LOCK, SIGNAL, STARTED
from resilience.backend.kubernetes.neighbour import LOST, Neighbour
from resilience.errors import StackError


@contextmanager
def kept(folder: Path) -> Iterator[None]:
    """As long as somebody keeps the command."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def neighbour(folder: Path, on_sleep: Callable[[], object] = lambda: None) -> Neighbour:
    (folder / LOCK).touch()
    return Neighbour("loadgen-0", folder, sleep=lambda _seconds: on_sleep())


def test_it_runs_while_it_is_kept(tmp_path: Path) -> None:
    with kept(tmp_path):
        assert neighbour(tmp_path).poll() is None


@pytest.mark.parametrize("code", [0, 1, -15])
def test_its_exit_code_is_its_own(tmp_path: Path, code: int) -> None:
    (tmp_path / EXIT).write_text(str(code))
    assert neighbour(tmp_path).poll() == code


def test_an_exit_code_counts_although_its_keeper_is_still_there(tmp_path: Path) -> None:
    (tmp_path / EXIT).write_text("0")
    with kept(tmp_path):
        assert neighbour(tmp_path).poll() == 0


def test_one_whose_pod_is_gone_was_killed(tmp_path: Path) -> None:
    assert neighbour(tmp_path).poll() == LOST


def test_it_is_asked_to_end_and_then_killed(tmp_path: Path) -> None:
    asked = []

    def obey() -> None:
        if (tmp_path / SIGNAL).exists():
            asked.append((tmp_path / SIGNAL).read_text())
            (tmp_path / SIGNAL).unlink()
            if asked[-1] == "KILL":
                (tmp_path / EXIT).write_text("-9")

    with kept(tmp_path):
        process = neighbour(tmp_path, obey)
        process.interrupt()
        assert process.wait(1.0) == -9
    assert asked == ["TERM", "KILL"]


def test_one_that_cannot_be_killed_is_given_up(tmp_path: Path) -> None:
    with kept(tmp_path):
        assert neighbour(tmp_path).wait(0.1) == LOST


def test_start_is_waited_for(tmp_path: Path) -> None:
    neighbour(tmp_path, (tmp_path / STARTED).touch).wait_started(lambda: "never", 1.0)


def test_one_that_is_not_started_says_why(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="loadgen-0 was not started within 1 s: no node takes it"):
        neighbour(tmp_path).wait_started(lambda: "no node takes it", 1.0)
