"""``resilience heal``, where the stack is: a line for each injection, and an exit code that can be trusted."""

import io
from pathlib import Path

import pytest

from resilience.fault.injector import Injector
from resilience.report.terminal import console_for
from resilience.runner import heal_open
from resilience.spec.fault import Injection, Kill, Target
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import STACK, injector_on


@pytest.fixture
def platform() -> FakeFaultPlatform:
    return FakeFaultPlatform(STACK)


@pytest.fixture
def injector(platform: FakeFaultPlatform, tmp_path: Path) -> Injector:
    """With two injections that are open."""
    injector = injector_on(platform, tmp_path)
    for name in ("one-1", "two-2"):
        planned = injector.plan(name, Kill(restart=False), Target(component="redis"), 20.0)
        assert isinstance(planned, Injection)
        injector.inject(planned)
    return injector


def healed(injector: Injector) -> tuple[int, list[str]]:
    said = io.StringIO()
    code = heal_open(injector, console_for(said))
    return code, said.getvalue().splitlines()


def test_what_is_open_is_healed_newest_first(injector: Injector):
    assert healed(injector) == (0, ["two-2: healed", "one-1: healed"])
    assert healed(injector) == (0, [])


def test_what_is_not_seen_to_have_ended_is_no_success(platform: FakeFaultPlatform, injector: Injector):
    platform.heals = False
    assert healed(injector) == (4, ["two-2: healed, but it is not proved", "one-1: healed, but it is not proved"])


def test_what_cannot_be_ended_is_told_one_by_one(platform: FakeFaultPlatform, injector: Injector):
    platform.refuses = {"undo"}
    code, lines = healed(injector)
    assert code == 4
    assert [line.split(":")[0] for line in lines] == ["not healed", "not healed"]
    assert len(injector.ledger.open_injections()) == 2
