"""Which program a service's members run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.server import Site, prepare
from resilience.spec.read import read_stack
from resilience.spec.stack import Programs


@pytest.mark.parametrize(
    ("programs", "expect"),
    [(Programs(), "services.session"), (Programs(session="other.session"), "other.session")],
    ids=["the reference service", "another one"],
)
def test_a_service_is_the_program_that_the_stack_names(programs: Programs, expect: str, tmp_path: Path) -> None:
    stack = msgspec.structs.replace(read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml"), programs=programs)
    site = Site(stack=stack, addresses={}, password="", password_file=tmp_path / "password")
    pod: Any = SimpleNamespace(member=stack.member("session-0"), config=tmp_path)
    command = prepare(pod, site)
    assert command[1:] == ("-m", expect, str(tmp_path / "service.json"))
