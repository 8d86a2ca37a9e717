"""A run whose load was under another kernel than its runner."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.check.assumption.clocks import bound_us, with_clocks
from resilience.check.compose import judge
from resilience.check.finding import Finding, Judgement
from resilience.history.record import Event
from tests.histories import APPLIED, END, Recorded, S, recorded, scenario

MS = 1_000
HERE, THERE = "7f3a", "90bc"  # boot ids


def compared(process: str, at: int, boot_id: str = THERE, **known: int) -> Event:
    return Event("clock-compared", at, {"process": process, "boot_id": boot_id, **known})


def each_minute(process: str, offset_us: int = 0, error_us: int = 3 * MS) -> list[Event]:
    """As a client of a run of 62 s records it."""
    return [compared(process, at, offset_us=offset_us, error_us=error_us) for at in (0, 60 * S, END + S)]


def one_kernel(*clients: str) -> list[Event]:
    return [compared(client, 0, HERE, offset_us=0, error_us=0) for client in clients]


def with_kernels(run: Recorded, *events: Event) -> Recorded:
    """The run as its runner records it that says which kernel it is under."""
    run.change("load-started", boot_id=HERE)
    for event in events:
        name, line = event.data["process"], msgspec.json.encode(event) + b"\n"
        file = f"load/{name}.clock.jsonl" if name in {"locust", "direct"} else "history.jsonl"
        run.rough[file] = run.rough.get(file, b"") + line
    return run


def judged(run: Recorded, folder: Path) -> Judgement:
    about = scenario()
    return judge(about, run.history(folder, about))


def told_ahead(run: Recorded, client: str, by_us: int) -> None:
    """All of a client's instants, as its clock shows them that is so far ahead."""
    for op in (op for op in run.ops if op.client == client):
        op.due, op.called = op.due + by_us, op.called + by_us
        if op.returned is not None:
            op.returned += by_us


def test_a_clock_that_is_ahead_changes_nothing_but_what_is_said_of_it(tmp_path: Path) -> None:
    """The direct client's clock is 250 ms ahead, give or take 3 ms: what was recorded by it is shifted back."""
    (tmp_path / "one").mkdir()
    plain = judged(recorded(), tmp_path / "one")
    ahead = with_kernels(recorded(), *one_kernel("locust"), *each_minute("direct", 250 * MS))
    told_ahead(ahead, "direct", 250 * MS)
    found = judged(ahead, tmp_path / "two")
    assert (found.verdict, found.measures) == (plain.verdict, plain.measures) == ("pass", plain.measures)
    (clocks,) = (finding for finding in found.findings if finding.check == "assumption.clocks")
    assert clocks.measured == "1 of 2 processes under another kernel than the runner, ±6 ms"
    assert [finding for finding in found.findings if "smaller than" in finding.reason] == []


def test_unshifted_it_would_have_been_another_outage(tmp_path: Path) -> None:
    """That the test above can fail."""
    ahead = recorded()
    told_ahead(ahead, "direct", 250 * MS)
    first_good = judged(ahead, tmp_path).measures["recovery.first_good_write_s"]
    assert first_good == pytest.approx(8.25, abs=0.06)


def test_a_run_under_one_kernel_says_so_and_is_judged_as_before(tmp_path: Path) -> None:
    plain = judged(recorded(), tmp_path / "one")
    found = judged(with_kernels(recorded(), *one_kernel("locust", "direct")), tmp_path / "two")
    assert found.verdict == plain.verdict
    assert found.measures == plain.measures
    without = [finding for finding in found.findings if finding.check != "assumption.clocks"]
    assert [(item.check, item.verdict, item.reason) for item in without] == [
        (item.check, item.verdict, item.reason) for item in plain.findings
    ]
    (clocks,) = (finding for finding in found.findings if finding.check == "assumption.clocks")
    assert clocks.measured == "0 of 2 processes under another kernel than the runner"


