"""Reads back the content service's articles and jobs, after healing: how far each job has come by then.

They are read until every job is published and worked off, or until time is up: what waits then waits for ever, as far
as anybody can tell. As of the load's own table, they count only as the primary on the latest timeline has them.
"""

from typing import NamedTuple

from resilience.backend.base import Platform
from resilience.history.clock import RunClock
from resilience.history.record import ArticleRead, AuditDone, JobRead
from resilience.history.writer import Writer
from resilience.stack.postgresql_audit import read_until
from resilience.stack.postgresql_link import PostgresqlLink, Rows

_ARTICLES = "SELECT id, version, op FROM article ORDER BY id"
_JOBS = """SELECT coalesce(made.id, rendition.job), coalesce(made.version, 0), made.id IS NOT NULL,
    made.published_at IS NOT NULL, coalesce(rendition.times, 0)
    FROM article_job AS made FULL JOIN rendition ON rendition.job = made.id ORDER BY made.number, 1"""


class _Stored(NamedTuple):
    articles: Rows
    jobs: Rows


def audit_content(
    platform: Platform, writer: Writer, *, clock: RunClock, deadline: float, timeline_min: int = 0
) -> int:
    """Writes an `ArticleRead` for each article, a `JobRead` for each job and an `AuditDone`; how many jobs wait.

    ``deadline`` is a value of `time.monotonic`. Raises `StackError` if nothing could be read until then; nothing has
    been written then.
    """
    member, timeline, stored = read_until(
        platform, "reading articles and jobs", _stored, deadline=deadline, timeline_min=timeline_min, unsettled=_waiting
    )
    for article, version, op in stored.articles:
        writer.append(ArticleRead(str(article), int(version or 0), str(op), member, timeline))
    for job, version, written, published, worked in stored.jobs:
        line = JobRead(
            str(job), int(version or 0), written == "t", published == "t", int(worked or 0), member, timeline
        )
        writer.append(line)
    writer.write(AuditDone("content", len(stored.articles) + len(stored.jobs), clock.now_us()))
    writer.flush()
    return len(_unfinished(stored))


def _waiting(stored: _Stored) -> str:
    waiting = len(_unfinished(stored))
    return f"{waiting} jobs wait to be published, or to be worked off" if waiting else ""


def _unfinished(stored: _Stored) -> Rows:
    return [row for row in stored.jobs if row[2] == "t" and (row[3] != "t" or row[4] == "0")]


def _stored(link: PostgresqlLink) -> _Stored:
    """Of a database without the tables: nothing, for no change was ever acknowledged."""
    if link.ask("SELECT to_regclass('rendition')") == [(None,)]:
        return _Stored([], [])
    return _Stored(link.ask(_ARTICLES), link.ask(_JOBS))
