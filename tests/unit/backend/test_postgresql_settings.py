"""The PostgreSQL tier's settings, as they are rendered from a stack."""

from pathlib import Path

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.postgresql_settings import (
    ARCHIVE,
    SECRETS,
    START,
    databases_ini,
    exporter_files,
    pgbouncer_files,
    server_files,
    standby_names,
    start_arguments,
)
from resilience.backend.settings import prometheus_yml
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, FirstStandbys
from resilience.spec.read import read_stack
from resilience.spec.stack import Member

STACK = read_stack(PROJECT_ROOT, "stacks/local/postgresql.yaml")
SECRET = "6d6e"
PRIMARY, REPLICA = STACK.member("postgresql-primary-0"), STACK.member("postgresql-replica-1")


def by_name(member: Member) -> str:
    return member.name


@pytest.mark.parametrize(
    ("durability", "expect"),
    [
        (Asynchronous(), ""),
        (AnyStandbys(standbys=1), 'ANY 1 ("b", "c")'),
        (FirstStandbys(standbys=2), 'FIRST 2 ("b", "c")'),
    ],
)
def test_whom_a_commit_waits_for(durability: Durability, expect: str) -> None:
    assert standby_names(durability, ["b", "c"]) == expect


def test_every_member_may_become_the_primary_of_all_others() -> None:
    assert STACK.postgresql is not None
    tier = msgspec.structs.replace(STACK.postgresql, durability=AnyStandbys(standbys=1))
    conf = server_files(msgspec.structs.replace(STACK, postgresql=tier), REPLICA, SECRET)["postgresql.conf"]
    assert 'synchronous_standby_names = \'ANY 1 ("postgresql-primary-0", "postgresql-replica-0")\'' in conf
    assert "primary_slot_name = 'postgresql_replica_1'" in conf
    assert start_arguments(STACK, REPLICA, by_name) == (
        "postgresql-primary-0",
        "postgresql-primary-0",
        "postgresql-replica-0",
    )


@pytest.mark.parametrize(("megabytes", "expect"), [(-1, "'-1'"), (64, "'64MB'")])
def test_how_much_is_kept_for_a_lost_standby(megabytes: int, expect: str) -> None:
    assert STACK.postgresql is not None
    tier = msgspec.structs.replace(STACK.postgresql, max_slot_wal_keep_size_mb=megabytes)
    conf = server_files(msgspec.structs.replace(STACK, postgresql=tier), PRIMARY, SECRET)["postgresql.conf"]
    assert f"max_slot_wal_keep_size = {expect}\n" in conf


def test_only_files_that_their_owner_alone_reads_hold_the_password() -> None:
    pgbouncer = STACK.member("pgbouncer-1")
    files = {
        **server_files(STACK, PRIMARY, SECRET),
        **pgbouncer_files(STACK, pgbouncer, by_name, SECRET),
        **exporter_files(SECRET),
    }
    assert {name for name, text in files.items() if SECRET in text} == SECRETS - {"patroni.yml"}


def test_each_statement_of_a_new_database_is_one_line() -> None:
    lines = server_files(STACK, PRIMARY, SECRET)["first.sql"].strip().splitlines()
    assert all(line.endswith(";") for line in lines)
    assert sum("pg_create_physical_replication_slot" in line for line in lines) == 2


def test_a_pgbouncer_leads_writes_to_the_primary_and_knows_the_member_beside_it() -> None:
    text = databases_ini(STACK, STACK.member("pgbouncer-2"), by_name, "postgresql-replica-0")
    assert "harmonyflow = host=postgresql-replica-0 port=5432" in text
    assert "beside = host=postgresql-replica-1 port=5432" in text


def test_prometheus_asks_the_exporter_for_each_member() -> None:
    text = prometheus_yml(STACK, by_name)
    assert 'targets: ["postgresql-primary-0:5432/postgres"]' in text
    assert 'replacement: "postgres-exporter-0:9187"' in text
    assert "pgbouncer" not in text


def test_a_stack_without_the_tier_is_scraped_as_before() -> None:
    text = prometheus_yml(read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml"), by_name)
    assert "postgres" not in text
    assert text.endswith('replacement: "redis-exporter-0:9121"}\n')


def test_the_start_of_a_member_is_no_template() -> None:
    script = Path(PROJECT_ROOT, "stacks/postgresql/start.sh").read_text()
    assert server_files(STACK, PRIMARY, SECRET)["start.sh"] == script


def test_a_member_looks_for_timelines_where_the_log_is_archived() -> None:
    files = server_files(STACK, PRIMARY, SECRET)
    assert f"archive=/config/{ARCHIVE} " in files[START]
    assert f'/config/{ARCHIVE} put "%p" "%f"' in files["postgresql.conf"]
    assert "archive=/run/archive\n" in files[ARCHIVE]
    assert server_files(STACK, PRIMARY, SECRET, "another way")[ARCHIVE] == "another way"
