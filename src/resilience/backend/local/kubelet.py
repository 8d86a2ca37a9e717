"""Keeps the members' servers running, like a kubelet: starts them, and starts a dead one again after a delay.

A fault holds a member back by a file in its hold folder, named after the injection; while there is one, the server is
not started. This thread is the only one that starts servers, so that healing can never start a second one.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from resilience.agent.process import Process, look_up
from resilience.backend.base import MemberState, Say
from resilience.backend.local.log import last_line
from resilience.backend.local.member import Pod
from resilience.backend.local.sandbox import children
from resilience.backend.settings import DATA_KEEP

POLL_S = 0.02
_FIND_SERVER_TIMEOUT_S = 2.0
_REAP_TIMEOUT_S = 10.0


@dataclass(kw_only=True)
class Server:
    """A member's server: what is run, and what became of it."""

    pod: Pod
    argv: tuple[str, ...]
    cwd: str
    log: Path
    holds: Path  # folder of hold files
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    identity: Process | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)
    last_words: str | None = field(default=None, init=False)  # see `MemberState`
    start_at: float | None = field(default=None, init=False)  # `time.monotonic`, while a restart is due
    held_by: tuple[str, ...] = field(default=(), init=False)

    @property
    def ended(self) -> bool:
        """Whether the server was started and has ended; a lost wrapper alone is no end of the server."""
        if self.process is None:
            return False
        return not self.identity.alive if self.identity else self.process.poll() is not None

    def wait(self) -> int:
        """The exit code of a server that has ended.

        The wrapper stopped itself if its server was stopped, and nobody else tells it to go on. (While the server
        lives nobody may: the wrapper would tell the server the same.)
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        return self.process.wait(_REAP_TIMEOUT_S)

    def state(self) -> MemberState:
        """The member as it is now."""
        pod, init = self.pod, self.pod.init
        return MemberState(
            name=pod.member.name,
            component=pod.member.component,
            node=pod.member.node,
            address=pod.address,
            running=self.identity is not None,
            identity=f"{self.identity.pid}:{self.identity.start}" if self.identity else "",
            restarts=max(self.starts - 1, 0),
            last_words=self.last_words,
            held_by=self.held_by,
            handle={
                "init_pid": init.pid if init else 0,
                "init_start": init.start if init else 0,
                "veth": pod.veth,
                "server_pid": self.identity.pid if self.identity else None,
                "server_start": self.identity.start if self.identity else None,
                "hold_dir": str(self.holds),
                "data_dir": str(pod.data),
                "data_keep": DATA_KEEP.get(pod.member.component, []),
            },
        )


class Kubelet:
    """One thread over all servers; ``state_files`` gets a file for each member, rewritten at every change."""

    def __init__(self, servers: Sequence[Server], restart_delay_s: float, state_files: Path, say: Say) -> None:
        """Nothing runs before `start`."""
        self._servers = {server.pod.member.name: server for server in servers}
        self._restart_delay_s = restart_delay_s
        self._state_files = state_files
        self._say = say
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def start(self) -> None:
        """Starts every server that has a command, then watches them."""
        for server in self._servers.values():
            server.holds.mkdir(parents=True, exist_ok=True)
            if server.argv:
                self._start(server)
            else:
                self._save(server)
        self._thread.start()

    def stop(self) -> None:
        """Starts nothing any more. Raises what went wrong in the thread."""
        self._ending.set()
        if self._thread.ident:
            self._thread.join(5)
        for server in self._servers.values():
            if server.process:  # one that is stopped would never collect its server, and so keep the member from ending
                server.process.send_signal(signal.SIGCONT)
        if self._failure:
            raise self._failure

    def reap(self) -> None:
        """Waits for the ends of all servers, once their members have been closed."""
        for server in self._servers.values():
            if server.process:
                server.wait()

    def state(self, name: str) -> MemberState | None:
        """One member as it is now, or None if there is none of that name."""
        server = self._servers.get(name)
        return server.state() if server else None

    def states(self) -> tuple[MemberState, ...]:
        """All members as they are now."""
        return tuple(server.state() for server in self._servers.values())

    def _run(self) -> None:
        try:
            while not self._ending.wait(POLL_S):
                for server in self._servers.values():
                    if server.argv:
                        self._tend(server)
        except BaseException as error:  # noqa: BLE001  raised again by stop(): a thread has nowhere else to raise to
            self._failure = error

    def _tend(self, server: Server) -> None:
        self._note_holds(server)
        if server.ended:
            self._note_exit(server)
        if server.start_at is not None and time.monotonic() >= server.start_at and not server.held_by:
            self._start(server)

    def _note_holds(self, server: Server) -> None:
        held_by = tuple(sorted(path.name for path in server.holds.iterdir()))
        if held_by != server.held_by:
            what = "held" if len(held_by) > len(server.held_by) else "released"
            server.held_by = held_by
            if server.start_at is not None and not held_by:  # it has waited for as long as the fault meant it to
                server.start_at = time.monotonic()
            self._save(server)
            self._say("member", {"member": server.pod.member.name, "what": what, "pid": 0, "code": 0})

    def _note_exit(self, server: Server) -> None:
        code = server.wait()
        pid = server.identity.pid if server.identity else 0
        server.process, server.identity = None, None
        server.last_words = last_line(server.log)
        server.start_at = time.monotonic() + self._restart_delay_s
        self._save(server)
        self._say("member", {"member": server.pod.member.name, "what": "exited", "pid": pid, "code": code})

    def _start(self, server: Server) -> None:
        with server.log.open("ab") as output:
            server.process = server.pod.start(server.argv, output, server.cwd)
        server.identity = _server_of(server.process)
        server.starts += 1
        server.start_at = None
        self._save(server)
        pid = server.identity.pid if server.identity else 0
        what = "started" if server.starts == 1 else "restarted"
        self._say("member", {"member": server.pod.member.name, "what": what, "pid": pid, "code": 0})

    def _save(self, server: Server) -> None:
        path = self._state_files / f"{server.pod.member.name}.json"
        beside = path.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(server.state()))
        beside.replace(path)


def _server_of(wrapper: "subprocess.Popen[bytes]") -> Process | None:
    """The server behind ``nsenter``, which forks to enter a PID namespace; None if it ended at once."""
    deadline = time.monotonic() + _FIND_SERVER_TIMEOUT_S
    while time.monotonic() < deadline and wrapper.poll() is None:
        pids = children(wrapper.pid)
        if pids:
            return look_up(pids[0])
        time.sleep(0.001)
    return None
