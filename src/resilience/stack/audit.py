"""Reads back, after healing, everything that the load has attempted to write: from each shard's primary as it is now.

What is in the store is written down as it is; what that means is judged elsewhere. An `AuditDone` line says that
everything of a kind has been read; without it nobody may conclude that a write is lost, so it is written only then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import batched
from typing import Any, Literal

import msgspec

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, DirectRead, Line, RoomRead, SessionRead
from resilience.history.writer import Writer
from resilience.spec.stack import Stack
from resilience.stack.redis_cluster import group_of_key, live_roles
from resilience.stack.redis_link import Command, RedisLink
from resilience.stack.wait import wait_until

BATCH = 500  # keys in one pipeline
TIMEOUT_S = 2.0
RETRY_S = 0.2
NO_EPOCH = -1  # of a room that is not there
NO_KEY = -2  # Redis' answer to TTL where there is no such key

Kind = Literal["direct", "session", "room"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the load (a direct key, a session, a room) and the shard that has to hold it."""

    key: str
    group: int


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How the keys of one kind are read: the commands for one, and the line that their answers make."""

    kind: Kind
    commands: Callable[[str], Sequence[Command]]
    line: Callable[[Asked, Sequence[Any]], Line]


def audit(
    platform: Platform,
    writer: Writer,
    *,
    sessions: Iterable[str],
    rooms: Iterable[str] | None,
    direct: Iterable[tuple[str, int]],
    clock: RunClock,
    deadline: float,
) -> None:
    """Reads all that was attempted, acknowledged or not, and writes a line for each key; a key named twice counts once.

    ``rooms`` is None where their logs are elsewhere (`stack.room_audit`), and none are read; ``direct`` are keys with
    the number of their shard; ``deadline`` is a value of `time.monotonic`. What cannot be
    read is tried again until then. Raises `StackError` that says which kinds are not complete and why; what was read
    of them has been written, without an `AuditDone`.
    """
    asked = asked_keys(platform.stack, sessions=sessions, rooms=rooms, direct=direct)
    primaries = Primaries(platform)
    reasons: list[str] = []
    try:
        for reading, keys in asked:
            try:
                _read_kind(primaries, writer, reading, keys, deadline)
                writer.write(AuditDone(reading.kind, len(keys), clock.now_us()))
            except StackError as error:
                reasons.append(f"{reading.kind}: {error}")
    finally:
        writer.flush()
        primaries.close()
    if reasons:
        raise StackError(f"the audit is not complete: {'; '.join(reasons)}")


def asked_keys(
    stack: Stack, *, sessions: Iterable[str], rooms: Iterable[str] | None, direct: Iterable[tuple[str, int]]
) -> tuple[tuple[Reading, list[Asked]], ...]:
    """How each kind of key is read, and the keys of that kind with their shards, each once."""
    asked = (
        (DIRECT, [Asked(key=key, group=group) for key, group in dict.fromkeys(direct)]),
        (SESSION, [_placed(stack, key, "session") for key in dict.fromkeys(sessions)]),
    )
    if rooms is None:
        return asked
    return (*asked, (ROOM, [_placed(stack, key, "room") for key in dict.fromkeys(rooms)]))


class Primaries:
    """Links to the shards' present primaries; looked up again after each error."""

    def __init__(self, platform: Platform) -> None:
        """Asks nobody before the first read."""
        self._platform = platform
        self._links: dict[int, RedisLink] = {}

    def ask(self, group: int, commands: Sequence[Command]) -> list[Any]:
        """Asks a shard's primary. Raises `StackError`; the next question looks the primary up anew.

        A member that is no longer the primary refuses by itself (``MOVED``), so an answer is the primary's.
        """
        try:
            if group not in self._links:
                self._links[group] = self._found(group)
            return self._links[group].ask(*commands)
        except StackError:
            self.close()
            raise

    def _found(self, group: int) -> RedisLink:
        for role in live_roles(self._platform):
            if role.group == group and role.role == "primary":
                return RedisLink(role.member, role.address, self._platform.secret("redis-password"), TIMEOUT_S)
        raise StackError(f"shard {group} has no primary that answers")

    def close(self) -> None:
        """Forgets all links."""
        for link in self._links.values():
            link.close()
        self._links.clear()


