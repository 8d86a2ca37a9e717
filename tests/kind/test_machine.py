"""Whole nodes broken by a real Docker: containers of the node image stand for a cluster's nodes, without Kubernetes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.node import BOOT_ID
from resilience.backend.base import NodeFault
from resilience.backend.kind import NODE_IMAGE
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.desk import Desk, broken_nodes, put_all_right
from resilience.backend.machine.docker import CLUSTER, ROLE, Docker
from resilience.backend.tool import output
from tests.kind.conftest import unusable
from tests.waiting import until

pytestmark = pytest.mark.kind

NAME = "hf-test-machine"
NODES = {f"{NAME}-control-plane": "control-plane", f"{NAME}-worker": "worker", f"{NAME}-worker2": "worker"}
WORKER, PEER, CONTROL = f"{NAME}-worker", f"{NAME}-worker2", f"{NAME}-control-plane"
SUBNET = "198.19.77.0/24"  # for tests of networks (RFC 2544): nobody's
ADDRESSES = {host: f"198.19.77.{number}" for number, host in enumerate(NODES, start=2)}
EVERY: tuple[NodeFault, ...] = ("power-off", "freeze", "isolate", "reboot")
PROVED_WITHIN_S = 5.0


def docker(*words: str) -> str:
    return output(["docker", *words], timeout_s=60)


@dataclass
class Machines:
    """Three containers in a network of their own, a server in each, and the desk that breaks them."""

    desk: Desk

    def apply(self, name: str, what: NodeFault, host: str = WORKER, ttl_s: float = 60.0) -> dict[str, Any]:
        nodes = [{"name": "node-1", "host": host}]
        injection = {
            "id": name, "ttl_s": ttl_s, "steps": [{"primitive": what, "nodes": nodes}],
            "watch": [{"probe": "node", "nodes": nodes, "after": what}],
        }  # fmt: skip
        request = {"injection": injection, "parts": 1, "at_ns": 0, "boot_id": BOOT_ID.read_text().strip()}
        return self.desk.ask("apply", request, 45.0)

    def probe(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.desk.ask("probe", {"id": name}, 20.0)["evidence"]
        return found

    def undo(self, name: str) -> dict[str, Any]:
        return self.desk.ask("undo", {"id": name, "within_s": 15}, 60.0)


def greeting(host: str = WORKER) -> str:
    """What a peer gets on a new connection within two seconds, or its kernel's complaint."""
    script = f"exec 3<>/dev/tcp/{ADDRESSES[host]}/7000 && head -c 5 <&3"
    done = subprocess.run(
        ["docker", "exec", PEER, "timeout", "2", "bash", "-c", script], capture_output=True, text=True, check=False,
        timeout=30,
    )  # fmt: skip
    return done.stdout or ("silence" if done.returncode == 124 else done.stderr.strip())


def serve(host: str) -> None:
    """Has a node answer on a port, with what the node image has."""
    docker("exec", "--detach", host, "socat", "TCP-LISTEN:7000,fork,reuseaddr", "SYSTEM:echo -n hello; sleep 60")
    until(lambda: host == PEER or greeting(host) == "hello", 10, every_s=0.2)


@pytest.fixture(scope="module", autouse=True)
def containers() -> Iterator[None]:
    if why := unusable():
        pytest.skip(why)
    image = os.environ.get(NODE_IMAGE) or "kindest/node"
    docker("network", "create", "--subnet", SUBNET, NAME)
    try:
        for host, role in NODES.items():
            labels = ["--label", f"{CLUSTER}={NAME}", "--label", f"{ROLE}={role}"]
            docker(
                "run", "--detach", "--privileged", "--name", host, "--network", NAME, "--ip", ADDRESSES[host], *labels,
                "--entrypoint", "sleep", image, "infinity",
            )  # fmt: skip
        serve(PEER)
        yield
    finally:
        for host in NODES:
            subprocess.run(["docker", "rm", "--force", host], check=False, capture_output=True, timeout=60)
        docker("network", "rm", NAME)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Every test begins with nodes that are well and answer, and leaves none broken."""
    if greeting() != "hello":
        serve(WORKER)
    desk = Desk(NAME, tmp_path, tmp_path / "none", lambda: [WORKER, PEER])
    yield Machines(desk)
    put_all_right(Docker(), NAME)
    for name in desk.ask("open", {}, 20.0)["open"]:
        desk.ask("undo", {"id": name, "within_s": 0}, 60.0)


def failed(evidence: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in evidence if not item["ok"]]


@pytest.mark.parametrize("what", EVERY)
def test_it_is_proved_at_once_and_healed(machines: Machines, what: NodeFault) -> None:
    applied = machines.apply("test-1", what)
    seen = greeting()
    assert failed(machines.probe("test-1")) == []
    took_s = (time.monotonic_ns() - applied["applied_ns"]) / 1e9
    assert ("Connection refused" in seen) if what == "reboot" else (seen == "silence"), seen
    assert took_s < PROVED_WITHIN_S
    assert machines.desk.hosts_of("test-1") == (WORKER,)
    undone = machines.undo("test-1")
    assert failed(undone["evidence"]) == []
    assert undone["by"] == "request"
    assert broken_nodes(Docker(), NAME) == {}
    if what in {"freeze", "isolate"}:  # the same server as before, at the address that it had
        until(lambda: greeting() == "hello", 5, every_s=0.2)


def test_nobody_hears_a_last_word(machines: Machines) -> None:
    """A connection that was open when the power went gets no end, and a new one no refusal, for ten seconds."""
    connect = f"exec 3<>/dev/tcp/{ADDRESSES[WORKER]}/7000"
    listening = subprocess.Popen(
        ["docker", "exec", PEER, "timeout", "10", "bash", "-c", f"{connect} && cat <&3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1.0)
    machines.apply("test-1", "power-off")
    said, complaint = listening.communicate(timeout=30)
    assert (listening.returncode, said, complaint) == (124, "hello", "")
    tried = subprocess.run(
        ["docker", "exec", PEER, "timeout", "8", "bash", "-c", connect], check=False, capture_output=True, timeout=30
    )
    assert (tried.returncode, tried.stderr) == (124, b"")  # after three seconds its own kernel would have said so


def test_the_time_to_live_ends_it_although_whoever_asked_was_killed(machines: Machines, tmp_path: Path) -> None:
    asked = (
        f"import sys, time; sys.path.insert(0, {str(PROJECT_ROOT)!r})\n"
        "from pathlib import Path; from tests.kind.test_machine import Machines, Desk, NAME, WORKER\n"
        f"mine = Machines(Desk(NAME, Path({str(tmp_path)!r}), Path(), lambda: [WORKER]))\n"
        "print(mine.apply('test-1', 'freeze', ttl_s=4.0), flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", asked], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout
        assert "applied_ns" in harness.stdout.readline()
        harness.send_signal(signal.SIGKILL)
    assert greeting() == "silence"
    until(lambda: not broken_nodes(Docker(), NAME), 4.0 + 10.0, every_s=0.2)
    assert greeting() == "hello"
    assert [item["observed"] for item in machines.probe("test-1")] == ["ended by ttl"]
    assert machines.undo("test-1")["by"] == "ttl"
    booked = json.loads((tmp_path / "ledger.jsonl").read_text())
    assert (booked["injection"], booked["by"]) == ("test-1", "ttl")


def watchdogs(state: Path) -> list[str]:
    """The processes that look after injections of this state."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(state).encode() in process.read_bytes():
                found.append(process.parent.name)
    return found


