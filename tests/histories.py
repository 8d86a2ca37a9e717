"""Recorded runs made by hand: a whole run as it should be, to be changed in one place by each test.

`recorded()` is a run of a small platform in which the node with shard 1's primary is lost: 2 s of warm-up, then 20 s
each of steady state, fault and recovery. Its shard takes no writes for 8 s and loses none. `Recorded.history` writes
the files of a run directory and reads them back.
"""

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from resilience.check.reconciliation import routes_of
from resilience.check.selection import rows_of_selector
from resilience.history.columns import OUTCOMES, UNFINISHED, Flags
from resilience.history.content import job_of
from resilience.history.control import Control, Identity
from resilience.history.ledger import Booked
from resilience.history.outbox import event_of, event_of_edit
from resilience.history.read import History, read_history
from resilience.history.record import (
    MISMATCH,
    NEVER,
    Answered,
    ArticleRead,
    Attached,
    AuditDone,
    ClockPair,
    Consumed,
    Delivered,
    Detached,
    DirectRead,
    Drained,
    Dropped,
    EffectRead,
    Event,
    Invoked,
    JobRead,
    Joined,
    Left,
    Line,
    ListRead,
    OutboxRead,
    PhaseWindow,
    ProfileRead,
    QueryFailed,
    QueueRead,
    Returned,
    RoomRead,
    RowRead,
    Series,
    SessionRead,
)
from resilience.history.transaction import KIND, TABLE, Step, Told, text_of, told_text
from resilience.spec.content import Content
from resilience.spec.fault import FaultSpec, PowerOff, Target
from resilience.spec.fingerprint import Fingerprint
from resilience.spec.load import Load
from resilience.spec.postgresql import AnyStandbys, Patroni, Postgresql
from resilience.spec.postgresql import Durability as PostgresqlDurability
from resilience.spec.rabbitmq import PRIORITY_QUEUE, Rabbitmq, all_queues
from resilience.spec.scenario import Experiment, Scenario, Timeline
from resilience.spec.slo import FindingSource, RatioSource, Slo
from resilience.spec.stack import (
    GENERATORS,
    OBSERVER,
    Async,
    Collaboration,
    Durability,
    Member,
    Personalization,
    Redis,
    Shard,
    Stack,
)

S = 1_000_000  # a second, in the unit of all instants
WALL0 = 1_760_000_000.0  # the run's base on the wall clock, in seconds since 1970
STEADY, FAULT, RECOVERY, END = 2 * S, 22 * S, 42 * S, 62 * S
DOWN = END + 5 * S + S // 2  # when the stack begins to be taken down
BEGAN, APPLIED = FAULT, FAULT + 10_000
RESTORED = APPLIED + 8 * S
BEHIND = 3 * S  # a consumer acknowledges a message so long after it was published
HELD = S // 5  # of which it has it in hand for so long
INJECTION = "power-off-1"
AVAILABLE = 'load_ops_total{op=~"session[.].+",outcome="ok"}'
ALL_OPS = 'load_ops_total{op=~"session[.].+"}'
FAST = 'load_op_duration_seconds_bucket{op=~"session[.].+",le="0.25"}'
ALL_TIMED = 'load_op_duration_seconds_count{op=~"session[.].+"}'
DELIVERED = 'load_deliveries_total{outcome="delivered"}'
OWED = 'load_deliveries_total{outcome="expected"}'
GROUPS = (1, 2, 3)


TIERS = ("postgresql", "rabbitmq")  # what a stack may have besides, each with a client of its name
WITH_CONTENT = (*TIERS, "content")  # where there is both, there may be the content service, too
POSTGRESQL = ("postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1")
ETCD = ("etcd-0", "etcd-1", "etcd-2")
PATRONI = Patroni(ttl_s=20, loop_wait_s=5, retry_timeout_s=5)


def stack(durability: Durability | None = None, tiers: tuple[str, ...] = ()) -> Stack:
    nodes = (1, 2, 3, 2, 3, 1)  # no shard's two on one
    redis = tuple(Member(name=f"redis-cluster-{n}", component="redis", node=f"node-{on}") for n, on in enumerate(nodes))
    others = (
        Member(name="session-0", component="session", node="node-1"),
        Member(name="collaboration-0", component="collaboration", node="node-2"),
        Member(name="edge-0", component="edge", node="outside"),
        Member(name="prometheus-0", component="prometheus", node="observer"),
        Member(name="loadgen", component="loadgen", node="observer"),
        Member(name="direct-client", component="direct-client", node="observer"),
    )
    return Stack(
        name="small",
        durability=durability or Async(),
        nodes=("node-1", "node-2", "node-3"),
        restart_delay_s=1.0,
        session_ttl_s=604_800,
        scrape_interval_s=1.0,
        redis=Redis(),
        shards=tuple(Shard(primary=f"redis-cluster-{n}", replicas=(f"redis-cluster-{3 + n}",)) for n in range(3)),
        members=redis + others + _members_of(tiers),
        postgresql=Postgresql(primary=POSTGRESQL[0], replicas=POSTGRESQL[1:], max_connections=120)
        if "postgresql" in tiers
        else None,
        rabbitmq=Rabbitmq() if "rabbitmq" in tiers else None,
        content=Content() if "content" in tiers else None,
    )


def _members_of(tiers: tuple[str, ...]) -> tuple[Member, ...]:
    """One member of each tier on each node."""
    postgresql = tuple(
        Member(name=name, component="postgresql", node=f"node-{n}") for n, name in enumerate(POSTGRESQL, 1)
    )
    rabbitmq = tuple(Member(name=f"rabbitmq-{n}", component="rabbitmq", node=f"node-{1 + n}") for n in range(3))
    content = (Member(name="content-0", component="content", node="node-1"),)
    members = {"postgresql": postgresql, "rabbitmq": rabbitmq, "content": content}
    return tuple(member for tier, own in members.items() if tier in tiers for member in own)


LOAD = Load(session_rate_ops_per_s=10, edit_rate_ops_per_s=5, rooms=2, room_members=2, direct_rate_ops_per_s=20)


def load(tiers: tuple[str, ...]) -> Load:
    """What a stack with these tiers gets."""
    # rows each way, messages to each of three queues, ops on articles
    rates = {"postgresql": 10.0, "rabbitmq": 6.5, "content": 10.0}
    asked = {f"{tier}_rate_ops_per_s": rates[tier] for tier in tiers}
    registers = {"postgresql_register_rate_ops_per_s": 8.0} if "postgresql" in tiers else {}
    return msgspec.structs.replace(LOAD, **asked, **registers)


