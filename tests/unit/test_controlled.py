"""A control is taken when it is missing, used when it is there, and never taken for nothing."""

from dataclasses import replace as with_fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.finding import Finding, Judgement, Verdict
from resilience.control import needed_for
from resilience.controlled import Controlled, control_plan
from resilience.errors import ControlError, HostError
from resilience.machine import CpuTimes
from resilience.outside import VERDICT_CODES, Ended, TakeControl, Wanted
from resilience.report.run import Run
from resilience.spec.read import read_scenario
from tests import judged_run

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SERVERS = "image a, packages b"
UNREACHABLE = str(ROOT / "tests/scenario/files/unreachable.yaml")


class Runs:
    """Runs of the baseline that leave a directory in the reports, and others that only end."""

    def __init__(self, *ends: Verdict | int) -> None:
        """Each end is a verdict, or the exit code of a run that has none."""
        self.wanted: list[Wanted] = []
        self.ends = list(ends)
        self.at = NOW

    def __call__(self, wanted: Wanted) -> Ended:
        self.wanted.append(wanted)
        end = self.ends.pop(0)
        if isinstance(end, int):
            return Ended(code=end, directory=None, judgement=None)
        directory = wanted.reports / "x"
        if wanted.control == "only":
            directory = baseline(wanted.reports, self.at, end, wanted).directory
        return Ended(code=VERDICT_CODES[end], directory=directory, judgement=judged(end))

    @property
    def controls(self) -> list[TakeControl]:
        return [wanted.control for wanted in self.wanted]


def judged(verdict: Verdict) -> Judgement:
    findings = (Finding(check="assumption.not-interrupted", verdict="pass", title=""),)
    return Judgement(scenario="x", verdict=verdict, headline=f"{verdict}: so", findings=findings, measures={})


def baseline(reports: Path, started: datetime, verdict: Verdict, wanted: Wanted) -> Run:
    """A run of the baseline as it would be taken for what is wanted."""
    scenario = read_scenario(ROOT, wanted.scenario, wanted.overrides)
    run = Run(reports / "baseline" / f"{started:%Y%m%dT%H%M%SZ}-1")
    run.directory.mkdir(parents=True)
    about = replace(judged_run.ABOUT, fingerprint=needed_for(scenario, SERVERS))
    run.save_spec(read_scenario(ROOT, "baseline"), about, started.isoformat(timespec="seconds"))
    run.save_servers({"redis-cluster-0": {"component": "redis", "version": "8.0.2"}})
    run.save_judgement(judged(verdict), judged_run.timeline())
    return run


def want(reports: Path, scenario: str = "redis-failover", *overrides: str, control: TakeControl = "auto") -> Wanted:
    return Wanted(scenario=scenario, overrides=overrides, seed=None, reports=reports, control=control)


def command(runs: Runs, began: datetime = NOW) -> tuple[Controlled, list[str]]:
    said: list[str] = []
    return Controlled(run_one=runs, servers=SERVERS, began=began, say=said.append, now=lambda: runs.at), said


def test_a_missing_control_is_taken_first_and_announced(tmp_path: Path) -> None:
    runs = Runs("pass", "pass")
    run, said = command(runs)
    ended = run(want(tmp_path, "redis-failover", "durability=wait:1"))
    assert ended.code == 0
    assert runs.controls == ["only", "auto"]
    assert all(wanted.overrides == ("durability=wait:1",) for wanted in runs.wanted)
    (line,) = said
    assert "there is none of the last 24 hours" in line
    assert "about 68 s" in line
    assert "not part of the run's own time" in line


def test_the_next_run_uses_it(tmp_path: Path) -> None:
    command(Runs("pass", "pass"))[0](want(tmp_path))
    runs = Runs("pass", "fail")
    run, said = command(runs)
    run(want(tmp_path))
    run(want(tmp_path, "session-kill"))
    assert runs.controls == ["auto", "auto"]
    assert said == []


