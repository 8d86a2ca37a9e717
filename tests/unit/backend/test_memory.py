"""What of a machine's memory can be had."""

import pytest

from resilience.backend.memory import available_bytes


@pytest.mark.parametrize(
    ("meminfo", "expected"),
    [("MemTotal: 100 kB\nMemAvailable:   42 kB\n", 43_008), ("MemTotal: 100 kB\n", 0), ("", 0)],
    ids=["there", "not named", "empty"],
)
def test_memory_is_read_from_meminfo(meminfo: str, expected: int):
    assert available_bytes(meminfo) == expected
