"""Runs whose observers are broken: each ends inconclusive, says why, and still judges what does not rest on them."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.conftest import SHORT, Ended, Resilience, wait_for
from tests.scenario.kill_matrix import VICTIMS
from tests.scenario.observed import assumption, broken, has_begun, so_far, verdicts
from tests.scenario.processes import drop_what_comes_from, from_inside, paused, the
from tests.scenario.traces import argv_of, below

pytestmark = pytest.mark.scenario

FILES = "tests/scenario/files"


def judged_with(run: Path, beside: Path, change: Callable[[dict[str, Any]], object]) -> Ended:
    """The same record judged again, by a scenario with a change in it."""
    copy = beside / run.name
    shutil.copytree(run, copy)
    spec = json.loads((copy / "spec.json").read_text())
    change(spec["scenario"])
    (copy / "spec.json").write_text(json.dumps(spec))
    done = Resilience(beside).judge(copy)
    return Ended(done.returncode, done.stdout + done.stderr, copy)


def without_prometheus(resilience: Resilience, scenario: str, *arguments: str) -> Ended:
    """A run whose Prometheus stands still from the beginning of the fault phase to its end."""

    def stop_it(process: "subprocess.Popen[str]") -> None:
        wait_for("the fault is near", lambda: has_begun(resilience, "fault"), 150)
        with paused(the("Prometheus", process.pid)):
            wait_for("the fault is over", lambda: has_begun(resilience, "recovery"), 60)

    return resilience.run(scenario, *arguments, meanwhile=stop_it)


@pytest.mark.slow
def test_prometheus_stopped_through_the_fault(beside_control: Resilience) -> None:
    ended = without_prometheus(beside_control, "redis-kill-replica")
    assert ended.code == 3, ended.output[-3000:]
    reason = assumption(ended, "coverage")["reason"]
    assert "prometheus-0 was scraped " in reason
    assert " of the time in phase fault" in reason
    assert ended.verdict["headline"] == f"inconclusive: {reason}"
    assert broken(ended) == {"coverage"}
    assert verdicts(ended, "slo.session-availability") == {"inconclusive"}
    # what nobody asked Prometheus for is known all the same
    assert verdicts(ended, "durability.") == verdicts(ended, "availability") == verdicts(ended, "latency") == {"pass"}


@pytest.mark.slow
def test_what_is_lost_while_prometheus_is_stopped_is_lost(resilience: Resilience, tmp_path: Path) -> None:
    """A weakness that is known or not: a loss rests on neither Prometheus nor a control."""
    ended = without_prometheus(resilience, "redis-fast-restart-no-persistence")
    assert ended.code == 3, ended.output[-3000:]
    assert {"coverage", "control"} <= broken(ended)
    (lost,) = [finding for finding in ended.findings("durability.direct") if finding["where"]["group"] == "shard 1"]
    assert (lost["verdict"], bool(lost["known"])) == ("fail", True)
    assert ended.directory
    again = judged_with(ended.directory, tmp_path, lambda scenario: scenario.update(known_weaknesses=[]))
    assert again.code == 1, again.output[-3000:]
    assert again.verdict["headline"].startswith("fail: shard 1: ")


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        ("never-existed", "sessions_kept_total: Prometheus has no sample of it: is there a metric of that name?"),
        ("no-events", "0 events, at least 200 needed"),
    ],
)
def test_a_metric_that_says_nothing(
    failed_control: tuple[Ended, Path], tmp_path: Path, objective: str, why: str
) -> None:
    _, unmeasurable = failed_control
    others = {"reads-steady", "never-existed", "no-events"} - {objective}

    def leave_out(scenario: dict[str, Any]) -> None:
        scenario["slos"] = [slo for slo in scenario["slos"] if slo["name"] not in others]

    alone = judged_with(unmeasurable, tmp_path, leave_out)
    assert alone.code == 3, alone.output[-3000:]
    (finding,) = alone.findings(f"slo.{objective}")
    assert finding["verdict"] == "inconclusive"
    assert why in finding["reason"]
    assert alone.verdict["headline"].startswith(f"inconclusive: {finding['title']}")
    unsure = [finding["check"] for finding in alone.findings("") if finding["verdict"] != "pass"]
    assert unsure == [f"slo.{objective}"], "nothing else rests on that metric"


@pytest.mark.slow
def test_a_generator_that_is_killed(resilience: Resilience) -> None:

    def kill_it(process: "subprocess.Popen[str]") -> None:
        wait_for("the load is judged", lambda: has_begun(resilience, "steady"), 90)
        locust = the("Locust", process.pid)
        wait_for("some of it is on record", lambda: len(so_far(resilience, "pressure")) > 25, 60)
        os.kill(locust, signal.SIGKILL)

    ended = resilience.run("baseline", *SHORT, meanwhile=kill_it)
    assert ended.code == 3, ended.output[-3000:]
    assert "locust was killed by SIGKILL" in assumption(ended, "generator-alive")["reason"]
    assert "session ops in steady" in assumption(ended, "load-rate")["reason"]
    assert {"generator-alive", "load-rate"} <= broken(ended)
    assert verdicts(ended, "slo.") == {"inconclusive"}
    assert verdicts(ended, "durability.") == {"inconclusive"}, "what it had recorded was audited, and that is not all"
    assert ended.verdict["measures"]["durability.session.acked_ops"] > 0
    assert ended.verdict["measures"]["durability.lost_ops"] == 0
    assert "unexpected" not in json.dumps(ended.verdict), "what it sent in its last moment is not known"
    stored = [finding for finding in ended.findings("") if finding["check"] in {"convergence", "session.expiry"}]
    assert [finding["verdict"] for finding in stored] == ["pass", "pass"]


def second_locust(supervisor: int) -> int:
    """The one process of Locust that is the load's second."""
    plan = b"/locust-1.plan.json"
    every = [pid for pid in below(supervisor) if (argv := argv_of(pid)) and VICTIMS["Locust"].known_by(argv)]
    (second,) = [pid for pid in every if plan in Path(f"/proc/{pid}/environ").read_bytes()]
    return second


