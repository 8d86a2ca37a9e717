"""How stacks end: a service that does not stay up is not waited for until the time is over, and links go with them."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.backend.local import platform as local_platform
from resilience.backend.local.member import Pod
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.backend.local.server import Site, prepare
from resilience.errors import StackError
from resilience.report.terminal import one_line
from resilience.spec.stack import Stack
from resilience.stack.readiness import stack_ready
from tests.component.local_stack import brought_up

pytestmark = pytest.mark.component


def broken(pod: Pod, site: Site) -> tuple[str, ...]:
    """As it should be, but for a service that complains, in red, and ends."""
    argv = prepare(pod, site)
    return ("sh", "-c", "printf 'no \\033[31mport\\n' >&2; exit 3") if pod.member.name == "session-1" else argv


@pytest.fixture
def lame(
    image: Path, shipped_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnedLocalPlatform]:
    monkeypatch.setattr(local_platform, "prepare", broken)
    with brought_up(shipped_stack, image, tmp_path) as owned:
        yield owned


def test_a_service_that_does_not_stay_up_is_given_up_with_its_own_words(lame: OwnedLocalPlatform):
    began = time.monotonic()
    with pytest.raises(StackError) as refusal:
        stack_ready(lame, began + 60)
    assert time.monotonic() - began < 20
    said = one_line(str(refusal.value))
    assert re.fullmatch(r"waiting was given up; session-1 ended [34] times, its log with: no \\x1b\[31mport", said)


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex() if name.startswith("hfv")}


def test_a_members_link_goes_with_its_stack_even_if_its_network_does_not(
    image: Path, shipped_stack: Stack, tmp_path: Path
) -> None:
    """As where a socket has something left to send to one that is gone: the kernel keeps that network for minutes."""
    with brought_up(shipped_stack, image, tmp_path) as owned:
        held = os.open(f"/proc/{owned.state('redis-cluster-0').handle['init_pid']}/ns/net", os.O_RDONLY)
        assert len(links()) == len(shipped_stack.members)
    try:
        assert links() == set()
    finally:
        os.close(held)
