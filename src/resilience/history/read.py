"""Reads a saved run: merges the files of its directory into one `History`, in columns.

::

    history.jsonl            windows, events, clock pairs
    load/<client>.ops.jsonl  ops, dropped arrivals, joins, deliveries, leaves, consumed messages and their consumers
    load/<client>.stats.jsonl  events of the generators
    load/<client>.clock.jsonl  how their clocks stand to the runner's; what they recorded is shifted onto that
    load/<client>.summary.json  what a client said of itself at its end
    audit.jsonl              what was stored after healing (`history.audit`)
    samples.jsonl            raw samples from Prometheus
    ledger.jsonl             injections: planned, applied, healed (`history.ledger`)
    control.json             the run without a fault that this one rests on (`history.control`)
    spec.json, servers.json  of them, what the run was made with
    members/<name>/server.log  the servers' own logs: what in them tells of a crash or of damage (`history.log`)
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from resilience.history.audit import Audit, read_audit
from resilience.history.columns import (
    CODE,
    FLAG,
    INT,
    OUTCOMES,
    TEXT,
    UNFINISHED,
    Codes,
    Consumptions,
    Deliveries,
    Ints,
    Known,
    Ops,
    Texts,
    code_array,
    text_array,
)
from resilience.history.control import Control, Identity, read_control, read_identity
from resilience.history.event import flaw
from resilience.history.growing import Growing
from resilience.history.ledger import Booked
from resilience.history.lines import BROKEN, Damage, read_batches
from resilience.history.log import ServerLog, read_logs
from resilience.history.names import Naming
from resilience.history.offset import Shift, shift_of
from resilience.history.record import (
    NEVER,
    Answered,
    Attached,
    ClockPair,
    Consumed,
    Delivered,
    Detached,
    Dropped,
    Event,
    Invoked,
    Joined,
    Left,
    OpLine,
    PhaseWindow,
    QueryFailed,
    Returned,
    RunLine,
    SampleLine,
    Series,
)

_PROBLEMS_KEPT = 200
_NOTHING = 0  # the code of "" among the values that stood in registers
_CODE_OF = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_INVOKED = {
    "id": CODE, "kind": CODE, "key": CODE, "value": TEXT, "group": CODE, "phase": CODE, "due": INT,
    "called": INT,
}  # fmt: skip
_ANSWERS = {"id": CODE, "outcome": CODE, "returned": INT, "version": CODE, "epoch": CODE, "error": CODE, "stood": CODE}
_ARRIVALS = {
    "receiver": CODE, "room": CODE, "epoch": INT, "seq": INT, "edit": CODE, "at": INT,
    "live": FLAG,
}  # fmt: skip
_HANDED = {"consumer": CODE, "queue": CODE, "value": TEXT, "at": INT, "redelivered": FLAG, "acked": FLAG, "came": INT}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Everything that was recorded of one run.

    ``torn`` counts last lines that their writer did not finish, ``problems`` names lines that are broken otherwise
    (``file:line: what``). Windows and events are in the order of time.
    """

    ops: Ops
    deliveries: Deliveries
    consumed: Consumptions
    joins: tuple[Joined, ...]
    leaves: tuple[Left, ...]
    dropped: tuple[tuple[str, Dropped], ...]  # client, arrival
    windows: tuple[PhaseWindow, ...]
    events: tuple[Event, ...]
    clock: tuple[ClockPair, ...]
    audit: Audit
    series: tuple[Series, ...]
    queries_failed: tuple[QueryFailed, ...]
    summaries: dict[str, dict[str, Any]]
    torn: int
    problems: tuple[str, ...]
    identity: Identity | None = None  # what the run was made with; None: not on record
    control: Control | None = None
    ledger: tuple[Booked, ...] = ()
    attached: tuple[Attached, ...] = ()
    detached: tuple[Detached, ...] = ()
    logs: tuple[ServerLog, ...] = ()  # of those members that have one

    def events_of(self, *names: str) -> tuple[Event, ...]:
        """The events of these names, in the order of time."""
        return tuple(event for event in self.events if event.name in names)

    @property
    def key_count(self) -> int:
        """How many keys have a code."""
        return len(self.ops.keys) + len(self.audit.strangers)

    def key(self, code: int) -> str:
        """The key of this code: of an op, or after those one that only the audit tells of."""
        known = len(self.ops.keys)
        return str(self.ops.keys[code]) if code < known else self.audit.strangers[code - known]

    def window(self, phase: str) -> PhaseWindow | None:
        """The window of a phase, None if it never began or never ended; of several the first."""
        return next((window for window in self.windows if window.phase == phase and window.end >= 0), None)