def test_a_record_from_before_does_not_speak_of_clocks(tmp_path: Path) -> None:
    assert all(
        "clocks" not in f"{finding.check} {finding.rests_on}" for finding in judged(recorded(), tmp_path).findings
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    clock: list[Event]
    says: str


UNKNOWN = (
    Case(
        name="another kernel that was not compared",
        clock=[*one_kernel("locust"), compared("direct", 0)],
        says="direct was under another kernel than the runner, and its clock was not compared",
    ),
    Case(
        name="no boot id",
        clock=[*one_kernel("locust"), compared("direct", 0, "")],
        says="direct was under another kernel than the runner, and its clock was not compared",
    ),
    Case(name="nothing at all", clock=one_kernel("locust"), says="which kernel direct was under is not on record"),
    Case(
        name="an error that nobody knows",
        clock=[*one_kernel("locust"), compared("direct", 0, offset_us=0)],
        says="direct was under another kernel than the runner, and its clock was not compared",
    ),
    Case(
        name="an agent",
        clock=[*one_kernel("locust", "direct"), compared("agent of worker-2", APPLIED)],
        says="agent of worker-2 was under another kernel than the runner, and its clock was not compared",
    ),
)


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case.name)
def test_a_clock_that_nobody_knows_is_never_green(case: Case, tmp_path: Path) -> None:
    found = judged(with_kernels(recorded(), *case.clock), tmp_path)
    assert found.verdict == "inconclusive"
    (clocks,) = (finding for finding in found.findings if finding.check == "assumption.clocks")
    assert clocks.reason == case.says
    fallen = {finding.check for finding in found.findings if finding.reason.startswith("rests on")}
    assert {"recovery", "recovery.range", "availability", "durability.direct"} <= fallen


def test_a_runner_that_does_not_know_its_kernel_shares_none(tmp_path: Path) -> None:
    run = with_kernels(recorded(), compared("locust", 0, ""), compared("direct", 0, HERE))
    run.change("load-started", boot_id="")
    assert judged(run, tmp_path).verdict == "inconclusive"


def test_a_clock_that_was_left_alone_for_long_is_not_known(tmp_path: Path) -> None:
    """Longer than two comparisons are apart if the one between them failed."""
    early = [compared("direct", -130 * S, offset_us=0, error_us=3 * MS)]
    late = [compared("direct", END, offset_us=0, error_us=3 * MS)]
    found = judged(with_kernels(recorded(), *one_kernel("locust"), *early, *late), tmp_path)
    assert found.verdict == "inconclusive"
    (clocks,) = (finding for finding in found.findings if finding.check == "assumption.clocks")
    assert clocks.reason == "the clock of direct was not compared for 192 s"


def small(seconds: float, **changes: Any) -> Finding:
    finding = Finding(
        check="recovery",
        verdict="pass",
        title="restored",
        value=seconds,
        unit="s",
        measures={"recovery.outage_s": seconds, "recovery.outage_error_s": 0.001, "recovery.elected_s": 7.0},
    )
    return msgspec.structs.replace(finding, **changes)


@dataclass(frozen=True, kw_only=True)
class Small:
    name: str
    finding: Finding
    says: str
    clock: Callable[[], list[Event]] = lambda: [*one_kernel("locust"), *each_minute("direct")]


BOUND = "smaller than the 6 ms that the processes' clocks may be wrong by"
SMALL = (
    Small(name="an outage of 5 ms", finding=small(0.005), says=f"{BOUND}: recovery.outage 0.005 s"),
    Small(name="an outage of 6 ms", finding=small(0.006), says=""),
    Small(name="none", finding=small(0.0), says=""),
    Small(name="before the fault", finding=small(-0.004), says=f"{BOUND}: recovery.outage -0.004 s"),
    Small(
        name="with a reason of its own",
        finding=small(0.005, verdict="fail", reason="too long"),
        says=f"too long; {BOUND}: recovery.outage 0.005 s",
    ),
    Small(
        name="a value",
        finding=small(0.005, check="recovery.range", measures={}),
        says=f"{BOUND}: recovery.range 0.005 s",
    ),
    Small(name="told by one clock alone", finding=small(0.005, check="latency", measures={}), says=""),
    Small(
        name="under one kernel",
        finding=small(0.000_001),
        says="",
        clock=lambda: one_kernel("locust", "direct"),
    ),
)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_what_is_smaller_than_the_bound_is_told(case: Small, tmp_path: Path) -> None:
    history = with_kernels(recorded(), *case.clock()).history(tmp_path, scenario())
    found = with_clocks(history, case.finding)
    assert (found.verdict, found.reason) == (case.finding.verdict, case.says)


def test_it_is_told_in_a_judgement(tmp_path: Path) -> None:
    """Shard 1 is away for 8 s, and the agent's clock known to 5 s only."""
    agent = compared("agent of worker-2", APPLIED, offset_us=0, error_us=5 * S)
    run = with_kernels(recorded(), *one_kernel("locust", "direct"), agent)
    history = run.history(tmp_path, scenario())
    assert bound_us(history) == 10 * S
    (restored,) = (item for item in judge(scenario(), history).findings if "was restored" in item.title)
    assert "smaller than the 10000 ms" in restored.reason
    assert "recovery.first_good_write 7.9" in restored.reason or "recovery.first_good_write 8.0" in restored.reason
