"""A record comes out whole, or it is told what did not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resilience.backend.kubernetes import records
from resilience.backend.kubernetes.records import Fetching, require_inside
from resilience.errors import StackError
from tests.fakes import FakeRecords

CONTENT = {"spec.json": b"{}", "load/direct.ops.jsonl": bytes(range(256)) * 100, "empty.jsonl": b""}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PIECE_BYTES", 10_000)


def fetched(pod: FakeRecords, target: Path) -> list[str]:
    return Fetching(pod.ask, sleep=lambda _seconds: None, patience_s=3.0).fetch(str(pod.folder), target)


def content_of(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_all_files_come_whole(tmp_path: Path) -> None:
    assert fetched(FakeRecords(tmp_path / "pod", CONTENT), tmp_path / "here") == []
    assert content_of(tmp_path / "here") == CONTENT


def test_hidden_files_stay(tmp_path: Path) -> None:
    pod = FakeRecords(tmp_path / "pod", CONTENT)
    (pod.folder / ".reserve").write_bytes(b"x")
    assert fetched(pod, tmp_path / "here") == []
    assert content_of(tmp_path / "here") == CONTENT


def broken_line(number: int, answer: str) -> str:
    if number in {1, 3, 4}:
        raise StackError("connection reset")
    return answer


def cut_off(number: int, answer: str) -> str:
    return answer[: len(answer) // 2] if number in {1, 3, 5} else answer


@pytest.mark.parametrize("spoil", [broken_line, cut_off])
def test_a_line_that_breaks_half_way_is_tried_again(tmp_path: Path, spoil: Callable[[int, str], str]) -> None:
    assert fetched(FakeRecords(tmp_path / "pod", CONTENT, spoil), tmp_path / "here") == []
    assert content_of(tmp_path / "here") == CONTENT


def test_what_is_here_already_is_not_asked_for_again(tmp_path: Path) -> None:
    pod = FakeRecords(tmp_path / "pod", CONTENT)
    fetched(pod, tmp_path / "here")
    pod.asked.clear()
    assert fetched(pod, tmp_path / "here") == []
    assert [words[0] for words in pod.asked] == ["list"]


def test_what_never_comes_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    def spoil(_number: int, answer: str) -> str:
        if pod.asked[-1][0] == "read" and pod.asked[-1][2].startswith("load/"):
            raise StackError("connection reset")
        return answer

    pod = FakeRecords(tmp_path / "pod", CONTENT, spoil)
    (reason,) = fetched(pod, tmp_path / "here")
    assert reason == "load/direct.ops.jsonl: it did not come within 3 s: connection reset"
    assert (tmp_path / "here" / "spec.json").read_bytes() == b"{}"


def test_another_content_is_told(tmp_path: Path) -> None:
    def spoil(_number: int, answer: str) -> str:
        if pod.asked[-1][0] == "list":
            (pod.folder / "spec.json").write_bytes(b"[]")  # of the same length
        return answer

    pod = FakeRecords(tmp_path / "pod", CONTENT, spoil)
    assert fetched(pod, tmp_path / "here") == ["spec.json: its checksum is not that of the run's own file (2 bytes)"]


def test_no_answer_at_all_is_one_reason(tmp_path: Path) -> None:
    def spoil(_number: int, _answer: str) -> str:
        raise StackError("no route to host")

    (reason,) = fetched(FakeRecords(tmp_path / "pod", CONTENT, spoil), tmp_path / "here")
    assert reason == "what the run recorded could not be listed: it did not come within 3 s: no route to host"


def test_a_question_that_hangs_takes_of_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0

    def hang(_number: int, _answer: str) -> str:
        nonlocal now_s
        now_s += 2.0
        raise StackError("did not end within 2 s")

    monkeypatch.setattr("time.monotonic", lambda: now_s)
    pod = FakeRecords(tmp_path / "pod", CONTENT, hang)
    (reason,) = fetched(pod, tmp_path / "here")
    assert "did not end within 2 s" in reason
    assert len(pod.asked) == 2


def test_a_disk_that_is_full_here_costs_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Fetching, _folder: str, name: str, first: int, last: int) -> bytes:
        if name.startswith("load/"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return CONTENT[name][first:last]

    monkeypatch.setattr(Fetching, "_piece", full)
    assert fetched(FakeRecords(tmp_path / "pod", CONTENT), tmp_path / "here") == [
        "load/direct.ops.jsonl: [Errno 28] No space left on device"
    ]
    assert (tmp_path / "here" / "spec.json").read_bytes() == b"{}"


@pytest.mark.parametrize("name", ["../owned", "/etc/passwd", "load/../../owned", ""])
def test_no_file_leaves_its_folder(name: str) -> None:
    with pytest.raises(StackError, match="no file of a run's directory"):
        require_inside(name)
