"""The agent as it stays behind: it owns the injection until that is undone, whoever else is gone by then."""

import contextlib
import json
import os
import socket
import time
from typing import Any

from resilience.agent.complaint import complain
from resilience.agent.job import Job

ORDER_WITHIN_S = 30.0  # from being prepared to being told to apply it; nobody comes for one that has waited longer
GRACE_S = 5.0  # how long it answers after the injection's end
_HEALED_WITHIN_S = 15.0
_TALK_S = 2.0  # the longest that a caller may take to say what it wants
_RETRY_S = 1.0


def serve(job: Job, listener: socket.socket, applied_ns: int) -> None:
    """Answers until the injection has ended and the grace is over; ends it when its time to live is."""
    ends_ns = applied_ns + job.ttl_ns
    leave_ns = 0
    while not leave_ns or time.monotonic_ns() < leave_ns:
        listener.settimeout(max(0.001, ((leave_ns or ends_ns) - time.monotonic_ns()) / 1e9))
        with contextlib.suppress(TimeoutError):
            _answer(job, listener)
        if not leave_ns and time.monotonic_ns() >= ends_ns:
            ends_ns = _end_by_itself(job)
            if not job.folder.exists() and ends_ns <= time.monotonic_ns():  # nobody will ask any more
                return
        if not leave_ns and (job.folder / "undone.json").exists():
            leave_ns = time.monotonic_ns() + int(GRACE_S * 1e9)


def await_order(job: Job, listener: socket.socket) -> None:
    """Answers until the injection, which is prepared, has been applied, could not be, or has ended before it began."""
    deadline = time.monotonic() + ORDER_WITHIN_S
    while (left_s := deadline - time.monotonic()) > 0:
        listener.settimeout(left_s)
        with contextlib.suppress(TimeoutError):
            _answer(job, listener)
        if job.applied_ns is not None or job.left or (job.folder / "undone.json").exists():
            return


def listen(job: Job) -> socket.socket:
    """A socket in the job's folder that only this user can connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(job.folder, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{folder}/socket")  # a socket's path must be short, a folder's need not
    finally:
        os.umask(before)
        os.close(folder)
    listener.listen()
    return listener


def _end_by_itself(job: Job) -> int:
    """Undoes the injection; where that fails, the instant to try again."""
    try:
        if job.folder.exists():
            job.undo("ttl", _HEALED_WITHIN_S)
        else:  # there is nowhere left to write it down; it ends all the same
            job.undo_steps()
    except Exception:  # noqa: BLE001  # whatever it is: if this process ends, nobody ends the injection any more
        complain()
        return time.monotonic_ns() + int(_RETRY_S * 1e9)
    return time.monotonic_ns()


def _answer(job: Job, listener: socket.socket) -> None:
    caller, _address = listener.accept()
    with caller, contextlib.suppress(OSError):  # a caller that went away is no reason to leave the injection alone
        caller.settimeout(_TALK_S)
        request = caller.makefile("rb").readline(65_536)
        caller.sendall(json.dumps(_obey(job, request)).encode() + b"\n")


def _obey(job: Job, request: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(request)
        if asked["do"] == "probe":
            return {"evidence": job.in_effect()}
        if asked["do"] == "apply":
            return dict(job.apply(int(asked["at_ns"])))
        if asked["do"] == "undo":
            return job.undo("request", float(asked.get("within_s", _HEALED_WITHIN_S)), asked.get("addresses"))
    except Exception as error:  # noqa: BLE001  # as above: no question may end this process
        return {"error": str(error) or repr(error)}
    return {"error": f"do: {asked['do']!r}: expected apply, probe or undo"}
