"""A stack that stays up, as far as it is known outside."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import tty
from pathlib import Path

import msgspec
import pytest

from resilience import cli, standing
from resilience.agent.process import look_up
from resilience.errors import HostError, SpecError, StackError
from resilience.standing import Post, Standing, life_s, refuse_second, require_standing
from resilience.standing_cli import notice


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Post:
    monkeypatch.setattr(standing, "standing_dir", lambda _owner: tmp_path)
    return Post(tmp_path)


def write(post: Post, start_offset: int = 0) -> Standing:
    """Says that this very process is the supervisor of a stack, or that an earlier one of its pid was."""
    myself = look_up(os.getpid())
    assert myself
    facts = Standing(
        pid=myself.pid,
        start=myself.start + start_offset,
        scenario="baseline",
        stack="harmonyflow",
        since_utc="2026-11-24T16:00:00+00:00",
        until_utc="2026-11-25T00:00:00+00:00",
        doors=(("edge-0", "http://127.0.0.1:1"),),
    )
    post.facts.write_bytes(msgspec.json.encode(facts))
    return facts


def log_of(post: Post, member: str, text: bytes) -> None:
    folder = post.members / member
    folder.mkdir(parents=True)
    (folder / "server.log").write_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h", 28_800), ("30m", 1_800), ("90s", 90), ("1h30m", 5_400), ("168h", 604_800)]
)
def test_times(text: str, seconds: float):
    assert life_s(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "0s", "-1h", "1d", "8 h", "169h", "8h\n", "x" * 99, "9999999h"])
def test_what_is_no_time(text: str):
    with pytest.raises(SpecError, match="--for: expected a time such as 8h"):
        life_s(text)


def test_a_wrong_time_starts_nothing(post: Post, capsys):
    assert cli.main(["up", "--for", "soon"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(post.folder.iterdir()) == []


def test_a_stack_is_up_while_its_very_supervisor_lives(post: Post):
    assert post.standing() is None
    facts = write(post)
    assert post.standing() == facts
    with pytest.raises(HostError, match="a stack is up already"):
        refuse_second(post)
    write(post, start_offset=-1)  # the pid is somebody else's by now
    assert post.standing() is None
    refuse_second(post)


@pytest.mark.parametrize("text", [b"", b"{}", b"nonsense", b"[1]"])
def test_a_file_that_is_none_is_no_stack(post: Post, text: bytes):
    post.facts.write_bytes(text)
    assert post.standing() is None
    with pytest.raises(StackError, match="'resilience up' brings one up"):
        require_standing()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["status"], 4), (["down"], 0), (["exec", "edge-0", "--", "ls"], 4), (["logs", "edge-0"], 4)],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_a_stack_each_command_is_one_line(post: Post, arguments: list[str], code: int, capsys):
    assert list(post.folder.iterdir()) == []
    assert cli.main(arguments) == code
    said = capsys.readouterr()
    assert len((said.out + said.err).splitlines()) == 1
    assert "no stack is up" in said.out + said.err


HOSTILE_LOG = b"one\ntwo \x1b[2J\x07 <b>\xff [bold]x[/]\n" + "\u202eeurt \x9b2J".encode() + b"\nthree"


def test_a_pipe_gets_the_very_bytes_of_a_log(post: Post, capfdbinary):
    log_of(post, "edge-0", HOSTILE_LOG)
    assert cli.main(["logs", "edge-0", "--lines", "3"]) == 0
    said = capfdbinary.readouterr()
    assert said.out == HOSTILE_LOG.removeprefix(b"one\n")
    assert b"what the last one left" in said.err


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> bytes:
    """What a terminal receives from a command."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    received = bytearray()

    def receive() -> None:
        with contextlib.suppress(OSError):  # how a terminal's other end tells its own end
            while part := os.read(ours, 65_536):
                received.extend(part)

    reader = threading.Thread(target=receive)
    reader.start()
    with open(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        assert cli.main(arguments) == 0
        stream.flush()
    reader.join(10)
    os.close(ours)
    return bytes(received)


def test_a_terminal_is_shown_control_characters_and_obeys_none(post: Post, monkeypatch: pytest.MonkeyPatch):
    log_of(post, "edge-0", HOSTILE_LOG)
    shown = on_a_terminal(monkeypatch, "logs", "edge-0", "--lines", "3").decode()
    assert shown == "two \\x1b[2J\\x07 <b>\ufffd [bold]x[/]\n\\u202eeurt \\x9b2J\nthree"


def test_a_line_of_a_megabyte_is_one_line_and_no_character_is_cut(post: Post, monkeypatch: pytest.MonkeyPatch):
    line = ("x" + "\u00e9" * 500_000).encode()  # a character stands across every border of what is read at once
    log_of(post, "edge-0", b"first\n" + line + b"\nlast\n")
    assert on_a_terminal(monkeypatch, "logs", "edge-0", "--lines", "2") == line + b"\nlast\n"


def test_logs_are_followed_until_the_stack_has_ended(post: Post, monkeypatch: pytest.MonkeyPatch, capsys):
    log_of(post, "edge-0", b"before\n")
    facts = write(post)
    looks = iter([facts, facts, facts, None])
    words = iter([b"one\x07\n", b"last\n"])

    def while_waiting(_seconds: float) -> None:
        with (post.members / "edge-0" / "server.log").open("ab") as log:
            log.write(next(words))

    monkeypatch.setattr(Post, "standing", lambda _self: next(looks))
    monkeypatch.setattr("resilience.standing_cli.time.sleep", while_waiting)
    assert cli.main(["logs", "edge-0", "-f", "--lines", "0"]) == 0
    assert capsys.readouterr().out == "one\x07\nlast\n"


def test_a_reader_that_wants_no_more_is_no_fault_of_ours(post: Post):
    log_of(post, "edge-0", b"x\n" * 100_000)  # more than a pipe holds
    program = (
        "import pathlib, sys; from resilience import cli, standing;"
        f" standing.standing_dir = lambda _owner: pathlib.Path({str(post.folder)!r});"
        " sys.exit(cli.main(['logs', 'edge-0', '--lines', '100000']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == "no stack is up; this is what the last one left\n"


@pytest.mark.parametrize("member", ["nobody", "../members/edge-0", "edge-0/.."])
def test_logs_of_nobody_are_refused(post: Post, member: str, capsys):
    log_of(post, "edge-0", b"x")
    assert cli.main(["logs", member]) == 2
    assert "no member is called" in capsys.readouterr().err


def test_a_run_tells_of_a_stack_that_is_up(post: Post):
    assert notice() == ""
    write(post)
    assert "resilience down" in notice()
