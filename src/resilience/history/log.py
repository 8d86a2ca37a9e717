"""What the servers' own logs say, as a run keeps them in ``members/<name>/server.log``: the lines with a mark.

A log is text of unknown origin and of any length: it is read in blocks, up to `LOG_BYTES` of one and `LOGS_BYTES` of
all, and of what it says the first `LINES_KEPT` lines are kept, cut off and with each character written out that does
not show itself. What was not read, and a log that cannot be, is told.

A line's instant is what its server's own clock showed, put on the run's clock by the pairs of both that the runner
wrote each second. RabbitMQ and etcd name their zone, PostgreSQL and PgBouncer too (it is UTC); Redis and the services
do not, and have none but UTC in a member. A line without an instant came after the last line before it that has one,
and before the next.
"""

import os
import re
import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from resilience.history.log_mark import Kind, Server, marks_in, may_have_marks
from resilience.history.record import ClockPair

LOG_BYTES = 64_000_000
LOGS_BYTES = 256_000_000  # all of that takes some seconds
BLOCK_BYTES = 262_144
LINE_BYTES = 16_384  # what of a line is beyond that, and beyond its block, is not looked at
LINES_KEPT = 100
TEXT_MAX = 300
NAME = "server.log"
_DATED = re.compile(
    rb"^(?:(?:\x1b\[[\d;]*m)?(?P<iso>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?P<zone>Z|[+-]\d\d:?\d\d)?"
    rb"|\d+:[A-Z] (?P<redis>\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) "
    rb'|\{"level":"\w+","ts":"(?P<json>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?P<offset>Z|[+-]\d\d:?\d\d)?")',
    re.MULTILINE,
)


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line with a mark; it was written from ``after`` to ``before`` (us), the same where it has an instant.

    None: it has no instant, nor has any line on that side.
    """

    server: Server
    kind: Kind
    says: str
    anyone: bool  # whether what is done to others may lead to it, too
    text: str
    after: int | None = None
    before: int | None = None


class ServerLog(msgspec.Struct, frozen=True, kw_only=True):
    """A member's log; ``problem``: why nothing is known of it, "" if something is."""

    member: str
    size: int = 0  # bytes
    unread: int = 0  # so many bytes at its end were not looked at
    begins: int | None = None  # the first instant in it
    ends: int | None = None  # the last one; here and below nothing of a log that was not read to its end
    torn: bool = False  # whether its last line has no end
    lines: tuple[LogLine, ...] = ()
    lines_total: int = 0
    problem: str = ""


def read_logs(members: Path, clock: Sequence[ClockPair]) -> tuple[ServerLog, ...]:
    """The logs of all members that have one, by name. Raises nothing: what cannot be read is told of."""
    found = []
    left = LOGS_BYTES
    for name in _names(members):
        log = _read(name, members / name / NAME, clock, min(left, LOG_BYTES))
        left -= log.size - log.unread
        found.append(log)
    return tuple(found)


def _names(members: Path) -> list[str]:
    try:
        return sorted(path.name for path in members.iterdir() if os.path.lexists(path / NAME))
    except OSError:
        return []


def _read(name: str, path: Path, clock: Sequence[ClockPair], most: int) -> ServerLog:
    try:
        # a link would lead elsewhere, and a pipe would make the reader wait for ever
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return ServerLog(member=name, problem="it is no regular file")
            reading = _Reading(clock)
            read = reading.all_of(file, most)
    except OSError as error:
        return ServerLog(member=name, problem=f"it cannot be read: {error.strerror}")
    return ServerLog(
        member=name,
        size=status.st_size,
        unread=max(status.st_size - read, 0),
        begins=reading.begins,
        ends=None if read < status.st_size else reading.ends,
        torn=read >= status.st_size and reading.torn,
        lines=tuple(reading.lines),
        lines_total=reading.total,
    )


