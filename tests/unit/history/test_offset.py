"""What a process under another kernel recorded, on the runner's clock."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from resilience.history.offset import shift_of
from resilience.history.read import History, read_history
from resilience.history.record import Delivered, Dropped, Event, Invoked, Joined, Left, Line, Returned

MS, S = 1_000, 1_000_000


def compared(at: int, offset_us: int, error_us: int = 3 * MS, process: str = "direct") -> Event:
    data: dict[str, Any] = {"process": process, "boot_id": "7f", "offset_us": offset_us, "error_us": error_us}
    return Event("clock-compared", at, data)


def written(folder: Path, name: str, *lines: Line) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


RECORDED = (
    Invoked(1, "direct.write", "k", "v", 1, "steady", 10 * S, 10 * S + 200),
    Returned(1, "ok", 10 * S + 1_500),
    Invoked(2, "direct.write", "k", "w", 1, "steady", 11 * S, 11 * S),
    Dropped("direct.write", "steady", 12 * S),
    Joined("m", "room-1", 1, 0, 9 * S),
    Delivered("m", "room-1", 1, 1, "e", 10 * S, "live"),
    Left("m", "room-1", 13 * S, "stop"),
)


def history(tmp_path: Path, *clock: Event) -> History:
    written(tmp_path / "load", "direct.ops.jsonl", *RECORDED)
    written(tmp_path / "load", "direct.stats.jsonl", Event("generator", 10 * S, {"client": "direct", "cpu_ratio": 0.1}))
    written(tmp_path / "load", "locust.ops.jsonl", *RECORDED[:2])
    written(tmp_path / "load", "direct.clock.jsonl", *clock)
    written(tmp_path, "history.jsonl", Event("stack-up", 7 * S, {"took_s": 1.0}))
    return read_history(tmp_path)


def test_all_that_it_recorded_is_shifted_and_nothing_of_others(tmp_path: Path) -> None:
    read = history(tmp_path, compared(0, 250 * MS), compared(60 * S, 250 * MS))
    ops, mine = read.ops, read.ops.of_client("direct")
    assert ops.due[mine].tolist() == [9_750_000, 10_750_000]
    assert ops.called[mine].tolist() == [9_750_200, 10_750_000]
    assert ops.returned[mine].tolist() == [9_751_500, -1]  # what never ended did not end a little earlier either
    assert ops.due[~mine].tolist() == [10 * S]
    assert ops.returned[~mine].tolist() == [10 * S + 1_500]
    assert read.deliveries.at.tolist() == [9_750_000]
    assert [line.at for line in read.joins] + [line.at for line in read.leaves] == [8_750_000, 12_750_000]
    assert [line.due for _, line in read.dropped] == [11_750_000]
    assert [event.at for event in read.events_of("generator")] == [9_750_000]
    assert [event.at for event in read.events_of("stack-up")] == [7 * S]
    assert read.problems == ()


def test_under_one_kernel_nothing_is_touched(tmp_path: Path) -> None:
    read = history(tmp_path, compared(0, 0, 0))
    assert read.ops.due[read.ops.of_client("direct")].tolist() == [10 * S, 11 * S]
    assert read.deliveries.at.tolist() == [10 * S]


@pytest.mark.parametrize(
    ("recorded", "on_runners"),
    [
        (-S, -S - 100 * MS),  # before the first comparison: as it was there
        (0, -100 * MS),
        (30 * S, 30 * S - 150 * MS),  # half-way
        (60 * S, 60 * S - 200 * MS),
        (90 * S, 90 * S - 125 * MS),
        (120 * S, 120 * S - 50 * MS),
        (200 * S, 200 * S - 50 * MS),  # after the last
    ],
)
def test_between_comparisons_it_changes_evenly(recorded: int, on_runners: int) -> None:
    shift = shift_of("direct", [compared(60 * S, 200 * MS), compared(0, 100 * MS), compared(120 * S, 50 * MS)])
    assert shift is not None
    assert shift.instant(recorded) == on_runners


def test_the_order_of_what_one_process_did_is_kept() -> None:
    """A clock that comes off by 20 ms in a minute, which is far more than any does."""
    shift = shift_of("direct", [compared(0, 0), compared(60 * S, 20 * MS)])
    assert shift is not None
    shifted = shift.instants(np.arange(-S, 62 * S, 500, dtype=np.int64))
    assert (np.diff(shifted) > 0).all()


def test_what_another_process_says_or_nobody_measured_shifts_nothing() -> None:
    unknown = Event("clock-compared", 0, {"process": "direct", "boot_id": "7f"})
    assert shift_of("direct", [compared(0, 250 * MS, process="locust"), unknown]) is None


def test_a_comparison_that_is_broken_is_damage_and_shifts_nothing(tmp_path: Path) -> None:
    broken = Event("clock-compared", 0, {"process": "direct", "boot_id": "7f", "offset_us": "much"})
    read = history(tmp_path, broken)
    assert read.ops.due[read.ops.of_client("direct")].tolist() == [10 * S, 11 * S]
    assert len(read.problems) == 1
    assert "clock-compared" in read.problems[0]
