"""PostgreSQL's archive in a cluster: the members' program, and the store that it asks."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.backend.kubernetes.wal_archive import Archive
from resilience.backend.settings import render

SEGMENT, HISTORY = "000000010000000000000007", "00000002.history"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "kept", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        (tmp_path / "archive.sh").write_text(script(server.server_address[1]))
        yield server
        server.shutdown()
        thread.join()


def script(port: int) -> str:
    return render("postgresql/archive-store.sh", host="127.0.0.1", port=port)


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As a server calls it: by `sh`, in its own folder."""
    return subprocess.run(
        ["sh", str(folder / "archive.sh"), *words], cwd=folder, capture_output=True, text=True, check=False, timeout=30
    )


def test_what_is_kept_comes_back_whole_and_under_its_name_nothing_else_does(archive: Archive, tmp_path: Path) -> None:
    segment = bytes(range(256)) * 40_000
    (tmp_path / "segment").write_bytes(segment)
    (tmp_path / "other").write_bytes(segment[::-1])
    assert call(tmp_path, "put", "segment", SEGMENT).returncode == 0
    assert call(tmp_path, "put", "segment", SEGMENT).returncode == 0
    assert call(tmp_path, "put", "other", SEGMENT).returncode != 0
    assert call(tmp_path, "get", SEGMENT, "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == segment
    assert [path.name for path in archive.store.folder.iterdir()] == [SEGMENT]


def test_what_is_not_there_leaves_nothing_behind(archive: Archive, tmp_path: Path) -> None:
    done = call(tmp_path, "get", HISTORY, "back")
    assert 0 < done.returncode < 126  # over that recovery would end instead of going on without the file
    assert not (tmp_path / "back").exists()


def test_only_what_a_log_has_is_kept(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for name in ("../x", "x", f"{SEGMENT}.conf", ".history"):
        assert call(tmp_path, "put", "x", name).returncode != 0
    assert list(archive.store.folder.iterdir()) == []


def test_timelines_are_told_and_whoever_cannot_ask_hears_so(archive: Archive, tmp_path: Path) -> None:
    told = call(tmp_path, "histories")
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    for name in ("history", "segment"):
        (tmp_path / name).write_text("1\t0/3000000\tno recovery target specified\n")
    call(tmp_path, "put", "history", HISTORY)
    call(tmp_path, "put", "segment", SEGMENT)
    assert call(tmp_path, "histories").stdout == f"{HISTORY}\n"
    (tmp_path / "archive.sh").write_text(script(1))
    assert call(tmp_path, "histories").returncode != 0


def test_half_a_file_is_not_kept(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(b"x" * 100)
    whole = (tmp_path / "archive.sh").read_text()
    (tmp_path / "archive.sh").write_text(whole.replace('cat "$2" >&3', 'head -c 50 "$2" >&3; exec 4>&3 3>&-; exit 0'))
    call(tmp_path, "put", "segment", SEGMENT)
    assert list(archive.store.folder.glob("[0-9]*")) == []
