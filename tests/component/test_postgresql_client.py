"""The PostgreSQL client and the audit for real: rows go both ways, follow a failover, and are all read back."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from loadgen.registers import KINDS
from resilience.backend.base import Process
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.check.durability.postgresql import postgresql
from resilience.check.finding import Finding
from resilience.check.lists import NAME as ISOLATION_CHECK
from resilience.check.lists import lists
from resilience.check.registers import registers
from resilience.errors import StackError
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.history.phase import AHEAD_US, STOP, PhaseBoard
from resilience.history.read import History, read_history
from resilience.history.record import (
    ACKED_LOCALLY,
    MISMATCH,
    Answered,
    AuditDone,
    AuditLine,
    Invoked,
    OpLine,
    Returned,
    RowRead,
)
from resilience.history.transaction import KIND
from resilience.history.writer import Writer
from resilience.load.plan import plan_for
from resilience.spec.load import Isolation, Load
from resilience.spec.postgresql import AnyStandbys, Runbook
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.stack.postgresql_audit import audit_lists, audit_rows
from resilience.stack.postgresql_copies import compare_copies
from resilience.stack.postgresql_failover import promote, turn_back
from tests.component.postgresql_tier import (
    OTHER,
    PRIMARY,
    STANDBY,
    asked,
    ready_tier,
    roles,
    together,
    wait_for,
)

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tier(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnedLocalPlatform]:
    with ready_tier(AnyStandbys(standbys=1), image, tmp_path_factory.mktemp("members")) as owned:
        yield owned


@dataclass
class Run:
    """The client on a folder of its own."""

    about: Scenario
    folder: Path
    clock: RunClock
    process: Process

    def announce(self, phase: str) -> None:
        PhaseBoard(self.folder / "phases.jsonl").announce(phase, self.clock.now_us() + AHEAD_US)

    def ops(self, kind: str = "postgresql.") -> list[tuple[Invoked, Returned | Answered | None]]:
        """What was done to rows, or to registers, and how it ended."""
        lines = (self.folder / "postgresql.ops.jsonl").read_bytes().splitlines()
        decoded = [msgspec.json.decode(line, type=OpLine) for line in lines]
        ends = {line.id: line for line in decoded if isinstance(line, Returned | Answered)}
        return [(line, ends.get(line.id)) for line in decoded if isinstance(line, Invoked) and kind in line.kind]

    def registers(self) -> Finding:
        """What the check says of the registers."""
        (finding,) = registers(self.about, self._history())
        return finding

    def lists(self, level: Isolation | None = None) -> Finding:
        """What the check says of the lists, at the level that was asked for or at another one."""
        level = level or self.about.load.postgresql_isolation
        load = msgspec.structs.replace(self.about.load, postgresql_list_isolation=level)
        (finding,) = lists(msgspec.structs.replace(self.about, load=load), self._history())
        return finding

    def durability(self) -> Finding:
        """What the check says of the rows, once they were read back."""
        (finding,) = postgresql(self.about, self._history())
        return finding

    def _history(self) -> History:
        directory = self.folder / "run"
        if not directory.exists():
            directory.mkdir()
            (directory / "load").symlink_to(self.folder)
            (directory / "audit.jsonl").symlink_to(self.folder / "audit.jsonl")
        return read_history(directory)

    def acked(self) -> dict[str, str]:
        return {op.key: op.value for op, end in self.ops() if end is not None and end.outcome == "ok"}

    def end(self) -> Counter[tuple[str, str]]:
        """Stops the load; how many ops ended how."""
        self.announce(STOP)
        wait_for("the client is done", (self.folder / "postgresql.summary.json").exists)
        self.process.interrupt()
        assert self.process.wait(10) == 0
        assert all(end is not None for _, end in (*self.ops(), *self.ops("register."), *self.ops(KIND)))
        return Counter((end.outcome, end.error) for _, end in self.ops() if end is not None)


@pytest.fixture
def run(tier: OwnedLocalPlatform, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    clock = RunClock.starting_now()
    load = Load(
        postgresql_rate_ops_per_s=20,
        postgresql_register_rate_ops_per_s=40,
        postgresql_list_rate_ops_per_s=30,
        postgresql_list_isolation=getattr(request, "param", None),
    )
    about = msgspec.structs.replace(read_scenario(ROOT, "postgresql-baseline"), stack=tier.stack, load=load)
    plan = plan_for(
        "postgresql-client",
        scenario=about,
        shards=(),
        directory=tmp_path,
        secret_file=lambda name: tier.secret_file("postgresql-password" if name == "redis-password" else name),
        clock=clock,
        clock_address="",
    )
    assert plan.boot_id == kernel_boot_id()
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    argv = [sys.executable, "-m", "loadgen.postgresql_client", str(tmp_path / "plan.json")]
    process = tier.run_beside("postgresql-client", argv, tmp_path / "client.log")
    running = Run(about, tmp_path, clock, process)
    running.announce("steady")
    wait_for(
        "rows are acknowledged", lambda: (tmp_path / "postgresql.ops.jsonl").exists() and len(running.acked()) > 20
    )
    yield running
    if process.poll() is None:
        process.interrupt()
        process.wait(5)


def audited(tier: OwnedLocalPlatform, run: Run) -> list[AuditLine]:
    path = run.folder / "audit.jsonl"
    path.unlink(missing_ok=True)
    keys = [op.key for op, _ in run.ops()]
    with Writer(path) as writer:
        audit_rows(tier, writer, [*keys, "pg:never"], clock=run.clock, deadline=time.monotonic() + 20)
        audit_lists(tier, writer, clock=run.clock, deadline=time.monotonic() + 20)
    return [msgspec.json.decode(line, type=AuditLine) for line in path.read_bytes().splitlines()]


def rows_of(lines: list[AuditLine]) -> dict[str, str | None]:
    return {line.key: line.value for line in lines if isinstance(line, RowRead)}


def emptied(tier: OwnedLocalPlatform, member: str) -> None:
    asked(tier, member, "TRUNCATE written, registers, lists")


def test_rows_go_both_ways_and_are_read_back(tier, run):
    time.sleep(1.0)
    ended = run.end()
    assert set(ended) == {("ok", "")}
    lines = audited(tier, run)
    rows = rows_of(lines)
    assert {key: value for key, value in rows.items() if value is not None} == run.acked()
    assert rows["pg:never"] is None
    assert {(line.member, line.timeline) for line in lines if isinstance(line, RowRead)} == {(PRIMARY, 1)}
    assert next(line for line in lines if isinstance(line, AuditDone)).count == len(rows)
    sources = asked(tier, PRIMARY, "SELECT count(*) FROM written")
    assert sources == [(str(len(rows) - 1),)]
    told = Counter((op.kind, end.outcome, end.error) for op, end in run.ops("register.") if end is not None)
    assert {outcome for _, outcome, _ in told} == {"ok"}
    assert {kind for kind, _, error in told if not error} == set(KINDS)
    assert told["register.swap", "ok", MISMATCH] > 0
    finding = run.registers()
    assert (finding.verdict, finding.reason) == ("pass", "")
    finding = run.lists()
    assert (finding.verdict, finding.reason) == ("pass", "")
    assert finding.measures[f"{ISOLATION_CHECK}.met_ops"] > 10
    assert_copies_are_compared(tier, len(rows) - 1)
    with pytest.raises(StackError, match=f"{PRIMARY} takes writes on timeline 1, and timeline 2 has been seen"):
        audit_rows(tier, Writer(run.folder / "stray"), [], clock=run.clock, deadline=0.0, timeline_min=2)
    asked(tier, PRIMARY, "TRUNCATE lists")
    asked(tier, PRIMARY, "DROP TABLE written")
    assert {line.value for line in audited(tier, run) if isinstance(line, RowRead)} == {None}


def assert_copies_are_compared(tier: OwnedLocalPlatform, rows: int) -> None:
    same = compare_copies(tier, timeline_min=0, deadline=time.monotonic() + 20)
    assert (same.primary, same.timeline, same.reasons) == (PRIMARY, 1, ())
    assert set(same.members) == {PRIMARY, STANDBY, OTHER}
    (tables,) = {tuple(sorted(copy.tables.items())) for copy in same.members.values()}
    assert [(name, held.rows > 0) for name, held in tables] == [("lists", True), ("registers", True), ("written", True)]
    assert dict(tables)["written"].rows == rows
    asked(tier, OTHER, "SELECT pg_wal_replay_pause()")
    asked(tier, PRIMARY, "INSERT INTO written (key, value) VALUES ('pg:more', 'more')")
    late = compare_copies(tier, timeline_min=0, deadline=time.monotonic() + 1)
    asked(tier, OTHER, "SELECT pg_wal_replay_resume()")
    assert f"{OTHER} has replayed " in late.reasons[0]
    held, lacking = (late.members[name].tables["written"] for name in (PRIMARY, OTHER))
    assert (held.rows, lacking.rows) == (rows + 1, rows)
    assert held.digest != lacking.digest == dict(tables)["written"].digest
    assert late.members[PRIMARY].tables["registers"] == late.members[OTHER].tables["registers"]


@pytest.mark.parametrize("run", ["repeatable read", "read committed"], indirect=True)
def test_what_a_weaker_level_allows_is_found(tier, run):
    """PostgreSQL's repeatable read has write skew, its read committed reads that change; serializable has neither."""
    found = {"repeatable read": ("g2_item",), "read committed": ("g_single",)}[run.about.load.postgresql_isolation]

    def seen() -> bool:
        return all(run.lists().measures.get(f"{ISOLATION_CHECK}.{name}_ops", 0) > 0 for name in found)

    wait_for("some are seen", seen)
    run.end()
    audited(tier, run)
    emptied(tier, PRIMARY)
    finding = run.lists()
    assert (finding.verdict, finding.reason) == ("pass", "")
    assert found != ("g2_item",) or finding.measures[f"{ISOLATION_CHECK}.g_single_ops"] == 0
    finding = run.lists("serializable")
    assert finding.verdict == "fail"
    assert "did not see" in finding.reason


