"""Calls command-line tools that say a lot and take a while: with a deadline, and one line of error."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from resilience.errors import HostError, StackError

_SHOWN = 300
_GRACE_S = 5.0  # for kubectl to say that its own time is over


def output(
    argv: Sequence[str], *, timeout_s: float, text: str = "", env: Mapping[str, str] | None = None, what: str = ""
) -> str:
    """What a tool prints, given ``text`` as its input; ``what`` is the command as people are told of it.

    Raises `HostError` if it is not there, `StackError` with what it said if it fails or does not end in time.
    """
    what = what or " ".join(argv[:3])
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # what a pod says is shown or refused by whoever reads it; it never ends the harness
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not on PATH: install it") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"'{what}' did not end within {timeout_s:g} s") from error
    if done.returncode != 0:
        raise StackError(f"'{what}' failed: {last_error(done.stderr or done.stdout)}")
    return done.stdout


def kubectl_output(kubeconfig: Path, context: str, words: Sequence[str], *, timeout_s: float, text: str = "") -> str:
    """What ``kubectl`` prints about this cluster and no other. Raises as `output` does."""
    there = ["--kubeconfig", str(kubeconfig), "--context", context, f"--request-timeout={timeout_s:g}s"]
    what = " ".join(["kubectl", *words[:2]])
    return output(["kubectl", *there, *words], timeout_s=timeout_s + _GRACE_S, text=text, what=what)


def last_error(said: str) -> str:
    """The line that says best what went wrong: the last one that calls itself an error, else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no message"])[-1][:_SHOWN]


def one_line(said: object, most: int = _SHOWN) -> str:
    """What somebody else says, as so many characters of one line at most."""
    return " ".join(str(said).split())[:most]
