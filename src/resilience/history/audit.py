"""Reads ``audit.jsonl``: what was stored after healing, as the servers themselves had it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from resilience.history.columns import (
    CODE,
    FLAG,
    TEXT,
    Codes,
    DirectReads,
    Known,
    Messages,
    TableRows,
    code_array,
    text_array,
)
from resilience.history.growing import Growing
from resilience.history.lines import Damage, read_batches
from resilience.history.names import NOT_FOUND, Names
from resilience.history.record import (
    ArticleRead,
    AuditDone,
    AuditLine,
    DirectRead,
    EffectRead,
    JobRead,
    ListRead,
    OutboxRead,
    ProfileRead,
    QueueRead,
    RoomRead,
    RowRead,
    SessionRead,
)

_DIRECT = {"key": CODE, "value": TEXT, "there": FLAG, "group": CODE}
_ROWS = {"key": CODE, "value": TEXT, "there": FLAG, "source": CODE}
_MESSAGES = {"queue": CODE, "value": TEXT, "redelivered": FLAG, "died_in": CODE, "died_of": CODE}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """What was stored after healing; of Redis a key that was read twice counts as it was read last."""

    direct: DirectReads
    strangers: tuple[str, ...]  # keys of ``direct`` and ``rows`` that no op has; see `History.key`
    sessions: dict[str, SessionRead]
    rooms: dict[str, RoomRead]
    rows: TableRows
    messages: Messages
    lists: dict[str, str]  # of PostgreSQL, what each holds
    list_sources: tuple[tuple[str, int], ...]  # whom they were read from, as in `TableRows`
    outbox: tuple[OutboxRead, ...]
    effects: tuple[EffectRead, ...]
    profiles: tuple[ProfileRead, ...]
    articles: tuple[ArticleRead, ...]
    jobs: tuple[JobRead, ...]
    done: tuple[AuditDone, ...]
    direct_lines: int  # how many keys' answers there are of each kind, to compare with `AuditDone.count`
    session_lines: int
    room_lines: int


def read_audit(path: Path, names: Names, damage: Damage) -> Audit:
    """The audit of a run, whose ops have keys of these names; without the file nothing was read. Raises `OSError`."""
    found = _Found(names)
    for batch in read_batches(path, AuditLine, damage):
        found.add(batch)
    return found.audit()


@dataclass(slots=True)
class _Found:
    """What was read so far, batch by batch."""

    names: Names
    strangers: Known = field(default_factory=dict)
    direct: Growing = field(default_factory=lambda: Growing(_DIRECT))
    sessions: list[SessionRead] = field(default_factory=list)
    rooms: list[RoomRead] = field(default_factory=list)
    lists: list[ListRead] = field(default_factory=list)
    outbox: list[OutboxRead] = field(default_factory=list)
    effects: list[EffectRead] = field(default_factory=list)
    profiles: list[ProfileRead] = field(default_factory=list)
    articles: list[ArticleRead] = field(default_factory=list)
    jobs: list[JobRead] = field(default_factory=list)
    done: list[AuditDone] = field(default_factory=list)
    sources: dict[tuple[str, int], int] = field(default_factory=dict)
    queues: Known = field(default_factory=dict)
    through: dict[str, None] = field(default_factory=dict)  # members, in the order in which they are named
    origins: Known = field(default_factory=dict)
    reasons: Known = field(default_factory=dict)
    rows: Growing = field(default_factory=lambda: Growing(_ROWS))
    messages: Growing = field(default_factory=lambda: Growing(_MESSAGES))

    def add(self, batch: list[Any]) -> None:
        kinds: dict[type, list[Any]] = {kind: [] for kind in get_args(AuditLine)}
        for line in batch:
            kinds[type(line)].append(line)
        self.direct.append(len(kinds[DirectRead]), **self._direct_columns(kinds[DirectRead]))
        self.sessions += kinds[SessionRead]
        self.rooms += kinds[RoomRead]
        self.lists += kinds[ListRead]
        self.outbox += kinds[OutboxRead]
        self.effects += kinds[EffectRead]
        self.profiles += kinds[ProfileRead]
        self.articles += kinds[ArticleRead]
        self.jobs += kinds[JobRead]
        self.done += kinds[AuditDone]
        self.rows.append(len(kinds[RowRead]), **self._row_columns(kinds[RowRead]))
        self._add_messages(kinds[QueueRead])

    def _keys(self, texts: list[str]) -> Codes:
        """The code of each key; those that no op has come after all that one has."""
        codes = self.names.find(texts)
        strange = np.flatnonzero(codes == NOT_FOUND)
        if len(strange):
            own = code_array([texts[index] for index in strange.tolist()], self.strangers)
            codes[strange] = own + np.int32(len(self.names.texts))
        return codes

    def _direct_columns(self, lines: list[DirectRead]) -> dict[str, Any]:
        return {
            "key": self._keys([line.key for line in lines]),
            "value": text_array([line.value or "" for line in lines]),
            "there": np.array([line.value is not None for line in lines], dtype=np.bool_),
            "group": np.array([line.group for line in lines], dtype=np.int32),
        }

    def _row_columns(self, lines: list[RowRead]) -> dict[str, Any]:
        sources = [(line.member, line.timeline) for line in lines]
        for source in dict.fromkeys(sources):
            self.sources.setdefault(source, len(self.sources))
        return {
            "key": self._keys([line.key for line in lines]),
            "value": text_array([line.value or "" for line in lines]),
            "there": np.array([line.value is not None for line in lines], dtype=np.bool_),
            "source": np.array([self.sources[source] for source in sources], dtype=np.int32),
        }

    def _add_messages(self, lines: list[QueueRead]) -> None:
        code_array([line.queue for line in lines], self.queues)  # an empty queue was read, too
        self.through.update((line.member, None) for line in lines if line.member)
        drained = [(line.queue, message) for line in lines for message in line.messages]
        self.messages.append(
            len(drained),
            queue=code_array([queue for queue, _ in drained], self.queues),
            value=text_array([message.value for _, message in drained]),
            redelivered=np.array([message.redelivered for _, message in drained], dtype=np.bool_),
            died_in=code_array([message.died_in for _, message in drained], self.origins),
            died_of=code_array([message.died_of for _, message in drained], self.reasons),
        )

    def audit(self) -> Audit:
        direct_lines = len(self.direct)
        return Audit(
            direct=DirectReads(**_last_of_each(self.direct.columns(), len(self.names.texts) + len(self.strangers))),
            strangers=tuple(self.strangers),
            sessions={line.key: line for line in self.sessions},
            rooms={line.key: line for line in self.rooms},
            rows=TableRows(**self.rows.columns(), sources=tuple(self.sources)),
            messages=Messages(
                **self.messages.columns(),
                queues=tuple(self.queues),
                members=tuple(self.through),
                origins=tuple(self.origins),
                reasons=tuple(self.reasons),
            ),
            lists={line.key: line.content for line in self.lists},
            list_sources=tuple(dict.fromkeys((line.member, line.timeline) for line in self.lists)),
            outbox=tuple(self.outbox),
            effects=tuple(self.effects),
            profiles=tuple(self.profiles),
            articles=tuple(self.articles),
            jobs=tuple(self.jobs),
            done=tuple(self.done),
            direct_lines=direct_lines,
            session_lines=len(self.sessions),
            room_lines=len(self.rooms),
        )


def _last_of_each(columns: dict[str, Any], keys: int) -> dict[str, Any]:
    """The last row of each key; ``keys`` says how many there are."""
    key, rows = columns["key"], np.arange(len(columns["key"]), dtype=np.int32)
    last = np.zeros(keys, dtype=np.int32)
    last[key] = rows
    keep = last[key] == rows
    return columns if keep.all() else {name: column[keep] for name, column in columns.items()}
