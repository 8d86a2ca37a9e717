"""A stack that stays up, used as a person uses it: up, looked at, broken by hand, ended; and killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.process import is_running, look_up
from resilience.backend.local.place import PROJECT_ROOT, cache_dir, calling_user
from tests.scenario.conftest import wait_for
from tests.scenario.traces import below, namespaces, namespaces_of

pytestmark = pytest.mark.scenario

TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Terminal:
    """``resilience``, with a cache folder that holds the real images and nothing else of the machine's user."""

    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache / "harmonyflow" / "up"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self.cache)}

    def call(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "resilience", *arguments],
            input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=self.environment,
        )  # fmt: skip

    def up(self, *arguments: str) -> dict[str, Any]:
        done = self.call("up", "--for", "10m", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.facts()

    def is_up(self) -> bool:
        """Whether the supervisor of the stack that was brought up last lives."""
        if not (self.folder / "up.json").exists():
            return False
        facts = self.facts()
        return is_running(facts["pid"], facts["start"])

    def down(self) -> None:
        """Ends what an earlier test has left up."""
        if self.is_up():
            assert self.call("down").returncode == 0

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "up.json").read_text())
        return facts

    def chaos(self, folder: Path, name: str, **seconds: float) -> "subprocess.Popen[bytes]":
        """An experiment as people run it: by its own command, nothing set but how long the phases last."""
        lengths = {f"RESILIENCE_{phase.upper()}_S": str(length) for phase, length in seconds.items()}
        experiment = next((PROJECT_ROOT / "experiments").rglob(f"{name}.yaml"))
        with (folder / "chaos.out").open("wb") as output:
            return subprocess.Popen(
                [Path(sys.executable).with_name("chaos"), "run", experiment],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                env={**self.environment, **lengths},
            )  # fmt: skip

    def ledger(self) -> list[dict[str, Any]]:
        path = self.folder / "ledger.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def states(self) -> list[str]:
        return [entry["state"] for entry in self.ledger()]


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    cache = tmp_path_factory.mktemp("cache")
    (cache / "harmonyflow").mkdir()
    (cache / "harmonyflow" / "images").symlink_to(cache_dir(calling_user()) / "images")
    command = Terminal(cache)
    yield command
    command.call("down")


@pytest.fixture
def up(terminal: Terminal) -> dict[str, Any]:
    """The stack, up; what an earlier test left is healed."""
    if not terminal.is_up():
        return terminal.up()
    if terminal.states()[-1:] not in ([], ["healed"]):
        assert terminal.call("heal").returncode == 0
    return terminal.facts()


def door(facts: dict[str, Any], member: str) -> str:
    return str(dict(facts["doors"])[member])


def test_up_prints_addresses_that_answer_and_only_its_user_may_enter(terminal: Terminal, up):
    with urllib.request.urlopen(f"{door(up, 'prometheus-0')}/api/v1/query?query=count(up)", timeout=10) as answer:
        assert json.load(answer)["data"]["result"][0]["value"][1] == "17"
    for edge in ("edge-0", "edge-1"):
        body = json.dumps({"session": f"s-{edge}", "op": "o-1", "data": "x"}).encode()
        request = urllib.request.Request(
            f"{door(up, edge)}/sessions", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201
    assert (terminal.folder / "control").stat().st_mode & 0o777 == 0o600
    assert terminal.folder.stat().st_mode & 0o777 == 0o700
    shown = terminal.call("status")
    assert shown.returncode == 0
    assert door(up, "prometheus-0") in shown.stdout
    assert re.search(r"redis-cluster-0 +node-1 +primary, shard 1 +running", shown.stdout)
    assert "nothing is injected" in shown.stdout


@pytest.mark.usefixtures("up")
def test_a_second_up_is_one_line_and_4(terminal: Terminal):
    second = terminal.call("up")
    assert second.returncode == 4
    assert len(second.stderr.splitlines()) == 1
    assert "up already" in second.stderr


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("argv", "text", "code", "out"),
    [
        (["redis-cluster-0", "--", "redis-cli", "ping"], "", 0, "PONG\n"),
        (["redis-cluster-0", "--", "cat"], "hello", 0, "hello"),
        (["session-0", "--", "hostname"], "", 0, "session-0\n"),
        (["edge-0", "--", "sh", "-c", "exit 7"], "", 7, ""),
        (["edge-0", "--", "sh", "-c", "kill -9 $$"], "", 137, ""),
        (["redis-cluster-0", "--", "no-such-command"], "", 127, ""),
        (["nobody", "--", "ls"], "", 2, ""),
        (["edge-0"], "", 2, ""),
    ],
    ids=["redis-cli", "input", "own name", "exit code", "signal", "not found", "no member", "no command"],
)
def test_exec(terminal: Terminal, argv: list[str], text: str, code: int, out: str):
    done = terminal.call("exec", *argv, text=text)
    assert (done.returncode, done.stdout) == (code, out)


