"""One member: a pod-like set of namespaces with an address, and the server that runs in it.

The namespaces are held by an init, so that address, links and rules outlive the server. The server is started beside
the init, through ``nsenter``; its processes are found by the PID namespace that they live in, and a member is ended
by its init's pid (a wrapper's end would not end the server).
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from resilience.agent.process import Process, look_up
from resilience.backend.local.log import last_line
from resilience.backend.local.sandbox import BRIDGE, PREFIX_BITS, children
from resilience.errors import StackError
from resilience.spec.stack import Member

INIT_TIMEOUT_S = 20.0
_POLL_S = 0.01
_SCRIPT = Path(__file__).with_name("member-init.sh")


@dataclass(frozen=True, slots=True)
class Ground:
    """What every member of one sandbox stands on."""

    state: Path  # tmpfs of the sandbox
    image: Path
    hosts: Path  # becomes every member's /etc/hosts
    archive: Path  # a folder that stands for an object store, the same for all


@dataclass(kw_only=True)
class Pod:
    """A member's namespaces. ``open`` makes them, ``connect`` gives them a link, ``close`` ends all in them."""

    member: Member
    address: str
    number: int  # unique in the sandbox; names the link
    ground: Ground
    own_code: bool  # runs the project's code, so on the host's files instead of the stack image's
    init: Process | None = field(default=None, init=False)
    _holder: int = field(default=0, init=False)  # the child of the init whose end is the end of the member
    _wrapper: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def folder(self) -> Path:
        """The member's own folder in the sandbox's state: data, config, root."""
        return self.ground.state / "pods" / self.member.name

    @property
    def data(self) -> Path:
        """What the member sees as /data."""
        return self.folder / "data"

    @property
    def config(self) -> Path:
        """What the member sees as /config."""
        return self.folder / "config"

    @property
    def veth(self) -> str:
        """The sandbox's end of the member's link."""
        return f"hfv{self.number}"

    def open(self, log: Path) -> None:
        """Starts the namespaces' init; `wait_open` says when they are there."""
        for folder in (self.data, self.config, self.folder / "root"):
            folder.mkdir(parents=True)
        image = "" if self.own_code else str(self.ground.image)
        tini = str(self.ground.image / "usr/bin/tini-static")
        script = [
            str(_SCRIPT), self.member.name, str(self.ground.hosts), image, str(self.folder / "root"),
            str(self.data), str(self.config), tini, str(self.ground.archive),
        ]  # fmt: skip
        with log.open("ab") as output:
            self._wrapper = subprocess.Popen(
                ["unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "sh", *script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_open(self, log: Path) -> Process:
        """Waits until the init holds the namespaces. Raises `StackError` with the last line it said."""
        assert self._wrapper is not None
        deadline = time.monotonic() + INIT_TIMEOUT_S
        while time.monotonic() < deadline:
            pids = children(self._wrapper.pid)
            held = children(pids[0]) if pids and _comm(pids[0]).startswith("tini") else []
            if held:
                self.init, self._holder = look_up(pids[0]), held[0]
            if self.init:
                return self.init
            if self._wrapper.poll() is not None:
                break
            time.sleep(_POLL_S)
        said = last_line(log) or "no message"
        raise StackError(f"{self.member.name}: its namespaces could not be made: {said}")

    def outer_link_commands(self) -> tuple[str, ...]:
        """Commands for ``ip -batch`` in the sandbox: the link from the bridge into the member."""
        assert self.init is not None
        return (
            f"link add {self.veth} type veth peer name eth0 netns {self.init.pid}",
            f"link set {self.veth} master {BRIDGE} up",
        )

    def inner_link_commands(self) -> tuple[str, ...]:
        """Commands for ``ip -batch`` in the member."""
        return (
            "link set lo up",
            f"addr add {self.address}/{PREFIX_BITS} dev eth0",
            "link set eth0 up",
        )

    def command(self, argv: Sequence[str], cwd: str) -> list[str]:
        """The command line that runs ``argv`` in the member, in the folder ``cwd`` of its own files."""
        assert self.init is not None
        enter = ["nsenter", "--target", str(self.init.pid), "--net", "--pid", "--mount", "--uts", "--ipc", "--"]
        return [*enter, "env", f"--chdir={cwd}", *argv]  # nsenter leaves the caller's folder for the member's root

    def start(self, argv: Sequence[str], output: IO[bytes], cwd: str) -> "subprocess.Popen[bytes]":
        """Starts a command in the member; its output goes to ``output``."""
        return subprocess.Popen(
            self.command(argv, cwd),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,
        )

    def run(self, argv: Sequence[str], streams: Sequence[int], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts a command of a person's in the member, on that person's own standard streams."""
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            self.command(argv, "/"),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**_environment(), **env},
            start_new_session=True,  # its group can be ended as a whole
        )

    def processes(self) -> tuple[Process, ...]:
        """Every process in the member but those that hold it: its init and the init's own child."""
        if self.init is None:
            return ()
        found = []
        namespace = _pid_namespace(self.init.pid)
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) not in {self.init.pid, self._holder} and namespace:
                pid = int(entry.name)
                process = look_up(pid) if _pid_namespace(pid) == namespace else None
                found += [process] if process else []
        return tuple(found)

    def close(self) -> None:
        """Ends everything in the member and waits for it; harmless if it is gone."""
        if self.init:
            self.init.signal(signal.SIGKILL)
        if self._wrapper:
            if self.init is None:
                self._wrapper.kill()
            self._wrapper.wait(INIT_TIMEOUT_S)


def _environment() -> dict[str, str]:
    """What every command in a member finds in its environment; nothing of the caller's but where programs are."""
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "TZ": "UTC",  # of the instants in their logs, which need not name a zone
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115  a Path would be built for each process there is
    except OSError:
        return ""
