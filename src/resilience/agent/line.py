"""Lines that several processes append to one file, each on a line of its own and on disk at once."""

import os
from pathlib import Path


def append(path: Path, line: bytes) -> None:
    """Appends a line, whose end is not part of it; it is on disk when this returns. Raises `OSError`.

    Then a part of it may be there. Whoever comes next begins a line of its own, so that only the torn one is lost.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        left = (b"\n" if _is_torn(handle) else b"") + line + b"\n"
        while left:  # a disk that is nearly full takes a part, and refuses the rest
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_torn(handle: int) -> bool:
    size_bytes = os.fstat(handle).st_size
    return size_bytes > 0 and os.pread(handle, 1, size_bytes - 1) != b"\n"
