"""The machine as an agent: what it answers, what it remembers, what heals without it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.node import Node
from resilience.backend.machine.__main__ import answered, node_of
from resilience.backend.machine.desk import Desk, broken_nodes, put_all_right
from resilience.backend.machine.docker import Docker
from resilience.errors import StackError
from tests.fakes import FakeCluster, FakeDocker

ROLES = {"hf-control-plane": "control-plane", "hf-worker": "worker", "hf-worker2": "worker"}
INJECTION = {
    "id": "test-1", "ttl_s": 35.0,
    "steps": [{"primitive": "freeze", "nodes": [{"name": "node-1", "host": "hf-worker"}]}],
    "watch": [{"probe": "node", "nodes": [{"name": "node-1", "host": "hf-worker"}], "after": "freeze"}],
}  # fmt: skip


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker("hf", ROLES)


@pytest.fixture
def node(docker: FakeDocker, tmp_path: Path) -> Node:
    return node_of(tmp_path, "hf", frozenset({"hf-worker"}), Docker(docker.run), FakeCluster({}).plane)


def asked(node: Node, docker: FakeDocker, word: str, **request: Any) -> dict[str, Any]:
    return answered(node, Docker(docker.run), word, request)


def left(node: Node, docker: FakeDocker, tmp_path: Path) -> None:
    """An injection as a daemon leaves it that was killed."""
    folder = tmp_path / "injections" / "test-1"
    folder.mkdir(parents=True)
    request = {
        "injection": node.pods.request(INJECTION), "parts": 2, "dir": str(folder),
        "ledger": str(tmp_path / "ledger.jsonl"), "base_ns": 0, "at_ns": 0, "told_ns": 0,
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request))
    node.job_of(request).apply(0)


def test_what_is_open_is_known_and_ended_without_a_daemon(node: Node, docker: FakeDocker, tmp_path: Path) -> None:
    left(node, docker, tmp_path)
    assert docker.states["hf-worker"] == "paused"
    assert asked(node, docker, "open") == {"open": ["test-1"]}
    undone = asked(node, docker, "undo", id="test-1", within_s=0)
    assert docker.states["hf-worker"] == "running"
    assert (undone["by"], undone["does"], undone["parts"]) == ("request", True, 2)
    assert undone["started_at"] == {"hf-worker": "2026-11-25T10:00:01.5Z"}
    assert all(item["ok"] for item in undone["evidence"])
    assert asked(node, docker, "open") == {"open": []}


def test_which_nodes_an_injection_takes_away(node: Node, docker: FakeDocker, tmp_path: Path) -> None:
    desk = Desk("hf", tmp_path, tmp_path, lambda: ())
    assert desk.hosts_of("test-1") is None
    left(node, docker, tmp_path)
    assert desk.hosts_of("test-1") == ("hf-worker",)


def test_what_is_done_to_a_node_is_handed_to_a_daemon(
    node: Node, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the fork: the daemon's place is taken by this process."""
    monkeypatch.setattr("resilience.agent.node.apply", lambda located, job_of: job_of(located).apply(0))
    request = {"injection": INJECTION, "boot_id": node.boot_id, "parts": 1, "at_ns": 0}
    assert asked(node, docker, "apply", **request)["applied_ns"]
    assert docker.states["hf-worker"] == "paused"
    assert (tmp_path / "injections/test-1/request.json").exists()


def test_errors_are_answers(node: Node, docker: FakeDocker) -> None:
    assert asked(node, docker, "undo", id="test-9") == {"unknown": True, "started_at": {}}
    assert "own words" in asked(node, docker, "dance")["error"]
    refused = {**INJECTION, "steps": [{"primitive": "freeze", "nodes": [{"name": "x", "host": "hf-worker2"}]}]}
    request = {"injection": refused, "boot_id": node.boot_id, "parts": 1, "at_ns": 0}
    assert "no fault may touch it" in asked(node, docker, "apply", **request)["error"]
    other = {"injection": INJECTION, "boot_id": "another", "parts": 1, "at_ns": 0}
    assert "another kernel" in asked(node, docker, "apply", **other)["error"]
    assert docker.states["hf-worker2"] == "running"


def test_broken_nodes_are_found_and_put_right_from_nothing_but_docker(docker: FakeDocker) -> None:
    mine = Docker(docker.run)
    assert broken_nodes(mine, "hf") == {}
    docker.states["hf-worker"] = "paused"
    docker.states["hf-worker2"] = "exited"
    docker.networks["hf-worker2"].clear()
    docker.kept["hf-control-plane"].add("172.30.0.3")
    assert broken_nodes(mine, "hf") == {"hf-worker": "paused, connected", "hf-worker2": "exited, without a network"}
    assert put_all_right(mine, "hf") == {
        "hf-worker": ["let go on"], "hf-worker2": ["connected with kind", "started"]
    }  # fmt: skip
    assert broken_nodes(mine, "hf") == {}
    assert docker.kept["hf-control-plane"] == set()
    assert put_all_right(mine, "hf") == {}


def test_a_power_off_that_broke_off_half_way_is_found_and_put_right(docker: FakeDocker) -> None:
    mine = Docker(docker.run)
    docker.silent.add("hf-worker")
    assert broken_nodes(mine, "hf") == {"hf-worker": "running, its links are down"}
    assert put_all_right(mine, "hf") == {"hf-worker": ["started"]}
    assert broken_nodes(mine, "hf") == {}


def test_a_node_that_cannot_be_put_right_keeps_no_other_from_it(docker: FakeDocker) -> None:
    mine = Docker(docker.run)
    docker.states |= {"hf-worker": "paused", "hf-worker2": "exited"}
    docker.kept["hf-control-plane"].add("172.30.0.3")
    docker.broken.add("unpause")
    with pytest.raises(StackError, match="put right: hf-worker: 'docker unpause' failed"):
        put_all_right(mine, "hf")
    assert docker.states["hf-worker2"] == "running"
    assert docker.kept["hf-control-plane"] == set()


@pytest.mark.parametrize("said", ["[", "[{}]", '{"Name": 1}'])
def test_an_answer_of_docker_that_cannot_be_read_is_an_error_of_the_machine(said: str) -> None:
    def run(argv: Sequence[str], _timeout_s: float) -> str:
        return said if "inspect" in argv else "hf-worker"

    with pytest.raises(StackError, match="'docker inspect' of hf-worker"):
        broken_nodes(Docker(run), "hf")
