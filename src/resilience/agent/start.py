"""Starts an injection in a daemon of its own, which outlives whoever asked for it; ends one whose daemon is gone."""

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable
from typing import Any

from resilience.agent.complaint import complain
from resilience.agent.daemon import await_order, listen, serve
from resilience.agent.error import AgentError
from resilience.agent.job import Job

APPLIED_WITHIN_S = 30.0  # of its instant
HEALED_WITHIN_S = 15.0

JobOf = Callable[[dict[str, Any]], Job]


def undo(request: dict[str, Any], job_of: JobOf = Job) -> dict[str, Any]:
    """Undoes an injection without its daemon. Raises `AgentError`."""
    return job_of(request).undo("request", float(request.get("within_s", HEALED_WITHIN_S)))


def apply(request: dict[str, Any], job_of: JobOf = Job) -> dict[str, Any]:
    """Hands the request to a daemon of its own session, and its first word back: when it was applied.

    Raises `AgentError`.
    """
    return _by_daemon(job_of(request), int(request.get("at_ns", 0)))


def prepare(request: dict[str, Any], job_of: JobOf = Job) -> dict[str, Any]:
    """The same where the first word is that all is prepared: then the daemon waits to be told to apply it."""
    return _by_daemon(job_of(request), None)


def _by_daemon(job: Job, at_ns: int | None) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(reader)
            _be_daemon(job, at_ns, writer)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return _first_word(reader, at_ns or 0)


def _first_word(reader: int, at_ns: int) -> dict[str, Any]:
    said = b""
    deadline = max(time.monotonic(), at_ns / 1e9) + APPLIED_WITHIN_S
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(reader, 65_536) if ready else b""
        if not part:
            raise AgentError("the daemon " + ("ended" if ready else "was silent") + " without a word; see agent.log")
        said += part
    answer: dict[str, Any] = json.loads(said)
    return answer


def _be_daemon(job: Job, at_ns: int | None, writer: int) -> None:
    """Never returns: whatever happens, this process must not go on as its parent."""
    try:
        _detach(job)
        listener = listen(job)
        if at_ns is None:
            job.prepare()
            _say(writer, {"prepared_ns": time.monotonic_ns()})
            await_order(job, listener)
        else:
            _say(writer, _applied(job, at_ns))
        if job.left:  # its time is over as it begins: it is tried until nothing is left
            serve(job, listener, time.monotonic_ns() - job.ttl_ns)
        elif job.applied_ns is not None:
            serve(job, listener, job.applied_ns)
        job.close()
    except BaseException:  # noqa: BLE001  # the outermost frame of this process: nobody else would say what happened
        complain()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(0)


def _applied(job: Job, at_ns: int) -> dict[str, Any]:
    try:
        return dict(job.apply(at_ns))
    except (AgentError, OSError) as error:
        return {"error": str(error)}


def _say(writer: int, word: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the caller is gone; the injection still has to end in time
        os.write(writer, json.dumps(word).encode() + b"\n")
    os.close(writer)


def _detach(job: Job) -> None:
    """Lets go of the caller's terminal and pipes; complaints go to ``agent.log``."""
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(job.folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, target in ((0, nothing), (1, nothing), (2, log)):
        os.dup2(target, number)
    os.chdir("/")