def test_without_its_watchdog_it_is_not_proved_and_healed_all_the_same(machines: Machines, tmp_path: Path) -> None:
    machines.apply("test-1", "freeze")
    for pid in watchdogs(tmp_path):
        os.kill(int(pid), signal.SIGKILL)
    until(lambda: not watchdogs(tmp_path), 10.0, every_s=0.1)
    assert "its agent is gone" in machines.desk.ask("probe", {"id": "test-1"}, 20.0)["error"]
    assert list(broken_nodes(Docker(), NAME)) == [WORKER]
    assert failed(machines.undo("test-1")["evidence"]) == []
    assert broken_nodes(Docker(), NAME) == {}


def test_a_watchdog_whose_state_was_removed_ends_it_too_and_goes(machines: Machines, tmp_path: Path) -> None:
    machines.apply("test-1", "freeze", ttl_s=3.0)
    assert watchdogs(tmp_path)
    shutil.rmtree(tmp_path / "injections")
    until(lambda: not broken_nodes(Docker(), NAME), 3.0 + 10.0, every_s=0.2)
    until(lambda: not watchdogs(tmp_path), 10.0, every_s=0.2)


def test_a_watchdog_of_a_node_that_was_deleted_goes(machines: Machines, tmp_path: Path) -> None:
    stranger = f"{NAME}-worker3"
    labels = ["--label", f"{CLUSTER}={NAME}", "--label", f"{ROLE}=worker"]
    image = docker("inspect", "-f", "{{.Config.Image}}", PEER).strip()
    docker("run", "--detach", "--name", stranger, "--network", NAME, *labels, "--entrypoint", "sleep", image, "99")
    desk = Desk(NAME, tmp_path, tmp_path / "none", lambda: [stranger])
    Machines(desk).apply("test-1", "freeze", stranger, ttl_s=3.0)
    docker("rm", "--force", stranger)
    until(lambda: not watchdogs(tmp_path), 30.0, every_s=0.2)
    assert desk.ask("open", {}, 20.0) == {"open": []}


def test_without_its_ledger_it_is_healed_all_the_same(machines: Machines) -> None:
    machines.apply("test-1", "power-off")
    machines.apply("test-2", "freeze", PEER)
    assert list(broken_nodes(Docker(), NAME)) == [WORKER, PEER]
    assert put_all_right(Docker(), NAME) == {WORKER: ["started"], PEER: ["let go on"]}
    assert broken_nodes(Docker(), NAME) == {}


def test_a_power_off_that_broke_off_half_way_is_seen_and_healed(machines: Machines) -> None:
    """Docker takes such a node for well; only its own network tells."""
    docker("exec", WORKER, "sh", "-c", "ip link set dev eth0 down")
    assert broken_nodes(Docker(), NAME) == {WORKER: "running, its links are down"}
    assert put_all_right(Docker(), NAME) == {WORKER: ["started"]}
    assert broken_nodes(Docker(), NAME) == {}
    serve(WORKER)
    assert greeting() == "hello"


def test_two_that_heal_at_the_same_moment_do_no_harm(machines: Machines) -> None:
    faults: tuple[NodeFault, ...] = ("freeze", "isolate", "power-off")
    for what in faults:
        machines.apply(f"test-{what}", what)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _number: put_all_right(Docker(), NAME), range(4)))
        assert broken_nodes(Docker(), NAME) == {}
        assert failed(machines.undo(f"test-{what}")["evidence"]) == []


def test_what_does_nothing_is_not_proved(machines: Machines) -> None:
    machines.apply("test-1", "freeze")
    docker("unpause", WORKER)
    (seen,) = machines.probe("test-1")
    assert (seen["observed"], seen["ok"]) == ("running", False)


@pytest.mark.parametrize("host", [CONTROL, "somebody-elses"])
def test_no_other_container_is_touched(machines: Machines, host: str) -> None:
    assert "no fault may touch it" in machines.apply("test-1", "power-off", host)["error"]
    assert broken_nodes(Docker(), NAME) == {}
