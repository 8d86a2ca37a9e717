"""A run's directory on its way out of the cluster: whole, compressed, with checksums, over a line that may break.

In the pod (``python -m resilience.backend.kubernetes.records``)::

    keep                    the container's main process: does nothing, so that the others can be called in it
    list FOLDER             one line of JSON: every file with its size and SHA-256
    read FOLDER FILE N M    bytes N to M of a file, compressed, in base64

Outside `fetch` asks for one piece after the other, again where no answer came or not the right one, and believes a file
when its checksum is right. What could not be had whole is told, and what came of it is kept.
"""

import base64
import hashlib
import json
import signal
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from resilience.errors import StackError

PIECE_BYTES = 8_000_000
PATIENCE_S = 60.0  # how long nothing may come
_AGAIN_AFTER_S = 1.0
MODULE = ("python3", "-m", "resilience.backend.kubernetes.records")

Ask = Callable[[tuple[str, ...]], str]  # a command in the pod: what it prints; raises `StackError`


def main(argv: Sequence[str]) -> int:
    """Does what it is told by its first word; see the module."""
    match argv:
        case ["keep"]:
            signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
            while True:
                signal.pause()
        case ["list", folder]:
            print(json.dumps(listed(Path(folder))))  # noqa: T201  its answer
        case ["read", folder, name, first, last]:
            print(packed(Path(folder, name), int(first), int(last)))  # noqa: T201  its answer
        case _:
            print("records: see the package's own words", file=sys.stderr)  # noqa: T201
            return 2
    return 0


def listed(folder: Path) -> dict[str, list[Any]]:
    """Every file below a folder: its size in bytes and its SHA-256."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): [path.stat().st_size, _sum(path)] for path in found}


def packed(path: Path, first: int, last: int) -> str:
    """The bytes from ``first`` to ``last``, compressed, as text."""
    with path.open("rb") as file:
        file.seek(first)
        return base64.b64encode(zlib.compress(file.read(last - first), 6)).decode()


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Fetching:
    """Takes a folder out of a pod."""

    def __init__(
        self, ask: Ask, *, sleep: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S
    ) -> None:
        """``ask`` runs a command in the pod."""
        self._ask = ask
        self._sleep = sleep
        self._patience_s = patience_s

    def fetch(self, folder: str, target: Path) -> list[str]:
        """Writes every file of the folder below ``target``; returns what did not come whole, a reason for each.

        Files that are there already with the right content are left as they are, so that it may be called again.
        """
        try:
            files = self._patiently(lambda: self._list(folder))
        except StackError as error:
            return [f"what the run recorded could not be listed: {error}"]
        reasons = []
        for name, (size, digest) in files.items():
            try:
                self._file(folder, name, size, digest, target)
            except (StackError, OSError) as error:  # a full disk here, too: what there is room for is kept
                reasons.append(f"{name}: {error}")
        return reasons

    def _list(self, folder: str) -> Mapping[str, tuple[int, str]]:
        files = json.loads(self._ask((*MODULE, "list", folder)))
        for name in files:
            require_inside(name)
        return {str(name): (int(size), str(digest)) for name, (size, digest) in files.items()}

    def _file(self, folder: str, name: str, size: int, digest: str, target: Path) -> None:
        path = target / name
        if path.is_file() and path.stat().st_size == size and _sum(path) == digest:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for first in range(0, size, PIECE_BYTES):
                last = min(first + PIECE_BYTES, size)
                file.write(self._patiently(lambda first=first, last=last: self._piece(folder, name, first, last)))  # type: ignore[misc]
        if _sum(path) != digest:
            raise StackError(f"its checksum is not that of the run's own file ({size} bytes)")

    def _piece(self, folder: str, name: str, first: int, last: int) -> bytes:
        answer = self._ask((*MODULE, "read", folder, name, str(first), str(last)))
        piece = zlib.decompress(base64.b64decode(answer, validate=False))
        if len(piece) != last - first:
            raise StackError(f"{len(piece)} bytes came instead of {last - first}")
        return piece

    def _patiently[Answer](self, asked: Callable[[], Answer]) -> Answer:
        """Asks again after a line that broke or an answer that is cut off."""
        waited_s = 0.0  # a question that hangs takes of the patience, too
        while True:
            began = time.monotonic()
            try:
                return asked()
            except (StackError, ValueError, TypeError, zlib.error) as error:
                waited_s += time.monotonic() - began
                if waited_s >= self._patience_s:
                    raise StackError(f"it did not come within {self._patience_s:g} s: {error}") from error
            self._sleep(_AGAIN_AFTER_S)
            waited_s += _AGAIN_AFTER_S


def require_inside(name: str) -> None:
    """Raises `StackError` for a name that would leave the folder that it is written to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise StackError(f"{name!r} is no file of a run's directory")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
