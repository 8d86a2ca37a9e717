"""``python -m resilience.backend.kubernetes.beside FOLDER LOG -- COMMAND …``: a command in a pod of its own.

It is run for the runner, which stands in another pod of the same node.

Both have one volume, and all that they tell each other goes through ``FOLDER`` on it, so that neither needs the API
server once the pod has started, nor loses anything while it is away::

    lock      held by the kernel for as long as this process lives: that it is gone is known at once
    started   is there once the command was started
    signal    written by the runner: TERM or KILL, handed on to the command
    exit      the command's exit code, at its end (negative: the signal's number)

The command's own output goes to ``LOG``.
"""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LOCK, STARTED, SIGNAL, EXIT = "lock", "started", "signal", "exit"
_LOOK_EVERY_S = 0.05


def main(argv: Sequence[str]) -> int:
    """Runs the command to its end; returns 0, whatever the command's own exit code is."""
    folder, log, _, *command = argv
    keep(Path(folder), Path(log), command)
    return 0


def keep(folder: Path, log: Path, command: Sequence[str]) -> None:
    """Starts the command, hands signals on, and writes down how it ended. Raises `OSError` if it cannot be started."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock, log.open("ab") as said:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(command, stdout=said, stderr=said)
        signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())  # the pod is being ended
        whole_file(folder / STARTED, "")
        while (code := child.poll()) is None:
            _hand_on(folder / SIGNAL, child)
            time.sleep(_LOOK_EVERY_S)
        whole_file(folder / EXIT, str(code))


def _hand_on(asked: Path, child: "subprocess.Popen[bytes]") -> None:
    if asked.exists():
        child.send_signal(signal.Signals[f"SIG{asked.read_text()}"])
        asked.unlink()


def whole_file(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
