"""The ledger: every injection on disk before anything is touched, and whatever became of it.

One JSON object a line, each written at once and whole; several processes append (the agent writes what it ended by
itself). An injection is *open* from its line ``planned`` to its line ``healed``.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from resilience.agent.line import append
from resilience.errors import FaultError
from resilience.history.ledger import Booked
from resilience.spec.fault import Injection

_TORN = "Input data was truncated"  # the decoder's words for JSON that ends before its end


class Entry(Booked, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Instants are microseconds on the run's clock."""

    spec: Injection | None = None  # planned: the injection itself


class Ledger:
    """A ledger file; nothing is kept in memory, so that any process can go on where another was ended."""

    def __init__(self, path: Path, since_us: int = 0) -> None:
        """``path`` need not exist yet. What was planned before ``since_us`` is somebody else's and left out."""
        self.path = path
        self._since_us = since_us

    def append(self, entry: Entry) -> None:
        """Writes an entry; it is on disk when this returns. Raises `FaultError`."""
        try:
            append(self.path, msgspec.json.encode(entry))
        except OSError as error:
            raise FaultError(f"{self.path}: {error.strerror}: nothing is injected without a ledger") from error

    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first; torn lines are left out. Raises `FaultError` for any other bad line.

        A line is torn by a full disk or a dead writer, who has not been told that it was written. What is asked again
        of whoever carried it out still ends: an injection without a line ``healed`` is open.
        """
        entries = tuple(self._read()) if self.path.exists() else ()
        others = {entry.injection for entry in entries if entry.state == "planned" and entry.at_us < self._since_us}
        return tuple(entry for entry in entries if entry.injection not in others)

    def injections(self) -> tuple[Injection, ...]:
        """Every injection that was ever planned, oldest first."""
        return tuple(entry.spec for entry in self.entries() if entry.state == "planned" and entry.spec)

    def open_injections(self) -> tuple[Injection, ...]:
        """The injections that are not known to be healed, oldest first."""
        healed = {entry.injection for entry in self.entries() if entry.state == "healed"}
        return tuple(injection for injection in self.injections() if injection.id not in healed)

    def in_effect(self) -> tuple[Injection, ...]:
        """The open injections that have been applied, oldest first."""
        applied = {entry.injection for entry in self.entries() if entry.state == "applied"}
        return tuple(injection for injection in self.open_injections() if injection.id in applied)

    def last(self, injection_id: str, state: str) -> Entry | None:
        """The last entry of that state for an injection, or None."""
        found = [entry for entry in self.entries() if entry.injection == injection_id and entry.state == state]
        return found[-1] if found else None

    def _read(self) -> Iterator[Entry]:
        *lines, torn = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                yield msgspec.json.decode(line, type=Entry)
            except msgspec.MsgspecError as error:
                if _is_torn(line):
                    continue
                raise FaultError(f"{self.path}:{number}: {error}") from error
        if torn and _is_whole(torn):
            yield msgspec.json.decode(torn, type=Entry)


def _is_torn(line: bytes) -> bool:
    """Whether JSON ends in it before its end; a digit more for a number that was cut off before its last one."""
    return any(_reason(text) == _TORN for text in (line, line + b"0"))


def _reason(line: bytes) -> str:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        return str(error)
    return ""


def _is_whole(line: bytes) -> bool:
    try:
        found: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return False
    return "state" in found
