"""What people and the environment hand to the command is input too: one line, exit 2, nothing obeyed."""

import io
import os
import shlex
import sys
from pathlib import Path

import pytest

from resilience import cli
from resilience.backend.local import place, sandbox
from resilience.errors import HostError
from resilience.outside import Wanted
from resilience.report.terminal import WIDTH_MAX, WIDTH_MIN, console_for
from tests.malformed.conftest import WOULD_START, Command

ESCAPE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        ([f"ru{ESCAPE}n"], ["invalid choice", "\\x1b]0;owned\\x07"]),
        (["run"], ["run: ", "SCENARIO"]),
        (["run", "baseline", ESCAPE], ["unrecognized arguments: \\x1b]0;owned\\x07"]),
        (["run", "baseline", f"--se{ESCAPE}"], ["unrecognized arguments"]),
        (["run", f"base{ESCAPE}line"], ["scenario 'base\\x1b]0;owned\\x07line': there is none"]),
        (["run", "base\nline"], ["scenario 'base\\nline'"]),
        (["run", "base\udcffline"], ["scenario 'base\\udcffline'"]),
        (["run", "\u202eenilesab"], ["scenario '\\u202eenilesab'"]),
        (["run", ""], ["scenario ''"]),
        (["run", "$(touch owned)"], ["scenario '$(touch owned)'"]),
        (["run", "x" * 100_000], ["scenario 'xxx"]),
        (["run", f"{'x' * 5_000}/a.yaml"], ["the file: "]),
        (["run", f"{ESCAPE}/a.yaml"], ["\\x1b]0;owned\\x07/a.yaml: the file: does not exist"]),
        (["run", "/dev/zero"], ["/dev/zero: the file: expected a regular file"]),
        (["run", "/proc/self/mem"], ["the file: "]),
        (["run", "baseline", "--seed", "one"], ["--seed: expected a whole number", "'one'"]),
        (["run", "baseline", "--seed", "-1"], ["--seed: expected a whole number", "'-1'"]),
        (["run", "baseline", "--seed", "9" * 5_000], ["--seed: expected a whole number"]),
        (["run", "baseline", "--seed", "\u0663"], ["--seed: expected a whole number"]),
        (["run", "baseline", "--seed", "9999999999"], ["seed: expected 0 to 4294967295"]),
        (["run", "baseline", "--set", ESCAPE], ["the override: expected FIELD=VALUE"]),
        (["run", "baseline", "--set", f"{ESCAPE}=1"], ["\\x1b]0;owned\\x07: unknown field"]),
        (["run", "baseline", "--set", f"seed={ESCAPE}"], ["seed=\\x1b]0;owned"]),
        (["run", "baseline", "--set", 'redis.appendfsync="\\e[2J"'], ["control characters are not allowed"]),
        (["run", "baseline", "--set", "seed=" + "[" * 50_000], ["nested deeper"]),
        (["run", "baseline", "--set", "seed=\udcff"], ["override"]),
        (["run", "baseline", "--set", "seed=7\n", "--set", "timeline.steady_s=1"], ["seed=7\\n", "slos: "]),
        (["run", "baseline", "--set", "load.rooms=1e400"], ["load.rooms: expected"]),
        (["suite", f"smo{ESCAPE}ke"], ["there is no suite 'smo\\x1b]0;owned\\x07ke'"]),
        (["suite", "../../tmp"], ["there is no suite '../../tmp'"]),
        (["plan", "no\x9bsuch"], ["scenario 'no\\x9bsuch'"]),
        (["up", "--for", f"8h{ESCAPE}"], ["--for: expected a time"]),
        (["up", "--for", "\u0668h"], ["--for: expected a time"]),
        (["up", "--port-edge", "\u0668\u0660"], ["expected a port"]),
        (["logs", "edge-0", "--lines", "\u0663"], ["expected a number of lines"]),
        (["judge", f"no{ESCAPE}where"], ["no\\x1b]0;owned\\x07where: no run is there; expected"]),
        (["judge", "x" * 5_000], ["expected"]),
        (["report", "/dev/zero"], ["/dev/zero: no run is there"]),
        (["judge", "latest", "--reports", "y" * 300], ["latest: no run is there"]),
    ],
    ids=lambda value: None if isinstance(value, list) and value and len(str(value)) > 60 else ascii(value),
)  # fmt: skip
def test_a_wrong_command_is_one_line(arguments: list[str], words: list[str], command: Command) -> None:
    said = command(*arguments)
    assert said.began == ()
    assert (said.code, said.out) == (2, "")
    line = said.err.removesuffix("\n")
    assert line.isprintable()
    assert len(line) < 1_100
    assert [word for word in words if word not in line] == [], line


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--help"])
    assert ended.value.code == 0
    assert "--seed" in capsys.readouterr().out


def test_the_command_that_repeats_a_run_is_safe_to_paste() -> None:
    wanted = Wanted(
        scenario="a b.yaml", overrides=["seed=7 # $(touch owned); `x`", "durability=wait:1"], seed=None, reports=Path()
    )
    shown = wanted.rerun(7, "local")
    assert shlex.split(shown) == [
        "resilience", "run", "a b.yaml", "--set", "seed=7 # $(touch owned); `x`", "--set", "durability=wait:1",
        "--seed", "7",
    ]  # fmt: skip
    assert "'seed=7 # $(touch owned); `x`'" in shown
    assert shlex.split(wanted.rerun(7, "kind"))[-2:] == ["--stack", "kind"]


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SUDO_UID", "SUDO_GID"])
@pytest.mark.parametrize("text", ["root", "-1", "1e3", "9" * 50, ESCAPE, "\u0663"])
def test_ids_of_sudo_that_are_none(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv(name, text)
    with pytest.raises(HostError, match=f"{name}: expected a number, as sudo sets it") as caught:
        place.calling_user()
    assert str(caught.value).isprintable()


def test_a_relative_cache_folder_is_ignored_as_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = place.Owner(os.getuid(), os.getgid(), Path("/home/x"))
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert place.cache_dir(owner) == Path("/home/x/.cache/harmonyflow")


def test_nothing_is_done_to_the_machine_where_only_the_environment_speaks_of_a_sandbox(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sandbox.INSIDE, "/")
    for arguments in (["run", "baseline"], ["up"], ["heal"], ["sandbox", "--", "true"]):
        said = command(*arguments)
        assert (said.code, said.began) == (4, ())
        assert said.err == "resilience: RESILIENCE_INSIDE is set, and this is no sandbox: unset it\n"


@pytest.mark.parametrize("columns", ["0", "1", "-5", "many", "9" * 12, ""])
def test_any_width_of_a_terminal_is_survived(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", columns)
    assert WIDTH_MIN <= console_for(Terminal()).width <= WIDTH_MAX


def test_a_terminal_that_lacks_a_character_gets_its_number(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["plan", "baseline"]) == 0
    sys.stdout.flush()
    assert b"\\u2265 99" in written.getvalue()


def test_what_is_right_goes_on(command: Command) -> None:
    assert command("run", "baseline", "--set", "seed=7 # a comment").err == f"resilience: {WOULD_START}\n"
