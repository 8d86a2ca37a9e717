"""What a log ends with, whoever writes it and however long it is."""

import os
from pathlib import Path

_TAIL_BYTES = 4_096


def last_line(log: Path, since: int = 0) -> str:
    """The last line that says something, as it stands there: text of unknown origin. "" if there is none.

    ``since``: so many bytes at its beginning are somebody else's, unless it has become shorter meanwhile.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
