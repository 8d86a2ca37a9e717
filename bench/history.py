"""A run directory made by rule: a history as long as one likes, of the shape that a run of `redis-failover` leaves.

The load is the default one, or as much more as it takes to have all ops in `LENGTH_S`: of ten ops in 20 ms six are
direct writes, three are session ops, one is an edit in one of 20 rooms of five; Prometheus has as many series as of a
real stack. Shard 1 takes nothing for `OUTAGE_US`, and has lost the one write that it acknowledged last, so that whoever
judges the run can be asked what was found.

Run as ``python -m bench.history REPORTS OPS``, which prints the directory: a process of its own, so that its memory is
not taken for the judge's.
"""

import hashlib
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.measure import ROOT, BenchError
from resilience.about import about
from resilience.check.selection import rows_of_selector
from resilience.history.columns import OUTCOMES
from resilience.history.control import Control, read_identity
from resilience.history.ledger import Booked
from resilience.history.read import History, read_history
from resilience.history.record import (
    AuditDone,
    ClockPair,
    Delivered,
    DirectRead,
    Event,
    Invoked,
    Joined,
    Left,
    Line,
    Outcome,
    PhaseWindow,
    Returned,
    RoomRead,
    Series,
    SessionRead,
)
from resilience.history.writer import Writer
from resilience.metrics.collect import selectors
from resilience.report.run import Run
from resilience.report.store import RunStore
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.stack import GENERATORS, OBSERVER
from tests.histories import FINGERPRINT, of_servers, sound_control, write_log

S = 1_000_000  # a second, in the unit of all instants
EVERY_US, LENGTH_S = 2_000, 2_000  # how far ops are apart; closer, where the load would be longer than that
OUTAGE_US = 8 * S
TIMEOUT_US = 2 * S
BEGIN_US = 10 * S  # of the load; before that the stack came up
WALL0_S = 1_760_000_000
LIVE_SESSIONS = 150
ROOMS, ROOM_MEMBERS = 20, 5
EPOCH = 1
INJECTION, APPLY_US = "bench-1", 20_000
SERIES_OF_EACH = 35  # of a metric that verdicts do not rest on; some 600 in all
STEPS = ("update",) * 4 + ("heartbeat",) * 2 + ("read",) * 2


def write_run(reports: Path, ops: int) -> Run:
    """Writes a run of so many ops; Prometheus' samples are made to fit to what is on record by then."""
    every_us = min(EVERY_US, LENGTH_S * S // ops)
    length_s = ops * every_us // S
    steady_s = length_s - 8 - 25 - 30
    scenario = read_scenario(ROOT, "redis-failover", (f"timeline.steady_s={steady_s}",))
    run = RunStore(reports, None).open(scenario, about(ROOT, "bench", FINGERPRINT))
    story = _Story(run, scenario, steady_s)
    story.tell(ops, every_us)
    history = read_history(run.directory)
    for client in history.ops.clients:
        (run.load_dir / f"{client}.summary.json").write_bytes(msgspec.json.encode(_summary(client, history)))
    run.ledger.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.booked()))
    run.save_servers({"redis-cluster-0": {"component": "redis", "version": "8.0.2"}})
    run.save_control(_control(run))
    for member in scenario.stack.members:
        if member.node != OBSERVER:
            write_log(run.directory, member, [])
    _write(run.samples, _samples(scenario, history, BEGIN_US + length_s * S + 10 * S))
    return run


def _summary(client: str, history: History) -> dict[str, Any]:
    """What a client says of its ops at its end."""
    ops = history.ops
    sent = ops.of_client(client)
    ended = Counter(OUTCOMES[code] for code in ops.outcome[sent & (ops.returned >= 0)].tolist())
    totals = {outcome: ended[outcome] for outcome in OUTCOMES}
    return {"client": client, "exit": 0, "unfinished": 0, "dropped": 0, "sent": int(sent.sum())} | totals


def _control(run: Run) -> Control:
    """A control of the same make, that passed an hour before."""
    own = read_identity(run.directory)
    if own is None:
        raise BenchError(f"{run.directory}: what it was made with is not on record")
    began = datetime.fromisoformat(own.started_utc) - timedelta(hours=1)
    identity = msgspec.structs.replace(own, started_utc=began.isoformat())
    return msgspec.structs.replace(sound_control(), identity=identity)


