"""What the tests in a cluster wait for and see: that each of them can see it, and says what it did not. Without one."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from resilience.agent.node import STATE
from resilience.errors import StackError
from tests.kind.looks import RECORDS, TABLES, Record, records_in, tables_in
from tests.waiting import wait_seen

ENDED = {"began_ns": 8_000_000_000, "healed_ns": 9_000_000_000, "by": "ttl"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves when somebody waits."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def beside_an_agent(script: str, folder: Path, nsenter: str = "exit 1") -> str:
    """What a script prints, with a tool of the test's in the place of the one that enters a network."""
    tool = folder / "nsenter"
    tool.write_text(f"#!/bin/sh\n{nsenter}\n")
    tool.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", STATE: str(folder)}
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout


def test_a_look_that_fails_is_repeated(clock: list[float]) -> None:
    looks: list[list[str] | None] = [None, [], ["hf-worker (paused)"]]

    def look() -> list[str]:
        found = looks.pop(0)
        if found is None:
            raise StackError("no answer in 30 s")
        return found

    assert wait_seen("a node is frozen", look, 10.0) == ["hf-worker (paused)"]
    assert clock[0] == 2.0


def test_what_is_never_seen_is_told_with_the_last_look(clock: list[float]) -> None:
    with pytest.raises(AssertionError, match=r"a node is frozen: not within 10 s; the last look found \[\]"):
        wait_seen("a node is frozen", list, 10.0)
    assert clock[0] >= 10.0

    def look() -> list[str]:
        raise StackError("'kubectl get' did not end within 30 s")

    with pytest.raises(AssertionError, match="the last look failed: 'kubectl get' did not end"):
        wait_seen("a pod is cut off", look, 10.0)


def test_every_network_of_a_node_is_looked_into_whoever_holds_it(tmp_path: Path) -> None:
    """Only processes called pause were looked into: in a sandbox by another name no cut was seen."""
    mine = os.readlink("/proc/self/ns/net")
    said = beside_an_agent(TABLES, tmp_path, 'echo "$(readlink /proc/$2/ns/net) hf_test"')
    assert f"{mine} hf_test" in said
    seen = [line for line in said.splitlines() if "hf_test" in line]
    assert len(seen) == len(set(seen)), "each network is looked into once"
    assert len(tables_in([said])) == len(seen)


def test_a_node_that_could_not_be_looked_into_is_not_taken_for_whole(tmp_path: Path) -> None:
    whole = beside_an_agent(TABLES, tmp_path, "echo table inet kube-proxy")
    assert tables_in([whole]) == []
    with pytest.raises(StackError, match="no network of a node could be looked into"):
        tables_in([whole, beside_an_agent(TABLES, tmp_path, "exit 127")])


def test_who_ended_what_is_read_from_where_it_was_written(tmp_path: Path) -> None:
    for name, steps, undone in (("cut-1", [{}], ENDED), ("cut-2", [], ENDED), ("cut-3", [{}], None)):
        folder = tmp_path / "injections" / name
        folder.mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps({"injection": {"id": name, "steps": steps}}))
        (folder / "applied.json").write_text(json.dumps({"began_ns": 1_000_000_000, "applied_ns": 2_000_000_000}))
        if undone:
            (folder / "undone.json").write_text(json.dumps(undone))
    said = beside_an_agent(RECORDS, tmp_path)
    assert records_in([said, ""]) == [
        Record(injection="cut-1", applied_s=2.0, undoing_s=8.0, ended_s=9.0, by="ttl")
    ], "neither what only looked, nor what is open"  # fmt: skip


def test_an_agent_that_knows_of_nothing(tmp_path: Path) -> None:
    assert records_in([beside_an_agent(RECORDS, tmp_path)]) == []
