"""Keeps a stack up in the sandbox that this process is in, and lets its user in: see `standing` for what is outside.

::

    stack up, ready
    └─ doors: 127.0.0.1 → Prometheus, edges
    └─ control socket: look · exec · activity
    stack down: its time is over, a signal, or `resilience down`
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from resilience.backend.local.control import Call, ControlServer
from resilience.backend.local.forward import Door, Forwarder, address_of
from resilience.backend.local.place import calling_user
from resilience.backend.local.platform import LocalBackend, OwnedLocalPlatform
from resilience.backend.local.sandbox import furnish, image_inside
from resilience.chaos.perform import perform
from resilience.chaos.session import Session, SessionFile, session_on
from resilience.errors import FaultError, HostError, StackError
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.interrupt import Interrupted, interruptible
from resilience.report.terminal import plain
from resilience.spec.scenario import Scenario, Timeline
from resilience.spec.stack import PORTS
from resilience.stack.postgresql import live_roles as postgresql_roles
from resilience.stack.rabbitmq import queue_roles
from resilience.stack.readiness import READY_TIMEOUT_S, stack_ready
from resilience.stack.redis_cluster import live_roles
from resilience.standing import ENTRANCE_ENV, Entrance, Post
from resilience.supervise import machine_to_itself

BY_HAND = "by-hand"
_CALLER = re.compile(r"\d{1,10}-\d{1,20}")
_POLL_S = 0.2
_EXEC_POLL_S = 0.02
_END_WITHIN_S = 2.0


def keep_up(scenario: Scenario, console: Console) -> int:
    """Brings the scenario's stack up and keeps it until its time is over. Raises `HostError`, `StackError`."""
    image = image_inside()
    if image is None or ENTRANCE_ENV not in os.environ:
        raise HostError("a stack is kept up in a sandbox: call 'resilience up', not its inner part")
    entrance = msgspec.json.decode(os.environ[ENTRANCE_ENV], type=Entrance)
    try:
        with interruptible(lambda line: console.print(plain(line))):
            _keep(scenario, entrance, image, console)
    except Interrupted as interrupted:
        console.print(plain(f"the stack was ended ({interrupted.signal.name})"))
        return interrupted.exit_code
    console.print(plain("the stack was ended: its time is over"))
    return 0


def _keep(scenario: Scenario, entrance: Entrance, image: Path, console: Console) -> None:
    def say(_name: str, data: dict[str, Any]) -> None:
        console.print(plain(f"{data['member']} {data['what']}"))

    post = Post(Path(entrance.folder))
    state, clock = furnish(calling_user()), RunClock.starting_now()
    backend = LocalBackend(state, image, post.ledger, clock.base_ns, say)
    with _stack_up(scenario, backend, post, entrance, console) as platform:
        facts = SessionFile(run_dir=str(post.folder), state_dir=str(state), base_ns=clock.base_ns, backend="local")
        (state / "session.json").write_bytes(msgspec.json.encode(facts))
        hall = Hall(scenario=scenario, platform=platform, post=post, clock=clock, until_s=entrance.until_s)
        control = socket.socket(fileno=entrance.control_fd)
        handlers = {"look": hall.look, "exec": hall.execute, "activity": hall.activity}
        with Forwarder(_doors(entrance, platform, console)), ControlServer(control, handlers):
            _say_ready(entrance.ready_fd)
            while time.monotonic() < entrance.until_s:
                time.sleep(_POLL_S)


@contextmanager
def _stack_up(
    scenario: Scenario, backend: LocalBackend, post: Post, entrance: Entrance, console: Console
) -> Iterator[OwnedLocalPlatform]:
    """The stack, ready; nobody's run is disturbed by its coming up."""
    alone = nullcontext() if entrance.share else machine_to_itself(lambda line: console.print(plain(line)))
    with contextlib.ExitStack() as down:
        with alone:
            console.print(plain(f"bringing up {scenario.stack.name}"))
            platform = backend.up(scenario.stack, post.members)
            down.callback(platform.down)
            took_s = stack_ready(platform, time.monotonic() + READY_TIMEOUT_S)
        console.print(plain(f"ready after {took_s:.1f} s"))
        yield platform


