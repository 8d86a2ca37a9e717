"""Appends lines to a history's file so that a crash loses no more than the last few milliseconds."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from resilience.history.record import Line


class Writer:
    """Buffers lines and appends them with one ``write`` for each flush.

    The owner calls `flush` at least every 50 ms. Appends of one flush reach the file whole, so that several processes
    may append to the same file.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened before `open`."""
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._fd = -1

    def open(self) -> Self:
        """Opens the file for appending, readable by everybody, and returns the writer."""
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return self

    def append(self, line: Line) -> None:
        """Adds a line to the buffer."""
        self._buffer += self._encoder.encode(line)
        self._buffer += b"\n"

    def flush(self) -> None:
        """Writes what is buffered. Raises `OSError`; nothing is lost from the buffer then."""
        while self._buffer:
            written = os.write(self._fd, self._buffer)
            del self._buffer[:written]

    def write(self, line: Line) -> None:
        """Appends a line and flushes it at once."""
        self.append(line)
        self.flush()

    def close(self) -> None:
        """Flushes and closes; a second call does nothing."""
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
