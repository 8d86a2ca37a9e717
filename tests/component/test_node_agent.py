"""The agent of a node as real processes, some of which are killed. Holds are all that it does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from resilience.agent import start
from resilience.agent.node import BOOT_ID
from resilience.agent.process import look_up
from resilience.backend.kubernetes.calling import _trips
from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.clock import TRIPS, offset_from_trips
from tests.waiting import until

pytestmark = pytest.mark.component
WORKLOADS = {"DaemonSet", "Deployment"}


@dataclass
class Agent:
    """A node's agent, called as `kubectl exec` would; its folder outlives it, as the node's does."""

    folder: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "AGENT_STATE": str(self.folder / "state"), "AGENT_NAMESPACES": "redis"}

    def start(self) -> "subprocess.Popen[bytes]":
        """Returns when it has ended what an older one left, and keeps watch."""
        alive = self.folder / "state" / "alive"
        alive.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "resilience.agent.node", "keep"]
        self.processes.append(subprocess.Popen(argv, env=self.environment))
        until(alive.exists)
        return self.processes[-1]

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        argv = [sys.executable, "-m", "resilience.agent.node", command]
        line = json.dumps(request) + "\n"
        done = subprocess.run(
            argv, input=line, capture_output=True, text=True, env=self.environment, timeout=60, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def apply(self, name: str, ttl_s: float) -> dict[str, Any]:
        """As the agent does it, but for its insisting on pods: with a hold, whose end can be seen without any."""
        folder = self.folder / "state" / "injections" / name
        folder.mkdir(parents=True)
        hold = {"primitive": "hold", "dirs": [str(self.folder / "hold")]}
        request = {
            "injection": {"id": name, "ttl_s": ttl_s, "steps": [hold], "watch": []}, "parts": 1, "dir": str(folder),
            "ledger": str(self.folder / "ledger.jsonl"), "base_ns": 0, "at_ns": 0, "told_ns": time.monotonic_ns(),
        }  # fmt: skip
        (folder / "request.json").write_text(json.dumps(request))
        return start.apply(request)

    def held(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "hold").iterdir())

    def kill_daemon(self, name: str) -> None:
        """By the log that it holds open."""
        log = str(self.folder / "state" / "injections" / name / "agent.log")
        (pid,) = [
            int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and complaints(entry) == log
        ]
        os.kill(pid, signal.SIGKILL)
        until(lambda: look_up(pid) is None)


def complaints(process: Path) -> str:
    """Where a process writes its errors to; "" for one of somebody else's."""
    try:
        return os.readlink(process / "fd" / "2")
    except OSError:
        return ""


class Conversation:
    """What `calling` has of the API's websocket, on a real process's pipes."""

    def __init__(self, agent: Agent) -> None:
        argv = [sys.executable, "-m", "resilience.agent.node", "clock"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": agent.environment}
        self.process: subprocess.Popen[str] = subprocess.Popen(argv, **pipes)

    def write_stdin(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def readline_stdout(self, timeout: float) -> str:
        del timeout
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.communicate(timeout=5)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    for process in made.processes:
        process.terminate()
        process.wait(20)
    assert not (made.folder / "hold").exists() or made.held() == []


def test_it_is_told_and_asked(agent: Agent) -> None:
    applied = agent.apply("test-1", 60)
    injection = {"id": "test-1", "ttl_s": 60, "steps": [], "watch": []}
    again = agent.ask("apply", injection=injection, parts=1, at_ns=0, boot_id=BOOT_ID.read_text().strip())
    assert again == applied  # a connection that broke was tried again
    assert agent.held() == ["test-1"]
    assert agent.ask("open") == {"open": ["test-1"]}
    assert agent.ask("probe", id="test-1") == {"evidence": [], "parts": 1}
    undone = agent.ask("undo", id="test-1", within_s=0)
    assert (undone["by"], [item["ok"] for item in undone["evidence"]]) == ("request", [True])
    assert agent.held() == []


def test_its_clock_is_asked_for_twenty_times_by_one_call(tmp_path: Path) -> None:
    conversation = Conversation(Agent(tmp_path))
    boot_id, trips = _trips(conversation)
    assert conversation.process.returncode == 0
    assert (boot_id, len(trips)) == (BOOT_ID.read_text().strip(), TRIPS)
    offset = offset_from_trips(trips)
    assert offset is not None
    assert abs(offset.offset_ns) <= offset.error_ns < 50_000_000  # it is this kernel's own clock


def test_an_agent_that_ends_before_it_has_told_its_clock_is_an_error(tmp_path: Path) -> None:
    conversation = Conversation(Agent(tmp_path))
    conversation.write_stdin("\n")
    with pytest.raises((ValueError, OSError)):
        _trips(conversation)


def test_its_daemon_ends_it_in_time(agent: Agent) -> None:
    agent.apply("test-1", 1.0)
    until(lambda: not agent.held(), 10)
    assert agent.ask("undo", id="test-1")["by"] == "ttl"


def test_what_a_killed_daemon_would_have_ended_is_ended_in_time(agent: Agent) -> None:
    agent.start()
    agent.apply("test-1", 3.0)
    agent.kill_daemon("test-1")
    assert "cannot be proved" in agent.ask("probe", id="test-1")["error"]
    assert agent.held() == ["test-1"]
    until(lambda: not agent.held())
    assert agent.ask("undo", id="test-1")["by"] == "ttl"


def test_a_new_agent_ends_what_a_killed_one_left(agent: Agent) -> None:
    first = agent.start()
    agent.apply("test-1", 600.0)
    first.kill()
    first.wait(10)
    agent.kill_daemon("test-1")  # as all of a container's processes end with its first
    time.sleep(0.5)
    assert agent.held() == ["test-1"]  # nobody is there to do it
    agent.start()
    assert agent.held() == []
    assert agent.ask("probe", id="test-1")["evidence"][0]["observed"] == "ended by restart"
    assert agent.ask("undo", id="test-1")["by"] == "restart"


def test_an_agent_that_is_told_to_go_leaves_nothing(agent: Agent) -> None:
    keeper = agent.start()
    agent.apply("test-1", 600.0)
    keeper.terminate()
    assert keeper.wait(20) == 0
    assert agent.held() == []
    assert agent.ask("undo", id="test-1")["by"] == "leave"


@pytest.mark.parametrize("manifest", ["resilience/agent.yaml", "monitoring/witness.yaml"])
def test_the_probes_of_its_pod_tell_whether_it_keeps_watch(agent: Agent, manifest: str) -> None:
    objects = yaml.safe_load_all((PROJECT_ROOT / "stacks/kubernetes/base" / manifest).read_text())
    ((container,),) = [each["spec"]["template"]["spec"]["containers"] for each in objects if each["kind"] in WORKLOADS]
    probes = [container[name]["exec"]["command"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]

    def answers() -> set[int]:
        done = [subprocess.run(argv, env=agent.environment, check=False, capture_output=True) for argv in probes]
        return {each.returncode for each in done}

    assert answers() == {1}, "it was never started"
    keeper = agent.start()
    assert answers() == {0}
    keeper.terminate()
    keeper.wait(20)
    a_while_ago = time.time() - 90
    os.utime(agent.folder / "state" / "alive", (a_while_ago, a_while_ago))
    assert answers() == {1}