def availability_slo(phase: Any, target: float) -> Slo:
    source = RatioSource(good=AVAILABLE, total=ALL_OPS)
    return Slo(
        name=f"session-availability-{phase}", title="Session requests answered", service="session", phases=(phase,),
        source=source, op="gte", target=target, events_min=100,
    )  # fmt: skip


def delivery_slo(phase: Any, target: float) -> Slo:
    source = RatioSource(good=DELIVERED, total=OWED)
    return Slo(
        name=f"delivery-{phase}", title="Edits delivered to every member of the room", service="collaboration",
        phases=(phase,), source=source, op="gte", target=target, events_min=100,
    )  # fmt: skip


def latency_slo(phase: Any, target: float) -> Slo:
    source = RatioSource(good=FAST, total=ALL_TIMED, latency_threshold_s=0.25)
    return Slo(
        name=f"session-latency-{phase}", title="Session requests within 250 ms", service="session", phases=(phase,),
        source=source, op="gte", target=target, events_min=100,
    )  # fmt: skip


def measured_slo(name: str, measure: str, limit: float, unit: Any = "s") -> Slo:
    return Slo(
        name=name, title=name, service="redis", phases=("fault",), source=FindingSource(measure=measure, unit=unit),
        op="lte", target=limit,
    )  # fmt: skip


SLOS = (
    availability_slo("steady", 0.99),
    latency_slo("steady", 0.99),
    availability_slo("fault", 0.8),
    availability_slo("recovery", 0.99),
    measured_slo("recovery-time", "recovery.first_good_write_s", 12.5),
    measured_slo("durability", "durability.lost_outside_window_ops", 0, "ops"),
)


def scenario(
    *,
    fault: FaultSpec | None = None,
    durability: Durability | None = None,
    slos: tuple[Slo, ...] = SLOS,
    checks: tuple[str, ...] = (),
    tiers: tuple[str, ...] = (),
) -> Scenario:
    experiment = Experiment(
        file="experiments/redis/redis-failover.yaml",
        title="lose a node",
        fault=fault or PowerOff(),
        target=Target(component="redis", role="primary", shard=1, scope="node"),
        document={},
    )
    return Scenario(
        name="redis-failover",
        title="The node that holds a shard's primary is lost",
        description="",
        stack=stack(durability, tiers),
        load=load(tiers),
        timeline=Timeline(warmup_s=2, steady_s=20, fault_s=20, recovery_s=20),
        experiment=experiment,
        slos=slos,
        checks=checks,
        seed=42,
    )


def under(durability: PostgresqlDurability, synchronous_commit: str = "on") -> Scenario:
    """The scenario with PostgreSQL, whose commits wait for standbys so."""
    about = scenario(tiers=("postgresql",))
    tier = Postgresql(
        primary=POSTGRESQL[0], replicas=POSTGRESQL[1:], durability=durability,
        synchronous_commit=synchronous_commit,  # type: ignore[arg-type]  # each test names one of them
    )  # fmt: skip
    return msgspec.structs.replace(about, stack=msgspec.structs.replace(about.stack, postgresql=tier))


def synchronous(about: Scenario) -> Scenario:
    """A scenario with PostgreSQL, where a commit waits for a standby."""
    assert about.stack.postgresql is not None
    tier = msgspec.structs.replace(about.stack.postgresql, durability=AnyStandbys())
    return msgspec.structs.replace(about, stack=msgspec.structs.replace(about.stack, postgresql=tier))


def with_rooms_in_postgresql(about: Scenario, fanout: Literal["redis", "rabbitmq"] = "redis") -> Scenario:
    """A scenario with PostgreSQL, where the logs of rooms are there; `moved_to_postgresql` goes with it."""
    collaboration = Collaboration(log="postgresql", fanout=fanout)
    return msgspec.structs.replace(about, stack=msgspec.structs.replace(about.stack, collaboration=collaboration))


def moved_to_postgresql(run: "Recorded", member: str = POSTGRESQL[0], timeline: int = 1) -> None:
    """The logs of rooms were read from there."""
    for key, room in run.rooms.items():
        run.rooms[key] = msgspec.structs.replace(room, group=0, member=member, timeline=timeline)


def published_by_rabbitmq(run: "Recorded") -> None:
    """Each row of the logs has its event, which the consumer of its queue gets 50 ms after the edit was due."""
    due = {(op.key, op.value): op.due for op in run.of("collaboration.edit")}
    for room in run.rooms.values():
        for epoch, seq, edit in room.log:
            message = f'{event_of_edit(room.key, epoch, seq)} [{epoch},{seq},0,"{edit}"]'
            at = due[room.key, edit] + S // 20
            run.consumed.append(Consumed("consumer-collaboration-sync", "collaboration-sync", message, at, False, True))


