"""A command as it is kept in a pod of its own, with a real process."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilience.backend.kubernetes.neighbour import LOST, Neighbour
from resilience.backend.local.place import PROJECT_ROOT

pytestmark = pytest.mark.component
SLEEPER = "import signal, time; signal.signal(15, lambda *_: exit(7)); print('here', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"


@contextmanager
def kept(folder: Path, script: str) -> Iterator[tuple[Neighbour, "subprocess.Popen[bytes]"]]:
    """The command, and the process that keeps it, which is the pod's first."""
    argv = [sys.executable, "-m", "resilience.backend.kubernetes.beside", str(folder / "x"), str(folder / "log"), "--"]
    with subprocess.Popen([*argv, sys.executable, "-c", script], cwd=PROJECT_ROOT) as keeper:
        neighbour = Neighbour("loadgen", folder / "x")
        try:
            neighbour.wait_started(lambda: "", 20.0)
            yield neighbour, keeper
        finally:
            keeper.kill()


def wait_said(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while "here" not in (folder / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_it_ends_with_its_own_code_and_what_it_says_is_kept(tmp_path: Path) -> None:
    with kept(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)") as (neighbour, keeper):
        assert neighbour.wait(10.0) == 3
        assert keeper.wait(5) == 0
    assert {"out", "err"} == set((tmp_path / "log").read_text().split())


def test_it_is_interrupted(tmp_path: Path) -> None:
    with kept(tmp_path, SLEEPER) as (neighbour, _keeper):
        wait_said(tmp_path)
        assert neighbour.poll() is None
        neighbour.interrupt()
        assert neighbour.wait(10.0) == 7


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with kept(tmp_path, DEAF) as (neighbour, _keeper):
        wait_said(tmp_path)
        neighbour.interrupt()
        assert neighbour.wait(0.5) == -signal.SIGKILL


def test_that_its_pod_is_gone_is_seen_at_once(tmp_path: Path) -> None:
    with kept(tmp_path, SLEEPER) as (neighbour, keeper):
        keeper.kill()
        keeper.wait(5)
        assert neighbour.poll() == LOST


def test_a_pod_that_is_being_ended_asks_it_to_end(tmp_path: Path) -> None:
    with kept(tmp_path, SLEEPER) as (neighbour, keeper):
        wait_said(tmp_path)
        keeper.terminate()
        assert neighbour.wait(10.0) == 7