def _placed(stack: Stack, key: str, prefix: str) -> Asked:
    return Asked(key=key, group=group_of_key(stack, f"{prefix}:{{{key}}}"))


def _read_kind(primaries: Primaries, writer: Writer, reading: Reading, keys: Sequence[Asked], deadline: float) -> None:
    for batch in batches(keys):
        for line in _lines(primaries, reading, batch, deadline):
            writer.append(line)
        writer.flush()


def batches(keys: Sequence[Asked]) -> Iterator[tuple[Asked, ...]]:
    """Bounded batches, each of one shard, which hold all the keys."""
    for group in sorted({asked.group for asked in keys}):
        yield from batched((asked for asked in keys if asked.group == group), BATCH)


def _lines(primaries: Primaries, reading: Reading, batch: Sequence[Asked], deadline: float) -> list[Line]:
    """Reads a batch as a whole, again and again until it succeeds or the deadline has passed."""
    todo = [reading.commands(asked.key) for asked in batch]
    answers: list[Any] = []

    def failed() -> str:
        try:
            answers[:] = primaries.ask(batch[0].group, [command for commands in todo for command in commands])
        except StackError as error:
            return str(error)
        return ""

    wait_until(f"reading {len(batch)} keys of shard {batch[0].group}", failed, deadline=deadline, every_s=RETRY_S)
    each = len(todo[0])
    return [reading.line(asked, answers[at * each : (at + 1) * each]) for at, asked in enumerate(batch)]


def _direct_commands(key: str) -> Sequence[Command]:
    return (("GET", key),)


def _direct_line(asked: Asked, answers: Sequence[Any]) -> Line:
    return DirectRead(asked.key, answers[0], asked.group)


def _session_commands(session: str) -> Sequence[Command]:
    key = f"session:{{{session}}}"
    return (("HMGET", key, "state", "version"), ("TTL", key), ("LRANGE", f"session-log:{{{session}}}", 0, -1))


def _session_line(asked: Asked, answers: Sequence[Any]) -> Line:
    (state, version), ttl_s, rows = answers
    log = _rows(rows, tuple[int, str, str], asked.key)
    return SessionRead(asked.key, asked.group, ttl_s != NO_KEY, state or "", _number(version, 0, asked.key), ttl_s, log)


def _room_commands(room: str) -> Sequence[Command]:
    return (("HMGET", f"room:{{{room}}}", "epoch", "seq"), ("LRANGE", f"room-log:{{{room}}}", 0, -1))


def _room_line(asked: Asked, answers: Sequence[Any]) -> Line:
    (epoch, _), rows = answers
    log = _rows(rows, tuple[int, int, str], asked.key)
    return RoomRead(asked.key, asked.group, _number(epoch, NO_EPOCH, asked.key), log)


def _number(text: str | None, absent: int, key: str) -> int:
    try:
        return absent if text is None else int(text)
    except ValueError as error:
        raise StackError(f"{key} holds {text!r} where a number has to be") from error


def _rows[Row](rows: Sequence[str], shape: type[Row], key: str) -> tuple[Row, ...]:
    """Reads the rows of a stored log. Raises `StackError`: a row that cannot be read must not pass for a lost one."""
    try:
        return tuple(msgspec.json.decode(row, type=shape) for row in rows)
    except msgspec.DecodeError as error:
        raise StackError(f"a row of the log of {key} cannot be read: {error}") from error


DIRECT = Reading(kind="direct", commands=_direct_commands, line=_direct_line)
SESSION = Reading(kind="session", commands=_session_commands, line=_session_line)
ROOM = Reading(kind="room", commands=_room_commands, line=_room_line)