def read_history(run_dir: Path) -> History:
    """Reads all of a run's files; what is missing or broken is named in the history, never raised.

    Raises `OSError` if a file exists and cannot be read.
    """
    damage = Damage()
    if not (run_dir / "history.jsonl").exists():
        damage.problems.append("history.jsonl: missing")
    run = read_run_lines(run_dir, damage)
    load = _read_load(sorted((run_dir / "load").glob("*.ops.jsonl")), damage)
    names, codes = load.keys.named()
    ops = load.ops(names.texts, codes)
    audit = read_audit(run_dir / "audit.jsonl", names, damage)
    torn = damage.torn
    samples = _read_samples(run_dir / "samples.jsonl", damage)
    if damage.torn > torn:  # written in one go when all is over; only a file that grows through the run may be torn
        damage.problems.append("samples.jsonl: torn")
    damage.problems += _flawed_series(samples)
    control = read_control(run_dir, damage.problems)
    ledger = tuple(_all_lines(run_dir / "ledger.jsonl", Booked, damage))
    clock = tuple(sorted((x for x in run if isinstance(x, ClockPair)), key=lambda line: line.at))
    return History(
        ops=ops,
        deliveries=load.deliveries(),
        consumed=load.consumed(),
        joins=tuple(sorted(load.joins, key=lambda line: line.at)),
        leaves=tuple(sorted(load.leaves, key=lambda line: line.at)),
        dropped=tuple(load.dropped),
        windows=tuple(sorted((x for x in run if isinstance(x, PhaseWindow)), key=lambda line: line.start)),
        events=tuple(sorted((x for x in run if isinstance(x, Event)), key=lambda line: line.at)),
        clock=clock,
        audit=audit,
        series=tuple(x for x in samples if isinstance(x, Series)),
        queries_failed=tuple(x for x in samples if isinstance(x, QueryFailed)),
        summaries=_read_summaries(sorted((run_dir / "load").glob("*.summary.json")), damage),
        torn=damage.torn,
        problems=tuple(damage.problems[:_PROBLEMS_KEPT]),
        identity=read_identity(run_dir),
        control=control,
        ledger=ledger,
        attached=tuple(sorted(load.attached, key=lambda line: line.at)),
        detached=tuple(sorted(load.detached, key=lambda line: line.at)),
        logs=read_logs(run_dir / "members", clock),
    )


def read_run_lines(run_dir: Path, damage: Damage) -> list[Any]:
    """Windows, clock pairs, and the events of the runner and the generators; a flawed event is damage, and left out.

    Raises `OSError`.
    """
    lines = _all_lines(run_dir / "history.jsonl", RunLine, damage)
    for kind in ("stats", "clock"):
        for path in sorted((run_dir / "load").glob(f"*.{kind}.jsonl")):
            shift = _shift_of(run_dir / "load", path.name.removesuffix(f".{kind}.jsonl"))
            lines += [_shifted(line, shift) for line in _all_lines(path, Event, damage)]
    flaws = {id(line): flaw(line) for line in lines if isinstance(line, Event)}
    damage.problems += [text for text in flaws.values() if text]
    return [line for line in lines if not flaws.get(id(line))]


def _shift_of(load_dir: Path, client: str) -> Shift | None:
    """How to shift what a client recorded; what is broken of what it says is told by whoever reads its events."""
    said = _all_lines(load_dir / f"{client}.clock.jsonl", Event, Damage())
    return shift_of(client, [event for event in said if not flaw(event)])


def _shifted(line: Any, shift: Shift | None) -> Any:
    """A line with its instant on the runner's clock."""
    return msgspec.structs.replace(line, at=shift.instant(line.at)) if shift else line


def _read_samples(path: Path, damage: Damage) -> list[Any]:
    """All series and failed queries; numbers are packed, and instants that several series share are there once."""
    packed: dict[bytes, array[float]] = {}
    return [_packed(line, packed) for batch in read_batches(path, SampleLine, damage) for line in batch]


def _packed(line: Any, packed: dict[bytes, "array[float]"]) -> Any:
    if not isinstance(line, Series):
        return line
    times_s = array("d", line.times_s)
    times_s = packed.setdefault(times_s.tobytes(), times_s)
    return msgspec.structs.replace(line, times_s=times_s, values=array("d", line.values))


def _flawed_series(samples: Iterable[Any]) -> Iterator[str]:
    """Series that say something at no instant, or whose instants do not follow one another."""
    for line in samples:
        if isinstance(line, Series) and not _is_series(line.times_s, line.values):
            yield f"samples.jsonl: a series of {line.selector} has not one value each at rising instants"