@dataclass(slots=True)
class _Session:
    """A session as the store has it."""

    id: str
    group: int
    steps: list[str]
    log: list[tuple[int, str, str]] = field(default_factory=list)
    ended: bool = False
    renewed_us: int = 0  # when its time to live began to run again

    def write(self, op: str, at: int) -> None:
        """A row more, which names the one before by its hash."""
        self.renewed_us = at
        before = hashlib.sha1(msgspec.json.encode(self.log[-1])).hexdigest()[:16] if self.log else ""  # noqa: S324  as Redis does
        self.log.append((len(self.log) + 1, op, before))


class _Story:
    """One run while it is written."""

    def __init__(self, run: Run, scenario: Scenario, steady_s: int) -> None:
        self._run = run
        self._scenario = scenario
        self._random = random.Random(1)  # noqa: S311  not for secrets
        steady = BEGIN_US + 8 * S
        self._fault = steady + steady_s * S
        self._recovery = self._fault + 25 * S
        self._end = self._recovery + 30 * S
        self._starts = {"warmup": BEGIN_US, "steady": steady, "fault": self._fault, "recovery": self._recovery}
        self._ids: dict[str, int] = defaultdict(int)
        self._writers = {name: Writer(run.load_dir / f"{name}.ops.jsonl") for name in ("locust", "direct")}
        self._stored: dict[str, tuple[str | None, int]] = {}
        self._live: list[_Session] = []
        self._sessions: list[_Session] = []
        self._rooms: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        self._last_before_fault = ""

    def tell(self, ops: int, every_us: int) -> None:
        """Writes everything but the samples."""
        with self._writers["locust"] as locust, self._writers["direct"] as direct:
            for room, receiver in _receivers():
                locust.append(Joined(receiver, room, EPOCH, 0, BEGIN_US))
            for n in range(ops):
                due = BEGIN_US + n * every_us
                self._one(n, due)
                if n % 10_000 == 0:
                    locust.flush()
                    direct.flush()
            for room, receiver in _receivers():
                locust.append(Left(receiver, room, self._end + S, "stop"))
        self._stored[self._last_before_fault] = (None, 1)
        _write(self._run.audit, self._audit())
        _write(self._run.history, self._about())

    def _one(self, n: int, due: int) -> None:
        if n % 10 == 9:
            self._edit(n, due)
        elif n % 3 == 2:
            self._session(n, due)
        else:
            self._direct(n, due)

    def _away(self, group: int, due: int) -> bool:
        return group == 1 and self._fault <= due < self._fault + OUTAGE_US

    def _op(self, client: str, kind: str, key: str, value: str, *, group: int, due: int, version: int = -1) -> int:
        """An op and its end; the instant of that, or -1 if it was not acknowledged."""
        self._ids[client] += 1
        number, late = self._ids[client], self._random.randrange(100, 900)
        phase = next(name for name, start in reversed(self._starts.items()) if due >= start)
        away = self._away(group, due)
        outcome: Outcome = "ok" if not away else "unknown" if client == "direct" else "fail"
        took = TIMEOUT_US if away else int(self._random.gammavariate(2, 3_000))
        writer = self._writers[client]
        writer.append(Invoked(number, kind, key, value, group, phase, due, due + late))
        epoch = EPOCH if kind == "collaboration.edit" and not away else -1
        error = {"ok": "", "unknown": "timeout", "fail": "http-503"}[outcome]
        writer.append(Returned(number, outcome, due + late + took, -1 if away else version, epoch, error))
        return -1 if away else due + late + took

    def _direct(self, n: int, due: int) -> None:
        group = 1 + self._ids["direct"] % 3
        key, value = f"direct:{{d{group}-2}}:{n}", f"direct-1-{n}"
        acked = self._op("direct", "direct.write", key, value, group=group, due=due) >= 0
        self._stored[key] = (value if acked else None, group)
        if acked and group == 1 and due < self._fault:
            self._last_before_fault = key

    def _session(self, n: int, due: int) -> None:
        session = self._picked()
        step = session.steps[-1]
        value = "" if step == "read" else f"locust-1-{n}"
        version = len(session.log) + (1 if value else 0)
        at = self._op("locust", f"session.{step}", session.id, value, group=session.group, due=due, version=version)
        if at < 0:
            if step == "create":  # nobody knows of it then
                session.ended = True
                self._live.remove(session)
            return
        session.steps.pop()
        if value:
            session.write(value, at)
        if step == "end":
            session.ended = True
            self._live.remove(session)

    def _picked(self) -> _Session:
        if len(self._live) < LIVE_SESSIONS:
            number = len(self._sessions)
            steps = ["end", *self._random.sample(STEPS, len(STEPS)), "create"]
            session = _Session(f"s-{number:016x}", 1 + number % 3, steps)
            self._sessions.append(session)
            self._live.append(session)
            return session
        return self._random.choice(self._live)

    def _edit(self, n: int, due: int) -> None:
        room = f"room-{self._random.randrange(ROOMS) + 1}"
        log, edit = self._rooms[room], f"e-{n}"
        acked = self._op(
            "locust", "collaboration.edit", room, edit, group=_group_of_room(room), due=due, version=len(log) + 1
        )
        if acked < 0:
            return
        log.append((EPOCH, len(log) + 1, edit))
        for member in range(ROOM_MEMBERS):
            at = acked + self._random.randrange(2_000)
            self._writers["locust"].append(Delivered(f"m-{room}-{member}", room, EPOCH, len(log), edit, at, "live"))

    def _audit(self) -> Iterator[Line]:
        at, ttl_s = self._end + 6 * S, self._scenario.stack.session_ttl_s
        for key, (value, group) in self._stored.items():
            yield DirectRead(key, value, group)
        for session in self._sessions:
            exists, version = bool(session.log), len(session.log)
            state = ("ended" if session.ended else "live") if exists else ""
            left_s = ttl_s - (at - session.renewed_us) // S if exists else -2
            yield SessionRead(session.id, session.group, exists, state, version, left_s, tuple(session.log))
        for room, log in self._rooms.items():
            yield RoomRead(room, _group_of_room(room), EPOCH, tuple(log))
        yield AuditDone("direct", len(self._stored), at)
        yield AuditDone("session", len(self._sessions), at)
        yield AuditDone("room", len(self._rooms), at)

    def booked(self) -> tuple[Booked, ...]:
        """What the ledger says of the fault."""
        applied = Booked(at_us=self._fault + APPLY_US, injection=INJECTION, state="applied", began_us=self._fault)
        return (applied, Booked(at_us=self._recovery, injection=INJECTION, state="healed", by="request"))

    def _about(self) -> Iterator[Line]:
        ends = [*list(self._starts.values())[1:], self._end]
        for (phase, start), end in zip(self._starts.items(), ends, strict=True):
            yield PhaseWindow(phase, start, end)
        for at in range(0, self._end + 10 * S, S):
            yield ClockPair(at, WALL0_S * S + at)
            yield Event("pressure", at, {"cpus": 2, "busy_ratio": 0.5, "steal_ratio": 0.0, "cpu_some_ratio": 0.3})
            for client in self._writers:
                yield Event("generator", at, {"client": client, "cpu_ratio": 0.2, "lag_ms_p99": 1.0, "inflight": 2})
        yield from _events(self._scenario, self._fault, self._recovery, self._end, self._keys())

    def _keys(self) -> dict[str, int]:
        """How many keys there are on each shard, by the replica that is compared by them."""
        groups = Counter(group for _, group in self._stored.values())
        groups += Counter(session.group for session in self._sessions)
        groups += Counter(map(_group_of_room, self._rooms))
        return {f"redis-cluster-{2 + group}": number for group, number in groups.items()}


