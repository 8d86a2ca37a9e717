from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.chaos.pace import LAG_US, WINDOW_US, too_slow
from resilience.history.record import Invoked, Returned
from resilience.history.writer import Writer
from resilience.spec.read import read_scenario
from tests.unit.chaos.stand import SCENARIO
from tests.unit.fault.stand import ROOT

NOW = 60_000_000
ALL = {"session.update": 150.0, "collaboration.edit": 50.0, "direct.write/1": 100.0, "direct.write/2": 100.0}
FULL = ALL | {"direct.write/3": 100.0}


def ops(rates: dict[str, float], end: int = NOW) -> Iterator[Invoked]:
    for part, rate in rates.items():
        kind, _, group = part.partition("/")
        for number in range(int(rate * (WINDOW_US + LAG_US) / 1e6)):
            due = end - int(number / rate * 1e6) - 1
            yield Invoked(number, kind, "k", "v", int(group or 0), "steady", due, due)


def write(folder: Path, rates: dict[str, float], end: int = NOW) -> Path:
    with Writer(folder / "locust.ops.jsonl") as writer:
        for op in ops(rates, end):
            writer.append(op)
            writer.append(Returned(op.id, "ok", op.called))
    return folder


def test_the_asked_for_rate_is_enough(tmp_path: Path) -> None:
    assert too_slow(SCENARIO, write(tmp_path, FULL), NOW) == []


@pytest.mark.parametrize("part", FULL)
def test_each_part_is_missed(tmp_path: Path, part: str) -> None:
    slow = too_slow(SCENARIO, write(tmp_path, FULL | {part: FULL[part] * 0.6}), NOW)
    assert len(slow) == 1
    assert part.partition("/")[0].partition(".")[0] in slow[0]


@pytest.mark.parametrize(("rate", "slow"), [(20.0, []), (12.0, ["registers: 12.4 ops/s, at least 14.4 expected"])])
def test_what_is_done_to_registers_is_a_part_of_its_own(tmp_path: Path, rate: float, slow: list[str]) -> None:
    of_rows = {"postgresql.write": 40.0}
    folder = write(tmp_path, FULL | of_rows | {"register.read": rate / 2, "register.swap": rate / 2})
    assert too_slow(read_scenario(ROOT, "postgresql-baseline"), folder, NOW) == slow


@pytest.mark.parametrize(
    ("rate", "slow"), [(20.0, []), (12.0, ["list.transaction: 12.2 ops/s, at least 14.4 expected"])]
)
def test_transactions_on_lists_are_a_part_of_their_own(tmp_path: Path, rate: float, slow: list[str]) -> None:
    about = read_scenario(ROOT, "postgresql-baseline", ["load.postgresql_list_rate_ops_per_s=20"])
    others = {"postgresql.write": 40.0, "register.read": 20.0}
    assert too_slow(about, write(tmp_path, FULL | others | {"list.transaction": rate}), NOW) == slow


def test_a_load_that_stopped_is_too_slow(tmp_path: Path) -> None:
    assert len(too_slow(SCENARIO, write(tmp_path, FULL, NOW - 10_000_000), NOW)) == 5


@pytest.mark.parametrize(("ratio", "slow"), [(1.0, 0), (0.6, 5)])
def test_a_load_that_has_only_just_begun_is_measured_since_then(tmp_path: Path, ratio: float, slow: int) -> None:
    rates = {part: rate * ratio for part, rate in FULL.items()}
    file = write(tmp_path, rates) / "locust.ops.jsonl"
    begun = [op for op in ops(rates) if op.due >= NOW - LAG_US - 3_000_000]
    file.unlink()
    with Writer(file) as writer:
        for op in begun:
            writer.append(op)
    assert len(too_slow(SCENARIO, tmp_path, NOW)) == slow


def test_a_load_that_stood_still_for_a_while_is_too_slow(tmp_path: Path) -> None:
    with Writer(tmp_path / "locust.ops.jsonl") as writer:
        for op in ops(FULL):
            writer.append(op if op.due >= NOW - LAG_US - 3_000_000 else replace(op, due=op.due - 10_000_000))
    assert len(too_slow(SCENARIO, tmp_path, NOW)) == 5


def test_nothing_is_too_slow(tmp_path: Path) -> None:
    assert len(too_slow(SCENARIO, tmp_path, NOW)) == 5


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    with (write(tmp_path, FULL) / "locust.ops.jsonl").open("ab") as file:
        file.write(b'["i",1,"session.up')
    assert too_slow(SCENARIO, tmp_path, NOW) == []
