"""How long Patroni took to replace PostgreSQL's primary, against what the members report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from resilience.check.compose import checks_of
from resilience.check.finding import Finding
from resilience.check.takeover import takeover
from resilience.history.event import flaw
from resilience.history.record import Event
from resilience.spec.fault import FaultSpec, Kill, Partition, PowerOff, Target
from resilience.spec.scenario import Scenario
from tests.histories import (
    APPLIED,
    END,
    PATRONI,
    POSTGRESQL,
    Recorded,
    S,
    by_patroni,
    patroni_events,
    recorded,
    scenario,
)

TOLD = patroni_events()[-1].data["config"]  # so 14 s to 30 s are expected


def about(fault: FaultSpec | None = None) -> Scenario:
    return by_patroni(scenario(tiers=("postgresql",), fault=fault or Kill(restart=False)))


def taken_over(after_s: float = 17.0, hit: tuple[str, ...] = POSTGRESQL[:1]) -> Recorded:
    """A run in which no row was written until so long after the fault, when another member was the primary."""
    run = recorded(tiers=("postgresql",))
    run.events.extend(patroni_events())
    run.change("injected", members=list(hit))
    healed_after(33.0)(run)
    run.events.append(
        Event("role", _after(after_s - 0.5), {"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2})
    )
    run.events.append(Event("takeovers", END, {"takeovers": [{"timeline": 2, "member": POSTGRESQL[1]}]}))
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


def seen_later(run: Recorded) -> None:
    """Nobody saw the other primary until long after rows were written again."""
    event = next(event for event in run.events if event.data.get("epoch") == 2 and event.data.get("group") == 0)
    run.events.remove(event)
    run.events.append(Event("role", event.at + 4 * S, event.data))


def by_hand(run: Recorded) -> None:
    told = {"member": POSTGRESQL[1], "former": POSTGRESQL[0], "timeline": 2, "operator_delay_s": 5.0}
    run.events.append(Event("promotion", _after(7), told | {"began_us": _after(5), "led_us": _after(7)}))


def by_hand_and_given_up(run: Recorded) -> None:
    """Somebody had promoted a standby before his runbook was broken off."""
    run.events.append(Event("promoted", _after(7), {"member": POSTGRESQL[1], "began_us": _after(5)}))


def healed_after(seconds: float) -> Callable[[Recorded], object]:
    """The fault ended so long after it took effect."""
    return lambda run: run.change("healed", began_us=_after(seconds), healed_us=_after(seconds + 0.1))


def nobody_and_healed_first(run: Recorded) -> None:
    without_another(run)
    healed_after(25.0)(run)


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
    Case(name="by hand", change=by_hand, verdict="inconclusive", says="promoted by hand"),
    Case(name="half by hand", change=by_hand_and_given_up, verdict="inconclusive", says="promoted by hand"),
    Case(
        name="of another, by Patroni's record",
        change=lambda run: run.change("takeovers", takeovers=[{"timeline": 2, "member": POSTGRESQL[2]}]),
        verdict="inconclusive",
        says="Patroni's record does not name postgresql-replica-0 as primary of timeline 2",
    ),
    Case(
        name="another time, by Patroni's record",
        change=lambda run: run.change("takeovers", takeovers=[{"timeline": 1, "member": POSTGRESQL[1]}]),
        verdict="inconclusive",
        says="Patroni's record does not name",
    ),
    Case(
        name="no record of Patroni's",
        change=lambda run: run.drop("takeovers"),
        verdict="inconclusive",
        says="Patroni's record does not name",
    ),
    Case(name="to the former primary", change=seen_later, verdict="inconclusive", says="before another primary"),
    Case(name="in time, and healed soon", change=healed_after(18.0)),
    Case(name="healed first", change=healed_after(16.0), verdict="inconclusive", says="the fault ended before"),
    Case(
        name="nobody, and healed first",
        change=nobody_and_healed_first,
        verdict="inconclusive",
        says="the fault ended before",
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


@pytest.mark.parametrize("hit", [POSTGRESQL[:1], POSTGRESQL[1:2]], ids=["nobody was seen as it", "another was"])
def test_a_primary_that_was_to_be_hit_and_was_not_seen_to_be_is_not_passed_over(
    hit: tuple[str, ...], tmp_path: Path
) -> None:
    run, spec = taken_over(hit=hit), about()
    assert spec.experiment is not None
    target = Target(component="postgresql", role="primary")
    spec = replace(spec, experiment=replace(spec.experiment, target=target))
    if hit == POSTGRESQL[:1]:
        run.events = [e for e in run.events if e.name != "role" or e.data["group"] or e.at > APPLIED]
    finding = findings(run, tmp_path, spec)["takeover"]
    assert finding.verdict == "inconclusive"
    assert finding.reason == "whom the fault was done to was not seen as the primary when it began"


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "pass", ""),
        ({"loop_wait": 10}, "fail", "loop_wait is 10 instead of 5"),
        ({"maximum_lag_on_failover": 0}, "fail", "maximum_lag_on_failover is 0 instead of 1048576"),
        ({"synchronous_mode": "quorum"}, "fail", "synchronous_mode is quorum instead of False"),
        ({"failsafe_mode": True}, "fail", "failsafe_mode is True instead of False"),
    ],
)
def test_patroni_goes_by_what_the_stack_asks_for(
    changed: dict[str, int], verdict: str, says: str, tmp_path: Path
) -> None:
    run = taken_over()
    run.change("patroni", config=TOLD | changed)
    finding = findings(run, tmp_path)["takeover.settings"]
    assert (finding.verdict, finding.reason) == (verdict, says)


@pytest.mark.parametrize("left", [{}, {"ttl": 20, "loop_wait": 5, "retry_timeout": 5}], ids=["nobody", "a part"])
def test_what_nobody_told_is_not_known(left: dict[str, int], tmp_path: Path) -> None:
    run = taken_over()
    run.drop("patroni")
    run.events.extend([Event("patroni", 0, {"config": left})] if left else [])
    finding = findings(run, tmp_path)["takeover.settings"]
    assert finding.verdict == "inconclusive"
    assert "maximum_lag_on_failover, synchronous_mode" in finding.reason


@pytest.mark.parametrize(("cut_from", "failsafe", "expected"), [
    ("clients", False, True), ("clients", True, False), ("all", False, True), ("all", True, True),
])  # fmt: skip
def test_in_failsafe_mode_a_primary_that_its_standbys_answer_is_not_replaced(
    cut_from: Literal["clients", "all"], failsafe: bool, expected: bool, tmp_path: Path
) -> None:
    spec = about(Partition(cut_from=cut_from))
    assert spec.stack.postgresql is not None
    failover = replace(PATRONI, failsafe_mode=failsafe)
    tier = replace(spec.stack.postgresql, failover=failover)
    spec = replace(spec, stack=replace(spec.stack, postgresql=tier))
    run = taken_over()
    run.change("patroni", config=failover.told)
    assert ("takeover" in findings(run, tmp_path, spec)) == expected


def test_only_a_stack_with_patroni_is_judged_by_it() -> None:
    assert "takeover" in checks_of(about())
    assert "takeover" not in checks_of(scenario(tiers=("postgresql",)))
