"""How long Patroni took to replace PostgreSQL's primary, against what the members report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.check.compose import checks_of
from resilience.check.finding import Finding
from resilience.check.takeover import takeover
from resilience.history.event import flaw
from resilience.history.record import Event
from resilience.spec.fault import FaultSpec, Kill, Partition, PowerOff
from resilience.spec.scenario import Scenario
from tests.histories import APPLIED, POSTGRESQL, Recorded, S, by_patroni, patroni_events, recorded, scenario

TOLD = patroni_events()[-1].data["config"]  # so 14 s to 30 s are expected


def about(fault: FaultSpec | None = None) -> Scenario:
    return by_patroni(scenario(tiers=("postgresql",), fault=fault or Kill(restart=False)))


def taken_over(after_s: float = 17.0, hit: tuple[str, ...] = POSTGRESQL[:1]) -> Recorded:
    """A run in which no row was written until so long after the fault, when another member was the primary."""
    run = recorded(tiers=("postgresql",))
    run.events.extend(patroni_events())
    run.change("injected", members=list(hit))
    run.events.append(
        Event("role", _after(after_s - 0.5), {"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2})
    )
    refuse(run, APPLIED, _after(after_s))
    return run


def _after(seconds: float) -> int:
    return APPLIED + int(seconds * S)


def refuse(run: Recorded, start: int, end: int) -> None:
    for op in run.of("postgresql.write"):
        if start <= op.called < end:
            op.end("fail", 3_000, "08006")


def findings(run: Recorded, folder: Path, spec: Scenario | None = None) -> dict[str, Finding]:
    spec = spec or about()
    assert [flaw(event) for event in run.events if flaw(event)] == []
    return {finding.check: finding for finding in takeover(spec, run.history(folder, spec))}


def without_another(run: Recorded) -> None:
    run.events = [event for event in run.events if event.data.get("epoch") != 2 or event.data.get("group") != 0]


def without_outage(run: Recorded) -> None:
    for op in run.of("postgresql.write"):
        op.end("ok", 3_000)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], object] = lambda run: None
    after_s: float = 17.0
    verdict: str = "pass"
    says: str = ""


CASES = (
    Case(name="in time"),
    Case(name="at the lower end", after_s=14.3),
    Case(name="too soon", after_s=13.0, verdict="inconclusive", says="sooner than the key in etcd can be gone"),
    Case(name="at the upper end", after_s=29.5),
    Case(name="too late", after_s=31.0, verdict="fail", says="later than the key in etcd explains"),
    Case(name="nobody", change=without_another, verdict="fail", says="no other member was seen as the primary"),
    Case(name="no row any more", after_s=100.0, change=lambda run: None, verdict="fail", says="no row was written"),
    Case(name="no effect", change=without_outage, verdict="inconclusive", says="the fault had no effect"),
    Case(
        name="not told", change=lambda run: run.drop("patroni"), verdict="inconclusive", says="no member told by what"
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_takeover_takes_as_long_as_the_reported_times_make_it(case: Case, tmp_path: Path) -> None:
    run = taken_over(case.after_s)
    case.change(run)
    finding = findings(run, tmp_path)["takeover"]
    assert finding.verdict == case.verdict
    assert case.says in finding.reason
    assert finding.where.group == "postgresql"


def test_its_steps_are_measured(tmp_path: Path) -> None:
    finding = findings(taken_over(), tmp_path)["takeover"]
    assert finding.measures["takeover.elected_s"] == pytest.approx(16.5)
    assert finding.measures["takeover.first_good_write_s"] == pytest.approx(17.0, abs=0.2)
    assert finding.allowed == "14 s to 30 s"


def test_an_orderly_stop_gives_the_key_back(tmp_path: Path) -> None:
    finding = findings(taken_over(2.0), tmp_path, about(Kill(restart=False, signal="TERM")))["takeover"]
    assert (finding.verdict, finding.allowed) == ("pass", "0 s to 30 s")


def test_a_new_leader_of_etcd_counts_anew(tmp_path: Path) -> None:
    run = taken_over(31.0, (POSTGRESQL[0], "etcd-0"))
    finding = findings(run, tmp_path, about(PowerOff()))["takeover"]
    assert (finding.verdict, finding.allowed) == ("pass", "14 s to 35 s")


@pytest.mark.parametrize(
    ("hit", "fault"),
    [
        (POSTGRESQL[1:2], Kill(restart=False)),
        (POSTGRESQL[:1], Kill(restart=True)),
        (POSTGRESQL[:1], Partition(cut_from="peers")),  # it keeps its key
    ],
)
def test_nothing_is_expected_where_nobody_has_to_be_replaced(
    hit: tuple[str, ...], fault: FaultSpec, tmp_path: Path
) -> None:
    assert set(findings(taken_over(hit=hit), tmp_path, about(fault))) == {"takeover.settings"}


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "pass", ""),
        ({"loop_wait": 10}, "fail", "loop_wait is 10 instead of 5"),
        ({"maximum_lag_on_failover": 0}, "fail", "maximum_lag_on_failover is 0 instead of 1048576"),
    ],
)
def test_patroni_goes_by_what_the_stack_asks_for(
    changed: dict[str, int], verdict: str, says: str, tmp_path: Path
) -> None:
    run = taken_over()
    run.change("patroni", config=TOLD | changed)
    finding = findings(run, tmp_path)["takeover.settings"]
    assert (finding.verdict, finding.reason) == (verdict, says)


def test_what_nobody_told_is_not_known(tmp_path: Path) -> None:
    run = taken_over()
    run.drop("patroni")
    assert findings(run, tmp_path)["takeover.settings"].verdict == "inconclusive"


def test_only_a_stack_with_patroni_is_judged_by_it() -> None:
    assert "takeover" in checks_of(about())
    assert "takeover" not in checks_of(scenario(tiers=("postgresql",)))