@dataclass(slots=True)
class _Reading:
    """One log while it is read; the last lines kept may still wait for the next instant."""

    clock: Sequence[ClockPair]
    begins: int | None = None
    lines: list[LogLine] = field(default_factory=list)
    total: int = 0
    waiting: int = 0
    last: re.Match[bytes] | None = None  # the last line that has an instant, but for those in the block ``unseen``
    unseen: bytes = b""
    torn: bool = False

    @property
    def ends(self) -> int | None:
        """The last instant in what was read."""
        return self._instant(self._last_dated())

    def all_of(self, file: BinaryIO, most: int) -> int:
        """Reads up to so many bytes; how many it read."""
        read = 0
        whole = True  # whether the block before ended with its line
        while block := _block(file, most - read):
            read += len(block)
            lines = block if whole else block.partition(b"\n")[2]
            whole = block.endswith(b"\n")
            if self.waiting or self.begins is None or may_have_marks(lines):
                self._look_at(lines)
            elif _DATED.search(lines):
                self.unseen = lines
        self.torn = not whole
        return read

    def _look_at(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):  # and at no other character: a client may have a server write a return
            dated = _DATED.match(line)
            if dated:
                self.last, self.unseen = dated, b""
                if self.waiting or self.begins is None:
                    self._note_instant(dated)
            for mark in marks_in(line):
                at = self._instant(dated or self._last_dated())
                self._keep(
                    LogLine(
                        server=mark.server, kind=mark.kind, says=mark.says, anyone=mark.anyone, text=_shown(line),
                        after=at, before=at if dated else None,
                    ),
                    waits=not dated,
                )  # fmt: skip

    def _last_dated(self) -> re.Match[bytes] | None:
        """The last line before this one that has an instant."""
        found = (_DATED.match(line) for line in reversed(self.unseen.split(b"\n")))
        self.last = next((dated for dated in found if dated), self.last)
        self.unseen = b""
        return self.last

    def _keep(self, line: LogLine, *, waits: bool) -> None:
        self.total += 1
        if len(self.lines) < LINES_KEPT:
            self.lines.append(line)
            self.waiting = self.waiting + 1 if waits else 0

    def _note_instant(self, dated: re.Match[bytes]) -> None:
        at = self._instant(dated)
        if at is None:
            return
        if self.begins is None:
            self.begins = at
        first = len(self.lines) - self.waiting
        self.lines[first:] = [msgspec.structs.replace(line, before=at) for line in self.lines[first:]]
        self.waiting = 0

    def _instant(self, dated: re.Match[bytes] | None) -> int | None:
        wall = wall_us(dated) if dated else None
        return None if wall is None else on_the_runs_clock(wall, self.clock)


def _block(file: BinaryIO, most: int) -> bytes:
    """The next lines, up to so many bytes."""
    block = file.read(min(BLOCK_BYTES, most))
    return block + file.readline(min(LINE_BYTES, most - len(block)))


def wall_us(dated: re.Match[bytes]) -> int | None:
    """The instant that a line begins with, in us since 1970; None if there is no such instant."""
    groups = {name: text.decode() for name, text in dated.groupdict().items() if text}
    zone = groups.get("zone") or groups.get("offset") or "Z"
    try:
        if "redis" in groups:
            instant = datetime.strptime(groups["redis"], "%d %b %Y %H:%M:%S.%f").replace(tzinfo=UTC)
        else:
            instant = datetime.fromisoformat((groups.get("iso") or groups["json"]).replace(",", ".") + zone)
    except ValueError:
        return None
    return round(instant.timestamp() * 1e6)


def on_the_runs_clock(wall: int, clock: Sequence[ClockPair]) -> int | None:
    """An instant of the wall clock (us) by the nearest pair before it, or the first one; None without any."""
    if not clock:
        return None
    pair = clock[max(bisect_right(clock, wall, key=lambda pair: pair.wall) - 1, 0)]
    return pair.at + wall - pair.wall


def _shown(line: bytes) -> str:
    text = line.decode(errors="backslashreplace").strip()
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: TEXT_MAX + 1])
    return shown if len(shown) <= TEXT_MAX else f"{shown[: TEXT_MAX - 1]}…"
