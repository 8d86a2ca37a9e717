"""A stack that stays up for people to look at, from outside: up, found, asked, ended.

::

    resilience up                      returns when the stack is ready
    └─ supervisor, in a session of its own: holds the lock, the doors on 127.0.0.1 and the control socket
       └─ unshare → tini → `upkeep`    the sandbox; ends with the supervisor, whatever ends that

There is at most one for each user. All that is known of it outside is in one folder (`Post`).
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from resilience.agent.process import Process, look_up
from resilience.backend.local import control
from resilience.backend.local.forward import address_of, listen_on_loopback
from resilience.backend.local.log import last_line
from resilience.backend.local.place import Owner, cache_dir, calling_user, hand_over, standing_dir
from resilience.backend.local.sandbox import run_in_sandbox
from resilience.errors import HostError, SpecError, StackError
from resilience.host import require_host
from resilience.report.text import visible
from resilience.spec.scenario import Scenario

LIFE_S_MAX = 7 * 86_400
DOWN_WITHIN_S = 20.0
ASK_TIMEOUT_S = 10.0
ENTRANCE_ENV = "RESILIENCE_ENTRANCE"
READY_ENV = "RESILIENCE_READY_FD"
_UNITS_S = {"h": 3_600, "m": 60, "s": 1}
_POLL_S = 0.05


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known outside of a stack that is up (``up.json``)."""

    pid: int  # of its supervisor
    start: int
    scenario: str
    stack: str
    since_utc: str
    until_utc: str
    doors: tuple[tuple[str, str], ...]  # member, its address on this machine

    @property
    def supervisor(self) -> Process | None:
        """Its supervisor, or None if that has ended."""
        found = look_up(self.pid)
        return found if found and found.start == self.start else None


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor hands into the sandbox; numbers are of inherited sockets and pipes."""

    folder: str
    control_fd: int
    door_fds: tuple[tuple[int, str], ...]  # listener, the member it leads to
    ready_fd: int  # -1: nobody waits for it
    until_s: float  # a value of `time.monotonic`
    share: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a stack is to be kept up."""

    life_s: float = 8 * 3_600
    port_prometheus: int = 0
    port_edge: int = 0  # of the first edge; the next ones follow
    share: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """The folder of the stack that is up; while nothing is up, what is left of the last one."""

    folder: Path

    @classmethod
    def of_user(cls) -> "Post":
        """The calling user's."""
        return cls(standing_dir(calling_user()))

    @property
    def facts(self) -> Path:
        """See `Standing`."""
        return self.folder / "up.json"

    @property
    def log(self) -> Path:
        """What supervisor and upkeep say."""
        return self.folder / "up.log"

    @property
    def ledger(self) -> Path:
        """Every injection into this stack."""
        return self.folder / "ledger.jsonl"

    @property
    def members(self) -> Path:
        """The members' logs, a folder each."""
        return self.folder / "members"

    def standing(self) -> Standing | None:
        """The stack that is up, or None."""
        try:
            found = msgspec.json.decode(self.facts.read_bytes(), type=Standing)
        except (OSError, ValueError, RecursionError):  # all that a broken file makes msgspec raise
            return None
        return found if found.supervisor else None

    def ask(self, request: dict[str, Any], streams: Sequence[int] = (), timeout_s: float | None = None) -> Any:
        """The answer of the stack that is up. Raises `StackError`."""
        return control.ask(self.folder, request, streams, timeout_s)


def require_standing() -> tuple[Post, Standing]:
    """The stack that is up. Raises `StackError` if there is none."""
    post = Post.of_user()
    standing = post.standing()
    if standing is None:
        raise StackError(control.NOT_UP)
    return post, standing


def life_s(text: str) -> float:
    """Seconds from ``8h``, ``30m``, ``90s`` or ``1h30m``. Raises `SpecError`."""
    parts = re.findall(r"([0-9]{1,6})([hms])", text)
    total = sum(int(number) * _UNITS_S[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < total <= LIFE_S_MAX:
        raise SpecError(f"--for: expected a time such as 8h, 30m or 1h30m, at most 168h (got {text[:40]!r})")
    return float(total)


# --- the command that a person types ---------------------------------------------------------------------------------


def up(arguments: Sequence[str], say: Callable[[str], None]) -> Standing:
    """Starts the supervisor in the background and waits until the stack is ready; ``say`` hears how far it is.

    ``arguments``: those of ``resilience up --foreground``. Raises `StackError` with why it did not come up. A Ctrl-C
    meanwhile ends what was begun.
    """
    post = Post.of_user()
    refuse_second(post)
    post.folder.mkdir(parents=True, exist_ok=True)
    os.chmod(post.folder, 0o700)  # noqa: PTH101
    reader, writer = os.pipe()
    with post.log.open("ab") as log, os.fdopen(reader, "rb") as ready:
        began_at = log.tell()
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "resilience", "up", "--foreground", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, READY_ENV: str(writer)},
            pass_fds=(writer,),
            start_new_session=True,  # a terminal's end and its Ctrl-C do not reach it
        )
        os.close(writer)
        try:
            _wait_ready(supervisor, ready.fileno(), lambda: say(_last_line(post.log)))
        except BaseException:
            supervisor.terminate()
            supervisor.wait(DOWN_WITHIN_S)
            raise
    standing = post.standing()
    if standing is None:
        raise StackError(f"{_last_line(post.log, began_at) or 'the stack did not come up'}; log: {post.log}")
    return standing


