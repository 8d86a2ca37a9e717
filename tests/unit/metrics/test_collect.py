"""Every query ends on record: its samples, or why there are none."""

from pathlib import Path
from typing import Self

import msgspec
import pytest

from resilience.errors import MetricsError
from resilience.history.record import QueryFailed, SampleLine, Series
from resilience.history.writer import Writer
from resilience.metrics.collect import EXPLAINING, NEEDED, NO_SAMPLES, collect, selectors
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario

ROOT = Path(__file__).resolve().parents[3]
GOOD = 'load_ops_total{op=~"session[.].+",outcome="ok"}'


class FakePrometheus:
    """Has one series for every selector but those that are ``absent``; asking for a ``failing`` one is an error."""

    def __init__(self, absent: tuple[str, ...] = (), failing: tuple[str, ...] = ()) -> None:
        self.absent, self.failing = absent, failing
        self.asked: list[tuple[str, float, float, float]] = []
        self.closed = False

    def samples(self, selector: str, start_wall_s: float, end_wall_s: float, timeout_s: float) -> tuple[Series, ...]:
        self.asked.append((selector, start_wall_s, end_wall_s, timeout_s))
        if selector in self.failing:
            raise MetricsError("gave no answer")
        return () if selector in self.absent else (Series(selector, {"a": "1"}, (1.0, 2.0), (0.0, 3.0)),)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def scenario() -> Scenario:
    return read_scenario(ROOT, "baseline")


def collected(
    scenario: Scenario, fake: FakePrometheus, path: Path, monkeypatch: pytest.MonkeyPatch, deadline_s: float = 30.0
) -> list[SampleLine]:
    monkeypatch.setattr("resilience.metrics.collect.Prometheus", lambda _: fake)
    with Writer(path / "samples.jsonl") as writer:
        collect(scenario, "http://x", 1_000.0, 1_060.0, writer, deadline_s=deadline_s)
    lines = (path / "samples.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Series | QueryFailed) for line in lines]


def test_asks_for_what_slos_rest_on_first_and_for_each_once(scenario: Scenario) -> None:
    asked = selectors(scenario)
    assert GOOD in asked[:6]
    assert {*NEEDED, *EXPLAINING} <= set(asked)
    assert len(asked) == len(set(asked))


def test_all_samples_are_written(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePrometheus()
    lines = collected(scenario, fake, tmp_path, monkeypatch)
    assert [line.selector for line in lines] == list(selectors(scenario))
    assert all(isinstance(line, Series) and list(line.values) == [0.0, 3.0] for line in lines)
    assert fake.closed


def test_window_has_a_margin_of_two_scrapes(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePrometheus()
    collected(scenario, fake, tmp_path, monkeypatch)
    assert {(start, end) for _, start, end, _ in fake.asked} == {(998.0, 1_062.0)}
    assert all(0 < timeout_s <= 5 for *_, timeout_s in fake.asked)


@pytest.mark.parametrize("selector", [GOOD, "up", "load_phase"])
def test_what_is_needed_and_absent_is_on_record(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    lines = collected(scenario, FakePrometheus(absent=(selector,)), tmp_path, monkeypatch)
    assert [line for line in lines if isinstance(line, QueryFailed)] == [QueryFailed(selector, NO_SAMPLES)]


def test_what_only_explains_may_be_absent(scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = collected(scenario, FakePrometheus(absent=EXPLAINING), tmp_path, monkeypatch)
    assert all(isinstance(line, Series) for line in lines)


@pytest.mark.parametrize("selector", ["up", "redis_up"])
def test_failed_query_is_on_record_and_the_others_go_on(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    lines = collected(scenario, FakePrometheus(failing=(selector,)), tmp_path, monkeypatch)
    assert [line for line in lines if isinstance(line, QueryFailed)] == [QueryFailed(selector, "gave no answer")]
    assert len(lines) == len(selectors(scenario))


def test_nothing_is_asked_when_the_time_is_over(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePrometheus()
    lines = collected(scenario, fake, tmp_path, monkeypatch, deadline_s=0.0)
    assert fake.asked == []
    assert len(lines) == len(selectors(scenario))
    assert all(isinstance(line, QueryFailed) and line.reason.startswith("not asked") for line in lines)
