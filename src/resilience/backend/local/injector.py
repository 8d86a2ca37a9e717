"""Turns faults into the agent's steps, and talks to the agent: one private folder and one daemon for each injection.

In ``<state>/agent/<injection>``: ``request.json`` (all that the agent was told, so that it can be told again) and the
agent's own files, see `resilience.agent.job`.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from resilience.agent.client import ask
from resilience.agent.error import AgentError
from resilience.backend.base import (
    At,
    Evidence,
    Injected,
    MemberState,
    NodeFault,
    Pace,
    Proof,
    Undone,
    at_once,
)
from resilience.backend.injecting import converted, named, never_begun, undone
from resilience.errors import FaultError
from resilience.spec.fault import FaultSpec, Target

BACK_WITHIN_S = 15.0  # how long servers may take to be back after healing
_APPLY_TIMEOUT_S = 40.0
_PROBE_TIMEOUT_S = 10.0
_UNDO_TIMEOUT_S = BACK_WITHIN_S + 15.0  # the agent may have to wait for its lock, and for its probes' last look


class Injector:
    """What makes a platform of members in namespaces `FaultCapable`; see there for what each method does."""

    def __init__(self, state: Path, ledger: Path, base_ns: int, states: Callable[[], tuple[MemberState, ...]]) -> None:
        """``states`` says what the members are at the moment; nothing is touched before `apply`."""
        self._state = state
        self._ledger = ledger
        self._base_ns = base_ns
        self._states = states

    def pace(self, fault: FaultSpec, target: Target) -> Pace:
        """See `FaultCapable`: its agents stand beside whoever asks."""
        del fault, target
        return Pace()

    def node_steps(self, what: NodeFault, nodes: Sequence[str], members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`: what fails with a node are its members, which is all that there is of it here.

        Powered off, nothing is started in between, and all links are silent before anybody could say a last word.
        """
        match what:
            case "power-off":
                return (*self.hold_steps(members), *self._links_step(nodes), *self.kill_steps(members, "KILL"))
            case "freeze":
                return self.pause_steps(members)
            case "isolate":
                return self._links_step(nodes)
            case "reboot":
                raise FaultError(f"reboot of {', '.join(nodes)}: a node has no system of its own here; it needs kind")

    def drain_steps(self, nodes: Sequence[str], members: Sequence[str]) -> NoReturn:
        """See `FaultCapable`; here a member stands where its stack file puts it. Raises `FaultError`."""
        del members
        raise FaultError(f"drain of {', '.join(nodes)}: no member here could start on another node; it needs kind")

    def delete_steps(self, members: Sequence[str], grace_s: int) -> NoReturn:
        """See `FaultCapable`; here a member is no object that could be deleted. Raises `FaultError`."""
        del grace_s
        raise FaultError(f"deletion of {', '.join(members)}: nobody here makes another member; it needs kind")

    def scale_steps(self, members: Sequence[str], replicas: int) -> NoReturn:
        """See `FaultCapable`; here a component has the members that its stack file names. Raises `FaultError`."""
        del replicas
        raise FaultError(f"scale of {', '.join(members)}: nobody here decides how many run; it needs kind")

    def deny_steps(self, members: Sequence[str], others: Sequence[str]) -> NoReturn:
        """See `FaultCapable`; here nothing but cables decides who reaches whom. Raises `FaultError`."""
        raise FaultError(f"deny of {', '.join(members)} to {', '.join(others)}: no policies here; it needs kind")

    def rollout_steps(self, members: Sequence[str]) -> NoReturn:
        """See `FaultCapable`; here nobody replaces members. Raises `FaultError`."""
        raise FaultError(f"rolling restart of {', '.join(members)}: nobody here replaces members; it needs kind")

    def _links_step(self, nodes: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """All links of the nodes in one transaction."""
        devices = [state.handle["veth"] for state in self._states() if state.node in nodes]
        return ({"primitive": "links", "devices": devices},) if devices else ()

    def kill_steps(self, members: Sequence[str], signal: str) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`."""
        return ({"primitive": "signal", "signal": signal, "members": self._places(members)},)

    def pause_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`."""
        return ({"primitive": "pause", "members": self._places(members)},)

    def restart_steps(self, members: Sequence[str], delay_s: float, *, wiped: bool) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`: held back before the kill, so that no server is started on data that is about to go."""
        states = self._named(members)
        folders = [{key: state.handle[key] for key in ("data_dir", "data_keep")} for state in states]
        dirs = [state.handle["hold_dir"] for state in states]
        wipe = ({"primitive": "wipe", "folders": folders},) if wiped else ()
        release = {"primitive": "release", "dirs": dirs, "after_s": delay_s}
        return (*self.hold_steps(members), *self.kill_steps(members, "KILL"), *wipe, release)

    def hold_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`."""
        return ({"primitive": "hold", "dirs": [state.handle["hold_dir"] for state in self._named(members)]},)

    def partition_steps(self, member: str, others: Sequence[str], direction: str) -> tuple[dict[str, Any], ...]:
        """See `FaultCapable`: rules in the member's own network."""
        target = self._named([member])[0]
        return (
            {
                "primitive": "drop",
                "member": {"name": target.name, **_first_process(target)},
                "others": [state.address for state in self._named(others)],
                "direction": direction,
            },
        )

    def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
        """See `FaultCapable`: on a busy machine it takes a second until an agent has been started and is prepared."""
        folder = self._folder(injection["id"])
        folder.mkdir(mode=0o700, parents=True)
        request = {
            "injection": injection,
            "dir": str(folder),
            "ledger": str(self._ledger),
            "base_ns": self._base_ns,
            "within_s": BACK_WITHIN_S,
        }
        (folder / "request.json").write_text(json.dumps(request))
        _run_agent("prepare", folder, _APPLY_TIMEOUT_S)
        answer = _ask_daemon(folder, {"do": "apply", "at_ns": at_ns()}, _APPLY_TIMEOUT_S)
        if answer is None:
            raise FaultError(f"injection {folder.name}: its agent was gone before it could be told to apply it")
        return converted(answer, Injected)

    def probe(self, injection_id: str) -> Proof:
        """See `FaultCapable`; an injection that has ended is not in effect."""
        folder = self._folder(injection_id)
        answer = _ask_daemon(folder, {"do": "probe"}, _PROBE_TIMEOUT_S)
        if answer is not None:
            return converted(answer, Proof)
        if (folder / "undone.json").exists():
            by = json.loads((folder / "undone.json").read_text())["by"]
            return _seen("in effect", f"ended by {by}")
        raise FaultError(f"injection {injection_id}: its agent is gone, so its effect cannot be proved")

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        """See `FaultCapable`; where the daemon is gone, a new agent does it from the injection alone."""
        del at_ns  # whoever waits until then asks then: nothing is under way to an agent here
        folder = self._folder(injection_id)
        if not (folder / "request.json").exists():
            return never_begun(injection_id)
        answer = _ask_daemon(folder, {"do": "undo", "within_s": BACK_WITHIN_S}, _UNDO_TIMEOUT_S)
        if answer is None:
            answer = _run_agent("undo", folder, _UNDO_TIMEOUT_S)
        return undone(answer, converted({"evidence": answer["evidence"]}, Proof))

    def _places(self, members: Sequence[str]) -> list[dict[str, Any]]:
        return [{"name": state.name, **_first_process(state)} for state in self._named(members)]

    def _folder(self, injection_id: str) -> Path:
        return self._state / "agent" / injection_id

    def _named(self, members: Iterable[str]) -> list[MemberState]:
        return named(members, self._states())


def _first_process(state: MemberState) -> dict[str, Any]:
    return {key: state.handle[key] for key in ("init_pid", "init_start")}


def _seen(expected: str, observed: str, what: str = "injection") -> Proof:
    item = Evidence(what=what, expected=expected, observed=observed, ok=expected == observed)
    return Proof(evidence=(item,))


def _run_agent(command: str, folder: Path, timeout_s: float) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "resilience.agent", command],
            input=(folder / "request.json").read_bytes(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return _checked(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise FaultError(f"agent {command} of {folder.name}: {error}") from error


def _ask_daemon(folder: Path, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any] | None:
    """The daemon's answer, or None where there is none any more. Raises `FaultError`."""
    try:
        answer = ask(folder, request, timeout_s)
    except AgentError as error:
        raise FaultError(f"injection {folder.name}: {error}") from error
    return None if answer is None else _checked(answer)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise FaultError(f"agent: {answer['error']}")
    return answer
