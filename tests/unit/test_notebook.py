"""The runner's notebook where the disk refuses: /dev/full is one that always does."""

import errno
import os
from pathlib import Path

import pytest

from resilience.errors import HostError
from resilience.history.clock import RunClock
from resilience.history.read import read_history
from resilience.history.writer import Writer
from resilience.notebook import Notebook


class TightWriter(Writer):
    """Finds the disk full until somebody makes room."""

    full = True

    def flush(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().flush()


def notebook_on(writer: Writer, heard: list[str] | None = None) -> Notebook:
    return Notebook(writer, RunClock.starting_now(), lambda name, _data: None if heard is None else heard.append(name))


def test_a_disk_that_refuses_ends_the_run_and_breaks_no_step_of_its_end(tmp_path: Path) -> None:
    heard: list[str] = []
    (tmp_path / "history.jsonl").symlink_to("/dev/full")
    notebook = notebook_on(Writer(tmp_path / "history.jsonl"), heard).__enter__()
    notebook.event("stack-up", {"took_s": 1.0})
    with pytest.raises(HostError, match=r"history.jsonl: cannot be written: No space left on device; .* --reports$"):
        notebook.require_disk()
    notebook.problem(RuntimeError("a step of the end"))
    with pytest.raises(HostError, match="No space left on device"):
        notebook.__exit__(None, None, None)
    assert heard[0] == "stack-up", "whoever watches the run is told all the same"


def test_what_could_not_be_written_is_written_when_there_is_room(tmp_path: Path) -> None:
    writer = TightWriter(tmp_path / "history.jsonl")
    with notebook_on(writer) as notebook:
        notebook.event("stack-up", {"took_s": 1.0})
        notebook.event("converged", {"ok": True})
        writer.full = False
    history = read_history(tmp_path)
    assert [event.name for event in history.events if event.name != "error"] == ["stack-up", "converged"]
    (error,) = history.events_of("error")
    assert "No space left on device" in error.data["message"]
    assert history.problems == ()


def test_a_disk_that_is_full_ends_the_run_before_a_line_of_this_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilience.notebook.disk_full", tmp_path.__eq__)
    with notebook_on(Writer(tmp_path / "history.jsonl")) as notebook:
        notebook.wall_range_s()
        with pytest.raises(HostError, match="No space left on device"):
            notebook.require_disk()
    assert len(read_history(tmp_path).events_of("error")) == 1


def test_a_disk_that_works_requires_nothing(tmp_path: Path) -> None:
    with notebook_on(Writer(tmp_path / "history.jsonl")) as notebook:
        notebook.event("stack-up", {"took_s": 1.0})
        notebook.require_disk()


def test_the_wall_clock_may_step_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with notebook_on(Writer(tmp_path / "history.jsonl")) as notebook:
        for wall_s in (1_000, 400, 500):
            monkeypatch.setattr("time.time_ns", lambda wall_s=wall_s: wall_s * 10**9)
            earliest_s, latest_s = notebook.wall_range_s()
    assert earliest_s == 400
    assert latest_s >= 1_000
