"""`resilience judge` and `report` on a directory with garbage in it: one line and exit 2, or a verdict that says so."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resilience import cli
from tests.hostile import TEXTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "failover"
CPU_S_MAX = 20.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "run")
    return tmp_path / "run"


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(data), None)[1]


def other_schema(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))


GARBAGE: dict[str, Callable[[Path], None]] = {
    "empty": content(b""),
    "torn": torn,
    "nothing": content(b"null"),
    "list": content(b"[1]"),
    "no-json": content(b"\x1b]0;owned\x07"),
    "no-utf-8": content(b'{"schema": "\xff"}'),
    "escape": content(b'{"schema": 1, "\\u001b]0;owned": 1}'),
    "deep": content(b"[" * 100_000),
    "deep-field": content(b'{"schema": 1, "scenario": ' + b'{"a":' * 50_000),
    "huge-number": content(b'{"schema": 1e999}'),
    "long-number": content(b'{"schema": ' + b"9" * 10_000 + b"}"),
    "other-schema": other_schema,
    "pipe": pipe,
    "folder": folder,
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("file", ["spec.json", "verdict.json"])
def test_a_broken_document_is_one_line(file: str, name: str, run: Path, capsys) -> None:
    GARBAGE[name](run / file)
    assert cli.main(["judge" if file == "spec.json" else "report", str(run)]) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    line = said.err.removesuffix("\n")
    assert line.isprintable()
    assert len(line) < 1_100
    if (file, name) not in {("spec.json", "pipe"), ("spec.json", "folder")}:  # then it is no run at all
        assert f"{run / file}: " in line
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["empty", "no-utf-8", "deep", "long-number"])
def test_a_broken_control_is_damage_that_the_verdict_names(name: str, run: Path, capsys) -> None:
    GARBAGE[name](run / "control.json")
    assert cli.main(["judge", str(run)]) == 3
    assert capsys.readouterr().err == ""
    assert "control.json:1: " in (run / "verdict.json").read_text()


@pytest.mark.parametrize("put", [pipe, folder])
@pytest.mark.parametrize("file", ["history.jsonl", "audit.jsonl", "load/direct.ops.jsonl"])
def test_what_is_no_file_is_one_line(file: str, put: Callable[[Path], None], run: Path, capsys) -> None:
    put(run / file)
    assert cli.main(["judge", str(run)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"resilience: {run / file}: cannot be read: ")
    assert len(said.err.splitlines()) == 1


def event(name: str, data: object, at: int = 5) -> bytes:
    return json.dumps(["event", name, at, data]).encode() + b"\n"


LINES: dict[str, tuple[str, bytes]] = {
    "no-json": ("history.jsonl", b"\x1b]0;owned\x07\n"),
    "deep": ("history.jsonl", b'["event","x",1,{"a":' + b"[" * 100_000 + b"\n"),
    "deep-and-whole": ("history.jsonl", b'["event","x",1,{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]\n"),
    "no-utf-8": ("history.jsonl", b'["event","\xff",1,{}]\n'),
    "unknown-kind": ("history.jsonl", b'["\\u001b[2J",1]\n'),
    "huge-instant": ("history.jsonl", b'["phase","steady",0,9223372036854775807]\n'),
    "endless-instant": ("history.jsonl", b'["phase","steady",0,' + b"9" * 5_000 + b"]\n"),
    "month-of-load": ("history.jsonl", b'["phase","recovery",0,2592000000001]\n'),
    "members-no-list": ("history.jsonl", event("injected", {"injection": "a", "began_us": 1, "applied_us": 1,
                                                            "members": 5})),
    "injected-nothing": ("history.jsonl", event("injected", {})),
    "instant-text": ("history.jsonl", event("injected", {"injection": "a", "began_us": "x", "applied_us": []})),
    "shards-no-list": ("history.jsonl", event("shards", {"shards": {"a": 1}}, at=-5)),
    "group-text": ("history.jsonl", event("role", {"member": "a", "group": TEXTS["title"], "role": "primary"})),
    "role-no-text": ("history.jsonl", event("role", {"member": ["a"], "group": 1, "role": {}})),
    "clients-no-list": ("history.jsonl", event("load-started", {"clients": 7})),
    "compared-text": ("history.jsonl", event("replicas", {"compared": {"a": "many"}})),
    "id-beyond-64-bits": ("load/direct.ops.jsonl", b'["i",' + b"9" * 30 + b',"direct.write","k","v",1,"steady",1,1]\n'),
    "group-beyond-32-bits": ("load/direct.ops.jsonl", b'["i",7,"direct.write","k","v",9999999999,"steady",1,1]\n'),
    "outcome-unknown": ("load/direct.ops.jsonl", b'["r",1,"\\u001b[2J",5]\n'),
    "epoch-beyond-64-bits": ("load/locust.ops.jsonl", b'["d","m","r",' + b"9" * 30 + b',1,"e",1,"live"]\n'),
    "audit-version": ("audit.jsonl", b'["session","k",1,true,"live",' + b"9" * 30 + b",1,[]]\n"),
    "sample-text": ("samples.jsonl", b'["series","x",{},["a"],[1]]\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_broken_line_makes_a_verdict_that_says_so(name: str, run: Path, capsys) -> None:
    file, line = LINES[name]
    with (run / file).open("ab") as records:
        records.write(line)
    began = time.process_time()
    assert cli.main(["judge", str(run)]) == 3
    assert time.process_time() - began < CPU_S_MAX
    said = capsys.readouterr()
    assert (said.err, "\x1b" in said.out) == ("", False)
    assert "INCONCLUSIVE" in said.out
    assert "history-whole" in (run / "verdict.json").read_text()
    assert cli.main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size < 3_000_000


def test_the_run_is_a_pass_without_garbage(run: Path) -> None:
    assert cli.main(["judge", str(run)]) == 0


def test_a_history_of_a_month_does_not_become_a_month_of_seconds(run: Path) -> None:
    with (run / "history.jsonl").open("ab") as records:
        records.write(b'["phase","recovery",0,2591999999999]\n')
    cli.main(["judge", str(run)])
    assert len(json.loads((run / "timeline.json").read_text())["seconds"]) == 6 * 3_600
