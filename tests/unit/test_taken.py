"""What the scenario tests do with a run whose machine was taken from it: they play it again, and no other."""

import json
from pathlib import Path

import pytest

from tests.scenario import conftest
from tests.scenario.conftest import Ended, Resilience, machine_was_taken

QUIET, TAKEN = 0.01, 0.4


def recorded(directory: Path, *stolen: float) -> Path:
    """A run that has these shares of its machine's processors on record, one for each second."""
    directory.mkdir(parents=True)
    lines = [["event", "pressure", at * 1_000_000, {"steal_ratio": share}] for at, share in enumerate(stolen)]
    (directory / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "spec.json").write_text("{}")
    return directory


@pytest.mark.parametrize(
    ("stolen", "taken"),
    [
        ([QUIET] * 60, False),
        ([QUIET] * 30 + [TAKEN] * 10 + [QUIET] * 30, True),
        ([QUIET] * 30 + [TAKEN] * 2 + [QUIET] * 30, False),  # two bad seconds are any machine's
        ([TAKEN] * 9, False),  # too short to tell
        ([], False),
    ],
)
def test_a_machine_is_taken_when_much_of_it_is_for_seconds_on_end(
    tmp_path: Path, stolen: list[float], taken: bool
) -> None:
    assert machine_was_taken([recorded(tmp_path / "calm", QUIET), recorded(tmp_path / "run", *stolen)]) == taken


class Played(Resilience):
    """Runs that end as they are told to, one after the other: an exit code, and what was stolen of the machine."""

    def __init__(self, reports: Path, *ends: tuple[int, float]) -> None:
        super().__init__(reports)
        self.ends = list(ends)
        self.played = 0

    def _played(self, scenario: str, *arguments: str, meanwhile: object) -> Ended:
        code, stolen = self.ends[self.played]
        self.played += 1
        return Ended(code, "", recorded(self.reports / scenario / f"run-{self.played}", *[stolen] * 20))


@pytest.fixture(autouse=True)
def nothing_was_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "_played_again", [])


def test_a_run_on_a_taken_machine_is_played_again_and_its_record_is_no_control(tmp_path: Path) -> None:
    command = Played(tmp_path / "reports", (3, TAKEN), (1, TAKEN), (3, QUIET))
    ended = command.run("baseline")
    assert (ended.code, command.played) == (3, 3)
    assert command.directories() == [ended.directory]
    assert len(list((tmp_path / "reports-taken/baseline").iterdir())) == 2


@pytest.mark.parametrize("end", [(0, TAKEN), (1, QUIET), (3, QUIET)])
def test_no_other_run_is_played_again(tmp_path: Path, end: tuple[int, float]) -> None:
    command = Played(tmp_path / "reports", end)
    assert command.run("baseline").code == end[0]
    assert command.played == 1


def test_a_machine_that_is_taken_for_good_ends_the_patience(tmp_path: Path) -> None:
    command = Played(tmp_path / "reports", *[(3, TAKEN)] * 20)
    assert command.run("baseline").code == 3
    assert command.played == 1 + conftest.PLAYED_AGAIN_MAX
    assert command.run("baseline").code == 3
    assert command.played == 2 + conftest.PLAYED_AGAIN_MAX, "the bound is for all runs of a session together"
