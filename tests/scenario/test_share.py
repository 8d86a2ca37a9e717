"""Runs that meet on one machine: they wait for one another, or stand side by side and keep to their own members."""

import signal
import subprocess
from functools import partial

import pytest

from tests.scenario.conftest import KILLED, SHORT_KILL, Ended, Resilience, events_in, wait_for, with_set

pytestmark = pytest.mark.scenario

# as short as short-kill can be made, and no more load than two cores have for two runs
BRIEF = ("redis.cluster_node_timeout_ms=1500", "timeline.steady_s=3", "timeline.fault_s=8", "timeline.recovery_s=4",
         "load.session_rate_ops_per_s=40", "load.session_rate_ops_per_s_min=10", "load.edit_rate_ops_per_s=10",
         "load.edit_rate_ops_per_s_min=2", "load.rooms=4", "load.direct_rate_ops_per_s=20",
         "load.direct_rate_ops_per_s_min=5")  # fmt: skip


def injected(resilience: Resilience, scenario: str) -> bool:
    directory = resilience.run_of(scenario)
    return bool(directory and events_in(directory, "injected"))


def ended(resilience: Resilience, process: "subprocess.Popen[str]", scenario: str) -> Ended:
    output, _ = process.communicate(timeout=120)
    return Ended(process.returncode, output, resilience.run_of(scenario))


def died(run: Ended) -> set[str]:
    """The members whose servers ended while that run went on."""
    return {data["member"] for data in run.events("member") if data["what"] == "exited"}


def test_two_runs_that_share_the_machine_keep_to_their_own_members(resilience: Resilience) -> None:
    replica = resilience.start(KILLED, "--share")
    session = resilience.start(SHORT_KILL, "--share", *with_set(*BRIEF))
    for scenario in ("killed", "short-kill"):
        wait_for(f"{scenario} breaks something", partial(injected, resilience, scenario), 90)
        assert (replica.poll(), session.poll()) == (None, None), "both are under way"
    runs = ended(resilience, replica, "killed"), ended(resilience, session, "short-kill")
    for run in runs:
        assert run.code == 3, run.output[-3000:]  # nobody took a control
        assert "another run uses this machine" not in run.output
        assert run.verdict["headline"].startswith("inconclusive: ")
        assert [data["healed"] for data in run.events("healed")] == [True]
        assert [finding["measured"] for finding in run.findings("members")] == ["0 unexplained ends"]
    victims = [set(run.events("injected")[0]["members"]) for run in runs]
    assert victims[0].isdisjoint(victims[1])
    assert [died(run) for run in runs] == victims, "each run's members died of its own fault alone"


def test_a_run_waits_for_the_one_before_it_and_then_goes_on(resilience: Resilience) -> None:
    first = resilience.start("baseline")
    wait_for("the first is under way", lambda: len(resilience.directories()) == 1, 60)
    second, third = resilience.start("baseline", "--seed", "2"), resilience.start("baseline", "--seed", "3")
    for waiting in (second, third):
        assert waiting.stdout
        assert "another run uses this machine" in waiting.stdout.readline()
    third.send_signal(signal.SIGTERM)
    assert third.wait(10) == -signal.SIGTERM, "one that waits can be ended"
    assert len(resilience.directories()) == 1, "one that waits has begun nothing"
    first.send_signal(signal.SIGTERM)
    assert resilience.wait(first, 90).code == 143
    before = resilience.directories()[0]
    wait_for("the second is under way", lambda: len(resilience.directories()) == 2, 60)
    assert (before / "verdict.json").exists(), "it began when the first had ended"
    assert resilience.directories()[1].name.endswith("-2")
    second.send_signal(signal.SIGTERM)
    assert resilience.wait(second, 90).code == 143
