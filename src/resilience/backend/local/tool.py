"""Calls the system's own tools (ip, mount, hostname) with a deadline and one line of error."""

import subprocess

from resilience.errors import StackError

TIMEOUT_S = 30


def call(*argv: str, text: str = "") -> None:
    """Runs a tool with ``text`` as its input. Raises `StackError` with the last line that it said."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StackError(f"'{' '.join(argv[:2])}' failed: {said}; 'resilience doctor' says what this machine lacks")
