"""Failover by Patroni, for real: it replaces a primary that was killed, etcd decides, and nobody is asked."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.backend.local.primary import is_primary
from resilience.spec.fault import FaultSpec, Kill, Partition, Pause
from resilience.spec.postgresql import Asynchronous, Patroni
from resilience.stack.patroni import Takeover, config, takeovers, without_majority
from resilience.stack.postgresql import unled
from resilience.stack.postgresql_link import PASSWORD
from resilience.stack.versions import postgresql_servers
from tests.component.postgresql_tier import (
    OTHER,
    PRIMARY,
    STANDBY,
    amiss,
    asked,
    injected,
    log_of,
    ready_tier,
    roles,
    together,
    wait_for,
)

pytestmark = pytest.mark.component

# A key's time under 20 s is not taken. Where the etcd member that is lost is the leader, another is elected within 4 s
# (stacks/etcd): a Patroni that is told to try for less than that steps down for it, and another is promoted.
QUICK = Patroni(ttl_s=20, loop_wait_s=2, retry_timeout_s=8)
ROW = "SELECT value FROM kept"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("members")


@pytest.fixture(scope="module")
def tier(image: Path, logs: Path) -> Iterator[OwnedLocalPlatform]:
    with ready_tier(Asynchronous(), image, logs, QUICK) as owned:
        yield owned


def part_of(tier: OwnedLocalPlatform, role: str) -> list[str]:
    return [name for name, one in roles(tier).items() if one.role == role]


def holders_of(secret: str) -> list[str]:
    """The processes that hold it in their command line or environment, where others could read it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                held = secret.encode() in Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:  # it has ended
                continue
            found += [f"{pid} {name}"] if held else []
    return found


def test_it_forms_around_the_first_member_by_the_stacks_times_and_keeps_the_password(tier, logs):
    assert part_of(tier, "primary") == [PRIMARY]
    assert {name: is_primary(tier.state(name).address) for name in (PRIMARY, STANDBY, "etcd-0")} == {
        PRIMARY: True,
        STANDBY: False,
        "etcd-0": False,
    }
    told = config(tier)
    assert set(told) == {PRIMARY, STANDBY, OTHER}
    assert {(one.ttl, one.loop_wait, one.retry_timeout, one.synchronous_mode) for one in told.values()} == {
        (20, 2, 8, False)
    }
    servers = postgresql_servers(tier)
    assert servers[PRIMARY]["patroni"]["version"].startswith("4.")
    assert servers["etcd-0"]["version"].startswith("3.")
    secret = tier.secret(PASSWORD)
    assert secret not in str(servers)
    assert holders_of(secret) == []
    assert [path.name for path in logs.rglob("*.log") if secret in path.read_text(errors="replace")] == []


@pytest.mark.parametrize(
    "fault", [Kill(restart=False), Pause(), Partition(cut_from="all")], ids=["kill", "pause", "partition"]
)
def test_an_etcd_member_less_is_proved_and_changes_nothing(tier, logs, fault: FaultSpec):
    with injected(tier, logs, fault, role="any", component="etcd") as injection:
        (member,) = injection.members
        assert any(member in reason for reason in without_majority(tier))
        assert any(member in reason for reason in amiss(tier))
        assert part_of(tier, "primary") == [PRIMARY]
    wait_for("all are together", lambda: together(tier))
    assert {one.timeline for one in roles(tier).values()} == {1}


def test_a_standby_is_promoted_by_itself_and_the_former_primary_comes_back_by_pg_rewind(tier, logs):
    asked(tier, PRIMARY, "CREATE TABLE kept (value int); INSERT INTO kept VALUES (1)")
    wait_for("it is replicated", lambda: together(tier))
    with injected(tier, logs, Kill(restart=False)) as injection:
        assert injection.members == (PRIMARY,)
        wait_for("another is the primary", lambda: bool(part_of(tier, "primary")))
        (successor,) = part_of(tier, "primary")
        assert successor in {STANDBY, OTHER}
        wait_for("PgBouncers lead to it", lambda: unled(tier) == [])
        assert asked(tier, successor, ROW) == [("1",)]
    wait_for("all are together", lambda: together(tier))
    assert {(one.role, one.timeline) for one in roles(tier).values()} == {("primary", 2), ("replica", 2)}
    wait_for("Patroni's record says so", lambda: takeovers(tier) == [Takeover(timeline=2, member=successor)])
    assert roles(tier)[PRIMARY].upstream == successor
    assert "pg_rewind exit code=0" in log_of(logs, PRIMARY)
    assert asked(tier, PRIMARY, ROW) == [("1",)]


def test_without_etcds_majority_nobody_is_primary_until_it_is_back(tier, logs):
    kill = partial(injected, tier, logs, Kill(restart=False), role="any", component="etcd")
    with kill() as one:
        # a target is the first that runs, as the platform last saw it
        wait_for("it is seen to be gone", lambda: not any(tier.state(name).running for name in one.members))
        with kill() as another:
            assert {*one.members, *another.members} == {"etcd-0", "etcd-1"}
            assert len(without_majority(tier)) == 3
            wait_for("the primary has stepped down", lambda: part_of(tier, "replica") == [PRIMARY, STANDBY, OTHER])
            assert not any(is_primary(tier.state(name).address) for name in (PRIMARY, STANDBY, OTHER))
            assert unled(tier) != []
    wait_for("all are together", lambda: together(tier))
    assert len(part_of(tier, "primary")) == 1
    assert asked(tier, PRIMARY, ROW) == [("1",)]
