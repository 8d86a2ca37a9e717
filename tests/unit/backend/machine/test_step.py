"""What is done to nodes' containers, and that all of it is undone alike."""

from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.agent.probe import Probe
from resilience.agent.step import Step
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of
from tests.fakes import FakeCluster, FakeDocker

HOST, PEERS = "hf-worker", ["hf-control-plane", "hf-worker2"]
PLANE = FakeCluster({}).plane()
EVERY = ("power-off", "freeze", "isolate", "reboot")
NODE = {"name": "node-1", "host": HOST, "links": [["kind", "172.30.0.3", "02:42:ac:1e:00:03"]]}


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker("hf", {"hf-control-plane": "control-plane", HOST: "worker", "hf-worker2": "worker"})


def step(docker: FakeDocker, what: str) -> Step:
    return step_of(Docker(docker.run), PLANE, "test-1", {"primitive": what, "nodes": [NODE], "peers": PEERS})


def probe(docker: FakeDocker, what: str) -> Probe:
    return probe_of(Docker(docker.run), PLANE, "test-1", {"probe": "node", "nodes": [NODE], "after": what})


def seen(found: list[Any]) -> list[tuple[str, bool]]:
    return [(item["observed"], item["ok"]) for item in found]


@pytest.mark.parametrize(
    ("what", "observed"),
    [
        ("power-off", "exited"),
        ("freeze", "paused"),
        ("isolate", "running, without a network"),
        ("reboot", "started again"),
    ],
)
def test_it_is_done_seen_undone_and_seen(docker: FakeDocker, what: str, observed: str) -> None:
    looking = probe(docker, what)
    looking.prepare()
    assert not looking.in_effect()[0]["ok"]
    step(docker, what).do()
    assert seen(looking.in_effect()) == [(observed, True)]
    step(docker, what).undo()
    assert seen(looking.healed()) == [("running, connected", True)]
    assert seen(step(docker, what).undone()) == [("running, connected", True), ("none", True)]


def test_a_node_that_does_not_stay_up_was_not_rebooted(docker: FakeDocker) -> None:
    looking = probe(docker, "reboot")
    looking.prepare()
    step(docker, "reboot").do()
    docker.states["hf-worker"] = "exited"
    assert seen(looking.in_effect()) == [("exited, connected, started again", False)]


@pytest.mark.parametrize("what", ["power-off", "isolate"])
def test_nobody_is_told_that_a_silent_node_is_unreachable(docker: FakeDocker, what: str) -> None:
    step(docker, what).do()
    assert [docker.kept[peer] for peer in PEERS] == [{"172.30.0.3"}] * 2
    assert seen(step(docker, what).undone())[1] == ("hf-control-plane, hf-worker2", False)
    step(docker, what).undo()
    assert [docker.kept[peer] for peer in PEERS] == [set()] * 2


def test_after_a_reboot_nobody_keeps_anything_in_mind(docker: FakeDocker) -> None:
    step(docker, "reboot").do()
    assert [docker.kept[peer] for peer in PEERS] == [set()] * 2
    assert [word for word in docker.done if not word.startswith("exec")] == [f"kill {HOST}", f"start {HOST}"]


@pytest.mark.parametrize("what", EVERY)
def test_undoing_what_was_never_done_touches_no_container(docker: FakeDocker, what: str) -> None:
    step(docker, what).undo()
    step(docker, what).undo()
    assert [word for word in docker.done if not word.startswith("exec")] == []


@pytest.mark.parametrize("what", EVERY)
def test_whatever_else_was_done_meanwhile_is_undone_too(docker: FakeDocker, what: str) -> None:
    step(docker, what).do()
    docker.states[HOST] = "exited"
    docker.networks[HOST].clear()
    step(docker, what).undo()
    assert (docker.states[HOST], list(docker.networks[HOST])) == ("running", ["kind"])


@pytest.mark.parametrize("what", ["power-off", "reboot"])
def test_a_node_that_went_silent_and_did_not_end_is_switched_off_and_on(docker: FakeDocker, what: str) -> None:
    docker.broken.add("kill")
    with pytest.raises(AgentError, match="docker kill"):
        step(docker, what).do()
    assert seen(step(docker, what).undone())[0] == ("running, its links are down", False)
    with pytest.raises(AgentError, match="docker kill"):
        step(docker, what).undo()
    docker.broken.clear()
    step(docker, what).undo()
    assert seen(step(docker, what).undone()) == [("running, connected", True), ("none", True)]
    assert docker.starts[HOST] == 2


@pytest.mark.parametrize(("what", "word"), [("freeze", "unpause"), ("power-off", "start"), ("isolate", "network")])
def test_two_that_heal_at_the_same_moment_do_no_harm(docker: FakeDocker, what: str, word: str) -> None:
    step(docker, what).do()
    docker.raced.add(word)
    step(docker, what).undo()
    assert seen(step(docker, what).undone()) == [("running, connected", True), ("none", True)]


def test_a_node_that_was_not_well_before_proves_nothing(docker: FakeDocker) -> None:
    docker.states[HOST] = "paused"
    looking = probe(docker, "freeze")
    looking.prepare()
    assert seen(looking.in_effect()) == [("paused, and before the injection: paused, connected", False)]


def test_what_nobody_looked_at_before_proves_nothing(docker: FakeDocker) -> None:
    step(docker, "freeze").do()
    assert seen(probe(docker, "freeze").in_effect()) == [("paused, and before the injection: not looked at", False)]


def test_a_peer_that_cannot_be_told_keeps_no_other_from_it(docker: FakeDocker) -> None:
    docker.states["hf-control-plane"] = "exited"
    with pytest.raises(AgentError, match=r"hf-control-plane: .* it is exited"):
        step(docker, "power-off").do()
    assert docker.kept["hf-worker2"] == {"172.30.0.3"}
    assert docker.states[HOST] == "running", "nothing is done to it then"


def test_the_nodes_of_a_cluster_that_was_deleted_are_broken_no_more(docker: FakeDocker) -> None:
    step(docker, "power-off").do()
    docker.roles.clear()
    step(docker, "power-off").undo()
    assert seen(step(docker, "power-off").undone()) == [("gone", False), ("none", True)]


def test_what_is_no_address_reaches_no_shell(docker: FakeDocker) -> None:
    for link in (["kind", "172.30.0.3; reboot", "02:42:ac:1e:00:03"], ["kind", "172.30.0.3", "x; reboot"]):
        data = {"primitive": "power-off", "nodes": [{**NODE, "links": [link]}], "peers": PEERS}
        with pytest.raises(AgentError, match="; reboot"):
            step_of(Docker(docker.run), PLANE, "test-1", data)


def test_other_primitives_are_not_for_nodes(docker: FakeDocker) -> None:
    with pytest.raises(AgentError, match="expected one of power-off, freeze, isolate, reboot, drain, delete, scale"):
        step_of(Docker(docker.run), PLANE, "test-1", {"primitive": "signal", "members": []})
    with pytest.raises(AgentError, match="expected one of node, drained, deleted, scaled, denied, rolled-out"):
        probe_of(Docker(docker.run), PLANE, "test-1", {"probe": "silent"})
