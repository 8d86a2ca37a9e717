"""A real Redis that crashes with no fault says so in its own log, and one that is killed does not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from resilience.spec.stack import Stack
from tests.component.local_stack import brought_up
from tests.component.own_log import judged

pytestmark = pytest.mark.component
MEMBER = "redis-cluster-1"
WITHIN_S = 10.0


def alone(stack: Stack) -> Stack:
    members = tuple(member for member in stack.members if member.name == MEMBER)
    return msgspec.structs.replace(stack, members=members, restart_delay_s=0.2)


@pytest.mark.parametrize(
    ("number", "verdict"),
    [(signal.SIGSEGV, "fail"), (signal.SIGKILL, "pass")],
    ids=["crashed", "killed"],
)
def test_a_server_that_ends(
    image: Path, shipped_stack: Stack, tmp_path: Path, number: signal.Signals, verdict: str
) -> None:
    with brought_up(alone(shipped_stack), image, tmp_path / "members") as owned:
        log = tmp_path / "members" / MEMBER / "server.log"
        wait_for(lambda: b"Ready to accept connections" in log.read_bytes())
        began_ns = time.time_ns()
        os.kill(owned.state(MEMBER).handle["server_pid"], number)
        wait_for(lambda: owned.state(MEMBER).restarts == 1)
        finding = judged(MEMBER, log, began_ns, tmp_path / "run")
    assert finding.verdict == verdict, finding.reason
    assert ("crashed by signal: 11" in finding.reason) == (verdict == "fail")


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
