"""Pods found by their control groups, on a machine where processes of this test stand for a pod's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilience.agent import pod, process
from resilience.agent.error import AgentError
from resilience.agent.pod import Pods
from resilience.agent.process import Place, look_up, servers

UID = "5911d53b-655f-4b1b-88c8-da33e4a8851d"
SANDBOX, SERVER, EXECUTED = "sandbox", "server", "server"  # containers


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    for name in (f"redis_redis-cluster-0_{UID}", "kube-system_kube-proxy-x_other-uid", "not-a-pods-folder"):
        (tmp_path / name).mkdir()
    return Pods(allowed=frozenset({"redis", "harmonyflow"}), logs=tmp_path)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sandbox's, the server's and one that somebody executes beside it, each of its own session."""
    children = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) for _number in range(3)]
    pids = [child.pid for child in children]
    inside = list(zip(pids, (SANDBOX, SERVER, EXECUTED), strict=True))
    for module in (pod, process):
        monkeypatch.setattr(module, "processes_of", lambda uid: reversed(inside) if uid == UID else iter(()))
        monkeypatch.setattr(module, "is_first_of_its_namespace", lambda pid: pid in pids[:2])
    yield pids
    for child in children:
        child.kill()
        child.communicate()


def known(**changes: Any) -> dict[str, Any]:
    pod = {"name": "redis-cluster-0", "pod_uid": UID, "container_id": SERVER, "data_dir": "/data", "host": "hf-worker"}
    return pod | changes


def test_a_pods_first_process_and_its_server(pods: Pods, running: list[int]):
    placed = pods.located(known())
    sandbox, server, _executed = (look_up(pid) for pid in running)
    assert sandbox
    assert server
    assert (placed["init_pid"], placed["init_start"]) == (sandbox.pid, sandbox.start)
    assert (placed["server_pid"], placed["server_start"]) == (server.pid, server.start)
    assert placed["data_dir"] == f"/proc/{server.pid}/root/data"


@pytest.mark.parametrize("folder", ["data", "/", "/data/../etc", "../x", ""])
def test_a_data_folder_that_is_none_of_the_pods(pods: Pods, running: list[int], folder: str):
    assert running
    with pytest.raises(AgentError, match="expected an absolute path below the root"):
        pods.located(known(data_dir=folder))


def test_another_container_is_not_the_one_that_ran(pods: Pods, running: list[int]):
    placed = pods.located(known(container_id="an older one"))
    assert placed["init_pid"] == running[0]
    assert placed["server_pid"] is None
    assert placed["data_dir"] == "/data"


def test_servers_are_what_containers_were_started_with(pods: Pods, running: list[int]):
    place = Place.from_json(pods.located(known()))
    assert [process.pid for process in servers(place)] == [running[1]]  # neither the sandbox nor what is executed
    gone = Place.from_json(pods.located(known()) | {"init_start": 1})
    assert servers(gone) == ()


def test_every_pod_of_a_request_is_found(pods: Pods, running: list[int]):
    elsewhere = {"name": "redis-cluster-1", "address": "10.244.1.4", "init_pid": 0, "init_start": 0}
    request = {
        "steps": [{"primitive": "pause", "members": [known()]}],
        "watch": [{"probe": "unreachable", "via": known(), "to": elsewhere, "port": 6379}],
    }
    located = pods.located(request)
    assert located["steps"][0]["members"][0]["init_pid"] == located["watch"][0]["via"]["init_pid"] == running[0]
    assert located["watch"][0]["to"] == elsewhere
    assert located["watch"][0]["port"] == 6379


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        ("other-uid", "in namespace kube-system: this agent touches harmonyflow, redis only"),
        ("no-such-uid", "in namespace .unknown here.: this agent touches"),
        ("kube-proxy-x_other-uid", "unknown here"),
    ],
)
def test_a_pod_that_is_not_to_be_touched(pods: Pods, running: list[int], uid: str, words: str):
    assert running
    with pytest.raises(AgentError, match=words):
        pods.located({"steps": [{"members": [known(pod_uid=uid)]}]})


def test_an_agent_that_may_touch_nothing(tmp_path: Path):
    with pytest.raises(AgentError, match="touches none only"):
        Pods(allowed=frozenset(), logs=tmp_path / "none").located(known())


def test_a_pod_that_does_not_run_here(pods: Pods):
    with pytest.raises(AgentError, match=r"nothing of pod .* runs on this node"):
        pods.located(known())