def test_a_commit_that_no_standby_has_is_told_apart(tier, run):
    """Nobody confirms, and what waits is cancelled: it is acknowledged all the same."""
    for member in (STANDBY, OTHER):
        asked(tier, member, "SELECT pg_wal_replay_pause()")
    cancelled = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with set_on(tier, PRIMARY, "synchronous_standby_names", "ANY 1 (nobody)"):
        wait_for("some wait", lambda: asked(tier, PRIMARY, cancelled) != [("0",)])
        time.sleep(0.3)
    for member in (STANDBY, OTHER):
        asked(tier, member, "SELECT pg_wal_replay_resume()")
    ended = run.end()
    assert ended["ok", ACKED_LOCALLY] > 0
    assert ended["ok", ""] > 0
    assert set(run.acked()) <= {key for key, value in rows_of(audited(tier, run)).items() if value is not None}
    emptied(tier, PRIMARY)


def test_a_commit_waits_for_longer_than_a_statement_may_take(tier, run):
    """Nobody is told then that his row is there."""
    longer = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND now() - query_start > '0.6 s'"
    with (
        set_on(tier, PRIMARY, "statement_timeout", "200ms"),
        set_on(tier, PRIMARY, "synchronous_standby_names", "ANY 1 (nobody)"),
    ):
        wait_for("some wait for longer", lambda: asked(tier, PRIMARY, longer) != [("0",)])
    ended = run.end()
    assert ended["ok", ACKED_LOCALLY] == 0
    assert ended["ok", ""] > 0
    emptied(tier, PRIMARY)


