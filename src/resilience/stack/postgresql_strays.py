"""Fences whoever takes writes beside PostgreSQL's primary, once it is known who that is.

Who is silent may be the primary, and whoever is on the latest timeline among those that answer a stray: so every member
has to answer, one of them has to take writes, and nobody may be on a later timeline.
"""

import time
from collections.abc import Sequence

import msgspec

from resilience.backend.base import Evidence, Leading, Platform, Proof, Say, unheard
from resilience.errors import StackError
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_failover import ASK_TIMEOUT_S, LOOK_EVERY_S, lead_all
from resilience.stack.postgresql_fence import KNOWN_WITHIN_S, Fencing, fenced
from resilience.stack.postgresql_link import PostgresqlLinks
from resilience.stack.postgresql_role import Look, Looks, primary_of, writers
from resilience.stack.redis_cluster import shortened

ALONE_WITHIN_S = 5.0


class Rejoined(msgspec.Struct, frozen=True, kw_only=True):
    """Who is the one primary, who took writes beside it and was fenced, and whether it alone takes writes now."""

    primary: str
    members: tuple[str, ...]
    proof: Proof


def fence_strays(platform: Platform, say: Say = unheard) -> Rejoined:
    """Leads all PgBouncers to the primary, and fences every other member that takes writes.

    ``say`` hears of each of them (`postgresql_fence.fenced`). Raises `StackError` if it cannot be known within the
    deadline who the primary is, or if somebody cannot be fenced.
    """
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        seen = _known(links)
        primary = primary_of(seen)
        strays = [name for name in writers(seen) if name != primary]
        if strays and isinstance(platform, Leading):
            lead_all(platform, platform, primary)
        fencings = [fenced(platform, links, name, say) for name in strays]
        return Rejoined(primary=primary, members=tuple(strays), proof=_proof(links, primary, fencings))


def _known(links: PostgresqlLinks) -> Looks:
    """What all members say, once that tells who the one primary is. Raises `StackError`."""
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while reasons := doubts(seen := looks(links)):
        if time.monotonic() >= deadline:
            raise StackError(
                f"who is PostgreSQL's one primary is not known after {KNOWN_WITHIN_S:g} s: {shortened(reasons)}"
            )
        time.sleep(LOOK_EVERY_S)
    return seen


def doubts(seen: Looks) -> list[str]:
    """Why it is not known who the one primary is; empty if it is `primary_of`."""
    silent = [f"no answer from {error}" for error in seen.values() if isinstance(error, StackError)]
    primary, writing = primary_of(seen), writers(seen)
    if silent or not primary:
        return silent or ["nobody takes writes"]
    timelines = {name: look.timeline for name, look in seen.items() if isinstance(look, Look)}
    least = timelines[primary]
    return [
        f"{name} is on timeline {timeline}, and {primary}, which takes writes, on {least}"
        for name, timeline in timelines.items()
        if timeline > least or (timeline == least and name in writing and name != primary)
    ]


def _proof(links: PostgresqlLinks, primary: str, fencings: Sequence[Fencing]) -> Proof:
    ends_at = time.monotonic() + ALONE_WITHIN_S
    while not (seen := alone(looks(links), primary, fencings)).holds and time.monotonic() < ends_at:
        time.sleep(LOOK_EVERY_S)
    return seen


def alone(seen: Looks, primary: str, fencings: Sequence[Fencing]) -> Proof:
    """Whether the primary alone takes writes; whoever was seen to stop may be silent, nobody else."""
    writing = ", ".join(sorted(writers(seen)))
    stopped = {one.member: one for one in fencings}
    silent = {name: look for name, look in seen.items() if isinstance(look, StackError) and name not in stopped}
    return Proof(
        evidence=(
            Evidence(what="members that take writes", expected=primary, observed=writing, ok=writing == primary),
            *(Evidence(what=name, expected="an answer", observed=str(why), ok=False) for name, why in silent.items()),
            *(_stopped(one, seen) for one in fencings),
        )
    )


def _stopped(one: Fencing, seen: Looks) -> Evidence:
    writes = one.member in writers(seen)
    return Evidence(
        what=f"{one.member}, which took writes",
        expected="seen to have stopped, and no primary since",
        observed="it takes writes again" if writes else f"{one.how}: {one.seen[-1]}",
        ok=not writes,
    )
