"""A record that was damaged after the run: `resilience judge` says what is wrong, and never takes it for a good one."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.check.compose import judge
from resilience.cli import main
from resilience.history.read import read_history
from resilience.report.run import Run

PASSED = Path(__file__).resolve().parents[1] / "golden" / "failover"
FILES = ("history.jsonl", "load/locust.ops.jsonl", "load/direct.ops.jsonl", "load/direct.summary.json", "audit.jsonl",
         "samples.jsonl")  # fmt: skip
HALF, A_LINE_LESS = 0.5, -1


def cut(path: Path, where: float) -> None:
    """Cuts a file off after a share of its bytes, or (negative) before so many of its last lines."""
    content = path.read_bytes()
    if where < 0:
        path.write_bytes(b"".join(content.splitlines(keepends=True)[: int(where)]))
    else:
        path.write_bytes(content[: int(len(content) * where)])


def cut_all(paths: Iterable[Path], where: float) -> None:
    for path in paths:
        cut(path, where)


def garble(path: Path, line: int, with_what: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = with_what + b"\n"
    path.write_bytes(b"".join(lines))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    damage: Callable[[Path], None]
    says: str
    code: int = 3


CASES = (
    Case(name="history torn in the middle", damage=lambda run: cut(run / "history.jsonl", HALF),
         says="was not recorded in phase recovery"),
    Case(name="ops torn in the middle", damage=lambda run: cut(run / "load/locust.ops.jsonl", HALF),
         says="locust counted "),
    Case(name="ops without the last line", damage=lambda run: cut(run / "load/direct.ops.jsonl", A_LINE_LESS),
         says="direct counted 890 ops ok, 889 are on record"),
    Case(name="summary torn", damage=lambda run: cut(run / "load/direct.summary.json", HALF),
         says="load/direct.summary.json:1:"),
    Case(name="audit torn in the middle", damage=lambda run: cut(run / "audit.jsonl", HALF),
         says="audit did not come to its end"),
    Case(name="audit without its last line", damage=lambda run: cut(run / "audit.jsonl", A_LINE_LESS),
         says="the room audit did not come to its end"),
    Case(name="samples torn in the middle", damage=lambda run: cut(run / "samples.jsonl", HALF),
         says="samples.jsonl: torn"),
    Case(name="ledger without its last line", damage=lambda run: cut(run / "ledger.jsonl", A_LINE_LESS),
         says="is still open in the ledger"),
    Case(name="no ledger", damage=lambda run: (run / "ledger.jsonl").unlink(), says="the ledger does not say that"),
    Case(name="two files torn", says="2 files end in a torn line",
         damage=lambda run: cut_all((run / "load/direct.ops.jsonl", run / "audit.jsonl"), HALF)),
    Case(name="zeros in the middle, as after a power cut", says="history.jsonl:9:",
         damage=lambda run: garble(run / "history.jsonl", 9, b"\0" * 80)),
    Case(name="another language in the middle", damage=lambda run: garble(run / "audit.jsonl", 3, b"\xff\xfe<html>"),
         says="audit.jsonl:3:"),
    Case(name="no history at all", damage=lambda run: (run / "history.jsonl").unlink(),
         says="history.jsonl: missing", code=1),  # what was lost is there to be seen, and nothing on record allows it
    Case(name="scenario torn", damage=lambda run: cut(run / "spec.json", HALF),
         says="spec.json: is not what this version writes", code=2),
)  # fmt: skip


def copy_of(run: Path, directory: Path) -> Path:
    copy = directory / "run"
    shutil.copytree(run, copy)
    return copy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_judging_a_damaged_record(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(PASSED, tmp_path)
    assert main(["judge", str(run)]) == 0, "what is damaged below was a pass"
    capsys.readouterr()
    case.damage(run)
    assert main(["judge", str(run)]) == case.code
    said = capsys.readouterr()
    assert case.says in " ".join((said.out + said.err).split())
    if case.code == 2:
        assert len(said.err.splitlines()) == 1


def test_a_report_of_a_torn_verdict_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(PASSED, tmp_path)
    cut(run / "verdict.json", HALF)
    assert main(["report", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "verdict.json: is not what this version writes" in line


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_anywhere_is_read_and_never_a_pass(name: str, tmp_path: Path) -> None:
    run = copy_of(PASSED, tmp_path)
    content = (run / name).read_bytes()
    for size in range(0, len(content) - 200, max(1, len(content) // 12)):  # the last line alone may be torn
        (run / name).write_bytes(content[:size])
        judgement = judge(Run(run).load_spec().scenario, read_history(run))
        # without the instant of the fault nothing allows what was lost: a loss is a loss
        allowed = {"inconclusive", "fail"} if name == "history.jsonl" else {"inconclusive"}
        assert judgement.verdict in allowed, (size, judgement.headline)
