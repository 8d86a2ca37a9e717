"""A run's directory: where each file of a run is, and what was saved there."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from resilience.check.finding import Judgement
from resilience.check.timeline import Timeline
from resilience.errors import HostError, SpecError
from resilience.history.control import CONTROL_FILE, Control
from resilience.report.document import SCHEMA, About, ServersFile, SpecFile, VerdictFile, verdict_file
from resilience.spec.scenario import Scenario

RESERVE_BYTES = 16_000_000  # audit, samples, verdict and report of a long run take 6 MB
PLACE_ADVICE = "free some space, or name another place by --reports"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom the files belong to: the person who called ``sudo``."""

    uid: int
    gid: int


class Run:
    """One run's directory, being written or read again.

    As a context manager it gives all its files to their owner at the end. The methods that save raise `HostError`
    when the disk refuses, those that load raise `SpecError` when a file is missing or broken.
    """

    def __init__(self, directory: Path, owner: Owner | None = None, *, advice: str = PLACE_ADVICE) -> None:
        """Nothing is read or written. ``advice``: what helps where the directory's disk is full."""
        self.directory = directory
        self.owner = owner
        self.advice = advice

    @property
    def spec(self) -> Path:
        """The scenario, the seed and the versions."""
        return self.directory / "spec.json"

    @property
    def servers(self) -> Path:
        """The servers' configuration as they were asked for it."""
        return self.directory / "servers.json"

    @property
    def control(self) -> Path:
        """The control that the run rests on, copied."""
        return self.directory / CONTROL_FILE

    @property
    def history(self) -> Path:
        """Phases, events and clock pairs."""
        return self.directory / "history.jsonl"

    @property
    def audit(self) -> Path:
        """What was stored after healing."""
        return self.directory / "audit.jsonl"

    @property
    def samples(self) -> Path:
        """Raw samples from Prometheus."""
        return self.directory / "samples.jsonl"

    @property
    def ledger(self) -> Path:
        """The injections: planned, applied, healed."""
        return self.directory / "ledger.jsonl"

    @property
    def load_dir(self) -> Path:
        """The load's plan, ops, statistics and logs."""
        return self.directory / "load"

    @property
    def phases(self) -> Path:
        """The board on which phases are announced."""
        return self.load_dir / "phases.jsonl"

    @property
    def chaos_dir(self) -> Path:
        """The experiment, its journal and its log."""
        return self.directory / "chaos"

    @property
    def members_dir(self) -> Path:
        """One folder of logs for each member."""
        return self.directory / "members"

    @property
    def verdict(self) -> Path:
        """The judgement; a run without it was cut short."""
        return self.directory / "verdict.json"

    @property
    def timeline(self) -> Path:
        """What the charts show."""
        return self.directory / "timeline.json"

    @property
    def junit(self) -> Path:
        """The findings for a continuous integration server."""
        return self.directory / "junit.xml"

    @property
    def reserve(self) -> Path:
        """Space that is kept for the end of the run: without it a disk that fills up would take the verdict, too."""
        return self.directory / ".reserve"

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.directory / "report.html"

    def save_spec(self, scenario: Scenario, about: About, started_utc: str) -> None:
        """Writes ``spec.json``, before anything else happens."""
        spec = SpecFile(
            schema=SCHEMA,
            scenario=scenario,
            seed=scenario.seed,
            revision=about.revision,
            versions=about.versions,
            host=about.host,
            started_utc=started_utc,
            rerun=about.rerun,
            fingerprint=about.fingerprint,
        )
        self._save_json(self.spec, spec)

    def take_reserve(self) -> None:
        """Takes `RESERVE_BYTES` of the disk."""
        try:
            with self.reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            raise HostError(f"{self.directory}: no room for a report: {error.strerror}; {self.advice}") from error

    def give_reserve(self) -> None:
        """Gives it to whatever is still to be written; a second call does nothing."""
        self.reserve.unlink(missing_ok=True)

    def save_servers(self, members: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes ``servers.json``: for each member what it answered when it was asked for its configuration."""
        self._save_json(
            self.servers, ServersFile(schema=SCHEMA, members={name: dict(members[name]) for name in members})
        )

    def save_control(self, control: Control) -> None:
        """Writes ``control.json``: the judgement of the control with the run that it comes from."""
        self._save_json(self.control, control)

    def save_judgement(self, judgement: Judgement, timeline: Timeline) -> None:
        """Writes ``timeline.json``, then ``verdict.json``: from here on the run counts as judged."""
        spec = self.load_spec()
        self._save_json(self.timeline, timeline)
        self._save_json(self.verdict, verdict_file(judgement, spec))

    def save_bytes(self, path: Path, content: bytes) -> None:
        """Writes a file whole or not at all."""
        beside = path.with_name(f".{path.name}.new")
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except OSError as error:
            with suppress(OSError):  # the error that is told is the first one
                beside.unlink()
            raise HostError(f"{path}: cannot be written: {error.strerror}") from error
        self._own(path)

    def load_spec(self) -> SpecFile:
        """Reads ``spec.json``."""
        return _loaded(self.spec, SpecFile)

    def load_servers(self) -> dict[str, dict[str, Any]]:
        """Reads ``servers.json``; empty if the stack never got that far."""
        return _loaded(self.servers, ServersFile).members if self.servers.exists() else {}

    def load_timeline(self) -> Timeline:
        """Reads ``timeline.json``."""
        return _loaded(self.timeline, Timeline)

    def load_judgement(self) -> Judgement:
        """Reads the judgement; a directory without ``verdict.json`` is an inconclusive one, cut short."""
        if not self.verdict.exists():
            return cut_short(self.load_spec().scenario.name)
        return _loaded(self.verdict, VerdictFile).judgement()

    def files(self) -> list[tuple[Path, int]]:
        """All files that were saved, as paths below the directory, with their sizes in bytes."""
        found = [path for path in _below(self.directory) if path.is_file() and not path.name.startswith(".")]
        return sorted((path.relative_to(self.directory), path.stat().st_size) for path in found)

    def hand_over(self) -> None:
        """Gives every file of the run to its owner. Links are not followed."""
        for path in [self.directory, *_below(self.directory)]:
            self._own(path)

    def _own(self, path: Path) -> None:
        if self.owner:
            os.lchown(path, self.owner.uid, self.owner.gid)

    def _save_json(self, path: Path, content: Any) -> None:
        self.save_bytes(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hand_over()


def cut_short(scenario: str) -> Judgement:
    """What a run without a verdict counts as."""
    return Judgement(
        scenario=scenario,
        verdict="inconclusive",
        headline="cut short: the run ended before it was judged",
        findings=(),
        measures={},
    )


def _loaded[Content](path: Path, kind: type[Content]) -> Content:
    try:
        if path.exists() and not path.is_file():  # a pipe would make the reader wait for ever
            raise SpecError(f"{path}: expected a regular file; is this a run's directory?")
        content = msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}; is this a run's directory?") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{path}: is not what this version writes: {error}") from error
    if getattr(content, "schema", SCHEMA) != SCHEMA:
        raise SpecError(f"{path}: schema: expected {SCHEMA}, which is what this version writes")
    return content


def _below(directory: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(directory):
        yield from (Path(parent, name) for name in (*folders, *names))
