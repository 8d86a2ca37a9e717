"""What stays behind of an agent: nothing ends it before its injection has ended. Without sockets, by a fake clock."""

import errno
import io
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import pytest

from resilience.agent.daemon import GRACE_S, ORDER_WITHIN_S, await_order, serve
from resilience.agent.evidence import Evidence
from resilience.agent.job import Job


class Fragile:
    """A step whose undoing, and a probe whose look, raise what nobody expects, ``fails`` times."""

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.undone_times = self.done_times = 0

    def do(self) -> None:
        self.done_times += 1

    def undo(self) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("can't start new thread")
        self.undone_times += 1

    def undone(self) -> list[Evidence]:
        return []


class Broken(Fragile):
    """A step that breaks off, too."""

    def do(self) -> None:
        raise RuntimeError("half done")


class FullLog(io.StringIO):
    """A log on a disk without room."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class Caller:
    """One connection, as the daemon sees it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.asked = json.dumps(asked).encode() + b"\n"
        self.answered: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is kept open."""

    def settimeout(self, _seconds: float) -> None:
        """It says at once what it wants."""

    def makefile(self, _mode: str) -> "Caller":
        return self

    def readline(self, _bytes_max: int) -> bytes:
        return self.asked

    def sendall(self, answer: bytes) -> None:
        self.answered = json.loads(answer)


class Listener:
    """A socket that these callers come to, and then nobody; time passes while it waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *callers: Caller) -> None:
        self.now_ns, self._waits_s, self._callers = 1_000_000_000, 0.0, list(callers)
        monkeypatch.setattr("time.monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr("time.monotonic", lambda: self.now_ns / 1e9)

    def settimeout(self, seconds: float) -> None:
        self._waits_s = seconds

    def accept(self) -> tuple[Caller, str]:
        if self._callers:
            return self._callers.pop(0), ""
        self.now_ns += int(self._waits_s * 1e9)
        raise TimeoutError

    def socket(self) -> socket.socket:
        return cast("socket.socket", self)


def made(folder: Path, step: Fragile, ttl_s: float = 35.0) -> Job:
    private = folder / "agent"
    private.mkdir()
    injection = {"id": "test-1", "ttl_s": ttl_s, "steps": [{}], "watch": []}
    asked = {"injection": injection, "dir": str(private), "ledger": str(folder / "ledger.jsonl"), "base_ns": 0}
    return Job(asked, step_of=lambda _id, _data: step)


def test_it_ends_it_at_its_time_although_the_first_tries_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, listener = Fragile(2), Listener(monkeypatch)
    began_ns = listener.now_ns
    serve(made(tmp_path, step), listener.socket(), began_ns)
    assert step.undone_times == 1
    assert json.loads((tmp_path / "ledger.jsonl").read_text())["by"] == "ttl"
    assert (listener.now_ns - began_ns) / 1e9 == pytest.approx(35 + 2 + GRACE_S, abs=0.1)


def test_a_log_that_takes_nothing_keeps_nothing_from_being_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is full, and the first try fails: else nobody would end it any more."""
    step, listener = Fragile(1), Listener(monkeypatch)
    monkeypatch.setattr("sys.stderr", FullLog())
    serve(made(tmp_path, step), listener.socket(), listener.now_ns)
    assert step.undone_times == 1


def test_what_was_applied_and_could_not_be_undone_is_ended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, listener = Fragile(1), Listener(monkeypatch)
    job, began_ns = made(tmp_path, step), listener.now_ns
    serve(job, listener.socket(), began_ns - job.ttl_ns)
    assert step.undone_times == 1
    assert (listener.now_ns - began_ns) / 1e9 == pytest.approx(1 + GRACE_S, abs=0.1)


@pytest.mark.parametrize("asked", [{"do": "undo", "addresses": {"redis-0": ""}}, {"do": "dance"}, {"do": ["probe"]}])
def test_no_question_keeps_it_from_ending_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    step, caller = Fragile(1 if asked["do"] == "undo" else 0), Caller(asked)
    listener = Listener(monkeypatch, caller)
    serve(made(tmp_path, step), listener.socket(), listener.now_ns)
    assert caller.answered["error"]
    assert step.undone_times == 1


def test_one_whose_folder_was_removed_ends_it_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, listener = Fragile(1), Listener(monkeypatch)
    job = made(tmp_path, step)
    job.folder.rmdir()
    serve(job, listener.socket(), listener.now_ns)
    assert step.undone_times == 1
    assert not (tmp_path / "ledger.jsonl").exists()


def test_what_is_prepared_is_applied_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, order = Fragile(0), Caller({"do": "apply", "at_ns": 0})
    listener = Listener(monkeypatch, Caller({"do": "dance"}), order)
    job = made(tmp_path, step)
    job.prepare()
    await_order(job, listener.socket())
    assert (step.done_times, job.applied_ns) == (1, listener.now_ns)
    assert order.answered == {"began_ns": listener.now_ns, "applied_ns": listener.now_ns}


def test_nobody_s_order_leaves_everything_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, listener = Fragile(0), Listener(monkeypatch)
    job, began_ns = made(tmp_path, step), listener.now_ns
    await_order(job, listener.socket())
    assert (step.done_times, job.applied_ns, job.left) == (0, None, False)
    assert (listener.now_ns - began_ns) / 1e9 == pytest.approx(ORDER_WITHIN_S, abs=0.1)


def test_what_was_ended_before_it_began_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, ended = Fragile(0), Caller({"do": "undo"})
    listener = Listener(monkeypatch, ended, Caller({"do": "apply", "at_ns": 0}))
    await_order(made(tmp_path, step), listener.socket())
    assert (step.done_times, ended.answered["by"]) == (0, "request")


def test_what_could_neither_be_applied_nor_undone_is_left_to_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Caller({"do": "apply", "at_ns": 0})
    job = made(tmp_path, Broken(1))
    await_order(job, Listener(monkeypatch, order).socket())
    assert "not undone" in order.answered["error"]
    assert (job.applied_ns, job.left) == (None, True)
