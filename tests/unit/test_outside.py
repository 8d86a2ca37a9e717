"""What a run is to those outside of the sandbox, however the one inside ended."""

import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from resilience import cluster_run, supervise
from resilience.backend.local.place import PROJECT_ROOT
from resilience.cluster_run import Asked
from resilience.errors import SpecError, StackError
from resilience.outside import Ended, Wanted, prepared, require_possible
from resilience.spec.fault import Reboot
from resilience.spec.read import read_scenario

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "failover"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A recorded run among others' reports."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "failover" / "20261125T000000Z-42"))


def ended(monkeypatch: pytest.MonkeyPatch, reports: Path, code: int, directory: Path | None) -> Ended:
    monkeypatch.setattr(supervise, "image_root", lambda: Path("/image"))
    monkeypatch.setattr(supervise, "require_machine", lambda _: None)
    monkeypatch.setattr(supervise, "run_inside", lambda *_: (code, directory))
    return prepared("local", reports)(Wanted(scenario="failover", overrides=(), seed=None, reports=reports))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_in_a_cluster_that_is_ended_before_it_began_lets_go_of_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    held: list[str] = []

    class Place:
        where = "kind"

        def run(self, _asked: Asked) -> None:
            held.append("lock")
            try:
                signal.raise_signal(number)
            finally:
                held.clear()

    monkeypatch.setattr(cluster_run, "prepared", lambda *_where, **_how: Place())
    run = prepared("kind", tmp_path)
    found = run(Wanted(scenario="baseline", overrides=(), seed=None, reports=tmp_path))
    assert found == Ended(code=code, directory=None, judgement=None)
    assert held == []


@pytest.mark.parametrize("code", [1, 137])
def test_a_run_that_was_killed_before_it_recorded_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    with pytest.raises(StackError, match="before the run recorded anything") as raised:
        ended(monkeypatch, tmp_path, code, None)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("code", [2, 4, 130])
def test_a_run_that_ended_by_itself_before_it_recorded_has_its_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    assert ended(monkeypatch, tmp_path, code, None).code == code


def test_a_run_that_was_killed_before_its_verdict_is_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    (directory / "verdict.json").unlink()
    history = directory / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    history.write_text("".join(line for line in lines if '"ended"' not in line))
    found = ended(monkeypatch, tmp_path, 137, directory)
    assert found.code == 3
    assert found.judgement
    assert found.judgement.headline.startswith("inconclusive: cut short: the record breaks off at ")
    assert (directory / "report.html").exists()


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_run_that_was_killed_after_its_verdict_is_rendered_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path, code: int
) -> None:
    assert ended(monkeypatch, tmp_path, code, directory).code == 0
    assert (directory / "report.html").exists()
    assert (directory / "junit.xml").exists()


def test_a_killed_sandbox_that_ends_with_1_is_no_fail_of_a_run_that_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    (directory / "report.html").write_text("rendered")
    assert ended(monkeypatch, tmp_path, 1, directory).code == 0
    assert ended(monkeypatch, tmp_path, 143, directory).code == 143


def test_a_fault_that_nobody_could_carry_out_is_refused_before_anything_begins() -> None:
    scenario = read_scenario(PROJECT_ROOT, "node-freeze")
    assert scenario.experiment
    rebooted = msgspec.structs.replace(scenario.experiment, fault=Reboot())
    impossible = msgspec.structs.replace(scenario, experiment=rebooted)
    with pytest.raises(SpecError, match=r"node-freeze\.yaml: fault reboot is not possible on local: use --stack kind"):
        require_possible(impossible, "local")
    cut = read_scenario(PROJECT_ROOT, "postgresql-cut-failover")  # its prelude
    with pytest.raises(SpecError, match=r"fault cut-replication is not possible on kind: use --stack local"):
        require_possible(cut, "kind")
    promoted = read_scenario(PROJECT_ROOT, "postgresql-failover")
    for possible, stack in (
        (cut, "local"),
        (promoted, "local"),
        (promoted, "kind"),
        (read_scenario(PROJECT_ROOT, "postgresql-kill-replica"), "kind"),
        (impossible, "kind"),
        (scenario, "local"),
        (read_scenario(PROJECT_ROOT, "baseline"), "local"),
    ):
        require_possible(possible, stack)
