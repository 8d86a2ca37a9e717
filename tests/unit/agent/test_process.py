"""A signal reaches the process that is meant, where Python can pin a process's number and where it cannot."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.agent.process import Process, look_up
from tests.waiting import until


@pytest.fixture(params=["pinned", "not pinned"])
def child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    if request.param == "not pinned":  # as a Python is that was built for an older kernel
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.delattr(signal, "pidfd_send_signal", raising=False)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def found(child: "subprocess.Popen[bytes]") -> Process:
    process = look_up(child.pid)
    assert process is not None
    return process


def test_the_process_that_is_meant_gets_it(child: "subprocess.Popen[bytes]"):
    found(child).signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert look_up(child.pid) is None


def test_another_one_under_that_number_does_not(child: "subprocess.Popen[bytes]"):
    former = dataclasses.replace(found(child), start=found(child).start - 1)
    former.signal(signal.SIGKILL)
    assert not former.alive
    assert found(child).alive
    assert child.stdin
    child.stdin.close()  # it ends by itself, of no signal
    assert child.wait(10) == 0


def test_one_that_is_gone_is_no_error(child: "subprocess.Popen[bytes]"):
    process = found(child)
    child.kill()
    child.wait(10)
    process.signal(signal.SIGTERM)
    assert not process.alive


FIRST_THREAD_ENDS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print("begun", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # of this thread alone
"""


def test_a_process_whose_first_thread_has_ended_goes_on_until_the_last_one_has() -> None:
    """As a server that is killed does for some milliseconds, in which its port answers still."""
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
            assert look_up(process.pid) is not None
        finally:
            process.kill()
        until(lambda: look_up(process.pid) is None)
