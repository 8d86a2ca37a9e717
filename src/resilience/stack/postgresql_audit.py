"""Reads back, after healing, a table that the load has written to: all of it, as PostgreSQL's primary has it then.

What is there is written down as it is; what that means is judged elsewhere. It counts only if the primary was the same,
on the same timeline, from the first row to the last, and if nobody has been seen on a later timeline: a member that was
promoted behind its back takes writes, too, and its table says nothing of what is lost. A table that is not there at all
has none of the rows.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, ListRead, RowRead
from resilience.history.transaction import TABLE as LISTS
from resilience.history.writer import Writer
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_link import PostgresqlLink, PostgresqlLinks
from resilience.stack.postgresql_role import Look, Looks, primary_of
from resilience.stack.wait import wait_until

ROWS_MAX = 20_000  # of one answer
TIMEOUT_S = 10.0
RETRY_S = 0.2


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, as one member had them as the primary on one timeline."""

    member: str
    timeline: int
    rows: tuple[tuple[str, str], ...]  # key and value


def audit_rows(
    platform: Platform,
    writer: Writer,
    keys: Iterable[str],
    *,
    clock: RunClock,
    deadline: float,
    timeline_min: int = 0,
) -> None:
    """Writes a `RowRead` for each row of the table and one for each of these keys that has none, and an `AuditDone`.

    ``deadline`` is a value of `time.monotonic`; until then it is tried again. ``timeline_min`` is the latest timeline
    that anybody was seen on. Raises `StackError`; nothing has been written then.
    """
    table = _read(platform, "written", deadline, timeline_min)
    there = {key for key, _ in table.rows}
    absent = [(key, None) for key in dict.fromkeys(keys) if key not in there]
    for key, value in (*table.rows, *absent):
        writer.append(RowRead(key, value, table.member, table.timeline))
    writer.write(AuditDone("postgresql", len(table.rows) + len(absent), clock.now_us()))
    writer.flush()


def audit_lists(platform: Platform, writer: Writer, *, clock: RunClock, deadline: float, timeline_min: int = 0) -> None:
    """Writes a `ListRead` for each list, and an `AuditDone`; as for rows. Raises `StackError`."""
    table = _read(platform, LISTS, deadline, timeline_min)
    for key, content in table.rows:
        writer.append(ListRead(key, content, table.member, table.timeline))
    writer.write(AuditDone("lists", len(table.rows), clock.now_us()))
    writer.flush()


def _read(platform: Platform, name: str, deadline: float, timeline_min: int) -> Table:
    """A table, tried again until the deadline. Raises `StackError`."""
    what = f"reading PostgreSQL's table {name}"
    member, timeline, rows = read_until(
        platform, what, lambda link: tuple(_rows(link, name)), deadline=deadline, timeline_min=timeline_min
    )
    return Table(member=member, timeline=timeline, rows=rows)


def read_until[T](
    platform: Platform,
    what: str,
    read: Callable[[PostgresqlLink], T],
    *,
    deadline: float,
    timeline_min: int,
    unsettled: Callable[[T], str] = lambda _: "",
) -> tuple[str, int, T]:
    """As `as_primary`, again and again until it succeeds and ``unsettled`` gives no reason to read once more.

    What is unsettled when the deadline has passed stays so, as far as anybody can tell. Raises `StackError` if nothing
    could be read then.
    """
    found: list[tuple[str, int, T]] = []

    def unmet() -> str:
        try:
            found[:] = [as_primary(platform, timeline_min, read)]
        except StackError as error:
            found.clear()  # what was there before says nothing of what is there now
            return str(error)
        return unsettled(found[0][2])

    try:
        wait_until(what, unmet, deadline=deadline, every_s=RETRY_S)
    except StackError:
        if not found:
            raise
    return found[0]


def source_of(seen: Looks, timeline_min: int) -> tuple[str, int]:
    """The primary and its timeline. Raises `StackError` if there is none, or if that may not be the primary."""
    primary = primary_of(seen)
    look = seen.get(primary)
    if not isinstance(look, Look):
        raise StackError("no PostgreSQL member takes writes")
    answers = {name: one for name, one in seen.items() if isinstance(one, Look)}
    latest = max(timeline_min, *(one.timeline for one in answers.values()))
    if look.timeline < latest:
        raise StackError(f"{primary} takes writes on timeline {look.timeline}, and timeline {latest} has been seen")
    writers = [name for name, one in answers.items() if not one.recovering and one.timeline == look.timeline]
    if len(writers) > 1:
        raise StackError(f"{' and '.join(writers)} take writes on the same timeline {look.timeline}")
    return primary, look.timeline


def as_primary[T](platform: Platform, timeline_min: int, read: Callable[[PostgresqlLink], T]) -> tuple[str, int, T]:
    """What is read from the primary, after its name and its timeline, which were the same before and after.

    Raises `StackError`.
    """
    with PostgresqlLinks(platform, TIMEOUT_S) as links:
        member, timeline = before = source_of(looks(links), timeline_min)
        found = read(links.link(member))
        after = source_of(looks(links), timeline_min)
    if after != before:
        raise StackError(
            f"the primary changed meanwhile: {member} on timeline {timeline}, then {after[0]} on {after[1]}"
        )
    return member, timeline, found


def _rows(link: PostgresqlLink, table: str) -> Iterator[tuple[str, str]]:
    if link.ask(f"SELECT to_regclass('{table}')") == [(None,)]:
        return
    last = ""
    while True:
        answer = link.ask(f"SELECT key, value FROM {table} WHERE key > '{last}' ORDER BY key LIMIT {ROWS_MAX}")  # noqa: S608  quoted below
        rows = [(str(key), str(value)) for key, value in answer]
        yield from rows
        if len(rows) < ROWS_MAX:
            return
        last = rows[-1][0].replace("'", "''")
