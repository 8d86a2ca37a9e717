"""Whole runs that every change has to pass; the long ones are in ``test_calibration``."""

import os
import re
import signal
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from resilience.backend.local.place import PROJECT_ROOT
from tests.scenario.conftest import SHORT_KILL, First, Resilience, wait_for
from tests.scenario.observed import assumption, broken, has_begun, verdicts
from tests.scenario.traces import argv_of, below

pytestmark = pytest.mark.scenario


def secrets_in(directory: Path, secret: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_failover_passes_leaves_its_evidence_and_no_secret(first_run: First) -> None:
    ended = first_run.ended
    assert ended.code == 0, ended.output[-3000:]
    assert ended.verdict["verdict"] == "pass"
    assert ended.directory
    for name in ("spec.json", "control.json", "servers.json", "history.jsonl", "audit.jsonl", "samples.jsonl",
                 "ledger.jsonl", "timeline.json", "junit.xml", "report.html", "load/locust.ops.jsonl",
                 "load/direct.ops.jsonl", "chaos/journal.json", "members/redis-cluster-0/server.log"):  # fmt: skip
        assert (ended.directory / name).stat().st_size > 0, name
    assert [file for file in ended.files if not any(fnmatch(file, pattern) for pattern in explained())] == []
    assert first_run.secrets
    assert [file for secret in first_run.secrets for file in secrets_in(ended.directory, secret)] == []
    assert first_run.left == frozenset()
    # what follows from cluster-node-timeout 5000: see docs/track-record.md
    assert 5.5 <= ended.verdict["measures"]["recovery.first_good_write_s"] <= 12.5
    assert {"redis-cluster-0", "redis-cluster-5", "session-0"} <= set(ended.events("injected")[0]["members"])
    told = "power-off of node-1, redis-cluster-0, redis-cluster-5, session-0"  # to who follows the run
    assert f"injected {told}" in ended.output
    assert f"healed   {told}" in ended.output


def explained() -> list[str]:
    """The files that the README of the reports explains, as patterns."""
    page = (PROJECT_ROOT / "reports/README.md").read_text()
    return [re.sub(r"<[a-z]+>", "*", name) for name in re.findall(r"`([a-z/<>*.]+\.[a-z*]+)`", page)]


def test_a_target_that_matches_nothing_breaks_nothing_and_concludes_nothing(resilience: Resilience) -> None:
    """The members that it means died a moment before, and the restart policy is slow."""

    def kill_both(process: "subprocess.Popen[str]") -> None:
        wait_for("the fault is near", lambda: has_begun(resilience, "steady"), 60)
        sessions = [pid for pid in below(process.pid) if is_session(argv_of(pid))]
        assert len(sessions) == 2
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)

    ended = resilience.run(SHORT_KILL, "--set", "stack.restart_delay_s=12", meanwhile=kill_both)
    assert ended.code == 3, ended.output[-3000:]
    (event,) = ended.events("no-target")
    assert event["reason"] == "no session runs at the moment (session-0, session-1 do not)"
    assert ended.events("injecting") == ended.events("injected") == []
    assert ended.directory
    assert not (ended.directory / "ledger.jsonl").exists(), "nothing was planned, so nothing has to be healed"
    assert assumption(ended, "fault-proved")["reason"].startswith("nothing matched the target ")
    assert {"fault-proved", "experiment-completed", "control"} <= broken(ended)
    assert verdicts(ended, "durability.") == {"inconclusive"}


def is_session(argv: tuple[str, ...]) -> bool:
    """Whether it is the server of a session member, not who starts it there."""
    return "python" in "".join(argv[:1]) and argv[1:3] == ("-m", "services.session")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no-such-scenario",), "no-such-scenario"),
        (("redis-failover", "--set", "timeline.fault_s=3"), "fault"),
        (("redis-failover", "--set", "load.rooms=many"), "rooms"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_command_is_one_line_and_starts_nothing(resilience: Resilience, arguments, says) -> None:
    ended = resilience.run(*arguments)
    assert ended.code == 2
    assert len(ended.output.strip().splitlines()) == 1
    assert says in ended.output
    assert resilience.directories() == []
