"""The command's exit codes: of a verdict, of a wrong file or word, of a machine's or our own fault."""

import shutil
from pathlib import Path

import pytest

from resilience import cli, cluster_run, supervise
from resilience.backend.kubernetes.tiers import Extent
from resilience.errors import HostError
from resilience.report.store import find_run
from tests.golden.renew import HERE


@pytest.mark.parametrize(("run", "code"), [("failover", 0), ("split-brain", 1), ("no-effect", 3)])
def test_a_verdict_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str, code: int):
    directory = tmp_path / "reports" / run / "20260304T050607Z-42"
    shutil.copytree(HERE / run, directory)
    assert cli.main(["judge", run, "--reports", str(tmp_path / "reports")]) == code
    assert str(directory / "report.html") in capsys.readouterr().out.replace("\n", "")
    assert find_run(tmp_path / "reports", run).load_judgement().verdict == ("pass", "fail", "", "inconclusive")[code]
    (directory / "report.html").unlink()
    assert cli.main(["report", run, "--reports", str(tmp_path / "reports")]) == 0
    assert (directory / "report.html").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["run", "no-such-scenario"], "no-such-scenario"),
        (["run", "baseline", "--set", "load.rooms=many"], "load.rooms"),
        (["run", "node-drain"], "node-drain.yaml: fault drain is not possible on local: use --stack kind"),
        (["run", "rolling-restart-session"], "fault rolling-restart is not possible on local: use --stack kind"),
        (["run", "session-delete"], "fault delete is not possible on local: use --stack kind"),
        (["run", "session-scale-down"], "fault scale is not possible on local: use --stack kind"),
        (["run", "session-denied-redis"], "fault deny is not possible on local: use --stack kind"),
        (["suite", "cluster"], "fault drain is not possible on local: use --stack kind"),
        (["plan", "no-such-scenario"], "no-such-scenario"),
        (["suite", "no-such-suite"], "no-such-suite"),
        (["judge", "no-such-run"], "no-such-run"),
        (["up", "--for", "soon"], "--for"),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_one_line_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
):
    monkeypatch.setattr(supervise, "image_root", lambda **_: pytest.fail("something was begun"))
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert says in said.err


def test_a_word_that_there_is_not_is_2():
    assert cli.main(["rum"]) == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (HostError("no space"), 4, "resilience: no space"),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("x"), 4, "resilience: a fault of the harness itself (ZeroDivisionError); please report it"),
    ],
    ids=["the machine's", "Ctrl-C", "ours"],
)
def test_what_went_wrong_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
):
    def fails() -> None:
        raise error

    monkeypatch.setattr(supervise, "examined", fails)
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert "".join(lines[-1:]) == said
    assert len(lines) <= 1 or "itself" in said  # a trace is for our own faults


@pytest.mark.parametrize(
    ("argv", "workers"), [(["run", "baseline", "--set", "load.workers=3"], 3), (["suite", "smoke"], 1)]
)
def test_a_cluster_is_asked_for_room_for_the_most_processes_of_a_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, argv: list[str], workers: int
):
    asked: list[int] = []

    def none(_reports: Path, *, break_lock: bool, extent: Extent, where: str) -> None:
        assert where == "kind"
        asked.append(extent.workers)
        raise HostError(f"no room ({break_lock})")

    monkeypatch.setattr(cluster_run, "prepared", none)
    assert cli.main([*argv, "--stack", "kind", "--reports", str(tmp_path)]) == 4
    assert asked == [workers]
