"""``python -m resilience.play ORDER DIRECTORY``: plays a run that was opened outside, in a cluster's pod.

``ORDER`` holds what was written outside before the run began (``spec.json``, ``control.json``); everything that is
recorded goes into ``DIRECTORY``, which is taken out and judged outside. A run whose harness outside is gone ends
itself, as one ends that is interrupted: healed, its load stopped.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from resilience import runner
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.heartbeat import Listener, ended_when_silent
from resilience.errors import HarnessError, HostError
from resilience.report.run import Run
from resilience.report.terminal import console_for

# The volume is a folder of the observers' node, which on kind is a container: its disk is Docker's.
ADVICE = "free some space on the observers' node; on kind that is where Docker keeps its data ('docker system df')"


def main(argv: Sequence[str]) -> int:
    """Plays the run; the exit code is that of what cut it short, 0 if nothing did."""
    order, directory = map(Path, argv)
    try:
        with ended_when_silent(Listener(Api.of_pod()), _end):
            return runner.played(received(order, directory), console_for(sys.stdout))
    except HarnessError as error:
        print(f"resilience: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _end(reason: str) -> None:
    """Ends the run by the signal that a person would send: `runner.played` heals and records then."""
    print(f"resilience: {reason}", file=sys.stderr, flush=True)  # noqa: T201  the pod's log: nobody fetches the record
    os.kill(os.getpid(), signal.SIGTERM)


def received(order: Path, directory: Path) -> Run:
    """The run's directory, in the place of what an older run has left there. Raises `HostError`."""
    shutil.rmtree(directory, ignore_errors=True)
    record = Run(directory, advice=ADVICE)
    try:
        for folder in (directory, record.load_dir, record.chaos_dir, record.members_dir):
            folder.mkdir()
        for path in order.glob("*.json"):
            shutil.copyfile(path, directory / path.name)
    except OSError as error:
        raise HostError(f"{directory}: cannot be written: {error.strerror}; {ADVICE}") from error
    record.take_reserve()
    return record


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
