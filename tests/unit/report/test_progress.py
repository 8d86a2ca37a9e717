"""Steps of a set-up as they are told."""

import io

import pytest

from resilience.report.progress import Step, Steps
from resilience.report.terminal import console_for


class Clock:
    def __init__(self, *instants_s: float) -> None:
        self.instants_s = list(instants_s)

    def __call__(self) -> float:
        return self.instants_s.pop(0) if len(self.instants_s) > 1 else self.instants_s[0]


def told(clock: Clock, *, moving: bool, error: Exception | None = None) -> str:
    stream = io.StringIO()
    steps = Steps(console_for(stream), clock, moving=moving)
    try:
        with steps.step("building the stack image") as step:
            step.say("unpacking \x1b[0m")
            if error:
                raise error
    except ValueError:
        pass
    return stream.getvalue()


def test_a_quick_step_is_one_plain_line():
    assert told(Clock(0.0, 1.0), moving=False) == "building the stack image …\n"


def test_a_long_step_says_what_it_took():
    lines = told(Clock(0.0, 76.2), moving=False).splitlines()
    assert lines == ["building the stack image …", "✓ building the stack image  unpacking \\x1b[0m  76.2 s"]


def test_a_step_that_fails_says_so_and_the_error_goes_on():
    assert told(Clock(0.0, 0.1), moving=False, error=ValueError()).splitlines()[-1].startswith("✗ building")
    steps = Steps(console_for(io.StringIO()), Clock(0.0), moving=False)
    with pytest.raises(KeyError), steps.step("x"):
        raise KeyError


def test_on_a_terminal_every_step_leaves_a_line():
    assert "✓ building the stack image" in told(Clock(0.0, 0.5), moving=True)


def test_elapsed_time_is_named_from_two_seconds_on():
    assert Step("x").text(1.9).plain == "x"
    assert Step("x").text(2.0).plain == "x  2.0 s"


def test_a_line_that_belongs_to_no_step():
    stream = io.StringIO()
    Steps(console_for(stream), moving=False).say("using the package manager apt")
    assert stream.getvalue() == "using the package manager apt\n"
