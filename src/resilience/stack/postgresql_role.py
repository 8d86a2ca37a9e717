"""Who is what in the PostgreSQL tier: pure, from what each member says of itself.

A promotion begins a new *timeline*, numbered higher than all before. So of several members that take writes the one on
the highest timeline is the primary, and any other is *stray*: it was promoted behind its back, and what it
acknowledges is lost.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from resilience.errors import StackError
from resilience.spec.postgresql import Asynchronous, Postgresql
from resilience.spec.stack import Stack

Role = Literal["primary", "replica", "stray", "unreachable"]
STREAMING = "streaming"
WAITED_FOR = frozenset({"sync", "quorum"})  # what the primary calls standbys that its commits may wait for

# A standby whose primary is gone has nobody to receive from, and its control file tells of a timeline from the next
# restart point on only: what it has received says it, too.
QUESTION = """SELECT json_build_object(
'recovering', pg_is_in_recovery(),
'timeline', CASE WHEN pg_is_in_recovery() THEN greatest(
        (pg_control_checkpoint()).timeline_id, (pg_control_recovery()).min_recovery_end_timeline,
        (SELECT received_tli FROM pg_stat_wal_receiver),
        (SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
'written', CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn,
'replayed', pg_last_wal_replay_lsn() - '0/0'::pg_lsn,
'started', pg_postmaster_start_time(), 'came_by', current_setting('harmonyflow.came_by', true),
'upstream', (SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'),
'standbys', (SELECT json_object_agg(application_name, json_build_array(state, sync_state) ORDER BY backend_start)
    FROM pg_stat_replication))"""
GROUP = 0  # of its roles and of what is written to it: it has no shards


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says of itself; positions are bytes of WAL since the beginning."""

    recovering: bool  # it replays what another sends: a standby
    timeline: int
    written: int | None = None  # a standby: received
    replayed: int | None = None  # what a primary replayed before it became one
    upstream: str | None = None  # whom a standby streams from, now
    standbys: dict[str, tuple[str, str]] | None = None  # by name: how far the stream is, and what commits make of it
    started: str = ""  # when its server was, by its own clock
    came_by: str | None = None  # how that came by its data (``stacks/postgresql/start.sh``); None: it does not say


Looks = Mapping[str, Look | StackError]  # by member; or why it does not say anything


class PostgresqlRole(msgspec.Struct, frozen=True, kw_only=True):
    """A PostgreSQL member's part in its tier."""

    member: str
    role: Role
    timeline: int = 0  # 0: it does not say
    upstream: str = ""  # whom a replica streams from; "": nobody
    lag_bytes: int | None = None  # how much of the primary's WAL a replica has not received; None: not known
    synchrony: str = ""  # what the primary makes of a replica: async, potential, sync, quorum
    address: str = ""
    group: int = GROUP


def look_from_text(text: str | None) -> Look:
    """From the answer to `QUESTION`. Raises `StackError`."""
    try:
        return msgspec.json.decode(text or "", type=Look)
    except msgspec.DecodeError as error:
        raise StackError(f"an answer that cannot be read: {error}") from error


def decide(stack: Stack, hosts: Mapping[str, str], looks: Looks) -> tuple[PostgresqlRole, ...]:
    """Each member's role, in the order of the stack file."""
    primary = primary_of(looks)
    return tuple(_role(name, hosts.get(name, ""), looks, primary) for name in _tier(stack).members)


def primary_of(looks: Looks) -> str:
    """The member that takes writes on the highest timeline, "" if none does; of several there the one with standbys."""
    found = writers(looks)
    return max(found, key=lambda name: (found[name].timeline, len(found[name].standbys or ())), default="")


def writers(looks: Looks) -> dict[str, Look]:
    """Those that say that they take writes."""
    return {name: look for name, look in looks.items() if isinstance(look, Look) and not look.recovering}


def standbys(looks: Looks) -> dict[str, Look]:
    """Those that say that they replay what another one sends."""
    return {name: look for name, look in looks.items() if isinstance(look, Look) and look.recovering}


def _role(member: str, host: str, looks: Looks, primary: str) -> PostgresqlRole:
    look = looks.get(member)
    if not isinstance(look, Look):
        return PostgresqlRole(member=member, role="unreachable", address=host)
    if not look.recovering:
        role: Role = "primary" if member == primary else "stray"
        return PostgresqlRole(member=member, role=role, timeline=look.timeline, address=host)
    of_primary = looks.get(primary)
    known = of_primary if isinstance(of_primary, Look) else None
    return PostgresqlRole(
        member=member,
        role="replica",
        timeline=look.timeline,
        upstream=look.upstream or "",
        lag_bytes=_lag(known, look),
        synchrony=_stream(known, member)[1],
        address=host,
    )


def _lag(primary: Look | None, replica: Look) -> int | None:
    if primary is None or primary.written is None or replica.written is None:
        return None
    return max(0, primary.written - replica.written)


def _stream(primary: Look | None, member: str) -> tuple[str, str]:
    return (primary.standbys or {}).get(member, ("", "")) if primary else ("", "")


def way_back(started: str, look: Look) -> str:
    """How a member came back whose server had been ``started`` when it was looked at last; "" if that runs still."""
    return (look.came_by or "") if started and look.started != started else ""


def unready(stack: Stack, looks: Looks) -> list[str]:
    """Why this is no tier with one primary from which all others stream; empty if it is."""
    silent = [f"{name}: {_reason(name, look)}" for name, look in looks.items() if isinstance(look, StackError)]
    name = primary_of(looks)
    primary = looks.get(name)
    if not isinstance(primary, Look):
        return [*silent, "no PostgreSQL member takes writes"]
    reasons = [reason for other in looks if other != name and (reason := _astray(other, looks, name, primary))]
    return [*silent, *reasons, *_too_few(_tier(stack), name, primary)]


def _reason(name: str, error: StackError) -> str:
    return str(error).removeprefix(f"{name}: ")


def _astray(member: str, looks: Looks, primary_name: str, primary: Look) -> str:
    """What keeps a member that answers from being a replica of the primary."""
    look = looks[member]
    if not isinstance(look, Look):
        return ""
    if not look.recovering:
        return f"{member} takes writes on timeline {look.timeline}, {primary_name} on {primary.timeline}"
    if look.upstream != primary_name:
        return f"{member} streams from {look.upstream or 'nobody'}, {primary_name} is the primary"
    if look.timeline != primary.timeline:
        return f"{member} is on timeline {look.timeline}, {primary_name} on {primary.timeline}"
    state, _ = _stream(primary, member)
    return "" if state == STREAMING else f"{primary_name} streams to {member}: {state or 'not at all'}"


def _too_few(tier: Postgresql, primary_name: str, primary: Look) -> list[str]:
    """Commits that wait for standbys need so many of them."""
    if isinstance(tier.durability, Asynchronous):
        return []
    counted = [name for name, (_, synchrony) in (primary.standbys or {}).items() if synchrony in WAITED_FOR]
    if len(counted) >= tier.durability.standbys:
        return []
    return [f"{primary_name} waits for {tier.durability.standbys} standbys and has {len(counted)}"]


def behind(looks: Looks, written: int) -> list[str]:
    """Which replicas have not replayed what had been written at a moment."""
    return [
        f"{name} has replayed {look.replayed or 0} of {written} bytes"
        for name, look in standbys(looks).items()
        if (look.replayed or 0) < written
    ]


def _tier(stack: Stack) -> Postgresql:
    assert stack.postgresql is not None  # only a stack that has the tier is asked
    return stack.postgresql
