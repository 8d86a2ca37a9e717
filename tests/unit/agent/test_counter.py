"""A drop counter from look to look; the numbers are those that nft would tell."""

from collections.abc import Iterator

import pytest

from resilience.agent import counter, nftables
from resilience.agent.counter import Counter


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Iterator[int]]:
    """What nft tells of each counter, one number a look; the last stays. No look is waited for."""
    numbers: dict[str, Iterator[int]] = {}
    monkeypatch.setattr(nftables, "dropped_packets", lambda _family, _table, name="": next(numbers[name]))
    monkeypatch.setattr(counter, "_WITHIN_S", 0.0)
    return numbers


def looks(probe: Counter, times: int = 1) -> list[list[bool]]:
    return [[item["ok"] for item in probe.in_effect()] for _look in range(times)]


def test_drops_since_the_injection_count_and_after_that_since_the_last_look(told: dict[str, Iterator[int]]) -> None:
    told[""] = iter([2, 2, 5])
    assert looks(Counter.from_json("test-1", {}), 3) == [[True], [False], [True]]


def test_a_table_that_drops_nothing_or_is_not_there_proves_nothing(told: dict[str, Iterator[int]]) -> None:
    told[""] = iter([0])
    assert looks(Counter.from_json("test-1", {})) == [[False]]


def test_a_table_that_is_gone_meanwhile_is_seen(told: dict[str, Iterator[int]]) -> None:
    told[""] = iter([7, 0])
    assert looks(Counter.from_json("test-1", {}), 2) == [[True], [False]]


def test_each_direction_counts_by_itself(told: dict[str, Iterator[int]]) -> None:
    told[nftables.DROPPED_IN], told[nftables.DROPPED_OUT] = iter([3]), iter([0])
    assert looks(Counter.from_json("test-1", {"directions": ["in", "out"]})) == [[True, False]]
    told[nftables.DROPPED_IN] = iter([3])
    assert looks(Counter.from_json("test-1", {"directions": ["in"]})) == [[True]]
