"""Changes of articles: each acknowledged one is followed through all hops, and a loss is named with its hop.

::

    acknowledged ─┬▶ article and job in PostgreSQL ─▶ published, confirmed ─▶ queue ─▶ effect of a worker
                  │  lost in PostgreSQL    never published       never worked off    lost before its effect
                  └▶ cached reads: older than the cache may be

A finding for each hop, about what came that far:

- ``postgresql``: the article is of the change's version, with its op, or of a later one, and the change's job has its
  row: both are one commit. Where PostgreSQL may lose acknowledged rows around a failover, changes may be lost like
  those (`durability.postgresql`). One that was acknowledged without a version cannot be looked for.
- ``cache``: a read that began ``cache_ttl_s`` after a change was acknowledged gives that change or a later one, unless
  PostgreSQL has lost it. One that says that there is no such article counts as older than any. Where there was a fault,
  reads that come before it alone show nothing.
- ``jobs``: every row is published, once all has had time to settle.
- ``queue content-processing``: what was confirmed and has no effect is not left there, nor among its dead letters: the
  workers had that time, too.
- ``renditions``: what was confirmed has its effect. One that has none and is in no queue was lost by RabbitMQ, or by a
  worker that acknowledged it too early; nobody's record tells these two apart. Under ``async`` the effect may be lost
  with PostgreSQL's primary, within `EFFECT_S` of the job's change. An effect without its job's row is no less wrong.

A job is published, and worked off, *at least once*: its effect is one row all the same, and how many were worked off
again is told.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec.structs import replace

from resilience.check import needs
from resilience.check.durability.booking import ANSWER_US, EVIDENCE_MAX, Booked, findings
from resilience.check.durability.hops import evidence, reason, rests_on
from resilience.check.durability.postgresql import at_stake, book_named, excuses, of_postgresql
from resilience.check.durability.unrecorded import unrecorded
from resilience.check.fault import POSTGRESQL, SECOND_US, Applied, after_fault
from resilience.check.finding import Finding, Where
from resilience.check.text import count, seconds
from resilience.check.versions import by_key, overtaken_at
from resilience.history.columns import OK, Ints
from resilience.history.content import change_of, job_of
from resilience.history.read import History
from resilience.history.record import ArticleRead, JobRead
from resilience.spec.content import WORK_QUEUE
from resilience.spec.rabbitmq import dead_letter_queue
from resilience.spec.scenario import Scenario

NAME = "durability.content"
WRITES = ("content.create", "content.update")
MISSING = "http-404:missing"  # the error of a read of what is not there
SLACK_US = 50_000  # the cache's time is wall time; a step of that by more breaks an assumption (`clock_step`)
EFFECT_S = 5.0  # a worker has dealt with a job so soon, with room for a busy machine
ROWS = of_postgresql(NAME, "article change", needs.CONTENT)


def content(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each hop."""
    way = follow(history)
    booked = book(history, way)
    rows = (at_stake(finding, history, booked) for finding in findings(ROWS, scenario, history, booked))
    excused_by = excuses(scenario, history, POSTGRESQL)
    return (
        *(_of_rows(finding, history, way, booked) for finding in rows),
        _of_reads(scenario, history, booked),
        _of_jobs(history, way),
        _of_queue(history, way),
        _of_effects(history, way, excused_by),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How far each change came, by the id of its job."""

    changes: Mapping[str, int]  # of each change that is on record, its op
    articles: Mapping[str, ArticleRead]
    rows: Mapping[str, JobRead]  # of jobs that have one
    worked: Mapping[str, int]  # how often each had its effect, of those that had
    left: Mapping[str, str]  # of each that is in a queue at the end, its queue


def follow(history: History) -> Way:
    """The ways of all changes of a run."""
    ops, audit, messages = history.ops, history.audit, history.audit.messages
    changes = np.flatnonzero(ops.of_kind(*WRITES)).tolist()
    queues = {WORK_QUEUE, dead_letter_queue(WORK_QUEUE)}
    drained = ((str(value), messages.queues[code]) for value, code in zip(messages.value, messages.queue, strict=True))
    return Way(
        changes={job_of(ops.keys[ops.key[row]], str(ops.value[row])): row for row in changes},
        articles={read.article: read for read in audit.articles},
        rows={read.job: read for read in audit.jobs if read.written},
        worked={read.job: read.worked for read in audit.jobs if read.worked},
        left={job: queue for job, queue in drained if queue in queues},
    )


def book(history: History, way: Way) -> Booked:
    """What the audit found of articles and of jobs' rows."""
    late = unrecorded(history, history.ops.of_kind(*WRITES))
    return book_named(
        history,
        WRITES,
        asked=way.changes,
        stored=way.rows.keys(),
        late=lambda job: late(change_of(job)),
        is_whole=lambda row: _has_change(history, way, row),
    )


def _has_change(history: History, way: Way, row: int) -> bool:
    """Whether the article is of the version that a change was answered, and its own, or of a later one."""
    ops = history.ops
    read, version = way.articles.get(ops.keys[ops.key[row]]), int(ops.version[row])
    return read is not None and (read.version > version or (read.version == version and read.op == str(ops.value[row])))


def _of_rows(finding: Finding, history: History, way: Way, booked: Booked) -> Finding:
    """The finding, which also names the hop, and says of how many half of the commit is there."""
    lost = set(booked.lost.tolist())
    halves = Counter(
        "its job" if job in way.rows else "its article"
        for job, row in way.changes.items()
        if row in lost and (job in way.rows or _has_change(history, way, row))
    )
    unnamed = int((booked.acked(history) & (history.ops.version < 0)).sum())
    told = (
        f"{len(lost):,} lost in PostgreSQL" if lost else "",
        *(f"of {number:,} {half} is there alone" for half, number in halves.items()),
        finding.reason,
        f"{count(unnamed, 'change')} acknowledged by an answer that names no version to look for" if unnamed else "",
    )
    measures = {
        f"{NAME}.lost_in_postgresql_ops": float(len(lost)),
        f"{NAME}.half_there_ops": float(halves.total()),
    }
    return replace(
        finding,
        verdict="inconclusive" if unnamed and finding.verdict == "pass" else finding.verdict,
        reason="; ".join(filter(None, told)),
        measures=finding.measures | measures,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stale:
    """Reads that were answered by less than was acknowledged before they began, and for how long that had been."""

    judged: Ints  # those that could have been: something had been acknowledged
    rows: tuple[int, ...]
    ages_us: tuple[int, ...]


def _of_reads(scenario: Scenario, history: History, booked: Booked) -> Finding:
    """Whether a reader was given less than what had been acknowledged longer ago than a copy may be cached."""
    assert scenario.stack.content is not None  # only a stack that has the service is judged
    ttl_s = scenario.stack.content.cache_ttl_s
    stale = _stale(history, booked)
    bad = [row for row, age in zip(stale.rows, stale.ages_us, strict=True) if age > ttl_s * SECOND_US + SLACK_US]
    worst_s = max(stale.ages_us, default=0) / SECOND_US
    ops, after = history.ops, after_fault(history)
    too_little = "" if len(stale.judged) else "nothing was read after it had been written"
    if not too_little and after is not None and not (ops.called[stale.judged] > after.since).any():
        too_little = f"nothing that had been written was read after the {after.name}"
    told = (f"{count(len(bad), 'read')} older than the cache may be" if bad else "", too_little)
    return Finding(
        check=NAME,
        verdict="fail" if bad else "inconclusive" if too_little else "pass",
        title=f"{count(len(bad), 'read')} older than the cache may be" if bad else "no read is older than allowed",
        measured=f"{len(stale.rows):,} of {count(len(stale.judged), 'read')} older than what was acknowledged, "
        f"by {seconds(worst_s)} at the most",
        allowed=f"≤ {seconds(ttl_s)}, the cache's",
        value=worst_s,
        unit="s",
        reason="; ".join(filter(None, told)),
        where=Where(group="cache"),
        rests_on=(*rests_on(needs.CONTENT, bad=bool(bad)), *needs.CLOCK),
        evidence=tuple(
            {"what": "older than allowed", "op": ops.name(row), "article": ops.keys[ops.key[row]],
             "version": int(ops.version[row])}
            for row in bad[:EVIDENCE_MAX]
        ),
        evidence_total=len(bad),
        measures={
            f"{NAME}.stale_reads_ops": float(len(bad)),
            f"{NAME}.older_reads_ops": float(len(stale.rows)),
            f"{NAME}.staleness_s": worst_s,
        },
    )  # fmt: skip


def _stale(history: History, booked: Booked) -> _Stale:
    """How long the first change that a read lacks had been acknowledged as the read began, of each that lacks any."""
    ops = history.ops
    acked = booked.writes & (ops.outcome == OK)
    acked[booked.lost] = False
    reads = ops.of_kind("content.read") & ((ops.outcome == OK) | ops.with_error(MISSING))
    changes, judged, rows, ages = dict(by_key(ops, np.flatnonzero(acked))), list[int](), list[int](), list[int]()
    for key, of_article in sorted(by_key(ops, np.flatnonzero(reads)), key=lambda part: int(part[1][0])):
        if key not in changes:
            continue
        written, called = changes[key], ops.called[of_article]
        version = np.where(ops.outcome[of_article] == OK, ops.version[of_article], 0)
        age = called - overtaken_at(ops.version[written], ops.returned[written], version)
        judged += of_article[called > ops.returned[written].min()].tolist()
        rows += of_article[age > 0].tolist()
        ages += age[age > 0].tolist()
    return _Stale(judged=np.array(judged, dtype=np.int64), rows=tuple(rows), ages_us=tuple(ages))


def _of_jobs(history: History, way: Way) -> Finding:
    """Whether every row was published, once all had had time to settle."""
    waiting = [job for job, row in way.rows.items() if not row.published]
    return _hop(
        history,
        way,
        place="jobs",
        audit=needs.CONTENT,
        total=len(way.rows),
        what="row",
        bad={"never published": waiting},
        measures={"never_published_ops": len(waiting), "job_ops": len(way.rows)},
    )


def _of_queue(history: History, way: Way) -> Finding:
    """Whether what was confirmed is left in a queue, and nobody has worked it off."""
    confirmed = _confirmed(way)
    left = [job for job in confirmed if job in way.left and job not in way.worked]
    dead = sum(queue != WORK_QUEUE for queue in way.left.values())
    return _hop(
        history,
        way,
        place=f"queue {WORK_QUEUE}",
        audit=(*needs.CONTENT, *needs.QUEUES),
        total=len(confirmed),
        what="confirmed job",
        bad={"never worked off": left},
        also={"in the dead-letter queue": dead},
        measures={"never_worked_off_ops": len(left), "dead_lettered_ops": dead},
    )


def _of_effects(history: History, way: Way, excused_by: Sequence[Applied]) -> Finding:
    """Whether what was confirmed and is in no queue had its effect, and whether each effect has its row."""
    confirmed = _confirmed(way)
    gone = [job for job in confirmed if job not in way.worked and job not in way.left]
    lost = [job for job in gone if not _may_lack(history, way.changes.get(job), excused_by)]
    late = unrecorded(history, history.ops.of_kind(*WRITES))
    alone = sorted(way.worked.keys() - way.rows.keys())
    wrong = [job for job in alone if not late(change_of(job)) and not (excused_by and job in way.changes)]
    again = sum(times > 1 for times in way.worked.values())
    return _hop(
        history,
        way,
        place="renditions",
        audit=(*needs.CONTENT, *needs.QUEUES),
        total=len(confirmed),
        what="confirmed job",
        bad={"lost before its effect": lost, "effect without its row": wrong},
        also={
            "lost with PostgreSQL's primary": len(gone) - len(lost),
            "without a row that a failover may lose": len(alone) - len(wrong),
            "worked off again": again,
        },
        measures={
            "lost_before_effect_ops": len(lost),
            "effect_without_row_ops": len(wrong),
            "worked_again_ops": again,
        },
    )


def _confirmed(way: Way) -> list[str]:
    return [job for job, row in way.rows.items() if row.published]


def _may_lack(history: History, row: int | None, excused_by: Sequence[Applied]) -> bool:
    """Whether the effect of a change may be lost with PostgreSQL's primary: it is no older than that one's end."""
    if row is None:
        return bool(excused_by)
    returned, since_us = int(history.ops.returned[row]), EFFECT_S * SECOND_US
    return any(fault.began - since_us <= returned <= fault.applied + ANSWER_US for fault in excused_by)


def _hop(
    history: History,
    way: Way,
    *,
    place: str,
    audit: tuple[str, ...],
    total: int,
    what: str,
    bad: Mapping[str, Sequence[str]],
    measures: Mapping[str, int],
    also: Mapping[str, int] | None = None,
) -> Finding:
    """The finding about one hop of jobs: ``bad`` are those that came no further, by what is said of them."""
    number = sum(map(len, bad.values()))
    told = {words: len(jobs) for words, jobs in bad.items()} | dict(also or {})
    found: Iterator[dict[str, Any]] = (
        item for words, jobs in bad.items() for item in evidence(history, way.changes, jobs, words, "job")
    )
    first = next((words for words, jobs in bad.items() if jobs), "")
    return Finding(
        check=NAME,
        verdict="fail" if number else "pass" if total else "inconclusive",
        title=f"{count(len(bad[first]), 'job')} {first}" if first else f"every {what} came further",
        measured=f"{number:,} of {count(total, what)} came no further",
        allowed="none",
        value=float(number),
        unit="ops",
        reason=reason(total, "; ".join(f"{many:,} {words}" for words, many in told.items() if many), "job"),
        where=Where(group=place),
        rests_on=rests_on(audit, bad=bool(number)),
        evidence=tuple(found)[:EVIDENCE_MAX],
        evidence_total=number,
        measures={f"{NAME}.{name}": float(value) for name, value in measures.items()},
    )
