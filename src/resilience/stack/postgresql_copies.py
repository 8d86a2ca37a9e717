"""Asks all PostgreSQL members what they hold, once nobody writes any more.

What the primary has written by then is waited for: all have to be on its timeline and to have replayed that much. Then
each table that anybody has is summed up on each: those of the load, and those of the services.
"""

from collections.abc import Mapping

import msgspec

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_audit import source_of
from resilience.stack.postgresql_link import PostgresqlLinks, Rows
from resilience.stack.postgresql_role import Look, Looks
from resilience.stack.redis_cluster import shortened
from resilience.stack.wait import wait_until

TIMEOUT_S = 2.0  # of each answer
EVERY_S = 0.1
# a standby has none of what is written to a table that is not logged
_TABLES = """SELECT quote_ident(relname) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpersistence = 'p'"""
_SUM = "SELECT count(*), coalesce(sum(hashtextextended(held::text, 0)), 0) FROM {table} AS held"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a member has in a table; ``digest`` is the sum of all rows' hashes."""

    rows: int
    digest: str


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What a member holds, by table."""

    timeline: int
    replayed: int | None  # bytes of WAL since the beginning; of the primary what it has written
    tables: dict[str, Held]


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """All members that answered; ``written`` is how far the primary had come at the first look, in bytes of WAL.

    ``primary`` is "" where nobody was found to be it; ``reasons`` say what could not be asked, or did not come about.
    """

    primary: str = ""
    timeline: int = 0
    written: int = 0
    members: dict[str, Copy] = {}
    reasons: tuple[str, ...] = ()


def compare_copies(platform: Platform, *, timeline_min: int, deadline: float) -> Copies:
    """Waits for all members, at most until ``deadline`` (a value of `time.monotonic`), and asks what each holds then.

    ``timeline_min`` is the latest timeline that anybody was seen on. What the platform does not answer is a reason.
    """
    with PostgresqlLinks(platform, TIMEOUT_S) as links:
        seen: list[Looks] = []

        def unknown() -> str:
            seen[:] = [looks(links)]
            try:
                source_of(seen[0], timeline_min)
            except StackError as error:
                return str(error)
            return ""

        try:
            wait_until("finding PostgreSQL's primary", unknown, deadline=deadline, every_s=EVERY_S)
        except StackError as error:
            return Copies(reasons=(str(error),))
        primary, timeline = source_of(seen[0], timeline_min)
        look = seen[0][primary]
        written = look.written or 0 if isinstance(look, Look) else 0
        late = _late(links, timeline, written, deadline)
        members, silent = _held(links)
    return Copies(
        primary=primary, timeline=timeline, written=written, members=members, reasons=(*filter(None, (late,)), *silent)
    )


def apart(seen: Looks, timeline: int, written: int) -> list[str]:
    """Which members are not on a timeline, or have not replayed so many bytes; what a primary has written counts."""
    reasons = []
    for name, look in seen.items():
        if not isinstance(look, Look):
            reasons.append(str(look))
        elif look.timeline != timeline:
            reasons.append(f"{name} is on timeline {look.timeline}, not on {timeline}")
        elif (reached(look) or 0) < written:
            reasons.append(f"{name} has replayed {reached(look) or 0} of {written} bytes")
    return reasons


def reached(look: Look) -> int | None:
    """How far a member has come, in bytes of WAL: a standby has replayed, a primary has written."""
    return look.replayed if look.recovering else look.written


def _late(links: PostgresqlLinks, timeline: int, written: int, deadline: float) -> str:
    """Who has not come as far as the primary by the deadline, "" if all have."""
    try:
        wait_until(
            "having the same",
            lambda: shortened(apart(looks(links), timeline, written)),
            deadline=deadline,
            every_s=EVERY_S,
        )
    except StackError as error:
        return str(error)
    return ""


def _held(links: PostgresqlLinks) -> tuple[dict[str, Copy], tuple[str, ...]]:
    """What each member that answers holds, and why the others do not say."""
    seen, tables = looks(links), links.ask_each(_TABLES)
    names = sorted({str(name) for told in tables.values() if not isinstance(told, StackError) for (name,) in told})
    sums = {name: links.ask_each(_SUM.format(table=name)) for name in names}
    members: dict[str, Copy] = {}
    reasons: list[str] = []
    for member, look in seen.items():
        try:
            own = {name for (name,) in _told(tables[member])}
            members[member] = _copy(_told(look), {name: sums[name][member] for name in names if name in own})
        except StackError as error:
            reasons.append(str(error))
    return members, tuple(reasons)


def _copy(look: Look, sums: Mapping[str, Rows | StackError]) -> Copy:
    tables = {name: _summed(_told(answer)) for name, answer in sums.items()}
    return Copy(timeline=look.timeline, replayed=reached(look), tables=tables)


def _summed(answer: Rows) -> Held:
    rows, digest = answer[0]
    return Held(rows=int(rows or 0), digest=str(digest))


def _told[Answer](answer: Answer | StackError) -> Answer:
    """What a member answered. Raises `StackError` if it did not."""
    if isinstance(answer, StackError):
        raise answer
    return answer