def taken_over(run: "Recorded", at: int) -> None:
    """PostgreSQL's primary was among those that the fault was done to, and another took over at that instant."""
    run.change("injected", members=[*run.event("injected").data["members"], POSTGRESQL[0]])
    run.events.append(Event("role", at, {"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2}))


def failed_over(run: "Recorded") -> None:
    """See `taken_over`, a second after the fault: rows, the outbox, articles and jobs were read from that one."""
    taken_over(run, APPLIED + S)
    there: dict[str, Any] = {"member": POSTGRESQL[1], "timeline": 2}
    run.rows = [msgspec.structs.replace(row, **there) for row in run.rows]
    run.outbox = [msgspec.structs.replace(row, **there) for row in run.outbox]
    run.jobs = [msgspec.structs.replace(row, **there) for row in run.jobs]
    run.articles = {name: msgspec.structs.replace(read, **there) for name, read in run.articles.items()}


def by_patroni(about: Scenario) -> Scenario:
    """A scenario with PostgreSQL, where its failover is Patroni's, by `PATRONI`; `patroni_events` go with it."""
    stack = about.stack
    etcd = tuple(Member(name=name, component="etcd", node=f"node-{n}") for n, name in enumerate(ETCD, 1))
    tier = msgspec.structs.replace(stack.postgresql, failover=PATRONI) if stack.postgresql else None
    stack = msgspec.structs.replace(stack, members=stack.members + etcd, postgresql=tier)
    return msgspec.structs.replace(about, stack=stack)


def patroni_events() -> tuple[Event, ...]:
    """That etcd's members were started, and what the members' Patronis said at start that they go by."""
    started = (Event("member", -3 * S, {"member": name, "what": "started", "pid": 7, "code": 0}) for name in ETCD)
    return (*started, Event("patroni", 0, {"config": PATRONI.told, "members": list(POSTGRESQL)}))


FINGERPRINT = Fingerprint(
    stack="a1", load="b2", judged_by="c3", harness="d4", servers="image e5, packages f6", machine="a7", boot="b8"
)
IDENTITY = Identity(
    fingerprint=FINGERPRINT,
    started_utc="2025-10-09T08:53:20+00:00",  # WALL0
    versions={"prometheus": ("2.53.3",), "redis": ("8.0.2",)},
)


def sound_control(started_utc: str = "2025-10-09T07:50:20+00:00") -> Control:
    """A control that passed, an hour and three minutes before the run beside it."""
    return Control(
        schema=1,
        run="baseline/20251009T075020Z-1",
        identity=msgspec.structs.replace(IDENTITY, started_utc=started_utc),
        verdict="pass",
        headline="pass: no acknowledged write lost; 42 findings of checks and objectives, all within bounds",
        findings=({"check": "durability.direct", "verdict": "pass", "title": "every acknowledged write is there"},),
        measures={},
    )


def baseline(slos: tuple[Slo, ...] = SLOS[:2], checks: tuple[str, ...] = ()) -> Scenario:
    """The same without a fault: steady state is all there is."""
    return msgspec.structs.replace(
        scenario(slos=slos, checks=checks),
        name="baseline",
        title="Nothing is broken",
        experiment=None,
        timeline=Timeline(warmup_s=2, steady_s=60, fault_s=0, recovery_s=0),
    )


@dataclass(slots=True)
class Op:
    """One op, to be changed before it is written; ``returned`` None: it never ended."""

    client: str
    id: int
    kind: str
    key: str
    value: str
    group: int
    phase: str
    due: int
    called: int
    outcome: str = "ok"
    returned: int | None = None
    version: int = -1
    epoch: int = -1
    error: str = ""
    stood: str | None = None  # of an op on a register

    def end(self, outcome: str, after_us: int, error: str = "") -> None:
        self.outcome, self.returned, self.error = outcome, self.due + after_us, error

    def lines(self) -> Iterator[Line]:
        yield Invoked(self.id, self.kind, self.key, self.value, self.group, self.phase, self.due, self.called)
        outcome: Any = self.outcome
        if self.returned is not None and self.stood is not None:
            yield Answered(self.id, outcome, self.returned, self.stood, self.error)
        elif self.returned is not None:
            yield Returned(self.id, outcome, self.returned, self.version, self.epoch, self.error)


@dataclass(slots=True)
class Recorded:
    """All lines of a run, before they are written; the samples follow from the ops unless `series` is set."""

    ops: list[Op] = field(default_factory=list)
    joins: list[Joined] = field(default_factory=list)
    deliveries: list[Delivered] = field(default_factory=list)
    leaves: list[Left] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    windows: list[PhaseWindow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    clock: list[ClockPair] = field(default_factory=list)
    direct: dict[str, DirectRead] = field(default_factory=dict)
    sessions: dict[str, SessionRead] = field(default_factory=dict)
    rooms: dict[str, RoomRead] = field(default_factory=dict)
    rows: list[RowRead] = field(default_factory=list)
    lists: list[ListRead] = field(default_factory=list)
    outbox: list[OutboxRead] = field(default_factory=list)
    effects: list[EffectRead] = field(default_factory=list)
    profiles: list[ProfileRead] = field(default_factory=list)
    articles: dict[str, ArticleRead] = field(default_factory=dict)
    jobs: list[JobRead] = field(default_factory=list)
    consumed: list[Consumed] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)
    detached: list[Detached] = field(default_factory=list)
    queues: list[QueueRead] = field(default_factory=list)
    audited: list[str] = field(default_factory=lambda: ["direct", "session", "room"])
    audited_at: dict[str, int] = field(default_factory=dict)  # where it is not 5 s after the end
    series: list[Series] | None = None
    queries_failed: list[QueryFailed] = field(default_factory=list)
    summaries: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {"client": name, "exit": 0} for name in ("locust", "direct")}
    )
    rough: dict[str, bytes] = field(default_factory=dict)  # file: bytes that are appended as they are
    identity: Identity | None = IDENTITY
    control: Control | None = field(default_factory=sound_control)
    ledger: list[Booked] | None = None  # None: as the events have it
    logs: dict[str, list[str]] = field(default_factory=dict)  # what servers say beside that they have started
    unlogged: set[str] = field(default_factory=set)  # whose log is missing
    later: "Callable[[Recorded, Path], None] | None" = None  # a change that needs what would have been written

    def of(self, kind: str, group: int | None = None, phase: str | None = None) -> list[Op]:
        """The ops of a kind, a shard and a phase, in the order of time."""
        return [op for op in self.ops if op.kind == kind and group in {None, op.group} and phase in {None, op.phase}]

    def good(self, kind: str, group: int | None = None, phase: str | None = None) -> list[Op]:
        """Those of them that were acknowledged."""
        return [op for op in self.of(kind, group, phase) if op.outcome == "ok"]

    def event(self, name: str) -> Event:
        """The first event of a name."""
        return next(event for event in self.events if event.name == name)

    def change(self, name: str, index: int = 0, **data: Any) -> None:
        """Changes the data of the event of that name and index."""
        at = [place for place, event in enumerate(self.events) if event.name == name][index]
        event = self.events[at]
        self.events[at] = Event(event.name, event.at, event.data | data)

    def drop(self, name: str, index: int | None = None) -> None:
        """Takes events of a name away, all or the one of that index."""
        named = [event for event in self.events if event.name == name]
        gone = named if index is None else [named[index]]
        self.events = [event for event in self.events if not any(event is one for one in gone)]

    def lose(self, op: Op) -> None:
        """The op's write is not in the store."""
        match op.kind.partition(".")[0]:
            case "direct":
                self.direct[op.key] = DirectRead(op.key, None, op.group)
            case "session":
                self.rewrite(op.key, lambda rows: [row for row in rows if row != op.value])
            case "postgresql":
                self.rows = [
                    RowRead(row.key, None if row.key == op.key else row.value, row.member, row.timeline)
                    for row in self.rows
                ]
            case "rabbitmq":
                self.consumed = [line for line in self.consumed if line.value != op.value]
            case _:
                room = self.rooms[op.key]
                log = tuple(row for row in room.log if row[2] != op.value)
                self.rooms[op.key] = msgspec.structs.replace(room, log=log)
                self.deliveries = [line for line in self.deliveries if line.edit != op.value]

    def rewrite(self, session: str, change: Callable[[list[str]], list[str]]) -> None:
        """The session as the store would have it if these op ids had been its writes."""
        read = self.sessions[session]
        ops = change([op for _, op, _ in read.log])
        log = chained(ops)
        ended = any(op.value in ops for op in self.of("session.end") if op.key == session)
        state = "ended" if ended else "live"
        exists = bool(ops)
        renewed = next((op.due for op in self.ops if ops and op.value == ops[-1]), END)
        ttl_s = 604_800 - (END + 5 * S - renewed) // S
        self.sessions[session] = SessionRead(
            session, read.group, exists, state if exists else "", len(log), ttl_s if exists else -2, log
        )

    def say(self, member: str, *lines: str) -> None:
        """Has a server's log go on with these lines; `stamped` makes one with an instant."""
        self.logs.setdefault(member, []).extend(lines)

    def save(self, directory: Path, about: Scenario) -> None:
        """Writes the files of a run directory."""
        self._save_all_but_samples(directory)
        self._save_logs(directory, about)
        series = samples(read_history(directory), about) if self.series is None else self.series
        _write(directory / "samples.jsonl", [*series, *self.queries_failed])

    def _save_all_but_samples(self, directory: Path) -> None:
        (directory / "load").mkdir(parents=True, exist_ok=True)
        _write(directory / "history.jsonl", [*self.windows, *self.events, *self.clock])
        for client in dict.fromkeys(("locust", "direct", *(op.client for op in self.ops))):
            lines = [line for op in self.ops if op.client == client for line in op.lines()]
            if client == "locust":
                lines += [*self.joins, *self.deliveries, *self.leaves, *self.dropped]
            if client == "rabbitmq":
                lines += [*self.consumed, *self.attached, *self.detached]
            _write(directory / "load" / f"{client}.ops.jsonl", lines)
        for client, summary in self.summaries.items():
            counts = self._counts(client)
            (directory / "load" / f"{client}.summary.json").write_bytes(msgspec.json.encode(counts | summary))
        _write(directory / "audit.jsonl", self._audit())
        self._save_control(directory)
        _write(directory / "ledger.jsonl", self.booked() if self.ledger is None else self.ledger)
        for name, extra in self.rough.items():
            with (directory / name).open("ab") as file:
                file.write(extra)

    def _save_logs(self, directory: Path, about: Scenario) -> None:
        for member in about.stack.members:
            if member.node != OBSERVER and member.name not in self.unlogged:
                write_log(directory, member, self.logs.get(member.name, []))

    def _save_control(self, directory: Path) -> None:
        if self.identity:
            spec = {"fingerprint": self.identity.fingerprint, "started_utc": self.identity.started_utc}
            members = {
                f"{component}-{n}": {"component": component, "version": version}
                for component, versions in self.identity.versions.items()
                for n, version in enumerate(versions)
            }
            (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
            (directory / "servers.json").write_bytes(msgspec.json.encode({"schema": 1, "members": members}))
        if self.control:
            (directory / "control.json").write_bytes(msgspec.json.encode(self.control))

    def booked(self) -> list[Booked]:
        """The ledger as the events have it."""
        lines = []
        for event in self.events:
            data, at = event.data, event.at
            match event.name:
                case "injecting":
                    lines.append(Booked(at_us=at, injection=data["injection"]["id"], state="planned"))
                case "injected":
                    applied, began = data["applied_us"], data["began_us"]
                    lines.append(Booked(at_us=applied, injection=data["injection"], state="applied", began_us=began))
                case "healed":
                    at = data["healed_us"]
                    began = data.get("began_us", NEVER)
                    end = Booked(at_us=at, injection=data["injection"], state="healed", by=data["by"], began_us=began)
                    lines.append(end)
        return lines

    def _counts(self, client: str) -> dict[str, int]:
        """What a client says of its ops at its end."""
        ended = [op for op in self.ops if op.client == client and op.returned is not None]
        return {
            "sent": sum(op.client == client for op in self.ops),
            **{outcome: sum(op.outcome == outcome for op in ended) for outcome in OUTCOMES},
            "unfinished": sum(op.error == UNFINISHED for op in ended),
            "dropped": len(self.dropped) if client == "locust" else 0,
        }

    def _audit(self) -> list[Line]:
        counts = {
            "direct": len(self.direct), "session": len(self.sessions), "room": len(self.rooms),
            "postgresql": len(self.rows), "lists": len(self.lists), "outbox": len(self.outbox),
            "profiles": len(self.effects) + len(self.profiles), "content": len(self.articles) + len(self.jobs),
            "rabbitmq": sum(len(line.messages) for line in self.queues),
        }  # fmt: skip
        kinds: Any = self.audited
        done = [AuditDone(kind, counts[kind], self.audited_at.get(kind, END + 5 * S)) for kind in kinds]
        reads: tuple[Line, ...] = (*self.direct.values(), *self.sessions.values(), *self.rooms.values())
        jobs: tuple[Line, ...] = (*self.articles.values(), *self.jobs)
        return [
            *reads,
            *self.rows,
            *self.lists,
            *self.outbox,
            *jobs,
            *self.effects,
            *self.profiles,
            *self.queues,
            *done,
        ]

    def history(self, directory: Path, about: Scenario) -> History:
        """The run, saved and read again; samples that follow from it are right, and go the shorter way."""
        if self.series is not None:
            self.save(directory, about)
            return read_history(directory)
        self._save_all_but_samples(directory)
        self._save_logs(directory, about)
        read = read_history(directory)
        return replace(read, series=tuple(samples(read, about)), queries_failed=tuple(self.queries_failed))


STARTED = {
    "redis": "* Ready to accept connections tcp",
    "postgresql": "[23] LOG:  database system is ready to accept connections",
    "rabbitmq": "[info] <0.216.0> Server startup complete; 4 plugins started.",
    "pgbouncer": "[23] LOG process up: PgBouncer 1.24.1",
}


def stamped(component: str, at: int, text: str) -> str:
    """A line of a server's log at an instant on the run's clock, in the form of such a server's."""
    wall = datetime.fromtimestamp(WALL0 + at / S, UTC)
    ms = f"{wall:%f}"[:3]
    match component:
        case "redis":
            return f"23:M {wall:%d %b %Y %H:%M:%S}.{ms} {text}"
        case "postgresql" | "pgbouncer":
            return f"{wall:%Y-%m-%d %H:%M:%S}.{ms} UTC {text}"
        case "rabbitmq":
            return f"{wall:%Y-%m-%d %H:%M:%S.%f}+00:00 {text}"
        case "etcd":
            return f'{{"level":"{text.split(maxsplit=1)[0]}","ts":"{wall:%Y-%m-%dT%H:%M:%S.%f}Z","msg":"{text}"}}'
        case _:
            return f"{wall:%Y-%m-%d %H:%M:%S},{ms} {text}"


def chained(ops: list[str]) -> tuple[tuple[int, str, str], ...]:
    """A session's log of these op ids."""
    rows: list[tuple[int, str, str]] = []
    for version, op in enumerate(ops, start=1):
        text = f'[{rows[-1][0]},"{rows[-1][1]}","{rows[-1][2]}"]' if rows else None
        before = hashlib.sha1(text.encode()).hexdigest()[:16] if text else ""
        rows.append((version, op, before))
    return tuple(rows[-64:])


def recorded(
    *, fault: bool = True, outage_us: int = RESTORED - APPLIED, load: Load = LOAD, tiers: tuple[str, ...] = ()
) -> Recorded:
    """A run as it should be, with the loss of a node or without; each caller's own, to be changed."""
    copied: Recorded = pickle.loads(_pickled(fault, outage_us, load, tiers))
    return copied


def by_two(about: Scenario) -> Scenario:
    """The scenario with two processes for session ops and edits."""
    load = msgspec.structs.replace(about.load, workers=2)
    return msgspec.structs.replace(about, load=load, stack=about.stack.with_workers(2))


def recorded_by_two(run: Recorded | None = None) -> Recorded:
    """A run whose session ops and edits came from two processes: every other session, and a room each."""
    run = run or recorded()
    for op in run.ops:
        second = op.key == "room-2" or (op.kind.startswith("session.") and int(op.key.removeprefix("s-"), 16) % 2)
        op.client = "locust-1" if second else op.client
    run.summaries["locust-1"] = {"client": "locust-1", "exit": 0}
    clients = ["locust", "locust-1", *run.event("load-started").data["clients"][1:]]
    run.change("load-started", clients=clients)
    run.change("load-stopped", clients={name: {"exit": 0, "torn": False} for name in clients})
    run.events += [
        Event("generator", event.at, event.data | {"client": "locust-1"})
        for event in run.events
        if event.name == "generator" and event.data["client"] == "locust"
    ]
    return run


@cache
def _pickled(fault: bool, outage_us: int, load: Load, tiers: tuple[str, ...]) -> bytes:
    """The run, made once for the many tests that each begin with it."""
    return pickle.dumps(_made(fault, outage_us, load, tiers))


def _made(fault: bool, outage_us: int, load: Load, tiers: tuple[str, ...]) -> Recorded:
    run = Recorded()
    phases = {"warmup": (0, STEADY), "steady": (STEADY, FAULT), "fault": (FAULT, RECOVERY), "recovery": (RECOVERY, END)}
    if not fault:
        phases = {"warmup": (0, STEADY), "steady": (STEADY, END)}
        run.control = None
    run.windows = [PhaseWindow(name, start, end) for name, (start, end) in phases.items()]
    run.clock = [ClockPair(at, int(WALL0 * S) + at) for at in range(0, END + 6 * S, S)]
    clients = ("locust", "direct", *(tier for tier in tiers if tier in TIERS))
    run.events = [
        *_stack_events(clients, tiers),
        *(_fault_events(outage_us) if fault else ()),
        *_events_of_each_second(clients),
    ]

    def phase_at(due: int) -> str:
        return next(name for name, (start, end) in phases.items() if start <= due < end)

    def away(group: int, due: int) -> bool:
        return fault and group == 1 and APPLIED <= due < APPLIED + outage_us

    _add_direct(run, phase_at, away, round(S / load.direct_rate_ops_per_s))
    _add_sessions(run, phase_at, away, round(S / load.session_rate_ops_per_s))
    _add_edits(run, phase_at, round(S / load.edit_rate_ops_per_s))
    keys = {group: len({op.key for op in run.ops if op.group == group}) for group in GROUPS}
    run.change("replicas", compared=dict(zip(REPLICAS, keys.values(), strict=True)))
    if "postgresql" in tiers:
        _add_rows(run, phase_at)
        _add_registers(run, phase_at)
    if "rabbitmq" in tiers:
        _add_messages(run, phase_at, stack(tiers=tiers).load_queues)
    if set(TIERS) <= set(tiers):
        _add_events(run)
    if "content" in tiers:
        _add_content(run, phase_at)
    return run


REPLICAS = ("redis-cluster-3", "redis-cluster-4", "redis-cluster-5")


def _stack_events(names: tuple[str, ...], tiers: tuple[str, ...]) -> list[Event]:
    slots = ((0, 5460), (5461, 10922), (10923, 16383))
    shards = [
        {"group": n + 1, "primary": f"10.0.0.{n}:6379", "replicas": [f"10.0.0.{n + 3}:6379"], "slots": [slots[n]]}
        for n in range(3)
    ]
    clients = {name: {"exit": 0, "torn": False} for name in names}
    servers = [member.name for member in stack(tiers=tiers).members if member.component not in GENERATORS]
    return [
        *(Event("member", -3 * S, {"member": name, "what": "started", "pid": 7, "code": 0}) for name in servers),
        *_roles_at_start(tiers),
        Event("stack-up", 0, {"took_s": 3.0}),
        Event("shards", 0, {"shards": shards}),
        Event("load-started", 0, {"clients": list(clients)}),
        Event("load-stopped", END + 2 * S, {"clients": clients}),
        Event(
            "replicas",
            END + 4 * S,
            {
                "compared": {},  # known when all ops are
                "differing": 0,
                "examples": [],
                "evicted": dict.fromkeys([*REPLICAS, "redis-cluster-0", "redis-cluster-1", "redis-cluster-2"], 0),
                "reasons": [],
            },
        ),
        Event("converged", END + 3 * S, {"ok": True, "took_s": 0.5, "reason": ""}),
        *([Event("queues", END + 3 * S + 1, queues_seen())] if "rabbitmq" in tiers else []),
        Event("taking-down", DOWN, {}),
        Event("ended", END + 6 * S, {}),
    ]


def queues_seen() -> dict[str, Any]:
    """What three members say of whole queues that are at rest."""
    members = [f"rabbitmq-{n}" for n in range(3)]
    names = all_queues(Rabbitmq())
    queues = [
        {"queue": queue, "leader": members[1 + n % 2], "copies": members, "online": members}
        for n, queue in enumerate(names)
    ]
    said = {"error": "", "told": True, "partitioned": [], "alarms": [], "queues": queues}
    return {
        "members": {name: said | {"queues": list(queues)} for name in members},
        "unacknowledged": dict.fromkeys(names, 0),
        "consumers": {},
        "whole_us": END + 2 * S + S // 2,
    }


def _roles_at_start(tiers: tuple[str, ...]) -> Iterator[Event]:
    for n in range(6):
        role = {"member": f"redis-cluster-{n}", "group": 1 + n % 3, "role": "primary" if n < 3 else "replica"}
        yield Event("role", -S, role | {"epoch": 1 + n % 3})
    for n, queue in enumerate(all_queues(Rabbitmq()) if "rabbitmq" in tiers else ()):
        members = [f"rabbitmq-{m}" for m in range(3)]
        led = {"queue": queue, "leader": members[n % 3], "copies": members, "online": members}
        yield Event("queue-role", -S, led)
    for name in POSTGRESQL if "postgresql" in tiers else ():
        yield Event("role", -S, {"member": name, "group": 0, "role": "replica" if "replica" in name else "primary"})


def _events_of_each_second(clients: tuple[str, ...]) -> Iterator[Event]:
    for at in range(S, END, S):
        yield Event("pressure", at, {"cpus": 2, "busy_ratio": 0.97, "cpu_some_ratio": 0.5, "steal_ratio": 0.0})
        for client in clients:
            cpu_ratio = {"locust": 0.25, "direct": 0.15}.get(client, 0.02)
            yield Event("generator", at, {"client": client, "cpu_ratio": cpu_ratio, "lag_ms_p99": 1.0, "inflight": 2})


def _fault_events(outage_us: int) -> list[Event]:
    seen = [{"what": "ping redis-cluster-0", "expected": "no answer", "observed": "no answer", "ok": True}]
    members = ["redis-cluster-0", "redis-cluster-3", "session-0"]
    one = {"injection": INJECTION}
    return [
        Event("injecting", BEGAN, {"injection": {"id": INJECTION}}),
        Event("injected", APPLIED + 1000,
              one | {"began_us": BEGAN, "applied_us": APPLIED, "members": members[::2], "nodes": ["node-1"]}),
        Event("effect-probed", APPLIED + S, one | {"when": "injected", "in_effect": True, "evidence": seen}),
        Event("failing", APPLIED + 5 * S, {"member": "redis-cluster-0", "by": "redis-cluster-1", "flag": "fail?"}),
        Event("role", APPLIED + max(outage_us - S, 0),
              {"member": "redis-cluster-3", "group": 1, "role": "primary", "epoch": 7}),
        Event("effect-probed", RECOVERY - S, one | {"when": "before-heal", "in_effect": True, "evidence": seen}),
        Event("healing", RECOVERY - 1000, one),
        Event("healed", RECOVERY + 1000,
              one | {"healed": True, "by": "request", "healed_us": RECOVERY, "evidence": seen}),
        Event("experiment", END, {"status": "completed", "deviated": False, "exit": 0, "failed": []}),
    ]  # fmt: skip


PhaseAt = Callable[[int], str]
Away = Callable[[int, int], bool]


def _add_direct(run: Recorded, phase_at: PhaseAt, away: Away, every_us: int) -> None:
    number = 0
    for due in range(0, END, every_us):
        for group in GROUPS:
            number += 1
            key, value = f"direct:{{t{group}}}:{number}", f"direct-42-{number}"
            op = Op("direct", number, "direct.write", key, value, group, phase_at(due), due, due + 200)
            op.end("ok", 1_500)
            if away(group, due):
                op.end("unknown", 2 * S, "timeout")
            run.ops.append(op)
            run.direct[key] = DirectRead(key, None if op.outcome != "ok" else value, group)


_STEPS = ("create", "update", "read", "heartbeat", "end")


def _add_sessions(run: Recorded, phase_at: PhaseAt, away: Away, every_us: int) -> None:
    logs: dict[str, list[str]] = {}
    for number, due in enumerate(range(0, END, every_us), start=1):
        session, step = f"s-{(number - 1) // 5:04x}", _STEPS[(number - 1) % 5]
        if due + every_us >= END and step == "end":
            step = "heartbeat"  # somebody is still there when all is over
        group = ((number - 1) // 5) % 3 + 1
        value = "" if step == "read" else f"locust-42-{number}"
        op = Op("locust", number, f"session.{step}", session, value, group, phase_at(due), due, due + 300)
        log = logs.setdefault(session, [])
        if away(group, due) or (step != "create" and not log):
            op.end("fail", 900_000, "http-503")
        else:
            op.end("ok", 6_000)
            if value:
                log.append(value)
            op.version = len(log)
        run.ops.append(op)
        run.sessions[session] = SessionRead(session, group, exists=False, state="", version=0, ttl_s=-2, log=())
    for session, log in logs.items():
        run.rewrite(session, partial(_instead, log))


def write_log(directory: Path, member: Member, told: list[str]) -> None:
    """The log of a server that came up in time, and told this besides."""
    began = stamped(member.component, -2 * S, STARTED.get(member.component, "INFO it listens"))
    path = directory / "members" / member.name / "server.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([began, *told, ""]))


def _instead(log: list[str], _: list[str]) -> list[str]:
    return log


def _add_edits(run: Recorded, phase_at: PhaseAt, every_us: int) -> None:
    rows: dict[str, list[tuple[int, int, str]]] = {"room-1": [], "room-2": []}
    receivers = {room: [f"m-{room}-{n}" for n in range(2)] for room in rows}
    for room, names in receivers.items():
        run.joins += [Joined(name, room, 1, 0, 1000) for name in names]
        run.leaves += [Left(name, room, END + 2 * S, "stop") for name in names]
    for number, due in enumerate(range(10_000, END, every_us), start=1):
        room = f"room-{1 + number % 2}"
        phase = phase_at(due)
        edit = f"e-{phase}-{number}"
        rows[room].append((1, len(rows[room]) + 1, edit))
        op = Op("locust", 100_000 + number, "collaboration.edit", room, edit, 2 + number % 2, phase, due, due + 200)
        op.end("ok", 4_000)
        op.epoch, op.version = 1, len(rows[room])
        run.ops.append(op)
        run.deliveries += [
            Delivered(name, room, 1, len(rows[room]), edit, due + 5_000, "live") for name in receivers[room]
        ]
    for number, room in enumerate(rows):
        run.rooms[room] = RoomRead(room, 2 + number, 1, tuple(rows[room]))


def _add_rows(run: Recorded, phase_at: PhaseAt) -> None:
    """A row each 50 ms, all of them acknowledged and there."""
    run.audited.append("postgresql")
    run.summaries["postgresql"] = {"client": "postgresql", "exit": 0}
    for number, due in enumerate(range(5_000, END, S // 20), start=1):
        key, value = f"pg:{number}", f"postgresql-42-{number}"
        op = Op("postgresql", number, "postgresql.write", key, value, 0, phase_at(due), due, due + 300)
        op.end("ok", 3_000)
        run.ops.append(op)
        run.rows.append(RowRead(key, value, POSTGRESQL[0], 1))
    copy = {"timeline": 1, "replayed": 1_000, "tables": {"written": {"rows": len(run.rows), "digest": "7"}}}
    held = {"primary": POSTGRESQL[0], "timeline": 1, "written": 1_000, "members": dict.fromkeys(POSTGRESQL, copy)}
    run.events.append(Event("copies", END + 4 * S, held | {"reasons": []}))


REGISTERS, OPS_OF_ONE = 2, 40
_TURN = ("register.write", "register.read", "register.swap", "register.swap", "register.read")


def _add_registers(run: Recorded, phase_at: PhaseAt) -> None:
    """An op on a register each 100 ms, on two by turns, each left after 40: every other compare-and-set misses.

    The first two are left after half of that, so that others stand from before the fault until 6 s after it.
    """
    first = 1 + max(op.id for op in run.ops if op.client == "postgresql")
    stored: dict[str, str] = {}
    for number, due in enumerate(range(25_000, END, S // 10)):
        turn, place = divmod(number, REGISTERS)
        key, kind = f"pg-register-{(turn + OPS_OF_ONE // 2) // OPS_OF_ONE}-{place}", _TURN[turn % len(_TURN)]
        value = "" if kind == "register.read" else f"pg-r{number}"
        op = Op("postgresql", first + number, kind, key, value, 0, phase_at(due), due, due + 300)
        op.end("ok", 3_000)
        if kind != "register.write":
            op.stood = stored.get(key, "")
        if kind == "register.swap" and turn % len(_TURN) == 3:
            op.stood, op.error = "pg-older", MISMATCH
        elif value:
            stored[key] = value
        run.ops.append(op)
    copy = run.event("copies").data["members"][POSTGRESQL[0]]
    tables = copy["tables"] | {"registers": {"rows": len(stored), "digest": "9"}}
    run.change("copies", members=dict.fromkeys(POSTGRESQL, copy | {"tables": tables}))


LISTS_AT_ONCE, TURNS_OF_ONE = 2, 40


def with_lists(run: Recorded) -> Recorded:
    """The same with transactions on lists: every 200 ms two at a time on two lists, each left after 40 turns.

    Each appends to one list and reads the other, and the second of two sees what the first one did. The first lists are
    left after half of that, so that others stand from before the fault until 6 s after it.
    """
    run.audited.append("lists")
    first = 1 + max(op.id for op in run.ops if op.client == "postgresql")
    stored: dict[str, list[str]] = {}
    for number, due in enumerate(range(35_000, END, S // 5)):
        pair = [f"pg-list-{(number + TURNS_OF_ONE // 2) // TURNS_OF_ONE}-{place}" for place in range(LISTS_AT_ONCE)]
        for place in range(LISTS_AT_ONCE):
            value = f"{number}.{place}"
            steps = (Step(pair[place], value), Step(pair[1 - place]))
            phase = next(window.phase for window in run.windows if window.start <= due < window.end)
            op = Op("postgresql", first, KIND, TABLE, text_of(steps), 0, phase, due, due + 300 + place)
            op.end("ok", 9_000 + place)
            op.stood = told_text(Told("serializable", (",".join(stored.get(pair[1 - place], ())),)))
            stored.setdefault(pair[place], []).append(value)
            run.ops.append(op)
            first += 1
    run.lists = [ListRead(key, ",".join(values), POSTGRESQL[0], 1) for key, values in stored.items()]
    copy = run.event("copies").data["members"][POSTGRESQL[0]]
    tables = copy["tables"] | {TABLE: {"rows": len(stored), "digest": "8"}}
    run.change("copies", members=dict.fromkeys(POSTGRESQL, copy | {"tables": tables}))
    return run


def _add_messages(run: Recorded, phase_at: PhaseAt, queues: tuple[str, ...]) -> None:
    """A message each 50 ms, to one queue after the other; each has a consumer that is behind, which leaves the rest."""
    run.audited.append("rabbitmq")
    run.summaries["rabbitmq"] = {"client": "rabbitmq", "exit": 0}
    left: dict[str, list[Drained]] = {queue: [] for queue in all_queues(Rabbitmq())}
    for number, due in enumerate(range(15_000, END, S // 20), start=1):
        queue, value = queues[number % len(queues)], f"rabbitmq-42-{number}"
        op = Op("rabbitmq", number, "rabbitmq.publish", queue, value, 0, phase_at(due), due, due + 300)
        op.end("ok", 4_000)
        run.ops.append(op)
        if due < END - BEHIND:
            dealt_with = due + BEHIND
            run.consumed.append(
                Consumed(f"consumer-{queue}", queue, value, dealt_with, False, acked=True, came=dealt_with - HELD)
            )
        else:
            left[queue].append(Drained(value, redelivered=False))
    run.queues = [QueueRead(queue, tuple(messages), "rabbitmq-1") for queue, messages in left.items()]
    for n, queue in enumerate(queues):
        run.attached.append(Attached(f"consumer-{queue}", queue, f"rabbitmq-{n}", 10_000))
        run.detached.append(Detached(f"consumer-{queue}", END + S, "stop"))


def _add_events(run: Recorded) -> None:
    """An event of each end that was acknowledged: it has its row, and its consumer gets it 50 ms later."""
    run.audited.append("outbox")
    for op in run.good("session.end"):
        event = event_of(op.key, op.value)
        run.outbox.append(OutboxRead(event, True, POSTGRESQL[0], 1))
        at = (op.returned or 0) + S // 20
        run.consumed.append(Consumed("consumer-session-events", "session-events", event, at, False, True))


PERSON_EVERY, READ_EVERY = 4, S // 4  # people whose sessions these are, by turns, and how often one op is due
BOUND_S = 2.0


def personalized(about: Scenario) -> Scenario:
    """A scenario with both stores whose stack has the personalization service; a history of it is `with_people`'s."""
    stack = about.stack
    members = tuple(
        Member(name=f"personalization-{n}", component="personalization", node=f"node-{3 - n}") for n in range(2)
    )
    own = Personalization(staleness_bound_s=BOUND_S)
    stack = msgspec.structs.replace(stack, members=stack.members + members, personalization=own)
    load = msgspec.structs.replace(about.load, personalization_rate_ops_per_s=S / READ_EVERY)
    return msgspec.structs.replace(about, stack=stack, load=load)


def with_people(run: Recorded) -> Recorded:
    """The run, in which the service consumes the events of ends: each has its effect 100 ms after it was acknowledged.

    The load's client leaves their queue alone. One op in four sets an interest, the others read what is suggested, from
    a replica that is half a second behind.
    """
    queue = PRIORITY_QUEUE
    run.ops = [op for op in run.ops if op.key != queue]
    run.consumed = [line for line in run.consumed if line.queue != queue]
    run.attached = [line for line in run.attached if line.queue != queue]
    run.detached = [line for line in run.detached if line.consumer != f"consumer-{queue}"]
    run.queues = [QueueRead(line.queue, (), line.member) if line.queue == queue else line for line in run.queues]
    changes: dict[str, list[int]] = {f"person-{number}": [] for number in range(PERSON_EVERY)}  # when, by person
    for number, op in enumerate(run.good("session.end")):
        person = f"person-{number % PERSON_EVERY}"
        run.effects.append(EffectRead(event_of(op.key, op.value), person, POSTGRESQL[0], 1))
        changes[person].append((op.returned or 0) + S // 10)
    first = 1 + max(op.id for op in run.ops if op.client == "locust")
    for number, due in enumerate(range(20_000, END, READ_EVERY)):
        _add_op_of_person(run, changes, first + number, number, due)
    ends = Counter(read.person for read in run.effects)
    for person, at in changes.items():
        run.profiles.append(ProfileRead(person, len(at), ends[person], POSTGRESQL[0], 1))
    run.audited.append("profiles")
    run.events += (
        Event("member", -3 * S, {"member": f"personalization-{n}", "what": "started", "pid": 7, "code": 0})
        for n in range(2)
    )
    return run


def _add_op_of_person(run: Recorded, changes: dict[str, list[int]], op_id: int, number: int, due: int) -> None:
    """A write makes a version; a read gives how many there were half a second before."""
    person = f"person-{number // 4 % PERSON_EVERY}"
    phase = next(window.phase for window in run.windows if window.start <= due < window.end)
    writes = number % 4 == 0
    kind, value = ("profile.write", f"interest-42-{number}") if writes else ("suggestion.read", "")
    op = Op("locust", op_id, kind, person, value, 0, phase, due, due + 200)
    op.end("ok", 3_000)
    if writes:
        changes[person].append(op.called)
    seen = sorted(at for at in changes[person] if at <= (op.called if writes else op.called - S // 2))
    op.version = len(seen)
    run.ops.append(op)


_ON_ARTICLES = ("create", "read", "update", "read", "list", "update", "read", "update", "read", "read")


def _add_content(run: Recorded, phase_at: PhaseAt) -> None:
    """An op on an article each 100 ms, ten on each; every change has its job, which was worked off once."""
    run.audited.append("content")
    for number, due in enumerate(range(20_000, END, S // 10)):
        article, step = f"a-{number // 10:04x}", _ON_ARTICLES[number % 10]
        op = Op("locust", 200_001 + number, f"content.{step}", article, "", 0, phase_at(due), due, due + 300)
        op.end("ok", 6_000)
        run.ops.append(op)
        if step == "list":
            op.key = "catalogue"
            continue
        op.version = run.articles[article].version if article in run.articles else 0
        if step != "read":
            op.value, op.version = f"author-42-{number}", op.version + 1
            run.articles[article] = ArticleRead(article, op.version, op.value, POSTGRESQL[0], 1)
            run.jobs.append(JobRead(job_of(article, op.value), op.version, True, True, 1, POSTGRESQL[0], 1))


def samples(history: History, about: Scenario) -> list[Series]:
    """What Prometheus would have stored: counters that follow the ops, the servers' too, and the observers' scrapes."""
    times_us = range(-S, END + 5 * S, S)
    times_s = tuple(WALL0 + at / S for at in times_us)
    sources = [slo.source for slo in about.slos if isinstance(slo.source, RatioSource)]
    queries = dict.fromkeys(query for source in sources for query in (source.good, source.total))
    found = [
        Series(query, {"phase": phase}, times_s, _growing(history, query, phase, times_us))
        for query in queries
        for phase in ("warmup", "steady", "fault", "recovery")
    ]
    observers = {"prometheus": "localhost:9090", "loadgen": "loadgen:9646", "direct-client": "direct-client:9647"}
    found += [
        Series("up", {"__name__": "up", "job": job, "instance": instance}, times_s, (1.0,) * len(times_s))
        for job, instance in observers.items()
        if len(about.stack.of(job)) <= 1
    ]
    found += [
        Series("up", {"__name__": "up", "job": "loadgen", "member": member.name}, times_s, (1.0,) * len(times_s))
        for member in about.stack.of("loadgen")
        if len(about.stack.of("loadgen")) > 1
    ]
    return found + of_servers(history, about, times_us)


def of_servers(history: History, about: Scenario, times_us: range) -> list[Series]:
    """The members of a component count what it did, in turns; a replica what its primary did."""
    times_s = tuple(WALL0 + at / S for at in times_us)
    found = []
    for member in about.stack.members:
        peers = about.stack.of(member.component)
        turn = history.ops.id % len(peers) == peers.index(member)
        labels = {"member": member.name}
        for route, kinds in routes_of(about.stack).get(member.component, {}).items():
            named = labels | {"__name__": "service_requests_total", "route": route, "outcome": "ok"}
            grown = _grown(history, history.ops.of_kind(*kinds) & (history.ops.outcome == 0) & turn, times_us)
            found.append(Series("service_requests_total", named, times_s, grown))
        if member.component == "redis":
            group = 1 + int(member.name[-1]) % 3
            rows = history.ops.of_kind("direct.write") & (history.ops.group == group) & (history.ops.outcome == 0)
            named = labels | {"__name__": "redis_commands_total", "cmd": "set"}
            found.append(Series("redis_commands_total", named, times_s, _grown(history, rows, times_us)))
        if member.component == "edge":
            named = labels | {"__name__": "edge_retries_total"}
            found.append(Series("edge_retries_total", named, times_s, (0.0,) * len(times_s)))
        named = labels | {"__name__": "scrape_duration_seconds"}
        found.append(Series("scrape_duration_seconds", named, times_s, (0.01,) * len(times_s)))
    return found


def _growing(history: History, query: str, phase: str, times_us: range) -> tuple[float, ...]:
    ops = history.ops
    if query in {DELIVERED, OWED}:
        acked = ops.of_kind("collaboration.edit") & ops.in_phase(phase) & (ops.outcome == 0)
        return tuple(LOAD.room_members * edits for edits in _grown(history, acked, times_us))
    rows = rows_of_selector(ops, query)
    assert rows is not None
    rows &= ops.in_phase(phase)
    if 'le="0.25"' in query:
        rows &= (ops.outcome == 0) & (ops.returned - ops.due <= S // 4)
    return _grown(history, rows, times_us)


def _grown(history: History, rows: Flags, times_us: range) -> tuple[float, ...]:
    """A counter of these ops, each counted as it returned."""
    ends = np.sort(history.ops.returned[rows & (history.ops.returned >= 0)])
    return tuple(np.searchsorted(ends, np.array(times_us), side="right").astype(float).tolist())


def _write(path: Path, lines: list[Any]) -> None:
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(line) + b"\n" for line in lines))
