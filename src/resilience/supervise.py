"""What stands outside the sandbox: checks the machine, has the image built, runs the command inside, reports its end.

The supervisor holds nothing that a run needs: when it is killed the sandbox goes with it, and when the sandbox is
killed the supervisor judges what was recorded until then.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resilience.backend.local.image import ImageStore, Recipe
from resilience.backend.local.place import PROJECT_ROOT, cache_dir, calling_user, hand_over
from resilience.backend.local.sandbox import ANNOUNCE_FD, furnish, image_inside, run_in_sandbox, running_sandboxes
from resilience.errors import HostError
from resilience.host import Answer, answers_of, facts_of_host, require_host, system_path
from resilience.report.progress import Steps
from resilience.report.terminal import can_move, console_for

Say = Callable[[str], None]


def find_system_tools() -> None:
    """Lets this process and all that it starts find tools where an ordinary user's PATH does not look."""
    os.environ["PATH"] = system_path(os.environ.get("PATH", ""))


def find_image() -> Path | None:
    """The stack image's root if it is built."""
    owner = calling_user()
    return ImageStore(cache_dir(owner), owner).find(Recipe())


def image_root(*, rebuild: bool = False) -> Path:
    """The stack image's root, built now, with progress, if it is not there. Raises `HostError`."""
    found = None if rebuild else find_image()
    if found:
        return found
    owner = calling_user()
    cache = cache_dir(owner)
    console = console_for(sys.stderr)
    steps = Steps(console, time.monotonic, moving=can_move(console, os.environ))
    with steps.step("building the stack image, about a minute, once") as step:
        require_host(cache, building=True)
        return ImageStore(cache, owner).ensure(Recipe(), step.say, warn=steps.say, rebuild=rebuild)


def examined() -> tuple[Answer, ...]:
    """All that a run needs of this machine, found out by trying."""
    return answers_of(facts_of_host(cache_dir(calling_user()), PROJECT_ROOT / "reports", building=find_image() is None))


def require_machine(reports: Path = PROJECT_ROOT / "reports") -> None:
    """Raises `HostError` with the first thing that this machine, or the place of the reports, lacks for a run."""
    require_host(cache_dir(calling_user()), building=False, reports=reports)


def run_inside(arguments: Sequence[str], image: Path) -> tuple[int, Path | None]:
    """Runs ``resilience`` with these arguments in a sandbox.

    Returns its exit code (128 + n: signal n ended it) and the run's directory, if it came so far. Raises `HostError`.
    """
    owner = calling_user()
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)  # noqa: FBT003
        argv = [sys.executable, "-m", "resilience", *arguments]
        code = run_in_sandbox(argv, image, owner, {ANNOUNCE_FD: str(writer)}, (writer,))
        announced = os.fsdecode(os.read(reader, 8192)) if select.select([reader], [], [], 0)[0] else ""
    finally:
        os.close(writer)
        os.close(reader)
    return code, Path(announced.removesuffix("\n")) if announced else None


@contextmanager
def machine_to_itself(say: Say) -> Iterator[None]:
    """Waits until no other run of this user's is under way: two would share the cores and spoil each other's verdict.

    The lock is the supervisor's open file: however it ends, the next one goes on.
    """
    owner = calling_user()
    path = cache_dir(owner) / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        hand_over(path, owner)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run uses this machine; waiting for its end (--share: run beside it)")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def exec_inside(argv: Sequence[str]) -> int:
    """In a sandbox: makes it usable and runs a command in it; its exit code. Raises `HostError`."""
    if image_inside() is None:
        raise HostError("this command runs in a sandbox only: use 'resilience sandbox -- COMMAND'")
    temporary = furnish(calling_user()) / "tmp"
    temporary.mkdir(mode=0o1777)
    with subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(temporary)}) as process:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: process.send_signal(number))
        return process.wait()


def heal_everywhere() -> list[int]:
    """Heals what is injected in every sandbox of this user's that runs now; the exit code of each."""
    codes = []
    for pid in running_sandboxes():
        enter = ["nsenter", "--target", str(pid), "--mount", "--net", "--pid", "--uts", "--ipc"]
        enter += [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        environment = {**os.environ, **_environment_of(pid)}
        command = [*enter, sys.executable, "-m", "resilience", "heal"]
        codes.append(subprocess.run(command, env=environment, timeout=120, check=False).returncode)
    return codes


def _environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return {
        key: value for key, _, value in (entry.partition("=") for entry in entries) if key.startswith("RESILIENCE_")
    }
