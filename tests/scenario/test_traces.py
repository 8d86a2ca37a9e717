"""The look at what a run leaves sees each thing that one could leave."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.conftest import wait_for
from tests.scenario.traces import MARK, Ground, Traces, added, files_below, ground, namespaces_of

pytestmark = [pytest.mark.scenario, pytest.mark.skipif(os.geteuid() != 0, reason="makes links, mounts and rules")]
STAYS_S = 0.5  # for how long what stays is looked at: it is there from the first look on


@pytest.fixture
def place() -> Iterator[Ground]:
    with ground() as made:
        yield made


def test_a_machine_that_nobody_changed_is_as_it_was(place: Ground) -> None:
    before = place.machine()
    assert added(before, place.machine()) == {}
    assert {"host name", "mounts", "links", "addresses", "routes", "rules"} <= set(before)


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("host name", "hostname somebody-else"),
        ("mounts", "mount -t tmpfs left {folder}"),
        ("links", "ip link add hf0 type bridge"),
        ("addresses", "ip address add 198.18.0.1/16 dev lo"),
        ("routes", "ip link set lo up; ip route add 198.18.0.0/16 dev lo"),
        ("rules", "nft add table inet hf_left"),
    ],
)
def test_a_change_is_seen(place: Ground, tmp_path: Path, what: str, command: str) -> None:
    before = place.machine()
    subprocess.run([*place.enter, "sh", "-ec", command.format(folder=tmp_path)], check=True)
    assert what in added(before, place.machine())


@pytest.mark.parametrize("marked", [True, False], ids=["by its mark", "by its namespaces"])
def test_a_process_is_seen(place: Ground, marked: bool) -> None:
    mark = uuid.uuid4().hex
    traces = Traces(mark, place.pid)
    environment = {**os.environ, MARK: mark}
    run = ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c"]
    inner = "sleep 60" if marked else "env -i sleep 60 & wait"  # one that has an environment of its own
    with subprocess.Popen([*place.enter, *run, inner], env=environment) as process:
        try:
            while not any(seen.argv == ("sleep", "60") for seen in traces.look()):
                assert process.poll() is None
            assert traces.made
            assert not traces.made & namespaces_of(place.pid)
            assert any("sleep 60" in line for line in traces.left(STAYS_S))
        finally:
            process.kill()
    assert traces.left() == []


@pytest.mark.parametrize("orphan", [False, True], ids=["of another's child", "of an orphan"])
def test_a_number_that_was_given_again_is_the_runs_only_in_an_orphan(tmp_path: Path, orphan: bool) -> None:
    traces = Traces(uuid.uuid4().hex)
    number = tmp_path / "pid"
    script = f"unshare --net sleep 60 & echo $! > {number}; " + ("" if orphan else "wait")
    with subprocess.Popen(["sh", "-c", script]) as somebody:
        try:
            wait_for("a namespace", lambda: number.exists() and _own_network(number), 5.0)
            pid = int(number.read_text())
            assert not orphan or somebody.wait() == 0
            traces.made.add(os.readlink(f"/proc/{pid}/ns/net"))
            assert bool(traces.left(STAYS_S)) == orphan
        finally:
            os.kill(pid, signal.SIGKILL)
            somebody.kill()
    assert traces.left() == []


def _own_network(number: Path) -> bool:
    text = number.read_text().strip()
    return bool(text) and os.readlink(f"/proc/{text}/ns/net") != os.readlink("/proc/self/ns/net")


def test_a_namespace_that_somebody_holds_open_is_seen(place: Ground) -> None:
    mark = uuid.uuid4().hex
    traces = Traces(mark, place.pid)
    with subprocess.Popen(["unshare", "--net", "sleep", "60"], env={**os.environ, MARK: mark}) as process:
        while not traces.made:
            traces.look()
        handle = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        process.kill()
    assert traces.left(STAYS_S) == sorted(traces.made)
    os.close(handle)
    assert traces.left() == []


def test_files_are_seen(tmp_path: Path) -> None:
    assert files_below(tmp_path) == set()
    (tmp_path / "cache/left").mkdir(parents=True)
    (tmp_path / "link").symlink_to(sys.prefix)
    assert files_below(tmp_path) == {"cache", "cache/left", "link"}
