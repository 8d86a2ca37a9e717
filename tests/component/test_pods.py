"""The agent of a node on what looks to it like pods: namespaces as a container runtime makes them, and control groups.

A pod here is a sandbox's process, which holds the network, and a server that is process 1 of a PID namespace of its own
and is started again by a thread, as by a kubelet. Their ``/proc/*/cgroup`` is a file that is mounted over the real one,
in the mount namespace that the tests run in. Needs a sandbox, like all component tests.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.agent.node import Node
from resilience.agent.pod import Pods
from resilience.agent.process import look_up
from resilience.backend.local.sandbox import children
from tests.waiting import until

pytestmark = pytest.mark.component

BRIDGE, PORT = "hfpods0", 6379
SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    conn, _ = listener.accept()
    with conn:
        if conn.recv(4096):
            conn.sendall(b"+PONG\\r\\n")
"""
Json = dict[str, Any]


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=10)


@dataclass
class Pod:
    """One pod; containers are numbered, so that each start of the server is another one."""

    name: str
    number: int
    folder: Path
    namespace: str = "redis"
    started: int = 0
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    sandbox_pid: int = 0
    server_pid: int = 0
    keeper: "subprocess.Popen[bytes] | None" = None  # of the server: what a runtime's shim is to it

    @property
    def uid(self) -> str:
        return f"5911d53b-655f-4b1b-88c8-{self.number:012d}"

    @property
    def address(self) -> str:
        return f"198.19.8.{self.number}"

    def container(self, number: int) -> str:
        return f"{number:064x}"

    def open(self, logs: Path) -> None:
        (logs / f"{self.namespace}_{self.name}_{self.uid}").mkdir(parents=True)
        self.folder.mkdir(parents=True)
        self.sandbox_pid = self._first_process(["unshare", "--net", "--pid", "--fork"], ["sleep", "1000"], 0)
        device = f"hfp{self.number}"
        peer = ["peer", "name", "eth0", "netns", str(self.sandbox_pid)]
        run("ip", "link", "add", device, "type", "veth", *peer)
        run("ip", "link", "set", device, "master", BRIDGE, "up")
        for command in ("link set lo up", f"addr add {self.address}/16 dev eth0", "link set eth0 up"):
            run("nsenter", "--target", str(self.sandbox_pid), "--net", "ip", *command.split())
        self.start()

    def start(self) -> None:
        """A new container."""
        self.started += 1
        for name in ("nodes.conf", "dump.rdb"):
            (self.folder / name).write_text("before")
        namespaces = ["nsenter", "--target", str(self.sandbox_pid), "--net", "--", "unshare", "--pid", "--fork"]
        argv = [sys.executable, "-S", "-c", SERVER, self.address, str(PORT)]
        self.server_pid = self._first_process(namespaces, argv, self.started)
        self.keeper = self.processes[-1]

    def beside(self) -> int:
        """What a kubelet's probe runs in the server's container."""
        namespaces = ["nsenter", "--target", str(self.server_pid), "--net", "--pid", "--"]
        self.processes.append(subprocess.Popen([*namespaces, "setsid", "sleep", "1000"]))
        pid = int(until(lambda: children(self.processes[-1].pid))[0])
        self._belongs(pid, self.started)
        return pid

    def place(self) -> Json:
        """As the harness knows it."""
        return {
            "name": self.name, "address": self.address, "pod_uid": self.uid, "host": "here",
            "container_id": self.container(self.started), "data_dir": str(self.folder), "data_keep": ["nodes.conf"],
        }  # fmt: skip

    def is_known_to_have_ended(self) -> bool:
        """Whether whatever started the server has told of its end."""
        return not look_up(self.server_pid) and self.keeper is not None and self.keeper.poll() is not None

    def serves(self) -> bool:
        """Whether somebody on the bridge is answered."""
        try:
            with socket.create_connection((self.address, PORT), 0.5) as opened:
                opened.sendall(b"PING")
                return bool(opened.recv(64))
        except OSError:
            return False

    def close(self) -> None:
        for pid in (self.server_pid, self.sandbox_pid):
            if look_up(pid):
                os.kill(pid, 9)
        for process in self.processes:
            process.kill()
            process.wait(10)

    def _first_process(self, namespaces: list[str], argv: list[str], number: int) -> int:
        self.processes.append(subprocess.Popen([*namespaces, "setsid", *argv], stdin=subprocess.DEVNULL))
        pid = int(until(lambda: children(self.processes[-1].pid))[0])
        self._belongs(pid, number)
        return pid

    def _belongs(self, pid: int, number: int) -> None:
        file = self.folder.with_name(f"{self.name}.{number}.cgroup")
        file.write_text(f"0::/kubepods/burstable/pod{self.uid}/{self.container(number)}\n")
        run("mount", "--bind", str(file), f"/proc/{pid}/cgroup")


