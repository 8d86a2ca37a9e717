"""What a runner's pod begins with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilience import play, runner
from resilience.backend.kubernetes.api import Api
from resilience.interrupt import Interrupted, interruptible
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
