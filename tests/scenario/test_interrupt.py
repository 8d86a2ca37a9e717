"""Ctrl-C and SIGTERM: a run that somebody ends heals, reports, and says by its exit code what ended it."""

import signal

import pytest

from tests.scenario.conftest import Watched, events_in, wait_for

pytestmark = pytest.mark.scenario


def begun(watched: Watched, phase: str) -> bool:
    directory = watched.directory()
    if directory is None:
        return False
    if phase == "fault":
        return bool(events_in(directory, "injected"))
    return any(data["phase"] == phase for _, data in events_in(directory, "phase-announced"))


@pytest.mark.parametrize(
    ("number", "phase", "times"),
    [
        (signal.SIGINT, "fault", 1),
        (signal.SIGINT, "fault", 2),
        (signal.SIGTERM, "steady", 1),
        (signal.SIGTERM, "fault", 1),
    ],
    ids=["Ctrl-C", "Ctrl-C twice", "SIGTERM before the fault", "SIGTERM during the fault"],
)
def test_an_interrupted_run_heals_and_reports(watched: Watched, number: signal.Signals, phase: str, times: int) -> None:
    process = watched.start()
    wait_for(f"{phase} has begun", lambda: begun(watched, phase), 60)
    process.send_signal(number)
    if times == 2:
        wait_for("the run is ending", lambda: ending(watched), 30)
        process.send_signal(number)
    ended = watched.wait(process)
    watched.nothing_is_left()
    assert ended.code == 128 + number, ended.output[-3000:]
    assert ("ending: healing, collecting and judging what there is" in ended.output) == (times == 2)
    assert ended.verdict["headline"] == f"inconclusive: ended by {number.name}"
    assert ended.directory
    assert (ended.directory / "report.html").stat().st_size > 0
    assert ended.events("converged")[0]["ok"]
    if phase == "fault":
        healed = ended.events("healed")
        assert [data["healed"] for data in healed] == [True]
        assert '"healed"' in (ended.directory / "ledger.jsonl").read_text()


def ending(watched: Watched) -> bool:
    """Whether the first signal has arrived: the experiment is rolled back."""
    directory = watched.directory()
    return bool(directory and events_in(directory, "healing"))