def _group_of_room(room: str) -> int:
    return 1 + (int(room.removeprefix("room-")) - 1) % 3


def _receivers() -> Iterator[tuple[str, str]]:
    for room in range(1, ROOMS + 1):
        for member in range(ROOM_MEMBERS):
            yield f"room-{room}", f"m-room-{room}-{member}"


def _events(scenario: Scenario, fault: int, recovery: int, end: int, keys: dict[str, int]) -> Iterator[Event]:
    seen = [{"what": "redis-cluster-0", "expected": "silent", "observed": "silent", "ok": True}]
    one = {"injection": INJECTION}
    members = ["redis-cluster-0", "redis-cluster-5", "session-0"]
    slots = ((0, 5460), (5461, 10922), (10923, 16383))
    shards = [
        {"group": n + 1, "primary": f"10.0.0.{n}:6379", "replicas": [f"10.0.0.{n + 3}:6379"], "slots": [slots[n]]}
        for n in range(3)
    ]
    for n in range(6):
        first = {"member": f"redis-cluster-{n}", "group": 1 + n % 3, "role": "primary" if n < 3 else "replica"}
        yield Event("role", BEGIN_US - 2 * S, first | {"epoch": 1 + n % 3})
    clients = {name: {"exit": 0, "torn": False} for name in ("locust", "direct")}
    for member in scenario.stack.members:
        if member.component not in GENERATORS:
            yield Event("member", 0, {"member": member.name, "what": "started", "pid": 7, "code": 0})
    yield Event("stack-up", BEGIN_US - S, {"took_s": 7.0})
    yield Event("shards", BEGIN_US - S, {"shards": shards})
    yield Event("load-started", BEGIN_US, {"clients": list(clients)})
    yield Event("injecting", fault, {"injection": {"id": INJECTION}})
    applied = {"began_us": fault, "applied_us": fault + APPLY_US, "members": members, "nodes": ["node-1"]}
    yield Event("injected", fault + 50_000, one | applied)
    yield Event("effect-probed", fault + S, one | {"when": "injected", "in_effect": True, "evidence": seen})
    yield Event("failing", fault + 6 * S, {"member": "redis-cluster-0", "by": "redis-cluster-1", "flag": "fail?"})
    role = {"member": "redis-cluster-3", "group": 1, "role": "primary", "epoch": 7}
    yield Event("role", fault + OUTAGE_US - 1_000, role)
    yield Event("effect-probed", recovery - S, one | {"when": "before-heal", "in_effect": True, "evidence": seen})
    yield Event("healing", recovery - 1_000, one)
    healed = {"healed": True, "by": "request", "healed_us": recovery, "evidence": seen}
    yield Event("healed", recovery + 1_000, one | healed)
    yield Event("experiment", end, {"status": "completed", "deviated": False, "exit": 0, "failed": []})
    yield Event("load-stopped", end + 4 * S, {"clients": clients})
    yield Event("converged", end + 5 * S, {"ok": True, "took_s": 0.1, "reason": ""})
    redis = [f"redis-cluster-{n}" for n in range(6)]
    compared: dict[str, Any] = {"compared": keys, "evicted": dict.fromkeys(redis, 0)}
    yield Event("replicas", end + 6 * S, compared | {"differing": 0, "examples": [], "reasons": []})
    yield Event("ended", end + 10 * S, {})


