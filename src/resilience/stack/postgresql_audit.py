"""Reads back, after healing, the table that the load has written to: all of it, as PostgreSQL's primary has it then.

What is there is written down as it is; what that means is judged elsewhere. It counts only if the primary was the same,
on the same timeline, from the first row to the last.
"""

from collections.abc import Iterable, Iterator

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, RowRead
from resilience.history.writer import Writer
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_link import PostgresqlLink, PostgresqlLinks
from resilience.stack.postgresql_role import Look, primary_of
from resilience.stack.wait import wait_until

ROWS_MAX = 20_000  # of one answer
TIMEOUT_S = 10.0
RETRY_S = 0.5


def audit_rows(platform: Platform, writer: Writer, keys: Iterable[str], *, clock: RunClock, deadline: float) -> None:
    """Writes a `RowRead` for each row of the table and one for each of these keys that has none, and an `AuditDone`.

    ``deadline`` is a value of `time.monotonic`; until then it is tried again. Raises `StackError`; nothing has been
    written then.
    """
    found: list[RowRead] = []

    def failed() -> str:
        try:
            found[:] = _table(platform)
        except StackError as error:
            return str(error)
        return ""

    wait_until("reading PostgreSQL's table", failed, deadline=deadline, every_s=RETRY_S)
    there = {row.key for row in found}
    member, timeline = _source(platform) if not found else (found[0].member, found[0].timeline)
    absent = [RowRead(key, None, member, timeline) for key in dict.fromkeys(keys) if key not in there]
    for line in (*found, *absent):
        writer.append(line)
    writer.write(AuditDone("postgresql", len(found) + len(absent), clock.now_us()))
    writer.flush()


def _table(platform: Platform) -> list[RowRead]:
    """All rows, as one member had them as the primary on one timeline. Raises `StackError`."""
    member, timeline = before = _source(platform)
    with PostgresqlLinks(platform, TIMEOUT_S) as links:
        rows = [RowRead(key, value, member, timeline) for key, value in _rows(links.link(member))]
    after = _source(platform)
    if after != before:
        raise StackError(
            f"the primary changed meanwhile: {member} on timeline {timeline}, then {after[0]} on {after[1]}"
        )
    return rows


def _source(platform: Platform) -> tuple[str, int]:
    """The primary and its timeline. Raises `StackError` if there is none."""
    with PostgresqlLinks(platform) as links:
        seen = looks(links)
    primary = primary_of(seen)
    look = seen.get(primary)
    if not isinstance(look, Look):
        raise StackError("no PostgreSQL member takes writes")
    return primary, look.timeline


def _rows(link: PostgresqlLink) -> Iterator[tuple[str, str]]:
    last = ""
    while True:
        answer = link.ask(f"SELECT key, value FROM written WHERE key > '{last}' ORDER BY key LIMIT {ROWS_MAX}")  # noqa: S608  quoted below
        rows = [(str(key), str(value)) for key, value in answer]
        yield from rows
        if len(rows) < ROWS_MAX:
            return
        last = rows[-1][0].replace("'", "''")
