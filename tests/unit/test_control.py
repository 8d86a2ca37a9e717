"""Which of the runs that are kept is a control, and what counts as the harness's content."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from resilience.about import content_digest
from resilience.backend.local.image import servers_of
from resilience.check.finding import Finding, Judgement, Verdict
from resilience.control import controls_in, newest, why_none
from resilience.errors import HostError
from resilience.history.control import Control
from resilience.report.run import Run
from tests import judged_run
from tests.histories import FINGERPRINT, IDENTITY, sound_control

NOW = IDENTITY.started_utc
OTHER = replace(FINGERPRINT, harness="d5", boot="b9")


def begun(started_utc: str, **fields: Any) -> Control:
    identity = replace(IDENTITY, started_utc=started_utc, fingerprint=fields.pop("fingerprint", FINGERPRINT))
    return replace(sound_control(), run=f"baseline/{started_utc}", identity=identity, **fields)


LATEST, EARLIER = begun("2025-10-09T08:50:00+00:00"), begun("2025-10-09T07:00:00+00:00")
TOO_OLD = begun("2025-10-08T08:53:19+00:00")


@pytest.mark.parametrize(
    ("controls", "found"),
    [
        ([LATEST, EARLIER], LATEST),
        ([replace(LATEST, verdict="fail"), EARLIER], replace(LATEST, verdict="fail")),
        ([begun("2025-10-09T08:50:00+00:00", fingerprint=OTHER), EARLIER], EARLIER),
        ([begun("2025-10-09T08:53:21+00:00"), EARLIER], EARLIER),
        ([begun("2025-10-08T08:53:20+00:00")], begun("2025-10-08T08:53:20+00:00")),
        ([TOO_OLD], None),
        ([begun(NOW, fingerprint=OTHER)], None),
        ([], None),
    ],
    ids=["newest", "newest, though it failed", "of its kind", "no later one", "24 h old", "too old", "other", "none"],
)  # fmt: skip
def test_the_newest_that_speaks_for_the_run_is_taken(controls: list[Control], found: Control | None) -> None:
    assert newest(controls, FINGERPRINT, NOW) == found


def test_why_there_is_none_is_said() -> None:
    assert why_none([TOO_OLD], FINGERPRINT, NOW) == "there is none of the last 24 hours"
    other = begun("2025-10-09T08:50:00+00:00", fingerprint=OTHER)
    assert why_none([other, EARLIER], FINGERPRINT, NOW) == (
        f"the newest one, {other.run}, was of another state of the harness, another boot of the machine"
    )


# --- runs that are kept ----------------------------------------------------------------------------------------------


def kept(
    reports: Path, name: str, *, verdict: Verdict | None = "pass", experiment: bool = False, broken_off: bool = False
) -> Run:
    """A run of the baseline in a directory of that name."""
    scenario = judged_run.scenario()
    scenario = replace(scenario, name="baseline", experiment=scenario.experiment if experiment else None)
    run = Run(reports / "baseline" / name)
    run.directory.mkdir(parents=True)
    run.save_spec(scenario, replace(judged_run.ABOUT, fingerprint=FINGERPRINT), "2025-10-09T07:00:00+00:00")
    run.save_servers({"redis-cluster-0": {"component": "redis", "version": "8.0.2"}})
    if verdict:
        held: Verdict = "inconclusive" if broken_off else "pass"
        findings = (Finding(check="assumption.not-interrupted", verdict=held, title="The run was not interrupted"),)
        judgement = Judgement(scenario="baseline", verdict=verdict, headline="so", findings=findings, measures={"a": 1})
        run.save_judgement(judgement, judged_run.timeline())
    return run


def test_controls_come_newest_first_with_their_judgement(tmp_path: Path) -> None:
    kept(tmp_path, "20251009T070000Z-1")
    kept(tmp_path, "20251009T080000Z-7", verdict="fail")
    newer, older = controls_in(tmp_path)
    assert (newer.run, newer.verdict, older.run) == (
        "baseline/20251009T080000Z-7",
        "fail",
        "baseline/20251009T070000Z-1",
    )
    assert (newer.identity.fingerprint, newer.identity.versions) == (FINGERPRINT, {"redis": ("8.0.2",)})
    assert (newer.headline, newer.measures, len(newer.findings)) == ("so", {"a": 1}, 1)


def test_what_is_no_control(tmp_path: Path) -> None:
    kept(tmp_path, "1", verdict=None)
    kept(tmp_path, "2", experiment=True)
    kept(tmp_path, "3", verdict="inconclusive", broken_off=True)
    (kept(tmp_path, "4").directory / "spec.json").write_text("{")
    (kept(tmp_path, "5").directory / "servers.json").unlink()
    (kept(tmp_path, "6").directory / "verdict.json").write_text("{}")
    (tmp_path / "baseline" / "7").write_text("")
    assert list(controls_in(tmp_path)) == []
    assert list(controls_in(tmp_path / "nowhere")) == []


def test_a_control_is_saved_as_it_is_read(tmp_path: Path) -> None:
    run = kept(tmp_path, "20251009T070000Z-1")
    (control,) = controls_in(tmp_path)
    run.save_control(control)
    saved = msgspec.json.decode(run.control.read_bytes(), type=Control)
    assert msgspec.json.encode(saved) == msgspec.json.encode(control)


# --- content ---------------------------------------------------------------------------------------------------------


def checkout(root: Path) -> Path:
    for name in ("src/resilience/a.py", "loadgen/b.py", "services/c.lua", "stacks/local/d.yaml", "docs/e.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "requirements.lock").write_text("x==1")
    return root


@pytest.mark.parametrize(
    "name", ["src/resilience/a.py", "loadgen/b.py", "services/c.lua", "stacks/local/d.yaml", "requirements.lock"]
)
def test_a_changed_file_changes_the_content_whatever_its_commit(tmp_path: Path, name: str) -> None:
    before = content_digest(checkout(tmp_path))
    (tmp_path / name).write_text("y")
    assert content_digest(tmp_path) != before
    checkout(tmp_path)
    assert content_digest(tmp_path) == before
    (tmp_path / name).unlink()
    assert content_digest(tmp_path) != before


def test_a_moved_or_new_file_changes_it(tmp_path: Path) -> None:
    before = content_digest(checkout(tmp_path))
    (tmp_path / "src/resilience/a.py").rename(tmp_path / "src/resilience/z.py")
    moved = content_digest(tmp_path)
    (tmp_path / "src/resilience/new.py").write_text("")
    assert len({before, moved, content_digest(tmp_path)}) == 3


def test_what_does_not_run_does_not_change_it(tmp_path: Path) -> None:
    before = content_digest(checkout(tmp_path / "one"))
    (tmp_path / "one/docs/e.md").write_text("y")
    (tmp_path / "one/src/resilience/__pycache__").mkdir()
    (tmp_path / "one/src/resilience/__pycache__/a.pyc").write_text("y")
    (tmp_path / "one/src/resilience/.a.py.swp").write_text("y")
    assert content_digest(tmp_path / "one") == before == content_digest(checkout(tmp_path / "two"))


def test_the_servers_are_those_that_were_installed(tmp_path: Path) -> None:
    image = tmp_path / "54d7d07a750b"
    with pytest.raises(HostError, match="resilience image --rebuild"):
        servers_of(image)
    (image / "var/lib/dpkg").mkdir(parents=True)
    (image / "var/lib/dpkg/status").write_text("Package: redis-server\nVersion: 8.0.2")
    before = servers_of(image)
    (image / "var/lib/dpkg/status").write_text("Package: redis-server\nVersion: 8.0.3")
    assert before.startswith("image 54d7d07a750b, packages ")
    assert servers_of(image) != before