def _is_series(times_s: Sequence[float], values: Sequence[float]) -> bool:
    return len(times_s) == len(values) and all(before < after for before, after in pairwise(times_s))


def _all_lines(path: Path, kind: Any, damage: Damage) -> list[Any]:
    return [line for batch in read_batches(path, kind, damage) for line in batch]


def _read_summaries(paths: Iterable[Path], damage: Damage) -> dict[str, dict[str, Any]]:
    summaries = {}
    for path in paths:
        try:
            summaries[path.name.removesuffix(".summary.json")] = msgspec.json.decode(
                path.read_bytes(), type=dict[str, Any]
            )
        except BROKEN as error:
            damage.problems.append(f"load/{path.name}:1: {error}")
    return summaries


def _read_load(paths: Iterable[Path], damage: Damage) -> "_Load":
    load = _Load(damage)
    for path in paths:
        client, torn = path.name.removesuffix(".ops.jsonl"), damage.torn
        load.begin(client, _shift_of(path.parent, client))
        for batch in read_batches(path, OpLine, damage):
            load.add(batch)
        load.end()
        if damage.torn > torn and path.with_name(f"{client}.summary.json").exists():
            damage.problems.append(f"load/{path.name}: torn, though its writer came to its end")
    return load


@dataclass(slots=True)
class _Load:
    """The columns while they grow, file by file; a file's answers are joined to its invocations at its end."""

    damage: Damage
    client: str = ""
    shift: Shift | None = None
    joins: list[Joined] = field(default_factory=list)
    leaves: list[Left] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)
    detached: list[Detached] = field(default_factory=list)
    dropped: list[tuple[str, Dropped]] = field(default_factory=list)
    codes: dict[str, Known] = field(
        default_factory=lambda: {
            "stood": {"": _NOTHING},
            **{
                name: {}
                for name in ("client", "kind", "phase", "error", "receiver", "room", "edit", "consumer", "queue")
            },
        }
    )
    keys: Naming = field(default_factory=Naming)
    invoked: Growing = field(default_factory=lambda: Growing({**_INVOKED, **_ANSWERS, "client": CODE}))
    first: int = 0  # the row at which the ops of the file being read begin
    answers: Growing = field(default_factory=lambda: Growing(_ANSWERS))  # of the file being read
    arrivals: Growing = field(default_factory=lambda: Growing(_ARRIVALS))
    handed: Growing = field(default_factory=lambda: Growing(_HANDED))

    def begin(self, client: str, shift: Shift | None) -> None:
        self.client = client
        self.shift = shift
        self.first = len(self.invoked)
        self.answers = Growing(_ANSWERS)

    def add(self, batch: list[Any]) -> None:
        kinds: dict[type, list[Any]] = {kind: [] for kind in get_args(OpLine)}
        for line in batch:
            kinds[type(line)].append(line)
        self.invoked.append(len(kinds[Invoked]), **self._invoked_columns(kinds[Invoked]))
        self.answers.append(len(kinds[Returned]), **self._answer_columns(kinds[Returned]))
        self.answers.append(len(kinds[Answered]), **self._told_columns(kinds[Answered]))
        self.arrivals.append(len(kinds[Delivered]), **self._arrival_columns(kinds[Delivered]))
        self.handed.append(len(kinds[Consumed]), **self._handed_columns(kinds[Consumed]))
        self.joins += [_shifted(line, self.shift) for line in kinds[Joined]]
        self.leaves += [_shifted(line, self.shift) for line in kinds[Left]]
        self.attached += [_shifted(line, self.shift) for line in kinds[Attached]]
        self.detached += [_shifted(line, self.shift) for line in kinds[Detached]]
        self.dropped += [(self.client, self._due(line)) for line in kinds[Dropped]]

    def _due(self, line: Dropped) -> Dropped:
        return msgspec.structs.replace(line, due=self.shift.instant(line.due)) if self.shift else line

    def _on_runners(self, instants: list[int]) -> Ints:
        recorded = _ints(instants)
        return self.shift.instants(recorded) if self.shift else recorded

    def _invoked_columns(self, lines: list[Invoked]) -> dict[str, Any]:
        return {
            "id": _ints([line.id for line in lines]),
            "kind": code_array([line.kind for line in lines], self.codes["kind"]),
            "key": self.keys.add([line.key for line in lines]),
            "value": text_array([line.value for line in lines]),
            "group": _codes([line.group for line in lines]),
            "phase": code_array([line.phase for line in lines], self.codes["phase"]),
            "due": self._on_runners([line.due for line in lines]),
            "called": self._on_runners([line.called for line in lines]),
        }

    def _answer_columns(self, lines: list[Returned]) -> dict[str, Any]:
        return {
            "id": _ints([line.id for line in lines]),
            "outcome": _codes([_CODE_OF[line.outcome] for line in lines]),
            "returned": self._on_runners([line.returned for line in lines]),
            "version": _ints([line.version for line in lines]),
            "epoch": _ints([line.epoch for line in lines]),
            "error": code_array([line.error for line in lines], self.codes["error"]),
            "stood": _NOTHING,
        }

    def _told_columns(self, lines: list[Answered]) -> dict[str, Any]:
        return {
            "id": _ints([line.id for line in lines]),
            "outcome": _codes([_CODE_OF[line.outcome] for line in lines]),
            "returned": self._on_runners([line.returned for line in lines]),
            "version": -1,
            "epoch": -1,
            "error": code_array([line.error for line in lines], self.codes["error"]),
            "stood": code_array([line.stood for line in lines], self.codes["stood"]),
        }

    def _arrival_columns(self, lines: list[Delivered]) -> dict[str, Any]:
        return {
            "receiver": code_array([line.receiver for line in lines], self.codes["receiver"]),
            "room": code_array([line.room for line in lines], self.codes["room"]),
            "epoch": _ints([line.epoch for line in lines]),
            "seq": _ints([line.seq for line in lines]),
            "edit": code_array([line.edit for line in lines], self.codes["edit"]),
            "at": self._on_runners([line.at for line in lines]),
            "live": np.array([line.how == "live" for line in lines], dtype=np.bool_),
        }

    def _handed_columns(self, lines: list[Consumed]) -> dict[str, Any]:
        came = _ints([line.came for line in lines])
        return {
            "consumer": code_array([line.consumer for line in lines], self.codes["consumer"]),
            "queue": code_array([line.queue for line in lines], self.codes["queue"]),
            "value": text_array([line.value for line in lines]),
            "at": self._on_runners([line.at for line in lines]),
            "redelivered": np.array([line.redelivered for line in lines], dtype=np.bool_),
            "acked": np.array([line.acked for line in lines], dtype=np.bool_),
            "came": np.where(came == NEVER, came, self._on_runners(came.tolist())),
        }

    def end(self) -> None:
        """Joins the answers of the file that was read to its invocations."""
        ids, answers = self.invoked.since(self.first)["id"], self.answers.columns()
        name = f"load/{self.client}.ops.jsonl"
        order = np.argsort(ids, kind="stable")
        sorted_ids = ids[order]
        if (np.diff(sorted_ids) == 0).any():
            self.damage.problems.append(f"{name}: an op id was used twice")
        slots = np.searchsorted(sorted_ids, answers["id"])
        known = slots < len(sorted_ids)
        known[known] = sorted_ids[slots[known]] == answers["id"][known]
        if not known.all():
            self.damage.problems.append(f"{name}: {int((~known).sum())} answers to ops that were never invoked")
        if (np.diff(np.sort(answers["id"])) == 0).any():
            self.damage.problems.append(f"{name}: an op was answered twice")
        unfinished = int(code_array([UNFINISHED], self.codes["error"])[0])
        defaults = {"outcome": OUTCOMES.index("unknown"), "returned": -1, "version": -1, "epoch": -1, "stood": _NOTHING}
        for column, default in (defaults | {"error": unfinished}).items():
            self.invoked.put(self.first, column, default)
            self.invoked.put(self.first, column, answers[column][known], order[slots[known]])
        self.invoked.put(self.first, "client", code_array([self.client], self.codes["client"]))

    def ops(self, keys: Texts, codes: Codes) -> Ops:
        """All ops; ``codes`` are those of their keys' entries."""
        columns = self.invoked.columns()
        columns["key"] = codes[columns["key"]]
        return Ops(
            **columns,
            clients=tuple(self.codes["client"]),
            kinds=tuple(self.codes["kind"]),
            keys=keys,
            phases=tuple(self.codes["phase"]),
            errors=tuple(self.codes["error"]),
            standing=tuple(self.codes["stood"]),
        )

    def deliveries(self) -> Deliveries:
        return Deliveries(
            **self.arrivals.columns(),
            receivers=tuple(self.codes["receiver"]),
            rooms=tuple(self.codes["room"]),
            edits=tuple(self.codes["edit"]),
        )

    def consumed(self) -> Consumptions:
        return Consumptions(
            **self.handed.columns(),
            consumers=tuple(self.codes["consumer"]),
            queues=tuple(self.codes["queue"]),
        )


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _codes(values: list[int]) -> Codes:
    return np.array(values, dtype=np.int32)
