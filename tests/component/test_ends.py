"""A stack in which a service does not stay up: nobody waits for it until the time is over."""

import re
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
