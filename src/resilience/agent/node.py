"""The agent as it stands on a node of a cluster, called by ``exec`` into its pod: no port is open, no API is asked.

::

    python -m resilience.agent.node keep         the pod's main process
    python -m resilience.agent.node apply|probe|undo|open   one line of JSON on standard input, one line of answer
    python -m resilience.agent.node clock        for each line a line: the kernel's clock and boot id

Each injection has a folder on the node, so on disk it outlives every agent: ``request.json`` with all places found, and
the files of `resilience.agent.job`. ``keep`` ends what an older agent left as soon as it starts, what outlived its time
because its daemon is gone, and everything when it is asked to end itself. What it may touch is told by its environment.

``apply`` of the same injection answers what the first call did, so that a caller whose connection broke may ask again.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from resilience.agent.client import ask
from resilience.agent.error import AgentError
from resilience.agent.evidence import evidence
from resilience.agent.job import Job
from resilience.agent.nftables import table_name
from resilience.agent.pod import Pods
from resilience.agent.start import APPLIED_WITHIN_S, HEALED_WITHIN_S, JobOf, apply, undo

STATE, NAMESPACES = "AGENT_STATE", "AGENT_NAMESPACES"  # the environment's: a folder on the node, names with commas
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROBE_S, _UNDO_S = 10.0, HEALED_WITHIN_S + 15.0
_WATCH_EVERY_S = 1.0
_LOOK_EVERY_S = 0.05
AHEAD_S_MAX = 30.0  # an order that is given earlier than that before its instant is a mistake
_REMEMBERED_S = 86_400.0
_TOLD_MAX = 100  # lines of the clock: an input that nobody closes must not keep it for ever
_SPARE_S = 2.0  # what an injection's own daemon may take to end it


class Places(Protocol):
    """Who may suffer here."""

    def request(self, injection: Mapping[str, Any]) -> dict[str, Any]:
        """An injection with all places found. Raises `AgentError` if it is about anything that may not suffer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The injections of one node, or of one machine's nodes (`resilience.backend.machine`)."""

    state: Path
    pods: Places
    boot_id: str  # of the kernel that instants are told by
    patience_s: float = APPLIED_WITHIN_S  # with a first call that has not applied it yet
    job_of: JobOf = Job
    probe_within_s: float = _PROBE_S

    def apply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Applies an injection, or says what came of it if that was done before. Raises `AgentError`."""
        folder = self._folder(request["injection"]["id"])
        if (folder / "request.json").exists():
            return self._applied_before(folder)
        if request.get("boot_id", self.boot_id) != self.boot_id:
            raise AgentError("its instants are told by another kernel's clock than this node's")
        located = {
            "injection": self.pods.request(request["injection"]),
            "parts": int(request["parts"]),
            "dir": str(folder),
            "ledger": str(self.state / "ledger.jsonl"),
            "base_ns": 0,
            "at_ns": int(request["at_ns"]),
            "told_ns": time.monotonic_ns(),
        }
        self.job_of(located)  # what cannot be done at all is refused before anything is kept of it
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / "request.json", located)
        return apply(located, self.job_of)

    def probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Whether an injection is in effect. Raises `AgentError` where that cannot be seen any more."""
        folder = self._folder(request["id"])
        told = _read(folder / "request.json")
        if not told:
            return {"unknown": True}
        answer = ask(folder, {"do": "probe"}, self.probe_within_s)
        if answer is None:
            ended = _read(folder / "undone.json")
            if not ended:
                raise AgentError(f"injection {folder.name}: its agent is gone, so its effect cannot be proved")
            answer = {"evidence": [evidence(f"injection {folder.name}", "in effect", f"ended by {ended['by']}")]}
        return {**answer, "parts": told["parts"]}

    def undo(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ends an injection; harmless if it has ended. Raises `AgentError`."""
        folder = self._folder(request["id"])
        told = _read(folder / "request.json")
        if not told:
            return {"unknown": True}
        _wait_until(int(request.get("at_ns", 0)))
        within_s = float(request.get("within_s", HEALED_WITHIN_S))
        how = {"within_s": within_s, "addresses": request.get("addresses", {})}
        answer = ask(folder, {"do": "undo", **how}, within_s + _UNDO_S)
        if answer is None:
            answer = undo({**told, **how}, self.job_of)
        return {**answer, "parts": told["parts"], "does": bool(told["injection"]["steps"])}

    def open(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """The injections of this node that have not ended; ``looks``, if there are any: those that only look."""
        opened = self._open()
        looks = [folder.name for folder in opened if _only_looks(_read(folder / "request.json"))]
        return {"open": [folder.name for folder in opened], **({"looks": looks} if looks else {})}

    def keep(self) -> None:
        """Ends what an older agent left, then watches; returns never.

        The file ``alive`` says when it looked last, to whoever asks whether it still does (the pod's probes).
        """
        self.state.mkdir(parents=True, exist_ok=True)
        self.end_all("restart")
        self.forget(time.time())
        while True:
            self.end_overdue(time.monotonic_ns())
            (self.state / "alive").touch()
            time.sleep(_WATCH_EVERY_S)

    def end_all(self, by: str) -> None:
        """Ends every open injection; what cannot be ended now is tried again once its time is over."""
        for folder in self._open():
            self._end(folder, by)

    def forget(self, now_s: float) -> None:
        """Removes the folders of injections that ended more than a day ago; the ledger keeps what nobody asked for."""
        for undone in (self.state / "injections").glob("*/undone.json"):
            if now_s - undone.stat().st_mtime > _REMEMBERED_S:
                shutil.rmtree(undone.parent)

    def end_overdue(self, now_ns: int) -> None:
        """Ends the open injections whose time is over, and whose own daemon has not done it."""
        for folder in self._open():
            if now_ns > overdue_ns(_read(folder / "request.json"), _read(folder / "applied.json")):
                self._end(folder, "ttl")

    def _applied_before(self, folder: Path) -> dict[str, Any]:
        deadline = max(time.monotonic(), _read(folder / "request.json")["at_ns"] / 1e9) + self.patience_s
        while not (applied := _read(folder / "applied.json")) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
        if (folder / "undone.json").exists():
            raise AgentError(f"{folder.name}: has been applied and undone before")
        if not applied:
            raise AgentError(f"{folder.name}: could not be applied")
        return applied

    def _end(self, folder: Path, by: str) -> None:
        try:
            self.job_of(_read(folder / "request.json")).end(by)
        except (AgentError, OSError) as error:
            print(f"{folder.name}: {error}", file=sys.stderr, flush=True)  # noqa: T201  # the pod's log

    def _open(self) -> list[Path]:
        found = sorted((self.state / "injections").glob("*/request.json"))
        return [path.parent for path in found if not (path.parent / "undone.json").exists()]

    def _folder(self, injection_id: str) -> Path:
        table_name(injection_id)  # the same rule: nothing that could leave the folder
        return self.state / "injections" / injection_id


def _only_looks(request: Mapping[str, Any]) -> bool:
    """Whether it is known to do nothing: one that cannot be read may do anything."""
    return bool(request.get("injection", {}).get("steps") == [])


def overdue_ns(request: Mapping[str, Any], applied: Mapping[str, Any]) -> int:
    """When an injection must have been ended by its own daemon."""
    latest_ns = max(request["told_ns"], request["at_ns"]) + int(APPLIED_WITHIN_S * 1e9)
    lives_ns = int((float(request["injection"]["ttl_s"]) + _SPARE_S) * 1e9)
    return int(applied.get("applied_ns", latest_ns)) + lives_ns


def _wait_until(instant_ns: int) -> None:
    left_s = (instant_ns - time.monotonic_ns()) / 1e9
    time.sleep(min(max(0.0, left_s), AHEAD_S_MAX))


def from_environment(environment: Mapping[str, str]) -> Node:
    """The node as the pod's manifest has it. Raises `AgentError`."""
    try:
        state, named = Path(environment[STATE]), environment[NAMESPACES]
    except KeyError as error:
        raise AgentError(f"{error.args[0]} is not set: this program belongs into the agent's pod") from None
    allowed = frozenset(name.strip() for name in named.split(",") if name.strip())
    return Node(state=state, pods=Pods(allowed=allowed), boot_id=BOOT_ID.read_text().strip())


def main(argv: list[str]) -> int:
    """Does what it is told by its one word; see the module. Returns the exit code: 0 for an answer, an error's too."""
    word = argv[0] if argv else ""
    try:
        node = from_environment(os.environ)
        if word == "keep":
            return _keep(node)
        if word == "clock":
            return _tell_clock(sys.stdin, node.boot_id)
        commands = {"apply": node.apply, "probe": node.probe, "undo": node.undo, "open": node.open}
        answer = commands[word](json.loads(sys.stdin.readline()))
    except (AgentError, OSError, ValueError) as error:
        answer = {"error": str(error)}
    except (KeyError, TypeError) as error:
        answer = {"error": f"{word or 'no command'}: {error!r}: see the package's own words"}
    print(json.dumps(answer), flush=True)  # noqa: T201  # its answer
    return 0


def _keep(node: Node) -> int:
    signal.signal(signal.SIGTERM, _leave)
    try:
        node.keep()
    finally:
        node.end_all("leave")
    return 0


def _tell_clock(asked: Iterable[str], boot_id: str) -> int:
    """Answers each line at once, until the first that is empty."""
    for line, _ in zip(asked, range(_TOLD_MAX), strict=False):
        if not line.strip():
            break
        print(json.dumps({"now_ns": time.monotonic_ns(), "boot_id": boot_id}), flush=True)  # noqa: T201  # its answer
    return 0


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, and on disk before anything is touched."""
    new = path.with_name(f"{path.name}.new.{os.getpid()}")
    with new.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
