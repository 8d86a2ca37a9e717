"""What a session's time to live must be, and which sessions may be gone."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.durability.session import session as durability
from resilience.check.expiry import expired, expiry
from resilience.check.finding import Finding
from resilience.history.record import SessionRead
from resilience.spec.scenario import Scenario
from tests.histories import END, Op, Recorded, S, recorded, scenario

TTL_S = 30  # the audit is 5 s after the end


def short(ttl_s: int = TTL_S) -> Scenario:
    about = scenario(slos=())
    return replace(about, stack=replace(about.stack, session_ttl_s=ttl_s))


def judged(run: Recorded, folder: Path, about: Scenario) -> Finding:
    (finding,) = expiry(about, run.history(folder, about))
    return finding


def forget(run: Recorded, key: str) -> None:
    group = run.sessions[key].group
    run.sessions[key] = SessionRead(key, group, exists=False, state="", version=0, ttl_s=-2, log=())


WRITTEN = END - 20 * S  # the last write to the session below, 17 s after the one before, 25 s before the audit
RIGHT_S = 604_800 - 25
KEY = "s-0031"


def written_again(outcome: str = "ok") -> tuple[Recorded, Op]:
    """A run with a session to which somebody wrote once more, long after it had begun."""
    run = recorded()
    op = Op("locust", 900_001, "session.heartbeat", KEY, "again", run.sessions[KEY].group, "recovery", WRITTEN, WRITTEN)
    op.end(outcome, 0)
    op.version = run.sessions[KEY].version + 1
    run.ops = [*(one for one in run.ops if (one.kind, one.key) != ("session.end", KEY)), op]
    run.rewrite(KEY, lambda rows: [*rows[:-1], op.value])
    return run, op


def leave(run: Recorded, ttl_s: int) -> None:
    """So much is left of the session's time when it is read back."""
    read = run.sessions[KEY]
    run.sessions[KEY] = SessionRead(KEY, read.group, True, "live", read.version, ttl_s, read.log)


@pytest.mark.parametrize(
    ("ttl_s", "verdict", "what"),
    [
        (RIGHT_S, "pass", ""),
        (RIGHT_S + 1, "pass", ""),
        (RIGHT_S - 1, "pass", ""),
        (RIGHT_S + 2, "fail", "wrong time to live"),
        (RIGHT_S - 2, "fail", "wrong time to live"),
        (RIGHT_S - 17, "fail", "wrong time to live"),
        (604_800, "fail", "wrong time to live"),
        (-1, "fail", "never expires"),
    ],
    ids=["exact", "rounded up", "rounded down", "too long", "too short", "not renewed", "does not count down", "none"],
)
def test_the_rest_of_a_live_session(tmp_path: Path, ttl_s: int, verdict: str, what: str) -> None:
    run, _ = written_again()
    leave(run, ttl_s)
    finding = judged(run, tmp_path, scenario(slos=()))
    assert finding.verdict == verdict
    assert [(item["what"], item["key"]) for item in finding.evidence] == ([(what, KEY)] if what else [])


@pytest.mark.parametrize(
    ("ttl_s", "verdict"),
    [(RIGHT_S - 2, "fail"), (RIGHT_S - 1, "pass"), (604_800, "pass"), (604_801, "fail")],
)
def test_a_write_that_is_stored_and_was_not_answered_may_have_been_late(
    tmp_path: Path, ttl_s: int, verdict: str
) -> None:
    run, op = written_again()
    op.end("unknown", 2 * S, "timeout")
    leave(run, ttl_s)
    assert judged(run, tmp_path, scenario(slos=())).verdict == verdict


def test_a_write_that_is_not_stored_renewed_nothing(tmp_path: Path) -> None:
    """It is lost, which is found elsewhere, or was never carried out: the one before counts."""
    for outcome in ("ok", "unknown", "fail"):
        run, op = written_again(outcome)
        run.lose(op)
        assert run.sessions[KEY].ttl_s == RIGHT_S - 17
        assert judged(run, tmp_path / outcome, scenario(slos=())).verdict == "pass"
        leave(run, RIGHT_S)
        assert judged(run, tmp_path / f"{outcome}-renewed", scenario(slos=())).verdict == "fail"


def test_the_audit_takes_its_time(tmp_path: Path) -> None:
    """A session may have been read at its beginning or at its end."""
    run, _ = written_again()
    run.audited_at["direct"] = END + 2 * S
    for ttl_s, verdict in ((RIGHT_S + 3, "pass"), (RIGHT_S + 5, "fail"), (RIGHT_S - 1, "pass"), (RIGHT_S - 2, "fail")):
        leave(run, ttl_s)
        assert judged(run, tmp_path / str(ttl_s), scenario(slos=())).verdict == verdict


def test_a_wall_clock_that_stepped_says_nothing_of_a_time_to_live(tmp_path: Path) -> None:
    run, _ = written_again()
    leave(run, RIGHT_S + 2)
    assert "assumption.clock-step" in judged(run, tmp_path, scenario(slos=())).rests_on


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


def test_sessions_that_have_all_expired_show_nothing_of_what_was_kept(tmp_path: Path) -> None:
    run, about = recorded(fault=False), short(1)
    for key in list(run.sessions):
        forget(run, key)
    found = durability(about, run.history(tmp_path, about))
    assert {finding.verdict for finding in found} == {"inconclusive"}, found
    assert {finding.reason for finding in found} == {"all had expired when they were looked for"}


def test_a_session_whose_time_ran_out_is_no_loss(tmp_path: Path) -> None:
    run = recorded(fault=False)
    old, young = old_and_young(run)
    forget(run, old)
    assert lost(run, tmp_path / "old", short()) == set()
    assert judged(run, tmp_path / "old", short()).measures["session.expired"] == 1
    forget(run, young)
    assert lost(run, tmp_path / "young", short()) == {young}, "deleted before its time"
    assert lost(run, tmp_path / "long", scenario(slos=())) == {old, young}, "within seven days both are lost"