@dataclass
class Ground:
    """A node with three pods of which the last is in a namespace that nobody may touch, its agent, and its kubelet."""

    node: Node
    pods: tuple[Pod, ...]
    ending: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def tend(self) -> None:
        """A kubelet: starts a container again in its own time."""
        while not self.ending.wait(0.3):
            for pod in self.pods:
                if pod.is_known_to_have_ended():
                    pod.start()

    def apply(self, steps: list[Json], watch: list[Json], ttl_s: float = 60.0) -> str:
        self.asked += 1
        name = f"test-{self.asked}"
        injection = {"id": name, "ttl_s": ttl_s, "steps": steps, "watch": watch}
        self.node.apply({"injection": injection, "parts": 1, "at_ns": 0, "boot_id": self.node.boot_id})
        return name

    def failed(self, name: str) -> list[Json]:
        evidence = self.node.probe({"id": name})["evidence"]
        assert evidence
        return [item for item in evidence if not item["ok"]]

    def heal(self, name: str) -> None:
        assert [item for item in self.node.undo({"id": name})["evidence"] if not item["ok"]] == []


@pytest.fixture(scope="module")
def field_of_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", "198.19.0.1/16", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    folder = tmp_path_factory.mktemp("node")
    node = Node(
        state=folder / "state", pods=Pods(allowed=frozenset({"redis"}), logs=folder / "logs"), boot_id="this one"
    )
    spaces = ("redis", "redis", "kube-system")
    pods = tuple(Pod(f"redis-{n}", n + 1, folder / f"redis-{n}", namespace=space) for n, space in enumerate(spaces))
    ground = Ground(node, pods)
    kubelet = threading.Thread(target=ground.tend)
    try:
        for pod in pods:
            pod.open(folder / "logs")
        kubelet.start()
        yield ground
    finally:
        ground.ending.set()
        if kubelet.ident:
            kubelet.join(20)
        for pod in pods:
            pod.close()
        run("ip", "link", "del", BRIDGE)


@pytest.fixture
def ground(field_of_pods: Ground) -> Iterator[Ground]:
    """All pods serve; whatever a test leaves is ended after it."""
    until(lambda: all(pod.serves() for pod in field_of_pods.pods))
    yield field_of_pods
    field_of_pods.node.end_all("request")
    assert field_of_pods.node.open({}) == {"open": []}


def elsewhere(pod: Pod) -> Json:
    return {"name": pod.name, "address": pod.address, "init_pid": 0, "init_start": 0}


def kill(ground: Ground) -> tuple[list[Json], list[Json]]:
    place = ground.pods[0].place()
    steps = [{"primitive": "signal", "signal": "KILL", "members": [place]}]
    return steps, [{"probe": "identity", "of": place, "expect": "replaced"}]


def kill_held_back(ground: Ground) -> tuple[list[Json], list[Json]]:
    first, second, _third = ground.pods
    place = first.place()
    steps = [
        {"primitive": "withhold", "members": [place]},
        {"primitive": "signal", "signal": "KILL", "members": [place]},
    ]
    refused = {"probe": "refused", "via": second.place(), "to": elsewhere(first), "port": PORT}
    return steps, [{"probe": "identity", "of": place, "expect": "dead"}, refused]


def pause(ground: Ground) -> tuple[list[Json], list[Json]]:
    first, second, _third = ground.pods
    mute = {"probe": "mute", "via": second.place(), "to": elsewhere(first), "port": PORT, "say": "PING"}
    steps = [{"primitive": "pause", "members": [first.place()]}]
    return steps, [{"probe": "stopped", "of": first.place()}, mute]


def restart(ground: Ground) -> tuple[list[Json], list[Json]]:
    place = ground.pods[0].place()
    steps = [
        {"primitive": "pause", "members": [place]},
        {"primitive": "wipe", "folders": [place]},
        {"primitive": "signal", "signal": "KILL", "members": [place]},
    ]
    return steps, [{"probe": "identity", "of": place, "expect": "succeeded"}, {"probe": "emptied", "of": place}]


def partition(ground: Ground, direction: str = "both") -> tuple[list[Json], list[Json]]:
    first, second, _third = ground.pods
    ways = ["in", "out"] if direction == "both" else [direction]
    steps = [
        {"primitive": "drop", "member": first.place(), "others": [second.address], "direction": direction},
    ]
    return steps, [
        {"probe": "unreachable", "via": second.place(), "to": elsewhere(first), "port": PORT},
        {"probe": "unreachable", "via": first.place(), "to": elsewhere(second), "port": PORT},
        {"probe": "counter", "in": first.place(), "directions": ways},
    ]