@pytest.mark.slow
def test_one_of_two_generators_that_is_killed(resilience: Resilience) -> None:
    """Its neighbour goes on, what it had sent by then is audited like all else, and the run says whom it lost."""

    def kill_it(process: "subprocess.Popen[str]") -> None:
        wait_for("the load is judged", lambda: has_begun(resilience, "steady"), 90)
        locust = second_locust(process.pid)
        wait_for("some of it is on record", lambda: len(so_far(resilience, "pressure")) > 25, 60)
        os.kill(locust, signal.SIGKILL)

    ended = resilience.run("baseline", *SHORT, "--set", "load.workers=2", meanwhile=kill_it)
    assert ended.code == 3, ended.output[-3000:]
    reason = assumption(ended, "generator-alive")["reason"]
    assert reason == "locust-1 was killed by SIGKILL; locust-1 left no summary"
    assert "session ops of locust-1 in steady" in assumption(ended, "load-rate")["reason"]
    assert "loadgen-1 was scraped" in assumption(ended, "coverage")["reason"]
    assert verdicts(ended, "slo.") == {"inconclusive"}
    assert ended.verdict["measures"]["durability.lost_ops"] == 0
    assert "unexpected" not in json.dumps(ended.verdict), "what it sent in its last moment is not known"


@pytest.mark.slow
def test_two_generators_make_the_load_of_one(resilience: Resilience) -> None:
    ended = resilience.run("baseline", *SHORT, "--set", "load.workers=2")
    assert ended.code == 0, ended.output[-3000:]
    assert broken(ended) == set()
    assert {f"load/{name}.ops.jsonl" for name in ("locust", "locust-1", "direct")} <= set(ended.files)
    assert {finding["verdict"] for finding in ended.findings("reconciliation")} == {"pass"}


def test_an_inject_that_does_nothing(beside_control: Resilience, control: Path) -> None:
    ended = beside_control.run("no-effect")
    assert ended.code == 3, ended.output[-3000:]
    assert len(beside_control.directories()) == 1, "no other control was taken"
    assert ended.verdict["control"].startswith(f"baseline/{control.name}: pass, ")
    reason = assumption(ended, "fault-proved")["reason"]
    assert "was not in effect after it was injected: server " in reason
    assert " was not in effect before it was healed: server " in reason
    assert ended.verdict["headline"].startswith("inconclusive: ")
    assert broken(ended) == {"fault-proved", "experiment-completed"}
    assert verdicts(ended, "durability.") == {"inconclusive"}, "a fault that was none proves nothing"
    assert verdicts(ended, "slo.session-availability-steady") == {"pass"}, "before the fault nothing rests on it"


@pytest.mark.slow
def test_a_heal_that_does_nothing(beside_control: Resilience) -> None:
    """Somebody else's rule goes on dropping what the healed partition had dropped."""
    resilience = beside_control

    def go_on_dropping(process: "subprocess.Popen[str]") -> None:
        wait_for("the fault is injected", lambda: has_begun(resilience, "fault"), 90)
        wait_for("its effect is proved", lambda: bool(so_far(resilience, "effect-probed")), 30)
        (step,) = so_far(resilience, "injecting")[0]["injection"]["steps"]
        drop_what_comes_from(from_inside(process.pid, step["member"]["init_pid"]), step["others"])

    ended = resilience.run(f"{FILES}/cut-off-replica.yaml", meanwhile=go_on_dropping)
    assert ended.code == 3, ended.output[-3000:]
    assert verdicts(ended, "assumption.fault-proved") == {"pass"}
    reason = assumption(ended, "fault-healed")["reason"]
    assert "was not proved healed: TCP from redis-cluster-" in reason
    assert reason.endswith("expected answers, observed timed out")
    assert "the fault has ended" in assumption(ended, "experiment-completed")["reason"]
    assert verdicts(ended, "convergence") != {"pass"}
    assert verdicts(ended, "durability.") == {"inconclusive"}, "nobody knows what the fault will still cost"
    assert ended.verdict["measures"]["durability.lost_ops"] == 0
    before = [finding for finding in ended.findings("availability") if finding["where"]["phase"] == "steady"]
    assert {finding["verdict"] for finding in before} == {"pass"}