@contextmanager
def set_on(tier: OwnedLocalPlatform, member: str, setting: str, value: str) -> Iterator[None]:
    asked(tier, member, f"ALTER SYSTEM SET {setting} = '{value}'")
    asked(tier, member, "SELECT pg_reload_conf()")
    yield
    asked(tier, member, f"ALTER SYSTEM RESET {setting}")
    asked(tier, member, "SELECT pg_reload_conf()")


def test_writes_follow_a_failover_and_none_that_a_standby_confirmed_is_lost(tier, run):
    killed_at = len(run.ops())
    with held_back(tier, PRIMARY):
        time.sleep(0.5)
        promotion = promote(tier)
        before = len(run.acked())
        wait_for("rows are acknowledged again", lambda: len(run.acked()) > before + 20)
    wait_for("all are together", lambda: together(tier))
    ended = run.end()
    assert {outcome for outcome, _ in ended} >= {"ok", "fail"}
    lines = audited(tier, run)
    assert {(line.member, line.timeline) for line in lines if isinstance(line, RowRead)} == {(promotion.member, 2)}
    rows = rows_of(lines)
    lost = {key for key in run.acked() if rows[key] is None}
    assert not lost
    refused = {op.key for op, end in run.ops() if end is not None and end.outcome == "fail"}
    assert not {key for key in refused if rows[key] is not None}
    late = [(op, end) for op, end in run.ops()[killed_at:] if end is not None and end.outcome == "ok"]
    assert {int(op.key.partition(":")[2]) % 2 for op, _ in late} == {0, 1}, "both ways lead to the new primary"
    finding = run.registers()  # nothing may be taken back: every commit had waited for a standby
    assert (finding.verdict, finding.allowed, finding.reason) == ("pass", "none", "")
    finding = run.lists()
    assert (finding.verdict, finding.reason) == ("pass", "")
    failed = {op.key for op, end in run.ops("register.") if end is not None and end.outcome == "fail"}
    good = [(op.key, op.id) for op, end in run.ops("register.") if end is not None and end.outcome == "ok"]
    failed_at = min(op.id for op, end in run.ops("register.") if end is not None and end.outcome == "fail")
    outlived = {key for key, number in good if number < failed_at} & {key for key, number in good if number > failed_at}
    assert outlived & failed, "no register stood there before and after"
    emptied(tier, promotion.member)


