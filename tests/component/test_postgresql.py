"""The PostgreSQL tier for real: it forms, members come back as what they were, and who is what is known."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.backend.local import server
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.backend.postgresql_settings import Files, server_files
from resilience.errors import StackError
from resilience.history.log import read_logs
from resilience.spec.postgresql import FirstStandbys
from resilience.spec.stack import Member, Stack
from resilience.stack.http_link import http_ask
from resilience.stack.postgresql_failover import promote, proof
from resilience.stack.postgresql_link import PASSWORD
from resilience.stack.versions import postgresql_servers
from services.database import CONNECTIONS_MAX
from tests.component.own_log import judged
from tests.component.postgresql_tier import (
    OTHER,
    PRIMARY,
    STANDBY,
    amiss,
    archive_of,
    asked,
    killed,
    log_of,
    long_checkpoint,
    ready_tier,
    roles,
    together,
    wait_for,
)

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("members")


def failing_first(stack: Stack, member: Member, password: str) -> Files:
    """What a server is made from, where each statement that holds the password is said once more, which fails."""
    files = server_files(stack, member, password)
    return {**files, "first.sql": files["first.sql"] + files["first.sql"]}


@pytest.fixture(scope="module")
def tier(image: Path, logs: Path) -> Iterator[OwnedLocalPlatform]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "server_files", failing_first)
        with ready_tier(FirstStandbys(standbys=2), image, logs) as owned:
            yield owned


def test_one_member_takes_writes_and_the_others_stream_from_it(tier):
    found = roles(tier)
    assert {name: role.role for name, role in found.items()} == {
        PRIMARY: "primary",
        STANDBY: "replica",
        OTHER: "replica",
    }
    assert {role.timeline for role in found.values()} == {1}
    assert [found[name].synchrony for name in (STANDBY, OTHER)] == ["sync", "sync"]
    assert {found[name].upstream for name in (STANDBY, OTHER)} == {PRIMARY}


def test_a_commit_is_on_all_members_and_its_wal_in_the_archive(tier):
    asked(tier, PRIMARY, "CREATE TABLE kept (value text)")
    asked(tier, PRIMARY, "INSERT INTO kept VALUES ('first')")
    for member in (PRIMARY, STANDBY, OTHER):
        wait_for(f"{member} has it", lambda m=member: asked(tier, m, "SELECT value FROM kept") == [("first",)])  # type: ignore[misc]
    segment = asked(tier, PRIMARY, "SELECT pg_walfile_name(pg_switch_wal())")[0][0]
    wait_for("the segment is archived", (archive_of(tier) / str(segment)).exists)


def test_checksums_and_slots_are_there(tier):
    assert asked(tier, PRIMARY, "SHOW data_checksums") == [("on",)]
    slots = asked(tier, PRIMARY, "SELECT slot_name, active FROM pg_replication_slots ORDER BY 1")
    assert slots == [("postgresql_replica_0", "t"), ("postgresql_replica_1", "t")]


def test_every_pgbouncer_leads_to_the_primary_and_a_persons_psql_finds_its_way(tier, tmp_path):
    for member, table in (("pgbouncer-0", "kept"), ("pgbouncer-2", "kept"), (STANDBY, "kept")):
        output = tmp_path / member
        with output.open("wb") as file:
            sql = "SELECT current_user, pg_is_in_recovery()"
            person = tier.enter(member, ["psql", "-XAtc", sql], (0, file.fileno(), file.fileno()))
            assert person.wait(60) == 0, output.read_text()
        assert output.read_text() == ("postgres|t\n" if member == STANDBY else "harmonyflow|f\n"), table


def test_a_burst_of_edits_is_stored_by_a_few_connections(tier, logs, tmp_path):
    """They wait for the few that there are, which are kept also where the tables are not there yet."""

    def logins() -> int:
        return len(re.findall("harmonyflow@.* login attempt", log_of(logs, "pgbouncer-1")))

    before = logins()
    argv = [sys.executable, "-m", "tests.component.edit_burst", str(tier.secret_file(PASSWORD)), "pgbouncer-1:6432"]
    burst = tier.run_beside("postgresql-client", argv, tmp_path / "burst.log")
    assert burst.wait(60) == 0, (tmp_path / "burst.log").read_text()
    wait_for("its logins are in the log", lambda: logins() > before)
    assert logins() - before <= CONNECTIONS_MAX


def test_the_exporter_tells_of_every_member(tier):
    exporter = tier.state("postgres-exporter-0")
    for member in (PRIMARY, STANDBY):
        answer = http_ask(exporter, f"/probe?target={member}:5432/postgres&auth_module=harmonyflow", timeout_s=30.0)
        text = answer.body.decode()
        assert re.search("^pg_up 1$", text, re.MULTILINE), text[:2000]
        assert f"pg_replication_is_replica {int(member == STANDBY)}" in text
        assert "pg_replication_lag_seconds" in text
        assert 'pg_stat_database_xact_commit{datid="' in text
        assert "pg_settings_" not in text


def test_the_password_is_in_no_argument_and_no_log(tier, logs):
    secret = tier.secret(PASSWORD).encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        assert secret not in process.read_bytes()
    assert 'role "harmonyflow" already exists' in log_of(logs, PRIMARY)  # a statement that holds it has failed
    read = [file for file in logs.rglob("*") if file.is_file()]
    assert {PRIMARY, STANDBY, "pgbouncer-0"} <= {file.parent.name for file in read}
    assert [file for file in read if secret in file.read_bytes()] == []


def test_a_killed_standby_comes_back_with_its_data_as_a_standby(tier, logs):
    identifier = asked(tier, STANDBY, "SELECT system_identifier FROM pg_control_system()")
    killed(tier, STANDBY)
    wait_for("all are together", lambda: together(tier))
    assert roles(tier)[STANDBY].role == "replica"
    assert asked(tier, STANDBY, "SELECT system_identifier FROM pg_control_system()") == identifier
    assert log_of(logs, STANDBY).count("a copy of") == 1


def test_a_killed_primary_comes_back_as_primary_where_nobody_was_promoted(tier):
    killed(tier, PRIMARY)
    wait_for("all are together", lambda: together(tier))
    assert {name: (role.role, role.timeline) for name, role in roles(tier).items()} == {
        PRIMARY: ("primary", 1),
        STANDBY: ("replica", 1),
        OTHER: ("replica", 1),
    }
    assert asked(tier, PRIMARY, "SELECT value FROM kept") == [("first",)]


def test_a_backend_that_crashes_is_in_its_servers_log_and_a_killed_server_is_not(tier, logs, tmp_path):
    said = {log.member: log.lines for log in read_logs(logs, ())}
    assert (said[PRIMARY], said[STANDBY]) == ((), ())  # both have been killed by now
    began_ns, server = time.time_ns(), tier.state(PRIMARY).handle["server_pid"]
    writer = subprocess.run(
        ["pgrep", "-P", str(server), "-f", "walwriter"], capture_output=True, text=True, check=True, timeout=20
    )
    os.kill(int(writer.stdout), signal.SIGSEGV)
    wait_for("it has begun again", lambda: "all server processes terminated; reinitializing" in log_of(logs, PRIMARY))
    wait_for("all are together", lambda: together(tier))
    finding = judged(PRIMARY, logs / PRIMARY / "server.log", began_ns, tmp_path, ("postgresql",))
    assert finding.verdict == "fail"
    assert "was terminated by signal 11: Segmentation fault" in finding.reason


def test_a_silent_member_is_unreachable_within_its_time(tier):
    stop(tier, OTHER, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert roles(tier)[OTHER].role == "unreachable"
        assert time.monotonic() - began < 30
    finally:
        stop(tier, OTHER, signal.SIGCONT)
    wait_for("all are together", lambda: together(tier))


def stop(tier: OwnedLocalPlatform, member: str, number: signal.Signals) -> None:
    namespace = os.readlink(f"/proc/{tier.state(member).handle['server_pid']}/ns/pid")
    server = tier.state(member).handle["server_pid"]
    processes = subprocess.run(["pgrep", "-P", str(server)], capture_output=True, text=True, check=False, timeout=20)
    for pid in (server, *map(int, processes.stdout.split())):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child that has ended meanwhile
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                os.kill(pid, number)


def test_an_emptied_standby_is_copied_again(tier):
    emptied(tier, OTHER)
    wait_for("all are together", lambda: together(tier))
    assert asked(tier, OTHER, "SELECT value FROM kept") == [("first",)]


def emptied(tier: OwnedLocalPlatform, member: str) -> None:
    state = tier.state(member)
    hold = Path(state.handle["hold_dir"]) / "test"
    hold.touch()
    os.kill(state.handle["server_pid"], signal.SIGKILL)
    wait_for("it is dead", lambda: not tier.state(member).running)
    subprocess.run(["find", state.handle["data_dir"], "-mindepth", "1", "-delete"], check=True, timeout=30)
    hold.unlink()


def test_a_former_primary_that_nobody_fences_is_known_for_what_it_is(tier, logs):
    """It goes on as a second primary, which shows."""
    long_checkpoint(tier, PRIMARY, logs)
    asked(tier, PRIMARY, "SET synchronous_commit = local; INSERT INTO kept VALUES ('before')")
    wait_for("it is there", lambda: len(asked(tier, STANDBY, "SELECT FROM kept")) == 2)
    asked(tier, STANDBY, "SELECT pg_promote()")
    wait_for("it is promoted", lambda: roles(tier)[STANDBY].role == "primary")
    found = roles(tier)
    assert (found[PRIMARY].role, found[PRIMARY].timeline) == ("stray", 1)
    assert (found[STANDBY].role, found[STANDBY].timeline) == ("primary", 2)
    asked(tier, PRIMARY, "SET synchronous_commit = local; INSERT INTO kept VALUES ('astray')")
    assert any("takes writes on timeline 1" in reason for reason in amiss(tier))


def test_nobody_follows_or_copies_it_while_the_true_primary_is_silent(tier, logs):
    wait_for("the new timeline is in the archive", (archive_of(tier) / "00000002.history").exists)
    copied = log_of(logs, OTHER).count("a copy of")
    try:
        stop(tier, STANDBY, signal.SIGSTOP)
        killed(tier, OTHER)
        wait_for("it does not follow", lambda: "a later timeline is known of" in log_of(logs, OTHER))
        emptied(tier, OTHER)
        wait_for(
            "it is asked to copy", lambda: "waiting for a primary to copy" in log_of(logs, OTHER).split("known of")[1]
        )
        time.sleep(1.0)
        assert log_of(logs, OTHER).count("a copy of") == copied
        assert roles(tier)[OTHER].role == "unreachable"
    finally:
        stop(tier, STANDBY, signal.SIGCONT)
    wait_for("it follows the true one", lambda: roles(tier)[OTHER].upstream == STANDBY)


def test_a_stray_goes_back_and_follows_the_new_one_when_it_starts_again(tier, logs):
    """It is not copied, although neither it nor the new one has all that it has to replay, nor a slot."""
    copied = log_of(logs, PRIMARY).count("a copy of")
    given_up(tier, STANDBY, "postgresql_primary_0")
    killed(tier, PRIMARY)
    wait_for("it is a replica", lambda: roles(tier)[PRIMARY].role == "replica")
    wait_for("on the new timeline", lambda: roles(tier)[PRIMARY].timeline == 2)
    log = log_of(logs, PRIMARY)
    assert "going back to where it parted" in log
    assert "start: fetching 00000001" in log
    assert "start: fetching 00000002" in log
    assert f"start: follows {STANDBY}, by pg_rewind" in log
    assert log.count("a copy of") == copied
    assert status_of(tier, STANDBY, "postgresql_primary_0") == "reserved"  # what it keeps for it from now on
    wait_for("its own is gone", lambda: not asked(tier, PRIMARY, "SELECT FROM kept WHERE value = 'astray'"))
    wait_for("all have the same", lambda: len({rows_of(tier, member) for member in (PRIMARY, STANDBY, OTHER)}) == 1)
    assert rows_of(tier, STANDBY) == (*[("after",)] * 3, ("before",), ("first",))


def status_of(tier: OwnedLocalPlatform, primary: str, slot: str) -> str | None:
    return asked(tier, primary, f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'")[0][0]


def given_up(tier: OwnedLocalPlatform, primary: str, slot: str) -> None:
    """A primary has written more since it was promoted than it keeps for a slot."""
    asked(tier, primary, f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    asked(tier, primary, "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    asked(tier, primary, "SELECT pg_reload_conf()")
    for _ in range(3):
        asked(tier, primary, "SET synchronous_commit = local; INSERT INTO kept VALUES ('after')")
        asked(tier, primary, "SELECT pg_switch_wal()")
    wait_for("the other is not behind", lambda: rows_of(tier, OTHER) == rows_of(tier, primary))
    asked(tier, primary, "CHECKPOINT")
    assert status_of(tier, primary, slot) == "lost"
    asked(tier, primary, "ALTER SYSTEM RESET max_slot_wal_keep_size")
    asked(tier, primary, "SELECT pg_reload_conf()")


def rows_of(tier: OwnedLocalPlatform, member: str) -> tuple[tuple[str | None, ...], ...]:
    return tuple(asked(tier, member, "SELECT value FROM kept ORDER BY value"))


def test_a_standby_that_starts_again_follows_whoever_is_primary_then(tier):
    killed(tier, OTHER)
    wait_for("it follows", lambda: roles(tier)[OTHER].upstream == STANDBY)
    wait_for("on the new timeline", lambda: roles(tier)[OTHER].timeline == 2)


def test_a_former_primary_without_data_makes_no_second_database(tier):
    emptied(tier, PRIMARY)
    wait_for("it is a replica", lambda: roles(tier)[PRIMARY].role == "replica")
    wait_for("it follows", lambda: roles(tier)[PRIMARY].upstream == STANDBY)


def test_servers_tell_their_versions_and_settings_and_no_secret(tier):
    described = postgresql_servers(tier)
    assert str(described[PRIMARY]["version"]).startswith("17.")
    assert described[STANDBY]["config"]["synchronous_standby_names"].startswith("FIRST 2 (")
    assert described["pgbouncer-1"]["version"].startswith("PgBouncer 1.")
    assert described["pgbouncer-1"]["config"]["pool_mode"] == "transaction"
    assert tier.secret(PASSWORD) not in repr(described)


def test_a_member_that_refuses_says_why(tier):
    with pytest.raises(StackError, match=f"^{PRIMARY}: .*relation .none. does not exist"):
        asked(tier, PRIMARY, "SELECT FROM none")


def test_where_too_few_standbys_are_left_a_promotion_is_true_although_writes_wait(tier):
    hold = Path(tier.state(STANDBY).handle["hold_dir"]) / "test"
    hold.touch()
    os.kill(tier.state(STANDBY).handle["server_pid"], signal.SIGKILL)
    wait_for("it is dead", lambda: not tier.state(STANDBY).running)
    promotion = promote(tier)
    assert len(promotion.following) == 1
    seen = proof(tier, promotion)
    assert seen.holds, seen
    assert seen.evidence[-1].observed == "waits for 2 standbys, of which 1 follow"
    hold.unlink()
    wait_for("all are together", lambda: together(tier))
