"""What a runner's pod begins with."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from resilience import play, runner
from resilience.backend.kubernetes.api import Api
from resilience.errors import HostError
from resilience.history.clock import RunClock
from resilience.history.writer import Writer
from resilience.interrupt import Interrupted, interruptible
from resilience.notebook import Notebook
from resilience.play import main, received
from tests.unit.backend.kubernetes.cluster import RecordedApi
from tests.waiting import until


def test_the_order_is_all_that_is_there_at_the_beginning(tmp_path: Path) -> None:
    order, directory = tmp_path / "order", tmp_path / "run"
    order.mkdir()
    (order / "spec.json").write_text("{}")
    (directory / "load").mkdir(parents=True)
    (directory / "load" / "old.ops.jsonl").write_text("of an older run")
    record = received(order, directory)
    assert record.spec.read_text() == "{}"
    assert list(record.load_dir.iterdir()) == []
    assert record.reserve.exists()


def test_a_run_whose_harness_is_gone_ends_as_one_that_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes while the run is played, and what was recorded stands."""

    @contextmanager
    def gone_at_once(_listener: object, end: Callable[[str], None]) -> Iterator[None]:
        ends.append(end)
        yield

    def played(*_run: object) -> int:
        try:
            with interruptible(print):
                ends[0]("the harness outside is gone")
                until(lambda: False)
        except Interrupted as interrupted:
            return interrupted.exit_code
        return 0

    ends: list[Callable[[str], None]] = []
    monkeypatch.setattr(Api, "of_pod", RecordedApi({}).api)
    monkeypatch.setattr(play, "ended_when_silent", gone_at_once)
    monkeypatch.setattr(runner, "played", played)
    (tmp_path / "order").mkdir()
    assert main([str(tmp_path / "order"), str(tmp_path / "run")]) == 143
    assert capsys.readouterr().err == "resilience: the harness outside is gone\n"


def refused(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("where", "what"), [(os, "posix_fallocate"), (shutil, "copyfile")])
def test_a_full_disk_of_the_observers_node_is_one_line_with_what_helps_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: object, what: str
) -> None:
    order = tmp_path / "order"
    order.mkdir()
    (order / "spec.json").write_text("{}")
    monkeypatch.setattr(Api, "of_pod", RecordedApi({}).api)
    monkeypatch.setattr(play, "ended_when_silent", lambda *_heard: nullcontext())
    monkeypatch.setattr(where, what, refused)
    assert main([str(order), str(tmp_path / "run")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device; free some space on the observers' node" in line
    assert "--reports" not in line


def test_a_disk_that_fills_during_the_run_is_told_with_what_helps_there(tmp_path: Path) -> None:
    order = tmp_path / "order"
    order.mkdir()
    record = received(order, tmp_path / "run")
    record.history.symlink_to("/dev/full")
    notebook = Notebook(Writer(record.history), RunClock.starting_now(), lambda _name, _data: None, record.advice)
    with pytest.raises(HostError, match="what was recorded is kept: free some space on the observers' node"), notebook:
        notebook.event("stack-up", {"took_s": 1.0})