@pytest.mark.usefixtures("up")
def test_what_exec_started_ends_with_its_caller(terminal: Terminal):
    caller = subprocess.Popen(
        [sys.executable, "-m", "resilience", "exec", "edge-0", "--", "sh", "-c", "sleep 4711 & wait"],
        stdin=subprocess.DEVNULL, env=terminal.environment,
    )  # fmt: skip
    wait_for("it runs", lambda: "sleep 4711" in terminal.call("exec", "edge-0", "--", "ps", "ax").stdout, 20)
    caller.kill()
    caller.wait(10)
    wait_for("it is gone", lambda: "sleep 4711" not in terminal.call("exec", "edge-0", "--", "ps", "ax").stdout, 20)


@pytest.mark.usefixtures("up")
def test_logs_show_what_a_member_wrote(terminal: Terminal):
    shown = terminal.call("logs", "redis-cluster-0", "--lines", "3")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 3
    assert terminal.call("logs", "nobody").returncode == 2


@pytest.mark.usefixtures("up")
def test_an_experiment_by_hand_works_from_outside(terminal: Terminal, tmp_path: Path):
    before = len(terminal.ledger())
    # the second finds nothing of the first in its way
    for name, fault_s, recovery_s in (("redis-kill-replica", 4, 2), ("redis-failover", 10, 6)):
        process = terminal.chaos(tmp_path, name, steady=1, fault=fault_s, recovery=recovery_s)
        assert process.wait(TIMEOUT_S) == 0, (tmp_path / "chaos.out").read_text()
        journal = json.loads((tmp_path / "journal.json").read_text())
        assert journal["status"] == "completed"
        assert not journal["deviated"]
        proofs = [step["output"] for step in journal["run"] if step["activity"]["type"] == "probe"]
        assert proofs == [True, True, True]
    assert [entry["state"] for entry in terminal.ledger()[before:]] == ["planned", "applied", "healed"] * 2


@pytest.mark.usefixtures("up")
def test_heal_ends_from_outside_what_a_person_injected(terminal: Terminal, tmp_path: Path):
    before = len(terminal.ledger())
    process = terminal.chaos(tmp_path, "redis-kill-replica", steady=1, fault=120, recovery=2)
    wait_for("it is injected", lambda: terminal.states()[before:] == ["planned", "applied"], 30)
    assert "injected: kill into redis-cluster-" in terminal.call("status").stdout
    process.kill()
    process.wait(10)
    healed = terminal.call("heal")
    assert (healed.returncode, healed.stdout.count(": healed")) == (0, 1)
    assert terminal.ledger()[-1]["by"] == "heal-all"
    again = terminal.call("heal")
    assert (again.returncode, again.stdout.count(": healed")) == (0, 0)


@pytest.mark.usefixtures("up")
def test_a_fault_whose_harness_is_killed_ends_by_its_time_to_live(terminal: Terminal, tmp_path: Path):
    before = len(terminal.ledger())
    process = terminal.chaos(tmp_path, "redis-kill-replica", steady=1, fault=1, recovery=2)
    wait_for("it is injected", lambda: "applied" in terminal.states()[before:], 30)
    process.kill()  # a second later, and it would heal
    process.wait(10)
    assert "healed" not in terminal.states()[before:]
    wait_for("it ends by itself", lambda: "healed" in terminal.states()[before:], 11 + 20)
    planned, applied, healed = terminal.ledger()[before:]
    assert healed["by"] == "ttl"
    assert (healed["at_us"] - applied["at_us"]) / 1e6 >= planned["spec"]["ttl_s"] == 11