def _doors(entrance: Entrance, platform: OwnedLocalPlatform, console: Console) -> list[Door]:
    doors = []
    for fd, member in entrance.door_fds:
        listener, state = socket.socket(fileno=fd), platform.state(member)
        console.print(plain(f"{member} {address_of(listener)}"))
        doors.append(Door(listener, state.address, PORTS[state.component]))
    return doors


def _say_ready(ready_fd: int) -> None:
    if ready_fd >= 0:
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            os.write(ready_fd, b"1")
        os.close(ready_fd)


@dataclass(frozen=True, kw_only=True)
class Hall:
    """What the control socket's callers may ask for."""

    scenario: Scenario
    platform: OwnedLocalPlatform
    post: Post
    clock: RunClock
    until_s: float
    began_us: dict[str, int] = field(default_factory=dict)  # when each caller's experiment began

    def look(self, _call: Call) -> Mapping[str, Any]:
        """Members, roles, what is injected, how much time is left."""
        ledger = Ledger(self.post.ledger)
        return {
            "stack": msgspec.to_builtins(self.platform.stack),
            "states": msgspec.to_builtins(self.platform.states()),
            "roles": msgspec.to_builtins(live_roles(self.platform)),
            "postgresql": msgspec.to_builtins(postgresql_roles(self.platform)),
            "queues": msgspec.to_builtins(queue_roles(self.platform)),
            "open": [self._open(injection.id, ledger) for injection in ledger.open_injections()],
            "left_s": max(0.0, self.until_s - time.monotonic()),
        }

    def _open(self, injection_id: str, ledger: Ledger) -> Mapping[str, Any]:
        injection = next(one for one in ledger.open_injections() if one.id == injection_id)
        applied = ledger.last(injection_id, "applied")
        return {
            "id": injection_id,
            "fault": msgspec.to_builtins(injection.fault)["kind"],
            "members": injection.members,
            "since_s": (self.clock.now_us() - applied.at_us) / 1e6 if applied else None,
            "ttl_s": injection.ttl_s,
        }

    def execute(self, call: Call) -> Mapping[str, Any]:
        """Runs a command in a member on the caller's streams; its exit code (128 + n: signal n ended it)."""
        argv = [str(word) for word in call.data["argv"]]
        if not argv or len(call.streams) != 3:
            raise StackError("exec: expected a command, and the caller's three streams")
        process = self.platform.enter(str(call.data["member"]), argv, call.streams)
        try:
            while process.poll() is None:
                call.wait(_EXEC_POLL_S)
        finally:
            _end(process)
        code = process.returncode
        return {"exit": code if code >= 0 else 128 - code}

    def activity(self, call: Call) -> Mapping[str, Any]:
        """Does an action or probe of an experiment that is run by hand."""
        session = self._session(call)
        answer = perform(session, str(call.data["activity"]), dict(call.data["arguments"]))
        return {"value": msgspec.to_builtins(answer.value), "says": list(answer.says)}

    def _session(self, call: Call) -> Session:
        """The caller's own: phases begin anew with it, and what others injected before is none of its business."""
        caller = str(call.data["caller"])
        if not _CALLER.fullmatch(caller):
            raise FaultError("activity: expected a caller by pid and start time")
        began_us = self.began_us.setdefault(caller, self.clock.now_us())
        folder = self.post.folder / BY_HAND / caller
        (folder / "load").mkdir(parents=True, exist_ok=True)
        timeline = _timeline(self.scenario.timeline, call.data.get("configuration", {}))
        scenario = msgspec.structs.replace(self.scenario, name=BY_HAND, timeline=timeline)
        session = session_on(self.platform, folder, scenario, self.clock)
        injector = replace(session.injector, ledger=Ledger(self.post.ledger, began_us))
        return replace(session, injector=injector, sleep=call.wait, loaded=False)


def _timeline(timeline: Timeline, configuration: Mapping[str, Any]) -> Timeline:
    """How long the phases last: as the experiment's own configuration says."""
    fields = {name: value for name, value in configuration.items() if name in Timeline.__struct_fields__}
    try:
        return msgspec.convert(msgspec.to_builtins(timeline) | fields, Timeline)
    except msgspec.ValidationError as error:
        raise FaultError(f"configuration: {error}") from error


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a command and all of its group, whoever of them is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_WITHIN_S)
