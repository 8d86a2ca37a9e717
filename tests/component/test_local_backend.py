"""The local backend for real: namespaces, links, names, restarts and holds."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.component


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not after {timeout_s} s: {what}"
        time.sleep(0.02)


def in_member(platform, name: str, *argv: str) -> str:
    init = str(platform.state(name).handle["init_pid"])
    enter = ["nsenter", "--target", init, "--net", "--pid", "--mount", "--uts", "--ipc", "--"]
    return subprocess.run([*enter, *argv], capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def answers(name: str, port: int) -> bool:
    try:
        socket.create_connection((name, port), 1).close()
    except OSError:
        return False
    return True


def test_members_have_their_own_host_name_address_and_processes(platform):
    state = platform.state("redis-cluster-4")
    assert in_member(platform, "redis-cluster-4", "hostname") == "redis-cluster-4"
    pids = in_member(platform, "redis-cluster-4", "sh", "-c", "ls /proc | grep -E '^[0-9]+$' | wc -l")
    assert int(pids) < 12
    for kind in ("net", "pid", "mnt", "uts", "ipc"):
        assert os.readlink(f"/proc/{state.handle['init_pid']}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_every_member_resolves_every_other_and_so_does_the_sandbox(platform):
    names = [state.name for state in platform.states()]
    for name in ("redis-cluster-0", "edge-1"):
        lines = in_member(platform, name, "cat", "/etc/hosts")
        assert all(f" {other}\n" in f"{lines}\n" for other in names)
    assert socket.gethostbyname("session-1") == platform.state("session-1").address


def test_servers_answer_by_name_from_the_sandbox(platform):
    for name, port in (("redis-cluster-0", 6379), ("prometheus-0", 9090), ("node-exporter-0", 9100)):
        wait_for(f"{name}:{port} answers", partial(answers, name, port))


def test_the_image_cannot_be_changed_by_a_member(platform):
    with pytest.raises(subprocess.CalledProcessError):
        in_member(platform, "redis-cluster-0", "touch", "/usr/bin/changed")


def test_the_hosts_links_are_not_seen_inside(platform):
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, timeout=5, check=True).stdout
    names = [line.split()[0] for line in links.splitlines()]
    assert len(names) > len(platform.states())
    assert all(name == "lo" or name.startswith("hf") for name in names)


def test_a_killed_server_comes_back_after_the_stacks_delay_with_its_address(platform):
    before = platform.state("node-exporter-0")
    wait_for("it answers", lambda: answers(before.name, 9100))
    killed_at = time.monotonic()
    os.kill(before.handle["server_pid"], signal.SIGKILL)
    wait_for("a new server", lambda: platform.state(before.name).restarts == before.restarts + 1)
    assert time.monotonic() - killed_at >= platform.stack.restart_delay_s
    after = platform.state(before.name)
    assert after.identity != before.identity
    assert after.address == before.address
    assert before.last_words is None
    assert after.last_words
    wait_for("it answers again", lambda: answers(before.name, 9100))


def test_a_held_server_stays_dead_until_every_hold_is_gone(platform):
    before = platform.state("redis-exporter-0")
    holds = [Path(before.handle["hold_dir"]) / name for name in ("a-1", "b-2")]
    for hold in holds:
        hold.touch()
    os.kill(before.handle["server_pid"], signal.SIGKILL)
    wait_for("it is dead", lambda: not platform.state(before.name).running)
    holds[0].unlink()
    time.sleep(platform.stack.restart_delay_s * 2)  # long enough that a missing hold would show
    assert not platform.state(before.name).running
    assert platform.state(before.name).held_by == ("b-2",)
    holds[1].unlink()
    wait_for("it runs again", lambda: platform.state(before.name).running)


def test_a_lost_wrapper_never_leads_to_a_second_server(platform):
    before = platform.state("redis-cluster-5")
    server = before.handle["server_pid"]
    wrapper = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(wrapper, signal.SIGKILL)
    time.sleep(platform.stack.restart_delay_s * 2)  # long enough that a second server would have started
    assert platform.state(before.name) == before
    assert servers_in(platform, before.name) == 1
    os.kill(server, signal.SIGKILL)
    wait_for("its real end is seen", lambda: platform.state(before.name).restarts == before.restarts + 1)
    assert servers_in(platform, before.name) == 1


def servers_in(platform, name: str) -> int:
    return int(in_member(platform, name, "sh", "-c", "cat /proc/[0-9]*/comm | grep -c redis-server"))


def test_secrets_are_files_that_only_their_owner_reads(platform):
    path = platform.secret_file("redis-password")
    assert path.stat().st_mode & 0o077 == 0
    secret = platform.secret("redis-password")
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        assert secret.encode() not in process.read_bytes()


def test_a_server_that_was_stopped_for_a_while_is_still_looked_after(platform):
    before = platform.state("node-exporter-0")
    pid = before.handle["server_pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_for("it is stopped", lambda: ") T " in Path(f"/proc/{pid}/stat").read_text())
    time.sleep(0.1)  # the wrapper notices
    os.kill(pid, signal.SIGCONT)
    wait_for("it answers", lambda: answers(before.name, 9100))
    os.kill(pid, signal.SIGKILL)
    wait_for("a new server", lambda: platform.state(before.name).restarts == before.restarts + 1)
