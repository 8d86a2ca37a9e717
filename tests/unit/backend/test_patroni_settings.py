"""The settings of Patroni and its etcd, as they are rendered from a stack, and the program that leads PgBouncers."""

import os
from pathlib import Path

import msgspec
import pytest
import yaml

from resilience.backend.local import primary
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.patroni_settings import etcd_yml, patroni_files
from resilience.backend.postgresql_settings import SECRETS, pgbouncer_files
from resilience.backend.settings import prometheus_yml
from resilience.spec.postgresql import PATRONI_PORT as PORT
from resilience.spec.postgresql import AnyStandbys, Durability, FirstStandbys, Patroni
from resilience.spec.read import read_stack
from resilience.spec.stack import Member, Stack

STACK = read_stack(PROJECT_ROOT, "stacks/local/postgresql-patroni.yaml")
SECRET = "6d6e"
MEMBER = STACK.member("postgresql-replica-1")


def by_name(member: Member) -> str:
    return member.name


def with_failover(durability: Durability, failover: Patroni) -> Stack:
    assert STACK.postgresql is not None
    tier = msgspec.structs.replace(STACK.postgresql, durability=durability, failover=failover)
    return msgspec.structs.replace(STACK, postgresql=tier)


def test_what_all_members_go_by_is_as_the_stack_has_it() -> None:
    conf = yaml.safe_load(patroni_files(STACK, MEMBER, by_name, SECRET)["patroni.yml"])
    shared = conf["bootstrap"]["dcs"]
    assert (shared["ttl"], shared["loop_wait"], shared["retry_timeout"]) == (30, 10, 10)
    assert shared["maximum_lag_on_failover"] == 1_048_576
    assert (shared["synchronous_mode"], shared["synchronous_mode_strict"], shared["failsafe_mode"]) == (
        False,
        False,
        False,
    )
    assert shared["postgresql"]["parameters"]["max_connections"] == 200
    assert conf["etcd3"]["hosts"] == ["etcd-0:2379", "etcd-1:2379", "etcd-2:2379"]
    assert (conf["name"], conf["restapi"]["connect_address"]) == (MEMBER.name, f"{MEMBER.name}:{PORT}")


@pytest.mark.parametrize(
    ("durability", "mode", "shared", "named"),
    [
        (AnyStandbys(standbys=2), "quorum", ("quorum", 2), False),
        (FirstStandbys(standbys=1), "on", (True, 1), False),
        (AnyStandbys(standbys=1), "off", (False, 1), True),
    ],
    ids=["quorum", "on", "off"],
)
def test_either_patroni_or_the_servers_name_the_standbys(
    durability: Durability, mode: str, shared: tuple[bool | str, int], named: bool
) -> None:
    failover = msgspec.convert({"mode": "patroni", "synchronous_mode": mode}, Patroni)
    files = patroni_files(with_failover(durability, failover), MEMBER, by_name, SECRET)
    dcs = yaml.safe_load(files["patroni.yml"])["bootstrap"]["dcs"]
    assert (dcs["synchronous_mode"], dcs["synchronous_node_count"]) == shared
    assert ("synchronous_standby_names = ''" not in files["postgresql.conf"]) == named


def test_patroni_says_who_uses_which_slot_and_makes_its_own_user() -> None:
    files = patroni_files(STACK, MEMBER, by_name, SECRET)
    assert "primary_slot_name" not in files["postgresql.conf"]
    assert "slot" not in files["first.sql"]
    assert "replicator" not in files["first.sql"]
    assert "CREATE DATABASE harmonyflow" in files["first.sql"]


def test_only_files_that_their_owner_alone_reads_hold_the_password() -> None:
    files = patroni_files(STACK, MEMBER, by_name, SECRET)
    assert {name for name, text in files.items() if SECRET in text} == {"patroni.yml", "first.sql"} <= SECRETS


def test_every_etcd_member_knows_all_others() -> None:
    conf = yaml.safe_load(etcd_yml(STACK, STACK.member("etcd-1"), by_name))
    peers = "etcd-0=http://etcd-0:2380,etcd-1=http://etcd-1:2380,etcd-2=http://etcd-2:2380"
    assert (conf["name"], conf["initial-cluster"]) == ("etcd-1", peers)
    assert conf["advertise-client-urls"] == "http://etcd-1:2379"


def test_etcd_is_no_target_of_prometheus() -> None:
    assert "etcd" not in prometheus_yml(STACK, by_name)


def test_members_ask_at_the_port_that_patroni_has() -> None:
    assert primary.PATRONI_PORT == PORT


def test_a_pgbouncer_is_led_to_another_and_knows_the_member_beside_it_still() -> None:
    text = pgbouncer_files(STACK, STACK.member("pgbouncer-2"), by_name, SECRET)["databases.ini"]
    assert primary.led_to(text) == "postgresql-primary-0"
    led = primary.leading_to(text, "postgresql-replica-0")
    assert primary.led_to(led) == "postgresql-replica-0"
    assert led.replace("postgresql-replica-0", "postgresql-primary-0", 1) == text
    assert "beside = host=postgresql-replica-1 port=5432" in led


def looked_after(folder: Path, monkeypatch: pytest.MonkeyPatch, *, primaries: set[str], rounds: int = 3) -> list[int]:
    """What is signalled while a PgBouncer that leads to ``a`` is looked after for so many rounds."""
    file = folder / "databases.ini"
    file.write_text("[databases]\nharmonyflow = host=a port=1\nbeside = host=a port=1\n")
    left = iter(range(rounds))
    told: list[int] = []
    monkeypatch.setattr(os, "getppid", lambda: 7 if next(left, None) is not None else 1)
    monkeypatch.setattr(os, "kill", lambda pid, _number: told.append(pid))
    monkeypatch.setattr(primary, "EVERY_S", 0.0)
    monkeypatch.setattr(primary, "is_primary", lambda host: host in primaries)
    primary.main(["lead", str(file), "7", "a", "b", "c"])
    return told


def test_a_pgbouncer_reads_again_once_when_another_is_primary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_after(tmp_path, monkeypatch, primaries={"c"}) == [7]
    text = (tmp_path / "databases.ini").read_text()
    assert text == "[databases]\nharmonyflow = host=c port=1\nbeside = host=a port=1\n"


@pytest.mark.parametrize("primaries", [{"a"}, set()], ids=["the same", "nobody"])
def test_a_pgbouncer_is_left_alone_while_no_other_is_primary(
    primaries: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_after(tmp_path, monkeypatch, primaries=primaries) == []
    assert primary.led_to((tmp_path / "databases.ini").read_text()) == "a"


def test_who_waits_goes_on_when_one_is_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, False, True])
    monkeypatch.setattr(primary, "EVERY_S", 0.0)
    monkeypatch.setattr(primary, "is_primary", lambda _host: next(answers))
    primary.main(["wait", "a", "b"])
    assert next(answers, None) is None


def test_a_word_that_the_program_does_not_know_is_refused() -> None:
    with pytest.raises(SystemExit):
        primary.main(["promote"])
