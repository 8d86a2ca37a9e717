"""Assumptions about the audit: of each store everything was read back, after the load had ended."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from resilience.check.assumption.finding import held_unless
from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.fault import POSTGRESQL, SECOND_US, latest_timeline, load_end_us, primary_at
from resilience.check.finding import Finding
from resilience.history.columns import OK, Codes, Flags, are_among
from resilience.history.read import History
from resilience.spec.scenario import Scenario

Source = tuple[str, int]  # a member, and the timeline that it was on

_COUNTED = {
    "postgresql": "rows",
    "lists": "lists",
    "outbox": "rows",
    "profiles": "rows",
    "content": "articles and jobs",
    "rabbitmq": "messages",
}


def audit_complete(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, every key with an acknowledged write was read back from Redis."""
    ops, audit = history.ops, history.audit
    lines = {"direct": audit.direct_lines, "session": audit.session_lines}
    kinds: dict[str, tuple[Flags, Mapping[str, object] | Codes]] = {
        "direct key": (ops.of_kind("direct.write"), audit.direct.key),
        "session": (ops.of_kind(*SESSION_WRITES), audit.sessions),
    }
    read_on = {key: read.group for key, read in audit.sessions.items()}
    measured = f"{len(audit.direct)} direct keys, {len(audit.sessions)} sessions"
    if not scenario.stack.has_rooms_in_postgresql:
        lines["room"] = audit.room_lines
        kinds["room"] = (ops.of_kind("collaboration.edit"), audit.rooms)
        read_on |= {key: read.group for key, read in audit.rooms.items()}
        measured += f", {len(audit.rooms)} rooms"
    reasons = [*_told(history, ""), *_undone(history, lines), *_misplaced(history, read_on)]
    for noun, (rows, read) in kinds.items():
        reasons += _unlooked(history, rows, read, f"{noun}s with acknowledged writes were not read")
    return (held_unless("audit-complete", "Every acknowledged write was audited", reasons, f"{measured} read", "all"),)


def rooms_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, the logs of rooms were read as PostgreSQL's primary had them, on one timeline, the latest."""
    del scenario
    rooms, edits = history.audit.rooms, history.ops.of_kind("collaboration.edit")
    reasons = _of_postgresql(history, "room", history.audit.room_lines, _sources(rooms.values()))
    reasons += _unlooked(history, edits, rooms, "rooms with acknowledged edits were not read")
    return (held_unless("rooms-audited", "The logs of rooms were audited", reasons, f"{len(rooms)} read", "all"),)


def _unlooked(history: History, writes: Flags, read: Mapping[str, object] | Codes, what: str) -> Iterator[str]:
    """Keys of acknowledged writes that nobody looked for; what was read are texts, or codes as those of ops."""
    ops = history.ops
    unread = _marked(history, ops.key[writes & (ops.outcome == OK)])
    if isinstance(read, Mapping):
        acked = np.flatnonzero(unread)
        unread[acked] = ~are_among(ops.keys[acked], read)
    else:
        unread[read] = False
    if number := int(unread.sum()):
        yield f"{number} {what}, e.g. {ops.keys[np.argmax(unread)]}"


def _marked(history: History, codes: Codes) -> Flags:
    """By the code of each key whether it is among these."""
    marked = np.zeros(history.key_count, dtype=np.bool_)
    marked[codes] = True
    return marked


def rows_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, PostgreSQL's table was read as one member had it, the primary, on one timeline, the latest."""
    del scenario
    ops, rows = history.ops, history.audit.rows
    reasons = _of_postgresql(history, "postgresql", len(rows), rows.sources)
    writes, what = ops.of_kind("postgresql.write"), "rows that were acknowledged were not looked for"
    reasons += _unlooked(history, writes, rows.key, what)
    return (held_unless("postgresql-audited", "PostgreSQL's rows were audited", reasons, f"{len(rows)} read", "all"),)


def lists_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, PostgreSQL's lists were read as the primary had them, on one timeline, the latest."""
    del scenario
    lists = history.audit.lists
    reasons = _of_postgresql(history, "lists", len(lists), history.audit.list_sources)
    return (held_unless("lists-audited", "PostgreSQL's lists were audited", reasons, f"{len(lists)} read", "all"),)


def outbox_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, the session service's outbox was read as the primary had it, on one timeline, the latest."""
    del scenario
    rows = history.audit.outbox
    reasons = _of_postgresql(history, "outbox", len(rows), _sources(rows))
    return (held_unless("outbox-audited", "The outbox was audited", reasons, f"{len(rows)} rows read", "all"),)


def profiles_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, the effects of events, and the profiles, were read as the primary had them, on one timeline."""
    del scenario
    read: tuple[_Read, ...] = (*history.audit.effects, *history.audit.profiles)
    reasons = _of_postgresql(history, "profiles", len(read), _sources(read))
    return (held_unless("profiles-audited", "The profiles were audited", reasons, f"{len(read)} rows read", "all"),)


def content_audited(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, articles and jobs were read as the primary had them, on one timeline, the latest."""
    del scenario
    articles, jobs = history.audit.articles, history.audit.jobs
    read: tuple[_Read, ...] = (*articles, *jobs)
    reasons = _of_postgresql(history, "content", len(read), _sources(read))
    measured = f"{len(articles)} articles and {len(jobs)} jobs read"
    return (held_unless("content-audited", "Articles and jobs were audited", reasons, measured, "all"),)


