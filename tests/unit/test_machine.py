import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from resilience.machine import CpuTimes, disk_full, machine_facts, pressure_between


def written(folder: Path, stat: str, waited_us: int | None) -> Path:
    (folder / "pressure").mkdir(parents=True)
    (folder / "stat").write_text(stat)
    if waited_us is not None:
        (folder / "pressure/cpu").write_text(f"some avg10=1.00 avg60=0.00 avg300=0.00 total={waited_us}\nfull …\n")
    return folder


def test_pressure_is_shares_of_the_time_between_two_readings(tmp_path):
    before = CpuTimes.read(written(tmp_path / "a", "cpu 100 0 100 700 50 0 0 50 0 0\ncpu0 1\n", 1_000_000))
    after = CpuTimes.read(written(tmp_path / "b", "cpu 150 0 120 710 50 0 0 70 0 0\ncpu0 1\n", 1_250_000))
    assert pressure_between(before, after, 1.0) == {
        "cpus": 1, "busy_ratio": 0.7, "steal_ratio": 0.2, "cpu_some_ratio": 0.25,
    }  # fmt: skip


def test_a_kernel_without_pressure_figures_reads_as_none(tmp_path):
    assert CpuTimes.read(written(tmp_path, "cpu 1 2 3 4 5 6 7 8\n", None)).waited_us == 0


def test_no_time_between_two_readings_is_no_division_by_zero(tmp_path):
    times = CpuTimes.read(written(tmp_path, "cpu 1 2 3 4 5 6 7 8\ncpu0 1\ncpu1 2\nintr 9\n", 7))
    assert pressure_between(times, times, 0.0) == {
        "cpus": 2, "busy_ratio": 0.0, "steal_ratio": 0.0, "cpu_some_ratio": 0.0,
    }  # fmt: skip


def test_facts_name_this_machine(tmp_path):
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b00t\n")
    (tmp_path / "meminfo").write_text("MemTotal:  2048 kB\n")
    facts = machine_facts(tmp_path)
    assert (facts["boot_id"], facts["memory_bytes"]) == ("b00t", 2048 * 1024)
    assert facts["cpus"] >= 1


@pytest.mark.parametrize(
    ("blocks", "user", "full"),
    [
        ({"f_blocks": 100, "f_bfree": 0, "f_bavail": 0}, 0, True),
        ({"f_blocks": 100, "f_bfree": 5, "f_bavail": 0}, 1000, True),  # the rest is kept for root
        ({"f_blocks": 100, "f_bfree": 5, "f_bavail": 0}, 0, False),
        ({"f_blocks": 100, "f_bfree": 5, "f_bavail": 5}, 1000, False),
        ({"f_blocks": 0, "f_bfree": 0, "f_bavail": 0}, 0, False),  # a file system that does not count
    ],
)
def test_a_full_disk_has_no_block_left_for_its_user(monkeypatch, tmp_path, blocks, user, full):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**blocks))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert disk_full(tmp_path) == full


def test_a_disk_that_cannot_be_asked_is_not_full(tmp_path):
    assert not disk_full(tmp_path / "gone")