def _samples(scenario: Scenario, history: History, end: int) -> Iterator[Series]:
    """The load's own counters by phase and the servers', as they follow from the ops; others only count."""
    times_us = np.arange(0, end, S)
    times_s = tuple((WALL0_S + times_us / S).tolist())
    yield from of_servers(history, scenario, range(0, end, S))
    members = [member.name for member in scenario.stack.members]
    for selector in selectors(scenario):
        metric = selector.partition("{")[0]
        if metric == "up":
            for member in scenario.stack.members:
                labels = {"__name__": "up", "job": member.component, "instance": f"{member.name}:80"}
                yield Series(selector, labels, times_s, (1.0,) * len(times_s))
        elif "{" in selector and metric.startswith("load_"):
            for phase in history.ops.phases:
                instants = _counted(history, selector, phase)
                values = np.searchsorted(instants, times_us, side="right").astype(float)
                yield Series(selector, {"__name__": metric, "phase": phase}, times_s, tuple(values.tolist()))
        else:
            for number in range(SERIES_OF_EACH):
                labels = {"__name__": metric, "member": members[number % len(members)], "series": f"{number}"}
                yield Series(selector, labels, times_s, tuple((times_us / S).tolist()))


def _counted(history: History, selector: str, phase: str) -> Any:
    """When each op ended that a selector counts in a phase, in order; of deliveries, those of acknowledged edits."""
    ops = history.ops
    rows = rows_of_selector(ops, selector)
    if rows is None:
        edits = ops.of_kind("collaboration.edit") & ops.in_phase(phase) & (ops.epoch >= 0)
        return np.sort(np.repeat(ops.returned[edits], ROOM_MEMBERS))
    if "_bucket" in selector:
        rows &= (ops.outcome == 0) & (ops.returned - ops.due <= S // 2)
    return np.sort(ops.returned[rows & ops.in_phase(phase)])


def _write(path: Path, lines: Iterable[Line]) -> None:
    with Writer(path) as writer:
        for n, line in enumerate(lines):
            writer.append(line)
            if n % 10_000 == 0:
                writer.flush()


def main() -> int:
    """Writes a run, prints its directory."""
    print(write_run(Path(sys.argv[1]), int(sys.argv[2])).directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
