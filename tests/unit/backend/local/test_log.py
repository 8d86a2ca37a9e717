"""What a log ends with."""

from pathlib import Path

import pytest

from resilience.backend.local.log import last_line


@pytest.mark.parametrize(
    ("content", "since", "expected"),
    [
        (b"", 0, ""),
        (b"\n \n", 0, ""),
        (b"first\n  second \n\n", 0, "second"),
        (b"torn", 0, "torn"),
        (b"old\nnew\n", 4, "new"),
        (b"old\n", 4, ""),
        (b"cut short\n", 4_000, "cut short"),
        (b"x" * 9_000 + b"\nlast", 0, "last"),
        (b"x" * 9_000, 0, "x" * 4_096),
        (b"\xff\x1b[31m\n", 0, "\ufffd\x1b[31m"),
    ],
    ids=["empty", "blank", "two", "torn", "new", "nothing new", "truncated meanwhile", "long", "endless", "no text"],
)
def test_the_last_line(content: bytes, since: int, expected: str, tmp_path: Path):
    log = tmp_path / "log"
    log.write_bytes(content)
    assert last_line(log, since) == expected


def test_no_log_at_all(tmp_path: Path):
    assert last_line(tmp_path / "log") == ""