@pytest.mark.usefixtures("up")
def test_a_run_tells_of_the_stack_that_is_up(terminal: Terminal):
    process = subprocess.Popen(
        [sys.executable, "-m", "resilience", "run", "baseline", "--reports", str(terminal.cache / "reports")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=terminal.environment,
    )  # fmt: skip
    assert process.stderr
    assert "a stack is up and takes its share of this machine's cores" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    assert terminal.call("status").returncode == 0  # a run's end is not the stack's


def supervisor_and_all(facts: dict[str, Any]) -> set[int]:
    family = below(facts["pid"])
    assert len(family) > 20
    return family


def first_process(facts: dict[str, Any]) -> int:
    return next(pid for pid in sorted(below(facts["pid"])) if comm(pid).startswith("tini"))


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def refused(address: str) -> bool:
    port = int(address.rpartition(":")[2])
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("how", ["down", "kill the supervisor", "kill the first process", "its time is over"])
def test_nothing_is_left(terminal: Terminal, how: str):
    terminal.down()
    mounts = Path("/proc/mounts").read_text()
    life = ("--for", "12s") if how == "its time is over" else ()
    facts = terminal.up(*life)
    family = supervisor_and_all(facts)
    made = set[str]().union(*map(namespaces_of, family)) - namespaces_of(os.getpid())
    assert len(made) > 50
    alive = [process for pid in family if (process := look_up(pid))]  # numbers are given again
    match how:
        case "down":
            ended = terminal.call("down")
            assert (ended.returncode, ended.stdout) == (0, "ended the stack harmonyflow (baseline)\n")
        case "kill the supervisor":
            os.kill(facts["pid"], signal.SIGKILL)
        case "kill the first process":
            os.kill(first_process(facts), signal.SIGKILL)
    wait_for("every process is gone", lambda: not any(is_running(one.pid, one.start) for one in alive), 20)
    wait_for("every namespace is gone", lambda: not made & namespaces(), 5)
    assert Path("/proc/mounts").read_text() == mounts
    assert all(refused(address) for _, address in facts["doors"])
    status = terminal.call("status")
    assert (status.returncode, status.stdout) == (4, "")
    assert "no stack is up" in status.stderr
    assert terminal.call("down").stdout == "no stack is up\n"
    assert terminal.call("logs", "redis-cluster-0").returncode == 0  # what the last one left


def test_in_the_foreground_it_tells_its_addresses_and_ends_with_ctrl_c(terminal: Terminal):
    terminal.down()
    process = subprocess.Popen(
        [sys.executable, "-m", "resilience", "up", "--foreground", "--for", "10m"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=terminal.environment,
    )  # fmt: skip
    wait_for("it is up", lambda: terminal.call("status").returncode == 0, TIMEOUT_S)
    address = door(terminal.facts(), "prometheus-0")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert f"prometheus-0 {address}" in said
    assert "the stack was ended (SIGINT)" in said


def test_a_port_that_is_taken_is_one_line_and_4(terminal: Terminal):
    terminal.down()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = terminal.call("up", "--port-prometheus", port)
    assert done.returncode == 4
    assert f"port {port} of 127.0.0.1: Address already in use; name another by --port-prometheus" in done.stderr
    assert terminal.call("status").returncode == 4


def test_without_a_stack_an_experiment_by_hand_says_how(terminal: Terminal, tmp_path: Path):
    terminal.down()
    process = terminal.chaos(tmp_path, "redis-failover", steady=1, fault=1, recovery=1)
    process.wait(TIMEOUT_S)
    assert "no stack is up; 'resilience up' brings one up" in (tmp_path / "chaos.out").read_text()
