"""The sandbox: namespaces of its own for one command and all that it starts; nothing in it outlives it.

::

    this process (the supervisor: forwards signals, reports an inner death)
    └── unshare              dies with the supervisor (parent-death signal), and takes with it
        └── tini             the first process of the PID namespace: when it ends, the kernel ends all others
            └── the command  its end is tini's end

All state is on a tmpfs that is mounted in the sandbox's own mount namespace, so it is gone with the sandbox.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from resilience.backend.local.place import Owner, cache_dir, hand_over
from resilience.backend.local.tool import call
from resilience.errors import HostError

INSIDE = "RESILIENCE_INSIDE"  # set in the sandbox: the root of the stack image
ANNOUNCE_FD = "RESILIENCE_ANNOUNCE_FD"  # set in the sandbox: where the run's directory is written for the supervisor
BRIDGE = "hf0"
GATEWAY = "198.18.0.1"
PREFIX_BITS = 16
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run_in_sandbox(argv: Sequence[str], image: Path, owner: Owner, env: Mapping[str, str], fds: Sequence[int]) -> int:
    """Runs a command as the sandbox's main process and returns its exit code (128 + n if signal n ended it).

    SIGINT, SIGTERM, SIGHUP and SIGQUIT are handed on to the command. Raises `HostError` if it cannot be started.
    """
    state_dir(owner).mkdir(parents=True, exist_ok=True)
    hand_over(state_dir(owner), owner)
    command = [*_namespaces(), str(_init(image)), "--", *argv]
    try:
        sandbox = subprocess.Popen(
            command,
            env={**os.environ, **env, INSIDE: str(image)},
            start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone, which hands it on once
            pass_fds=tuple(fds),
        )
    except OSError as error:
        raise HostError(f"sandbox: {error.filename}: {error.strerror}; run 'make' targets, they install it") from error
    with _forwarding(sandbox):
        code = sandbox.wait()
    return code if code >= 0 else 128 - code


def _namespaces() -> list[str]:
    enter = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--mount", "--uts", "--ipc"]
    enter += ["--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() == 0:
        return enter
    # entering a user namespace clears the parent-death signal, so it is set inside
    return ["unshare", "--user", "--map-root-user", *enter]


@contextlib.contextmanager
def _forwarding(sandbox: "subprocess.Popen[bytes]") -> Iterator[None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        for pid in _first_process(sandbox.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if sandbox.poll() is None:  # this process is leaving by an error: nothing may stay
            sandbox.kill()
            sandbox.wait()


def _first_process(unshare_pid: int) -> list[int]:
    """The sandbox's first process (tini), seen from here; empty while it does not exist."""
    return children(unshare_pid)


def children(pid: int) -> list[int]:
    """The children of a process's main thread; none if it is gone."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state_dir(owner: Owner) -> Path:
    """The folder that the sandbox's tmpfs is mounted on; outside it stays empty."""
    return cache_dir(owner) / "sandbox"


def furnish(owner: Owner) -> Path:
    """Makes the sandbox usable from within: state folder, loopback and the members' bridge. Returns the state folder.

    Raises `StackError` if the kernel refuses.
    """
    state = state_dir(owner)
    call("mount", "-t", "tmpfs", "-o", "mode=0755,size=4g", "harmonyflow", str(state))
    call(
        "ip",
        "-batch",
        "-",
        text="\n".join(
            (
                "link set lo up",
                f"link add {BRIDGE} type bridge",
                f"addr add {GATEWAY}/{PREFIX_BITS} dev {BRIDGE}",
                f"link set {BRIDGE} up",
            )
        ),
    )
    call("hostname", "harmonyflow")
    return state


def image_inside() -> Path | None:
    """The stack image's root if this process runs in a sandbox, else None.

    Raises `HostError` where only the environment says so: what is done in a sandbox must not be done to the machine.
    """
    root = os.environ.get(INSIDE, "")
    if not root:
        return None
    if Path("/proc/1/cmdline").read_bytes().split(b"\0")[0] != os.fsencode(_init(Path(root))):
        raise HostError(f"{INSIDE} is set, and this is no sandbox: unset it")
    return Path(root)


def _init(image: Path) -> Path:
    """The sandbox's first process."""
    return image / "usr/bin/tini-static"


def running_sandboxes() -> list[int]:
    """The first processes of the sandboxes that this user's harness runs now, seen from outside."""
    marker = f"{INSIDE}=".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            first = entry.name.isdigit() and _is_first(entry) and marker in (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or not this user's
            continue
        if first:
            found.append(int(entry.name))
    return found


def _is_first(process: Path) -> bool:
    """Whether it is the first process of a PID namespace one below this one (members' are two below)."""
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("NSpid:"))
    numbers = line.split()[1:]
    return len(numbers) == 2 and numbers[-1] == "1"


def announce(directory: Path) -> None:
    """In the sandbox: tells the supervisor, if there is one, where the run is recorded."""
    fd = os.environ.get(ANNOUNCE_FD, "")
    if fd.isdigit():
        os.write(int(fd), os.fsencode(directory) + b"\n")


def python() -> str:
    """The project's interpreter."""
    return sys.executable
