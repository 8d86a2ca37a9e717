"""Reading servers' logs: instants, lines without one, bounds, and text that nobody can trust."""

import os
from pathlib import Path

import pytest

from resilience.history import log as log_module
from resilience.history.log import LINES_KEPT, TEXT_MAX, ServerLog, read_logs
from resilience.history.record import ClockPair
from tests.histories import WALL0, S, stamped

CLOCK = [ClockPair(at, int(WALL0 * S) + at) for at in range(0, 10 * S, S)]
SIGNAL = "# Redis 8.0.2 crashed by signal: 11, si_code: 0"
BARE = "Kernel pid terminated (x)"


def read(tmp_path: Path, *lines: str | bytes, clock: list[ClockPair] = CLOCK) -> ServerLog:
    path = tmp_path / "some-0" / "server.log"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))
    (found,) = read_logs(tmp_path, clock)
    return found


@pytest.mark.parametrize(
    ("component", "text"),
    [
        ("redis", SIGNAL),
        ("postgresql", "[7] PANIC:  x"),
        ("rabbitmq", "[error] <0.1.0>   crasher:"),
        ("pgbouncer", "[7] FATAL x"),
        ("etcd", "panic"),
    ],
)
def test_an_instant_is_put_on_the_runs_clock(tmp_path: Path, component: str, text: str) -> None:
    found = read(tmp_path, stamped(component, 3 * S + 250_000, text))
    assert [(line.server, line.after, line.before) for line in found.lines] == [(component, 3_250_000, 3_250_000)]
    assert found.begins == 3_250_000


def test_an_instant_in_another_zone(tmp_path: Path) -> None:
    found = read(tmp_path, '{"level":"panic","ts":"2025-10-09T10:53:23.5+0200","msg":"x"}')
    assert [line.after for line in found.lines] == [3_500_000]


def test_a_clock_that_was_stepped(tmp_path: Path) -> None:
    clock = [ClockPair(0, int(WALL0 * S)), ClockPair(S, int(WALL0 * S) + 100 * S)]
    found = read(tmp_path, stamped("redis", 101 * S, SIGNAL), clock=clock)
    assert [line.after for line in found.lines] == [2 * S]


def test_before_the_first_pair_and_without_any(tmp_path: Path) -> None:
    assert read(tmp_path, stamped("redis", -2 * S, SIGNAL)).begins == -2 * S
    alone = read(tmp_path, stamped("redis", -2 * S, SIGNAL), clock=[])
    assert (alone.begins, alone.lines[0].after, alone.lines[0].before) == (None, None, None)


def test_a_line_without_an_instant_lies_between_its_neighbours(tmp_path: Path) -> None:
    first, last = stamped("rabbitmq", S, "[info] <0.1.0> a"), stamped("rabbitmq", 4 * S, "[info] <0.1.0> b")
    spans = [(line.after, line.before) for line in read(tmp_path, BARE, first, BARE, "what", BARE, last, BARE).lines]
    assert spans == [(None, S), (S, 4 * S), (S, 4 * S), (4 * S, None)]


def test_an_instant_that_there_is_not(tmp_path: Path) -> None:
    found = read(tmp_path, f"23:M 31 Feb 2025 08:53:21.000 {SIGNAL}")
    assert (found.begins, [(line.after, line.before) for line in found.lines]) == (None, [(None, None)])


def test_what_is_kept_of_a_line_shows_itself_and_ends(tmp_path: Path) -> None:
    line = stamped("redis", S, SIGNAL).encode() + "\x1b[31m\u202e\t".encode() + b"\xff" + b"x" * TEXT_MAX + b"\n"
    (kept,) = read(tmp_path, line).lines
    assert r"\x1b[31m\u202e\t\xff" in kept.text
    assert kept.text.isprintable()
    assert len(kept.text) == TEXT_MAX


def test_so_many_lines_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, *[stamped("redis", S, SIGNAL)] * (LINES_KEPT + 7))
    assert (len(found.lines), found.lines_total) == (LINES_KEPT, LINES_KEPT + 7)


def test_a_line_without_an_end(tmp_path: Path) -> None:
    found = read(tmp_path, b"x" * 1_000_000, stamped("redis", S, SIGNAL))
    assert (found.size > 1_000_000, found.unread, found.lines) == (True, 0, ())  # it is not at a line's beginning


@pytest.mark.parametrize("block", [1, 60, 200, 1_000])
def test_however_it_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(log_module, "BLOCK_BYTES", block)
    quiet = [stamped("rabbitmq", at * 1_000, "[info] <0.1.0> a") for at in range(1, 40)]
    lines = read(tmp_path, *quiet, "not dated", BARE, "nor this", stamped("rabbitmq", S, "[info] <0.1.0> b")).lines
    assert [(line.after, line.before) for line in lines] == [(39_000, S)]


def test_the_rest_of_a_line_that_was_cut_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BLOCK_BYTES", 50)
    monkeypatch.setattr(log_module, "LINE_BYTES", 50)
    crash = stamped("redis", S, SIGNAL)
    assert read(tmp_path, f"{'x' * 100}{crash}").lines == ()
    assert len(read(tmp_path, "x" * 99, crash).lines) == 1


def test_what_is_beyond_the_bound_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LOG_BYTES", 1_000)
    found = read(tmp_path, stamped("redis", 0, "* a"), *["x" * 99] * 12, stamped("redis", S, SIGNAL))
    assert (found.unread, found.lines) == (found.size - 1_000, ())
    assert (found.begins, found.ends, found.torn) == (0, None, False)  # where it ends nobody has seen


@pytest.mark.parametrize("block", [1, 60, 200, 1_000])
@pytest.mark.parametrize("crash", [(), (SIGNAL,)], ids=["nothing to look at", "a mark"])
def test_where_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, crash: tuple[str, ...]) -> None:
    monkeypatch.setattr(log_module, "BLOCK_BYTES", block)
    lines = [stamped("redis", at * S, text) for at, text in enumerate(("* a", *crash, "* b"), 1)]
    found = read(tmp_path, *lines, "not dated", "nor this")
    assert (found.begins, found.ends, found.torn) == (S, len(lines) * S, False)


@pytest.mark.parametrize(("last", "torn"), [(b"", False), (b"\n", False), (b"2", True), (b"23:M 09 Oct", True)])
def test_a_line_that_is_torn(tmp_path: Path, last: bytes, torn: bool) -> None:
    assert read(tmp_path, stamped("redis", S, "* a"), last).torn == torn
    assert not read(tmp_path).torn


def test_the_bound_on_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LOGS_BYTES", 150)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "server.log").write_bytes(b"x" * 100)
    assert [log.unread for log in read_logs(tmp_path, CLOCK)] == [0, 50]


def test_nothing_is_read_but_a_file_of_the_run(tmp_path: Path) -> None:
    for name in ("pipe", "link", "folder", "gone"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "server.log")
    (tmp_path / "link" / "server.log").symlink_to("/etc/hostname")
    (tmp_path / "folder" / "server.log").mkdir()
    problems = {log.member: log.problem for log in read_logs(tmp_path, CLOCK)}
    assert problems["pipe"] == "it is no regular file"
    assert problems["link"].startswith("it cannot be read: ")
    assert problems["folder"]
    assert "gone" not in problems


def test_a_run_without_logs(tmp_path: Path) -> None:
    assert read_logs(tmp_path / "members", CLOCK) == ()