class _Read(Protocol):
    """A line of what was read from PostgreSQL."""

    @property
    def member(self) -> str: ...

    @property
    def timeline(self) -> int: ...


def _sources(read: Iterable[_Read]) -> tuple[Source, ...]:
    """Whom these were read from, each once."""
    return tuple(dict.fromkeys((line.member, line.timeline) for line in read))


def _of_postgresql(history: History, kind: str, count: int, sources: Sequence[Source]) -> list[str]:
    """Why what was read of one kind is not whole, or not as the primary had it; ``count`` are its lines on record."""
    return [*_told(history, kind), *_undone(history, {kind: count}), *_read_from(history, kind, sources)]


def _read_from(history: History, kind: str, sources: Sequence[Source]) -> Iterator[str]:
    """Why what was read of PostgreSQL is not as the primary had it."""
    if len(sources) > 1:
        told = ", ".join(f"{member} on timeline {timeline}" for member, timeline in sources)
        yield f"rows were read in more than one place: {told}"
    ended = max((done.at for done in history.audit.done if done.kind == kind), default=None)
    primary = "" if ended is None else primary_at(history, POSTGRESQL, ended)
    if primary and any(member != primary for member, _ in sources):
        yield f"rows were read from {sources[0][0]}, and {primary} was the primary"
    latest = latest_timeline(history, ended)
    for member, timeline in sources:
        if timeline < latest:
            yield f"rows were read from {member} on timeline {timeline}, and timeline {latest} had been seen"


def queues_drained(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """After healing, every queue that was published to, or consumed from, was emptied; and what was on its way to
    consumers was read, where the server takes that for acknowledged.
    """
    ops, consumed, messages = history.ops, history.consumed, history.audit.messages
    reasons = [*_told(history, "rabbitmq"), *_undone(history, {"rabbitmq": len(messages)})]
    published = np.unique(ops.key[ops.of_kind("rabbitmq.publish")]).tolist()
    used = {ops.keys[code] for code in published} | set(consumed.queues)
    reasons += [f"{queue} was not drained" for queue in sorted(used - set(messages.queues))]
    reasons += _unread(scenario, history)
    through = f" through {', '.join(messages.members)}" if messages.members else ""
    measured = f"{len(messages.queues)} queues, {len(messages)} messages{through}"
    return (held_unless("rabbitmq-drained", "RabbitMQ's queues were drained", reasons, measured, "all"),)


def _unread(scenario: Scenario, history: History) -> Iterator[str]:
    """Consumers that something may have been on its way to as all ended, which the server has forgotten."""
    if scenario.stack.rabbitmq is None or scenario.stack.rabbitmq.acknowledgement != "automatic":
        return
    end = load_end_us(history)
    for line in history.detached:
        if line.why == "lost" and line.at >= end:
            yield f"what was on its way to consumer {line.consumer} as the load ended was not read"


def _told(history: History, store: str) -> Iterator[str]:
    """What is on record of why the audit of a store ("": of Redis), or of one kind in it, could not be completed."""
    for event in history.events_of("audit-incomplete"):
        if event.data.get("store", "") == store:
            yield str(event.data.get("reason"))


def _undone(history: History, lines: Mapping[str, int]) -> Iterator[str]:
    """What of these kinds was not read to its end after the load; ``lines`` says how many are on record of each."""
    ends = [line for line in history.audit.done if line.kind in lines]
    done = {line.kind: line.count for line in ends}
    for kind, found in lines.items():
        if kind not in done:
            yield f"the {kind} audit did not come to its end"
        elif done[kind] != found:
            yield f"the {kind} audit says {done[kind]} {_COUNTED.get(kind, 'keys')}, {found} are on record"
    end = load_end_us(history)
    for line in ends:
        if line.at < end:
            yield f"the {line.kind} audit ended {(end - line.at) / SECOND_US:.1f} s before the load had"


def _misplaced(history: History, read_on: Mapping[str, int]) -> Iterator[str]:
    """Keys that were read on another shard than the one that they were written to first.

    ``read_on`` are the shards of all keys but those of the direct client.
    """
    ops, direct = history.ops, history.audit.direct
    written_to = np.zeros(history.key_count, dtype=np.int64)
    written_to[ops.key[::-1]] = ops.group[::-1]
    found = written_to.copy()
    found[direct.key] = direct.group
    others = np.flatnonzero(_marked(history, ops.key[~ops.of_kind("direct.write")]))
    others = others[are_among(ops.keys[others], read_on)]
    found[others] = [read_on[key] for key in ops.keys[others].tolist()]
    wrong = np.flatnonzero((found != written_to)[: len(ops.keys)])
    if len(wrong):
        yield f"{len(wrong)} keys were read on another shard than they were written to, e.g. {ops.keys[wrong[0]]}"