def partition_in(ground: Ground) -> tuple[list[Json], list[Json]]:
    return partition(ground, "in")


def partition_out(ground: Ground) -> tuple[list[Json], list[Json]]:
    return partition(ground, "out")


FAULTS = (kill, kill_held_back, pause, restart, partition, partition_in, partition_out)
Fault = Callable[[Ground], tuple[list[Json], list[Json]]]


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_proved_and_healed(ground: Ground, fault: Fault) -> None:
    name = ground.apply(*fault(ground))
    assert ground.failed(name) == []
    ground.heal(name)


@pytest.mark.parametrize("fault", FAULTS)
def test_without_its_steps_it_is_not_proved(ground: Ground, fault: Fault) -> None:
    name = ground.apply([], fault(ground)[1])
    assert ground.failed(name)
    ground.heal(name)


def test_a_direction_that_is_not_cut_is_not_counted(ground: Ground) -> None:
    steps, watch = partition(ground, "in")
    watch[-1]["directions"] = ["in", "out"]
    name = ground.apply(steps, watch)
    assert [item["what"].rpartition(" ")[2] for item in ground.failed(name)] == ["dropped_out"]


def test_what_a_probe_of_kubernetes_runs_beside_it_is_neither_stopped_nor_taken_for_it(ground: Ground) -> None:
    other = ground.pods[0].beside()
    name = ground.apply(*pause(ground))
    assert ground.failed(name) == []
    process = look_up(other)
    assert process is not None
    assert process.state == "S"
    ground.heal(name)


def test_a_pause_that_kubernetes_ended_is_not_proved_any_more(ground: Ground) -> None:
    name = ground.apply(*pause(ground))
    assert ground.failed(name) == []
    before = ground.pods[0].server_pid
    os.kill(before, 9)  # what a liveness probe has the kubelet do
    until(lambda: ground.pods[0].server_pid != before)
    until(ground.pods[0].serves)
    assert any("another server" in item["observed"] for item in ground.failed(name))
    ground.heal(name)


def test_a_container_that_is_not_the_planned_one_any_more_proves_nothing(ground: Ground) -> None:
    steps, watch = kill(ground)
    for place in (*steps[0]["members"], watch[0]["of"]):
        place["container_id"] = "f" * 64
    name = ground.apply(steps, watch)
    assert any("did not run before" in item["observed"] for item in ground.failed(name))
    ground.heal(name)


def test_a_pod_in_another_namespace_is_not_touched(ground: Ground) -> None:
    stranger = ground.pods[2]
    before = stranger.server_pid
    steps = [{"primitive": "signal", "signal": "KILL", "members": [stranger.place()]}]
    with pytest.raises(AgentError, match="in namespace kube-system"):
        ground.apply(steps, [])
    assert look_up(before)


def test_a_restart_is_held_back_until_healing(ground: Ground) -> None:
    pod = ground.pods[0]
    before = pod.started
    name = ground.apply(*kill_held_back(ground))
    time.sleep(1.5)  # the kubelet here would have started another one five times over
    assert ground.failed(name) == []
    assert pod.started == before
    ground.heal(name)
    until(pod.serves)
    assert pod.started == before + 1


def test_a_pod_that_nothing_looks_after_cannot_be_held_back(ground: Ground) -> None:
    place = ground.pods[0].place() | {"container_id": "f" * 64}
    with pytest.raises(AgentError, match="no process beside it tells its end"):
        ground.apply([{"primitive": "withhold", "members": [place]}], [])


@pytest.mark.parametrize("fault", [pause, partition, kill_held_back])
def test_an_agent_that_is_killed_is_followed_by_one_that_heals(ground: Ground, fault: Fault) -> None:
    name = ground.apply(*fault(ground))
    assert ground.failed(name) == []
    kill_daemon(ground.node.state / "injections" / name / "agent.log")
    with pytest.raises(AgentError, match="cannot be proved"):
        ground.node.probe({"id": name})
    ground.node.end_all("restart")  # what a new one does first
    until(ground.pods[0].serves)
    assert ground.node.undo({"id": name})["by"] == "restart"
    ground.heal(name)


def kill_daemon(log: Path) -> None:
    def complains_to(process: Path) -> str:
        try:
            return os.readlink(process / "fd" / "2")
        except OSError:
            return ""

    (pid,) = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and complains_to(one) == str(log)]
    os.kill(pid, 9)
    until(lambda: look_up(pid) is None)
