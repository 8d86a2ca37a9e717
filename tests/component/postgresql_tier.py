"""The PostgreSQL tier alone, brought up for a test, and what tests ask it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.fault.base import NoTarget
from resilience.fault.injector import Injector, new_injection_id
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.spec.fault import FaultSpec, Injection, Prelude, Target
from resilience.spec.postgresql import Durability, Patroni
from resilience.spec.read import read_stack
from resilience.spec.stack import Stack
from resilience.stack.postgresql import Gathering, live_roles, wait_ready
from resilience.stack.postgresql_link import PASSWORD, PostgresqlLinks, Rows
from resilience.stack.postgresql_role import PostgresqlRole
from tests.component.local_stack import brought_up

WITHIN_S = 40.0
PRIMARY, STANDBY, OTHER = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"
TIER = {"postgresql", "pgbouncer", "postgres-exporter", "postgresql-client", "etcd"}


def tier_alone(durability: Durability, patroni: Patroni | None = None) -> Stack:
    """The shipped stack without its other tiers; with ``patroni`` that in which it promotes by itself."""
    stack = read_stack(PROJECT_ROOT, f"stacks/local/postgresql{'-patroni' if patroni else ''}.yaml")
    members = tuple(member for member in stack.members if member.component in TIER)
    assert stack.postgresql is not None
    failover = patroni or stack.postgresql.failover
    postgresql = msgspec.structs.replace(stack.postgresql, durability=durability, failover=failover)
    return msgspec.structs.replace(stack, members=members, postgresql=postgresql, restart_delay_s=0.2)


@contextmanager
def ready_tier(
    durability: Durability, image: Path, logs: Path, patroni: Patroni | None = None
) -> Iterator[OwnedLocalPlatform]:
    with brought_up(tier_alone(durability, patroni), image, logs) as owned:
        wait_ready(owned, time.monotonic() + WITHIN_S)
        yield owned


def injector_on(tier: OwnedLocalPlatform, logs: Path) -> Injector:
    return Injector(
        platform=tier,
        roles=lambda: live_roles(tier),
        ledger=Ledger(logs / "ledger.jsonl"),
        clock=RunClock.starting_now(),
    )


@contextmanager
def injected(
    tier: OwnedLocalPlatform,
    logs: Path,
    fault: FaultSpec,
    *,
    component: Any = "postgresql",
    role: Any = "primary",
    scope: Any = "member",
    prelude: Prelude | None = None,
) -> Iterator[Injection]:
    """A fault, proved, and healed at the end, which is proved too."""
    injector = injector_on(tier, logs)
    target = Target(component=component, role=role, scope=scope)
    injection = injector.plan(new_injection_id("test"), fault, target, 60.0, prelude)
    assert not isinstance(injection, NoTarget)
    injector.inject(injection)
    try:
        seen = injector.probe(injection.id)
        assert seen.holds, seen
        yield injection
        seen = injector.probe(injection.id)
        assert seen.holds, seen
    finally:
        healed = injector.heal(injection.id, "request")
    assert healed.proof.holds, healed.proof


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, f"not after {WITHIN_S} s: {what}"
        time.sleep(0.1)


def roles(tier: OwnedLocalPlatform) -> dict[str, PostgresqlRole]:
    return {role.member: role for role in live_roles(tier)}


def asked(tier: OwnedLocalPlatform, member: str, sql: str) -> Rows:
    with PostgresqlLinks(tier, 30.0) as links:
        return links.link(member).ask(sql)


def killed(tier: OwnedLocalPlatform, member: str) -> None:
    """Kills a member's server with all its processes, and waits until the platform has started another."""
    before = tier.state(member)
    os.kill(before.handle["server_pid"], signal.SIGKILL)
    wait_for(f"{member} runs again", lambda: tier.state(member).restarts == before.restarts + 1)


def archive_of(tier: OwnedLocalPlatform) -> Path:
    """The folder that stands for an object store, as all members see it."""
    return tier.secret_file(PASSWORD).parents[1] / "archive"


def long_checkpoint(tier: OwnedLocalPlatform, primary: str, logs: Path) -> None:
    """A checkpoint that begins in one segment of the log and is complete in the next one.

    Whoever goes back to it has to replay the segment that it began in, and pg_rewind does not leave him that.
    """
    spread = "checkpoint starting: force wait"
    asked(tier, primary, "CREATE TABLE IF NOT EXISTS spread (value text)")  # pages that it has to take its time for
    before = log_of(logs, primary).count(spread)
    with PostgresqlLinks(tier, WITHIN_S) as links:
        backup = Thread(target=links.link(primary).ask, args=("SELECT pg_backup_start('spread', false)",))
        backup.start()
        wait_for("it has begun", lambda: log_of(logs, primary).count(spread) > before)
        asked(tier, primary, "SELECT pg_switch_wal()")
        asked(tier, primary, "INSERT INTO spread VALUES ('meanwhile')")
        asked(tier, primary, "ALTER SYSTEM SET checkpoint_completion_target = 0")  # it takes no more time
        asked(tier, primary, "SELECT pg_reload_conf()")
        backup.join()


def together(tier: OwnedLocalPlatform) -> bool:
    return not amiss(tier)


def amiss(tier: OwnedLocalPlatform) -> list[str]:
    with Gathering(tier) as gathering:
        return gathering.amiss()


def log_of(logs: Path, member: str) -> str:
    return (logs / member / "server.log").read_text(errors="replace")