def _wait_ready(supervisor: "subprocess.Popen[bytes]", ready_fd: int, look: Callable[[], None]) -> None:
    """Returns when the stack is ready, or the supervisor has ended."""
    os.set_blocking(ready_fd, False)
    while supervisor.poll() is None:
        with contextlib.suppress(BlockingIOError):
            if os.read(ready_fd, 1):
                return
        look()
        time.sleep(_POLL_S)


def _last_line(log: Path, since: int = 0) -> str:
    return visible(last_line(log, since).removeprefix("resilience: "))


def down() -> Standing | None:
    """Ends the stack that is up and waits for its end; what it was, or None. Raises `StackError`."""
    standing = Post.of_user().standing()
    supervisor = standing.supervisor if standing else None
    if supervisor is None:
        return None
    supervisor.signal(signal.SIGTERM)
    if not _gone(supervisor, DOWN_WITHIN_S):
        supervisor.signal(signal.SIGKILL)  # the kernel ends all that is below it
        if not _gone(supervisor, DOWN_WITHIN_S):
            raise StackError(f"the supervisor (pid {supervisor.pid}) does not end")
    return standing


def _gone(process: Process, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while process.alive and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return not process.alive


# --- the supervisor --------------------------------------------------------------------------------------------------


def refuse_second(post: Post) -> None:
    """Raises `HostError` if a stack is up."""
    standing = post.standing()
    if standing:
        raise HostError(
            f"a stack is up already ({standing.scenario}, since {standing.since_utc}): 'resilience status' shows it,"
            " 'resilience down' ends it"
        )


def supervise(scenario: Scenario, asked: Asked, image: Path, arguments: Sequence[str]) -> int:
    """Keeps the stack up until its time is over or somebody ends it; the exit code. Raises `HostError`."""
    owner = calling_user()
    require_host(cache_dir(owner), building=False)
    post = Post.of_user()
    with _alone(post), contextlib.ExitStack() as open_sockets:
        _clear(post)
        until_s = time.monotonic() + asked.life_s
        doors = list(_doors(scenario, asked, open_sockets))
        entry = open_sockets.enter_context(control.listen(post.folder))
        _save_facts(post, scenario, asked, doors)
        ready = os.environ.pop(READY_ENV, "")
        ready_fd = int(ready) if re.fullmatch("[0-9]{1,7}", ready) else -1
        entrance = Entrance(
            folder=str(post.folder),
            control_fd=entry.fileno(),
            door_fds=tuple((listener.fileno(), member) for member, listener in doors),
            ready_fd=ready_fd,
            until_s=until_s,
            share=asked.share,
        )
        return _in_sandbox(post, entrance, image, owner, arguments)


def _in_sandbox(post: Post, entrance: Entrance, image: Path, owner: Owner, arguments: Sequence[str]) -> int:
    fds = [entrance.control_fd, *(fd for fd, _ in entrance.door_fds)]
    fds += [entrance.ready_fd] if entrance.ready_fd >= 0 else []
    hand_over(post.folder, owner)
    try:
        argv = [sys.executable, "-m", "resilience", "up", *arguments]
        return run_in_sandbox(argv, image, owner, {ENTRANCE_ENV: msgspec.json.encode(entrance).decode()}, fds)
    finally:
        (post.folder / control.NAME).unlink(missing_ok=True)
        post.facts.unlink(missing_ok=True)
        hand_over(post.folder, owner)


@contextlib.contextmanager
def _alone(post: Post) -> Iterator[None]:
    """Held for as long as the supervisor lives, however it ends."""
    post.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (post.folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refuse_second(post)
            raise HostError("another 'resilience up' is under way; 'resilience status' shows it") from None
        yield


def _clear(post: Post) -> None:
    """Removes what the last stack left."""
    try:
        for path in post.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path == post.log:
                os.truncate(path, 0)  # this process may write into it
            elif path != post.folder / "lock":
                path.unlink()
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}: remove {post.folder} and try again") from error


def _doors(scenario: Scenario, asked: Asked, opened: contextlib.ExitStack) -> Iterator[tuple[str, socket.socket]]:
    for member in scenario.stack.of("prometheus"):
        yield member.name, opened.enter_context(listen_on_loopback(asked.port_prometheus, "--port-prometheus"))
    for number, member in enumerate(scenario.stack.of("edge")):
        port = asked.port_edge + number if asked.port_edge else 0
        yield member.name, opened.enter_context(listen_on_loopback(port, "--port-edge"))


def _save_facts(post: Post, scenario: Scenario, asked: Asked, doors: Sequence[tuple[str, socket.socket]]) -> None:
    myself = look_up(os.getpid())
    assert myself is not None
    now = datetime.now(UTC)
    standing = Standing(
        pid=myself.pid,
        start=myself.start,
        scenario=scenario.name,
        stack=scenario.stack.name,
        since_utc=now.isoformat(timespec="seconds"),
        until_utc=(now + timedelta(seconds=asked.life_s)).isoformat(timespec="seconds"),
        doors=tuple((member, address_of(listener)) for member, listener in doors),
    )
    (post.folder / "spec.json").write_text(json.dumps({"scenario": msgspec.to_builtins(scenario)}))
    beside = post.facts.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(standing))
    beside.replace(post.facts)