@pytest.mark.parametrize("overrides", [("durability=wait:1",), ("load.rooms=3",)], ids=["stack", "load"])
def test_another_stack_or_load_needs_its_own(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    baseline(tmp_path, NOW - timedelta(hours=1), "pass", want(tmp_path))
    runs = Runs("pass", "pass")
    run, said = command(runs)
    run(want(tmp_path, "redis-failover", *overrides))
    assert runs.controls == ["only", "auto"]
    assert "was of another" in said[0]


def test_what_a_scenario_sets_itself_counts(tmp_path: Path) -> None:
    baseline(tmp_path, NOW - timedelta(hours=1), "pass", want(tmp_path))
    runs = Runs("pass", "pass")
    command(runs)[0](want(tmp_path, "short-ttl"))
    assert runs.controls == ["only", "auto"]


def test_objectives_of_the_steady_phase_count(tmp_path: Path) -> None:
    """A baseline that was held to others says nothing of those that this scenario asks for."""
    runs = Runs("pass", "pass", "pass", "pass")
    run, said = command(runs)
    run(want(tmp_path, UNREACHABLE))
    runs.at += timedelta(seconds=90)
    run(want(tmp_path, "session-kill"))
    assert runs.controls == ["only", "auto", "only", "auto"]
    assert "was of other objectives or checks" in said[1]


def test_the_length_of_the_phases_and_the_seed_do_not(tmp_path: Path) -> None:
    baseline(tmp_path, NOW - timedelta(hours=1), "pass", want(tmp_path))
    runs = Runs("pass")
    command(runs)[0](want(tmp_path, "redis-failover", "timeline.steady_s=30", "seed=9"))
    assert runs.controls == ["auto"]


@pytest.mark.parametrize(
    ("age", "taken"),
    [(timedelta(hours=23, minutes=58), False), (timedelta(hours=23, minutes=59, seconds=30), True)],
    ids=["in time", "too old a moment later"],
)
def test_an_old_one_is_taken_again(tmp_path: Path, age: timedelta, taken: bool) -> None:
    baseline(tmp_path, NOW - age, "pass", want(tmp_path))
    runs = Runs("pass", "pass")
    command(runs)[0](want(tmp_path))
    assert runs.controls == (["only", "auto"] if taken else ["auto"])


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_one_that_did_not_pass_is_said_at_once_and_the_run_goes_on(tmp_path: Path, verdict: Verdict) -> None:
    runs = Runs(verdict, "inconclusive")
    run, said = command(runs)
    assert run(want(tmp_path)).code == 3
    assert runs.controls == ["only", "auto"]
    assert len(said) == 2
    assert f"did not pass ({verdict}: so): redis-failover will be inconclusive" in said[1]


def test_it_is_not_taken_twice_by_one_command_but_by_the_next(tmp_path: Path) -> None:
    runs = Runs("fail", "inconclusive", "inconclusive")
    run, said = command(runs)
    run(want(tmp_path))
    run(want(tmp_path))
    assert runs.controls == ["only", "auto", "auto"]
    assert len(said) == 3
    runs.at = NOW + timedelta(minutes=10)
    runs.ends = ["pass", "pass"]
    run, said = command(runs, began=runs.at)
    run(want(tmp_path))
    assert runs.controls[3:] == ["only", "auto"]
    assert len(said) == 1
    assert "did not pass" in said[0]


def test_a_baseline_of_the_same_command_is_the_control(tmp_path: Path) -> None:
    runs = Runs("pass", "pass")
    run, _ = command(runs)
    run(want(tmp_path, "baseline"))
    baseline(tmp_path, NOW, "pass", want(tmp_path))  # what that run left
    run(want(tmp_path))
    assert runs.controls == ["auto", "auto"]


@pytest.mark.parametrize("code", [130, 143])
def test_one_that_is_ended_ends_the_command(tmp_path: Path, code: int) -> None:
    runs = Runs(code)
    ended = command(runs)[0](want(tmp_path))
    assert (ended.code, ended.directory) == (code, None)
    assert runs.controls == ["only"]


@pytest.mark.parametrize("code", [4, 137])
def test_one_that_could_not_be_run_breaks_nothing(tmp_path: Path, code: int) -> None:
    runs = Runs(code)
    with pytest.raises(ControlError, match="so nothing was broken") as raised:
        command(runs)[0](want(tmp_path))
    assert raised.value.exit_code == 4
    assert runs.controls == ["only"]


@pytest.mark.parametrize(
    ("scenario", "control"), [("baseline", "auto"), ("redis-failover", "none"), ("redis-failover", "only")]
)
def test_not_every_run_needs_one(tmp_path: Path, scenario: str, control: TakeControl) -> None:
    runs = Runs("pass")
    run, said = command(runs)
    run(want(tmp_path, scenario, control=control))
    assert runs.controls == [control]
    assert said == []


def test_the_time_of_a_run_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1_000.0, 1_090.0])
    monkeypatch.setattr("resilience.controlled.time.monotonic", lambda: next(seconds))
    run, _ = command(Runs("pass", "pass"))
    assert run(want(tmp_path)).took_s == 90


def test_how_busy_the_machine_was_is_said_of_the_run_alone(tmp_path: Path) -> None:
    def passing(wanted: Wanted) -> Ended:
        times.append(CpuTimes(times[-1].busy + 30, times[-1].steal + 10, times[-1].total + 100, 0, 2))
        return runs(wanted)

    runs, times = Runs("pass", "pass"), [CpuTimes(0, 0, 0, 0, 2)]
    run = with_fields(command(runs)[0], run_one=passing, cpu_times=lambda: times[-1])
    machine = run(want(tmp_path)).machine
    assert len(times) == 3, "a control, and the run"
    assert (machine["busy_ratio"], machine["steal_ratio"]) == (0.3, 0.1)


# --- plan ------------------------------------------------------------------------------------------------------------


def planned(reports: Path, scenario: str = "redis-failover") -> str:
    return control_plan(read_scenario(ROOT, scenario), reports)


def test_a_plan_says_what_becomes_of_the_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience.controlled.servers", lambda _: SERVERS)
    monkeypatch.setattr("resilience.controlled.utc_now", lambda: NOW)
    taken = "baseline is run on this stack and load first, about 68 s, not part of the run's own time"
    assert planned(tmp_path, "baseline").startswith("none: nothing is broken")
    assert planned(tmp_path) == f"there is none of the last 24 hours: {taken}"
    baseline(tmp_path, NOW - timedelta(hours=3), "pass", want(tmp_path))
    assert planned(tmp_path) == "baseline/20260304T090000Z-1: pass, begun 3 h ago"
    assert planned(tmp_path, "short-ttl").endswith(f"was of another stack: {taken}")
    baseline(tmp_path, NOW - timedelta(minutes=7), "fail", want(tmp_path))
    assert planned(tmp_path) == f"baseline/20260304T115300Z-1: fail, begun 7 min ago: {taken}"


def test_a_plan_without_an_image_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: str) -> str:
        raise HostError("the stack image is not built: resilience image")

    monkeypatch.setattr("resilience.controlled.servers", unknown)
    assert planned(tmp_path).startswith("the stack image is not built: resilience image: baseline is run")
