"""A generator's clock where nobody has to be asked, or nobody answers."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from loadgen.runner_clock import RunnerClock
from resilience.history.clock import kernel_boot_id
from resilience.history.record import Event
from resilience.spec.plan import LoadPlan
from tests.unit.loadgen.test_generator import plan  # noqa: F401  # a fixture


def events(folder: Path) -> list[Event]:
    lines = (folder / "direct.clock.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Event) for line in lines]


def test_under_the_runners_kernel_nobody_is_asked(plan: LoadPlan, tmp_path: Path) -> None:  # noqa: F811
    about = replace(plan, base_ns=17, boot_id="7f", clock_address="nowhere.invalid:1")
    clock = RunnerClock("direct", about, boot_id="7f")
    assert clock.start().base_ns == 17
    clock.end()
    clock.end()
    (event,) = events(tmp_path)
    assert event.data == {"process": "direct", "boot_id": "7f", "offset_us": 0, "error_us": 0}


@pytest.mark.parametrize(("ours", "runners"), [("90", "7f"), ("", ""), ("", "7f")])
@pytest.mark.parametrize("address", ["", "no port"])
def test_another_kernel_without_anybody_to_ask_ends_it(
    plan: LoadPlan,  # noqa: F811
    tmp_path: Path,
    ours: str,
    runners: str,
    address: str,
) -> None:
    about = replace(plan, boot_id=runners, clock_address=address)
    with pytest.raises(OSError, match="tells the runner's clock"):
        RunnerClock("direct", about, boot_id=ours).start()
    (event,) = events(tmp_path)
    assert event.data == {"process": "direct", "boot_id": ours}


def test_a_kernel_that_does_not_say_its_boot_id(tmp_path: Path) -> None:
    assert kernel_boot_id(tmp_path / "none") == ""
