"""Objectives: what Prometheus counted is judged exactly, and what cannot be counted is never a pass."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.check.counter import count
from resilience.check.finding import Finding
from resilience.check.slo import measured_slos, slo
from resilience.history.record import QueryFailed, Series
from tests.histories import ALL_OPS, AVAILABLE, FAULT, STEADY, WALL0, Recorded, S, measured_slo, recorded, scenario
from tests.histories import samples as stored

SLO = "slo.session-availability-steady"


def steady(directory: Path, series: Callable[[Series], Series | None], queries_failed: list[QueryFailed]) -> Finding:
    """The finding on the steady phase's availability, its series changed."""
    run, about = recorded(), scenario()
    changed = [
        series(line) if line.labels.get("phase") == "steady" and line.selector in {ALL_OPS, AVAILABLE} else line
        for line in stored(run.history(directory, about), about)
    ]
    run.series = [line for line in changed if line is not None]
    run.queries_failed = queries_failed
    return next(f for f in slo(about, run.history(directory, about)) if f.check == SLO)


def with_values(line: Series, change: Callable[[list[float]], list[float]]) -> Series:
    values = tuple(change(list(line.values)))
    return msgspec.structs.replace(line, values=values, times_s=line.times_s[len(line.times_s) - len(values) :])


def bad(line: Series, number: int) -> Series:
    """So many events were not good."""
    return with_values(line, lambda v: [max(0.0, x - number) for x in v]) if line.selector == AVAILABLE else line


def late_first(line: Series, value: float) -> Series:
    first = round(STEADY / S) + 6
    return with_values(line, lambda v: [value, *v[first + 1 :]])


def early_end(line: Series, at: int) -> Series:
    kept = [(t, v) for t, v in zip(line.times_s, line.values, strict=True) if t <= WALL0 + at / S]
    return msgspec.structs.replace(line, times_s=tuple(t for t, _ in kept), values=tuple(v for _, v in kept))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    series: Callable[[Series], Series | None]
    verdict: str = "inconclusive"
    says: str = ""
    failed: tuple[QueryFailed, ...] = ()


CASES = (
    Case(name="as it was", series=lambda line: line, verdict="pass"),
    Case(name="just met", series=lambda line: bad(line, 2), verdict="pass"),
    Case(name="just missed", series=lambda line: bad(line, 3), verdict="fail", says="3 of 200 events were not good"),
    Case(name="no series", series=lambda _: None, says="no series"),
    Case(name="no good series", series=lambda line: None if line.selector == AVAILABLE else line, says="no series"),
    Case(name="no samples", series=lambda line: with_values(line, lambda _: []), says="no samples"),
    Case(name="query failed", series=lambda line: line, failed=(QueryFailed(ALL_OPS, "timeout"),), says="timeout"),
    Case(name="another query failed", series=lambda line: line, failed=(QueryFailed("other", "timeout"),),
         verdict="pass"),
    Case(name="too few events", series=lambda line: with_values(line, lambda v: [min(x, 99) for x in v]),
         says="99 events, at least 100 needed"),
    Case(name="just enough events", series=lambda line: with_values(line, lambda v: [min(x, 100) for x in v]),
         verdict="pass"),
    Case(name="more good than all", says="cannot be", series=lambda line: line if line.selector == AVAILABLE
         else with_values(line, lambda v: [min(x, 150) for x in v])),
    Case(name="born late above 0", series=lambda line: late_first(line, 40), says="first seen at 40"),
    Case(name="born late at 0", series=lambda line: late_first(line, 0), verdict="pass"),
    Case(name="was reset", series=lambda line: with_values(line, lambda v: [*v[:10], 0, *v[11:]]), says="was reset"),
    Case(name="ends before the phase", series=lambda line: early_end(line, FAULT - 1), says="from before the end"),
    Case(name="ends with the phase", series=lambda line: early_end(line, FAULT), verdict="pass"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ratio(case: Case, tmp_path: Path) -> None:
    finding = steady(tmp_path, case.series, list(case.failed))
    assert finding.verdict == case.verdict, finding
    assert case.says in finding.reason


def test_growth_is_counted_from_several_series_and_over_a_reset(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    times = tuple(WALL0 + at for at in range(65))
    run.series = [
        Series("x", {"phase": "steady", "instance": "a"}, times, tuple(min(float(n), 30.0) for n in range(65))),
        Series("x", {"phase": "steady", "instance": "b"}, times, (5.0,) * 10 + (2.0,) * 55),  # counted 5 before
        Series("x", {"phase": "fault"}, times, tuple(float(n) for n in range(65))),
    ]
    counted = count(run.history(tmp_path, about), "x", "steady")
    assert counted.events == 32
    assert counted.series == 2
    assert "was reset" in counted.reasons[0]


@pytest.mark.parametrize(("value", "verdict"), [(12.5, "pass"), (12.6, "fail"), (None, "inconclusive")])
def test_a_measured_number(value: float | None, verdict: str) -> None:
    about = scenario(slos=(measured_slo("recovery-time", "recovery.first_good_write_s", 12.5),))
    measured = {} if value is None else {"recovery.first_good_write_s": value}
    source = Finding(check="recovery", verdict="pass", title="", rests_on=("assumption.load-rate",), measures=measured)
    (finding,) = measured_slos(about, (source,))
    assert finding.verdict == verdict
    assert finding.rests_on == (() if value is None else ("assumption.load-rate",))


def test_a_number_of_several_shards_is_put_together() -> None:
    about = scenario(slos=(measured_slo("durability", "durability.lost_ops", 4, "ops"),))
    one = Finding(check="durability.direct", verdict="pass", title="", rests_on=("pass",),
                  measures={"durability.lost_ops": 2.0})  # fmt: skip
    other = msgspec.structs.replace(one, verdict="fail", rests_on=("fail",), measures={"durability.lost_ops": 3.0})
    (finding,) = measured_slos(about, (one, other))
    assert (finding.verdict, finding.value) == ("fail", 5.0)
    assert finding.rests_on == ("fail",)  # what failed explains the miss


@pytest.mark.parametrize(
    ("measure", "op", "value", "verdict"),
    [
        ("recovery.outage_s", "lte", 9.0, "fail"),
        ("recovery.outage_s", "gte", 2.0, "fail"),
        ("durability.kept_ops", "gte", 11.0, "pass"),
    ],
)
def test_each_place_has_to_reach_what_is_asked_for(measure: str, op: Any, value: float, verdict: str) -> None:
    """At most 5, or at least: of 2 and 9, each at a place of its own; 11 are kept at both together."""
    objective = msgspec.structs.replace(measured_slo("x", measure, 5.0, "s"), op=op)
    sources = [Finding(check="recovery", verdict="pass", title="", measures={measure: one}) for one in (2.0, 9.0)]
    (finding,) = measured_slos(scenario(slos=(objective,)), sources)
    assert (finding.value, finding.verdict) == (value, verdict)


def test_without_objectives_nothing_is_found(tmp_path: Path) -> None:
    assert slo(scenario(slos=()), Recorded().history(tmp_path, scenario(slos=()))) == ()
