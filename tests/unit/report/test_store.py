"""The store of runs: directories, ``latest``, and what is found again."""

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.errors import HostError, SpecError
from resilience.report.run import RESERVE_BYTES, Owner, Run
from resilience.report.store import RunStore, find_run, load_judgement
from tests import judged_run


def store(reports_dir: Path, owner: Owner | None = None) -> RunStore:
    return RunStore(reports_dir, owner, now=lambda: judged_run.STARTED)


def read(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())


def test_a_run_has_its_directory_and_its_spec_at_once(tmp_path: Path):
    run = store(tmp_path / "new" / "reports").open(judged_run.scenario(), judged_run.ABOUT)
    assert run.directory == tmp_path / "new" / "reports" / "redis-failover" / "20260304T050607Z-42"
    spec = read(run.spec)
    assert {name: spec[name] for name in ("schema", "seed", "revision", "started_utc", "rerun")} == {
        "schema": 1,
        "seed": 42,
        "revision": "24cfa9d",
        "started_utc": "2026-03-04T05:06:07+00:00",
        "rerun": "resilience run redis-failover --seed 42",
    }
    assert spec["scenario"]["name"] == "redis-failover"
    assert all(folder.is_dir() for folder in (run.load_dir, run.chaos_dir, run.members_dir))


def test_space_is_kept_for_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = store(tmp_path).open(judged_run.scenario(), judged_run.ABOUT)
    assert run.reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    assert run.reserve.relative_to(run.directory) not in dict(run.files())
    run.give_reserve()
    run.give_reserve()
    assert not run.reserve.exists()

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(HostError, match=r"no room for a report: No space left on device; .* --reports$"):
        store(tmp_path).open(judged_run.scenario(), judged_run.ABOUT)


def test_runs_that_begin_in_the_same_second_have_directories_of_their_own(tmp_path: Path):
    first, second = (store(tmp_path).open(judged_run.scenario(), judged_run.ABOUT) for _ in range(2))
    assert second.directory.name == f"{first.directory.name}-2"


def test_what_was_saved_is_loaded_as_it_was(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.failed())
    assert run.load_spec().scenario == judged_run.scenario()
    assert load_judgement(run.directory) == judged_run.failed()
    assert run.load_timeline() == judged_run.timeline()
    assert run.load_servers()["redis-cluster-0"] == {"appendonly": "yes", "appendfsync": "everysec"}


def test_the_verdict_is_versioned_and_says_of_what_it_is_one(tmp_path: Path):
    verdict = read(judged_run.saved(tmp_path, judged_run.failed()).verdict)
    assert (verdict["schema"], verdict["verdict"], verdict["scenario"]) == (1, "fail", "redis-failover")
    assert verdict["findings"][-1]["evidence_total"] == 12
    assert verdict["measures"]["durability.lost_ops"] == 12
    assert verdict["rerun"] == judged_run.ABOUT.rerun


def test_a_run_without_a_verdict_was_cut_short(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    judgement = load_judgement(run.directory)
    assert judgement.verdict == "inconclusive"
    assert judgement.headline.startswith("cut short")
    assert run.load_servers()


def test_latest_moves_only_with_a_verdict(tmp_path: Path):
    runs = store(tmp_path)
    cut = judged_run.opened(tmp_path)
    runs.mark_latest(cut)
    assert not (tmp_path / "latest").is_symlink()
    judged = judged_run.saved(tmp_path, judged_run.passed())
    runs.mark_latest(judged)
    runs.mark_latest(cut)
    assert os.readlink(tmp_path / "latest") == "redis-failover/20260304T050607Z-42-2"
    again = judged_run.saved(tmp_path, judged_run.passed())
    runs.mark_latest(again)
    assert (tmp_path / "latest").resolve() == again.directory
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_runs_are_found_by_word_by_scenario_and_by_path(tmp_path: Path):
    first = judged_run.saved(tmp_path, judged_run.passed())
    RunStore(tmp_path, None).mark_latest(first)
    second = judged_run.opened(tmp_path)
    assert find_run(tmp_path, "latest").directory == first.directory
    assert find_run(tmp_path, "redis-failover").directory == second.directory
    assert find_run(tmp_path, str(first.directory)).directory == first.directory


@pytest.mark.parametrize("text", ["latest", "no-such-scenario", "/nowhere", ""])
def test_a_run_that_is_not_there_is_one_readable_line(tmp_path: Path, text: str):
    with pytest.raises(SpecError, match="no run is there; expected the path") as caught:
        find_run(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"{", "is not what this version writes"), (b'{"schema": 1}', "missing required field")]
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, said: str):
    run = judged_run.opened(tmp_path)
    run.spec.write_bytes(content)
    with pytest.raises(SpecError, match=said) as caught:
        run.load_spec()
    assert str(run.spec) in str(caught.value)


def test_reports_that_cannot_be_written_are_one_readable_line(tmp_path: Path):
    (tmp_path / "reports").write_text("a file, not a folder")
    with pytest.raises(HostError, match=r"reports/redis-failover: cannot be made: Not a directory; give another"):
        store(tmp_path / "reports").open(judged_run.scenario(), judged_run.ABOUT)


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.passed())
    before = run.verdict.read_bytes()
    (run.directory / ".verdict.json.new").mkdir()
    with pytest.raises(HostError, match=r"verdict\.json: cannot be written"):
        run.save_judgement(judged_run.failed(), judged_run.timeline())
    assert run.verdict.read_bytes() == before


def test_everything_is_handed_over_and_links_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "lchown", lambda path, uid, gid: given.append((Path(path).name, uid, gid)))
    reports = store(tmp_path / "reports", Owner(1000, 1001))
    with reports.open(judged_run.scenario(), judged_run.ABOUT) as run:
        (run.members_dir / "server.log").write_text("x")
        (run.members_dir / "link").symlink_to("/etc/passwd")
        run.save_judgement(judged_run.passed(), judged_run.timeline())
        reports.mark_latest(run)
    names = {name for name, uid, gid in given if (uid, gid) == (1000, 1001)}
    assert names >= {"reports", "redis-failover", run.directory.name, "spec.json", "verdict.json", "server.log", "link"}
    assert any(name.startswith(".latest") for name in names)


def test_files_are_listed_with_their_sizes(tmp_path: Path):
    run = judged_run.opened(tmp_path)
    (run.members_dir / "m").mkdir()
    (run.members_dir / "m" / "server.log").write_bytes(b"12345")
    assert (Path("members/m/server.log"), 5) in Run(run.directory).files()


def test_the_verdict_says_in_a_line_which_control_it_rests_on(tmp_path: Path):
    run = judged_run.saved(tmp_path, judged_run.beside(judged_run.passed(), "baseline/1-1: pass"))
    assert read(run.verdict)["control"] == "baseline/1-1: pass"
