"""What a session's time to live must be, and which sessions may be gone."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.durability.session import session as durability
from resilience.check.expiry import expired, expiry
from resilience.check.finding import Finding
from resilience.history.record import SessionRead
from resilience.spec.scenario import Scenario
from tests.histories import END, Recorded, S, recorded, scenario

TTL_S = 30  # the audit is 5 s after the end


def short(ttl_s: int = TTL_S) -> Scenario:
    about = scenario(slos=())
    return replace(about, stack=replace(about.stack, session_ttl_s=ttl_s))


def judged(run: Recorded, folder: Path, about: Scenario) -> Finding:
    (finding,) = expiry(about, run.history(folder, about))
    return finding


def live(run: Recorded) -> SessionRead:
    return next(read for read in run.sessions.values() if read.state == "live")


def forget(run: Recorded, key: str) -> None:
    group = run.sessions[key].group
    run.sessions[key] = SessionRead(key, group, exists=False, state="", version=0, ttl_s=-2, log=())


@pytest.mark.parametrize(
    ("ttl_s", "verdict", "what"),
    [
        (604_800, "pass", ""),
        (604_795, "pass", ""),
        (604_801, "fail", "wrong time to live"),
        (604_700, "fail", "wrong time to live"),
        (-1, "fail", "never expires"),
    ],
)
def test_the_rest_of_a_live_session(tmp_path: Path, ttl_s: int, verdict: str, what: str) -> None:
    run = recorded()
    read = live(run)
    run.sessions[read.key] = SessionRead(read.key, read.group, True, "live", read.version, ttl_s, read.log)
    finding = judged(run, tmp_path, scenario(slos=()))
    assert finding.verdict == verdict
    assert [(item["what"], item["key"]) for item in finding.evidence] == ([(what, read.key)] if what else [])


def test_without_an_audit_nothing_is_said(tmp_path: Path) -> None:
    run = recorded()
    run.audited.remove("session")
    finding = judged(run, tmp_path, scenario(slos=()))
    assert (finding.verdict, finding.reason) == ("inconclusive", "the sessions were not read back")


def test_no_session_alive_is_nothing_to_judge(tmp_path: Path) -> None:
    run = recorded()
    run.sessions = {key: read for key, read in run.sessions.items() if read.state != "live"}
    assert judged(run, tmp_path, scenario(slos=())).verdict == "inconclusive"


def test_a_session_whose_log_is_there_has_not_expired(tmp_path: Path) -> None:
    run, about = recorded(), short(1)
    key = next(iter(run.sessions))
    gone = replace(run.sessions[key], exists=False)
    for read in (gone, replace(gone, log=())):
        run.sessions[key] = read
        assert (key in expired(about, run.history(tmp_path, about))) == (not read.log)


def lost(run: Recorded, folder: Path, about: Scenario) -> set[str]:
    findings = durability(about, run.history(folder, about))
    return {str(item["key"]) for finding in findings for item in finding.evidence if item["what"] == "lost"}


def old_and_young(run: Recorded) -> tuple[str, str]:
    """A session whose last write is over half a minute before the audit, and one whose is not."""
    last: dict[str, int] = {}
    for op in run.good("session.update") + run.good("session.end") + run.good("session.heartbeat"):
        last[op.key] = max(last.get(op.key, 0), op.returned or 0)
    old = next(key for key, at in last.items() if at < END + 5 * S - (TTL_S + 1) * S)
    young = next(key for key, at in last.items() if at > END + 5 * S - (TTL_S - 5) * S)
    return old, young


def test_a_session_whose_time_ran_out_is_no_loss(tmp_path: Path) -> None:
    run = recorded(fault=False)
    old, young = old_and_young(run)
    forget(run, old)
    assert lost(run, tmp_path / "old", short()) == set()
    assert judged(run, tmp_path / "old", short()).measures["session.expired"] == 1
    forget(run, young)
    assert lost(run, tmp_path / "young", short()) == {young}, "deleted before its time"
    assert lost(run, tmp_path / "long", scenario(slos=())) == {old, young}, "within seven days both are lost"