def test_the_wrong_standby_loses_what_the_other_confirmed_and_that_is_found(tier, run):
    """A commit waits for one of two: synchronous replication does not save what the promoted one never had."""
    former = next(name for name, role in roles(tier).items() if role.role == "primary")
    wrong, right = (name for name in roles(tier) if name != former)
    before = set(run.acked())
    asked(tier, wrong, "ALTER SYSTEM SET primary_conninfo = ''")
    asked(tier, wrong, "SELECT pg_reload_conf()")
    wait_for("it follows nobody", lambda: not roles(tier)[wrong].upstream)
    alone = set(run.acked())
    wait_for("the other one confirms more", lambda: len(run.acked()) > len(alone) + 20)
    with held_back(tier, former):
        acked = set(run.acked())
        promotion = turn_back(tier, promote(tier, Runbook(standby="most-lag")))
        assert (promotion.member, promotion.turned_back) == (wrong, (right,))
        wait_for("rows are acknowledged again", lambda: len(run.acked()) > len(acked) + 20)
    run.end()
    rows = rows_of(audited(tier, run))
    lost = {key for key in run.acked() if rows[key] is None}
    assert acked - alone <= lost <= acked - before
    finding = run.durability()
    assert (finding.verdict, finding.value) == ("fail", len(lost))
    finding = run.lists()
    assert finding.verdict == "fail"
    assert "lost append" in finding.reason


@contextmanager
def held_back(tier: OwnedLocalPlatform, member: str) -> Iterator[None]:
    """A member's server is killed, and does not start again meanwhile."""
    hold = Path(tier.state(member).handle["hold_dir"]) / "test"
    hold.touch()
    os.kill(tier.state(member).handle["server_pid"], signal.SIGKILL)
    wait_for("it is dead", lambda: not tier.state(member).running)
    try:
        yield
    finally:
        hold.unlink()
