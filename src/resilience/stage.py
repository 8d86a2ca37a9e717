"""The stage of one run: the stack is up, the load runs, the phases are played, everything is healed and read back.

::

    stack up ─ watch its roles
    └─ load ─ warmup ─ steady ─ fault ─ recovery ─ stop
    └─ everything healed, from the ledger
    └─ converged? ─ audit of every write ─ samples of Prometheus
    stack down
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from resilience.backend.base import Backend, OwnedPlatform, Platform, Undone
from resilience.backend.choice import enter
from resilience.chaos.session import SessionFile, session_on
from resilience.check.fault import latest_timeline
from resilience.errors import FaultError, StackError
from resilience.fault.injector import Injector, heal_all, us_from_ns
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.history.columns import Ops
from resilience.history.phase import STOP, PhaseBoard
from resilience.history.queues import QueuesSeen
from resilience.history.read import read_history
from resilience.history.record import AuditKind
from resilience.history.writer import Writer
from resilience.load.running import LoadRunning, load_running
from resilience.metrics.collect import collect
from resilience.notebook import Notebook
from resilience.phases import Phases, current
from resilience.report.live import LiveBoard
from resilience.report.run import Run
from resilience.spec.scenario import Scenario
from resilience.spec.stack import PORTS, Stack
from resilience.stack import patroni
from resilience.stack.audit import audit
from resilience.stack.content_audit import audit_content
from resilience.stack.converge import Converged, wait_converged
from resilience.stack.outbox_audit import audit_outbox
from resilience.stack.postgresql_audit import audit_lists, audit_rows
from resilience.stack.postgresql_copies import compare_copies
from resilience.stack.postgresql_watch import PostgresqlWatch
from resilience.stack.profile_audit import audit_profiles, wait_consumed
from resilience.stack.rabbitmq_drain import drain
from resilience.stack.rabbitmq_watch import QueueWatch
from resilience.stack.readiness import READY_TIMEOUT_S, stack_ready
from resilience.stack.redis_cluster import shard_layout
from resilience.stack.replicas import compare_replicas
from resilience.stack.room_audit import audit_rooms
from resilience.stack.versions import servers
from resilience.stack.watch import RoleWatch

CONVERGE_TIMEOUT_S = 60.0
AUDIT_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 20.0  # of outbox, edits and jobs, whose movers look twice a second once they have connections
REPLICAS_TIMEOUT_S = 10.0
_OF_SHARDS = frozenset({"session", "collaboration"})  # kinds of ops whose keys Redis holds, beside the direct client's


class ReadBack(Protocol):
    """Writes down what a store holds. Raises `StackError` if that could not be read until the deadline."""

    def __call__(self, *, writer: Writer, clock: RunClock, deadline: float) -> object:
        """``deadline`` is a value of `time.monotonic`."""


class Stage:
    """One scenario on one backend; everything that it learns goes into the run's directory."""

    def __init__(self, scenario: Scenario, record: Run, notebook: Notebook, board: LiveBoard) -> None:
        """Starts nothing."""
        self._scenario = scenario
        self._record = record
        self._notebook = notebook
        self._board = board
        self.troubled = False  # whether a step of the end went wrong; it is on record then
        self._quiet_since: float | None = None  # when nobody worked on the stack any more, by `time.monotonic`

    def play(self) -> None:
        """Plays the scenario. Raises what went wrong, after everything was healed and taken down."""
        backend = enter(self._record.ledger, self._notebook.clock.base_ns, self._notebook.event)
        with self._stack_up(backend) as platform, self._watched(platform):
            injector = session_on(platform, self._record.directory, self._scenario, self._notebook.clock).injector
            try:
                self._under_load(platform, backend.state / "session.json")
            finally:
                self._board.change(phase="audit", phase_began_s=time.monotonic(), phase_length_s=None, injection="")
                self._record.give_reserve()  # from here on little is written, and all of it is needed for the verdict
                self._try(lambda: self._heal_all(injector))
                self._try(lambda: self._converge(platform))
                self._try(lambda: note_takeovers(platform, self._notebook.event))
                self._try(lambda: self._collect(platform))
                self._try(lambda: self._read_back(platform))

    def _try(self, step: Callable[[], None]) -> None:
        """Does one step of the end; what goes wrong is on record and keeps no other step from being done."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  a step of the teardown: all are tried, whatever became of the others
            self._notebook.problem(error)
            self.troubled = True

    @contextmanager
    def _stack_up(self, backend: Backend) -> Iterator[OwnedPlatform]:
        self._board.change(phase="stack", phase_began_s=time.monotonic())
        began = time.monotonic()
        platform = backend.up(self._scenario.stack, self._record.members_dir)
        try:
            stack_ready(platform, began + READY_TIMEOUT_S)
            self._notebook.event("stack-up", {"took_s": round(time.monotonic() - began, 3)})
            self._record.save_servers(servers(platform))
            session = SessionFile(
                run_dir=str(self._record.directory),
                state_dir=str(backend.state),
                base_ns=self._notebook.clock.base_ns,
                backend=backend.name,
            )
            (backend.state / "session.json").write_bytes(msgspec.json.encode(session))
            yield platform
        finally:
            self._notebook.event("taking-down", {})
            self._try(platform.down)

    @contextmanager
    def _watched(self, platform: OwnedPlatform) -> Iterator[None]:
        watches = [
            watch(platform, self._notebook.clock, self._notebook.note).start()
            for watch in (RoleWatch, PostgresqlWatch, QueueWatch)
        ]
        try:
            yield
        finally:
            for watch in watches:
                self._try(watch.stop)

    def _under_load(self, platform: OwnedPlatform, session: Path) -> None:
        layout = shard_layout(platform)
        self._notebook.event("shards", {"shards": msgspec.to_builtins(layout)})
        note_patroni(platform, self._notebook.event)
        board = PhaseBoard(self._record.phases)
        place, notebook = self._record.load_dir, self._notebook
        with load_running(self._scenario, layout, platform, place, clock=notebook.clock, say=notebook.event) as load:
            phases = Phases(self._scenario, board, self._notebook, lambda: self._look(board, load))
            warmup_us = phases.begin("warmup", ahead_us=0)
            self._show_length()
            load.wait_for_rate()
            phases.warm_up(warmup_us)
            experiment = self._scenario.experiment
            if experiment:
                phases.by_experiment(experiment, self._record.chaos_dir, session, warmup_us)
            else:
                phases.by_clock(warmup_us)
            phases.begin(STOP)
            load.stop()
            self._quiet_since = load.drained_at

    def _show_length(self) -> None:
        """From the warm-up on it is known how long the run will take."""
        so_far_s = time.monotonic() - self._board.read().run_began_s
        self._board.change(run_length_s=so_far_s + self._scenario.timeline.total_s)

    def _look(self, board: PhaseBoard, load: LoadRunning) -> None:
        """Shows on the terminal where the run is. Raises `HostError` if the disk is full: the rest would be lost."""
        self._notebook.require_disk()
        clock = self._notebook.clock
        phase, began_us = current(board, clock.now_us())
        lengths = msgspec.to_builtins(self._scenario.timeline)
        self._board.change(
            phase=phase,
            phase_began_s=clock.monotonic_s_from_us(began_us),
            phase_length_s=lengths.get(f"{phase}_s"),
            injection=broken_now(Ledger(self._record.ledger)),
            **load.now(),
        )

    def _heal_all(self, injector: Injector) -> None:
        heal_all(injector, self._healed)

    def _healed(self, injection: str, undone: Undone) -> None:
        self._quiet_since = None
        self._notebook.event(
            "healed",
            {
                "injection": injection,
                "healed": undone.proof.holds,
                "by": undone.by,
                "began_us": us_from_ns(self._notebook.clock, undone.began_ns),
                "healed_us": us_from_ns(self._notebook.clock, undone.healed_ns),
                "evidence": msgspec.to_builtins(undone.proof.evidence),
            },
        )

    def _converge(self, platform: OwnedPlatform) -> None:
        began_us = self._notebook.clock.now_us()
        converged = wait_converged(platform, time.monotonic() + CONVERGE_TIMEOUT_S, self._quiet_since)
        ended = {"ok": converged.ok, "took_s": converged.took_s, "reason": converged.reason}
        self._notebook.event("converged", ended)
        seen = queues_on_record(converged, began_us)
        if seen is not None:
            self._notebook.event("queues", msgspec.to_builtins(seen))

    def _collect(self, platform: OwnedPlatform) -> None:
        url = f"http://{platform.stack.of('prometheus')[0].name}:{PORTS['prometheus']}"
        with Writer(self._record.samples) as writer:
            collect(self._scenario, url, *self._notebook.wall_range_s(), writer)

    def _read_back(self, platform: OwnedPlatform) -> None:
        """What the primaries hold, which is audited, and whether their replicas hold the same.

        In this order: what is in an outbox, or among the rows of rooms and jobs, comes into a queue before that is
        drained, and what the personalization service consumes it takes out of one.
        """
        history = read_history(self._record.directory)
        attempted = Attempted.of(history.ops)
        timeline, hit = latest_timeline(history), hit_members(Ledger(self._record.ledger))
        stack = platform.stack
        self._try(lambda: self._compare_replicas(platform, attempted))
        self._try(lambda: self._audit_keys(platform, attempted))
        if stack.has_outbox:
            self._audit("outbox", partial(audit_outbox, platform, timeline_min=timeline), SETTLE_TIMEOUT_S)
        if stack.personalization is not None:
            self._try(lambda: self._let_consume(platform, timeline))
        if stack.has_rooms_in_postgresql:
            settle_s = SETTLE_TIMEOUT_S if stack.has_room_events else AUDIT_TIMEOUT_S
            self._audit("room", partial(audit_rooms, platform, rooms=attempted.rooms, timeline_min=timeline), settle_s)
        if stack.content is not None:
            self._audit("content", partial(audit_content, platform, timeline_min=timeline), SETTLE_TIMEOUT_S)
        if stack.rabbitmq is not None:
            self._audit("rabbitmq", partial(drain, platform, hit=hit))
        if stack.personalization is not None:
            self._audit("profiles", partial(audit_profiles, platform, timeline_min=timeline))
        if stack.postgresql is not None:
            self._try(lambda: self._compare_copies(platform, timeline))
            self._audit("postgresql", partial(audit_rows, platform, keys=attempted.rows, timeline_min=timeline))
        if self._scenario.load.postgresql_list_rate_ops_per_s is not None:
            self._audit("lists", partial(audit_lists, platform, timeline_min=timeline))

    def _audit_keys(self, platform: OwnedPlatform, attempted: "Attempted") -> None:
        """Reads back all keys of Redis that were attempted, acknowledged or not."""
        with Writer(self._record.audit) as writer, unanswered(self._notebook.event, "audit-incomplete"):
            audit(
                platform,
                writer,
                sessions=attempted.sessions,
                rooms=attempted.rooms_of(platform.stack),
                direct=attempted.direct,
                clock=self._notebook.clock,
                deadline=time.monotonic() + AUDIT_TIMEOUT_S,
            )

    def _audit(self, store: AuditKind, read: ReadBack, timeout_s: float = AUDIT_TIMEOUT_S) -> None:
        """Reads back what a store holds; that it does not answer until then is an event about it, and no error."""
        self._try(lambda: self._audit_until(store, read, time.monotonic() + timeout_s))

    def _audit_until(self, store: AuditKind, read: ReadBack, deadline: float) -> None:
        note = partial(self._notebook_about, store)
        with Writer(self._record.audit) as writer, unanswered(note, "audit-incomplete"):
            read(writer=writer, clock=self._notebook.clock, deadline=deadline)

    @staticmethod
    def _let_consume(platform: OwnedPlatform, timeline_min: int) -> None:
        with suppress(StackError):  # what has no effect by then is found by the audit, with what is left in the queue
            wait_consumed(platform, deadline=time.monotonic() + SETTLE_TIMEOUT_S, timeline_min=timeline_min)

    def _compare_copies(self, platform: OwnedPlatform, timeline_min: int) -> None:
        deadline = time.monotonic() + REPLICAS_TIMEOUT_S
        copies = compare_copies(platform, timeline_min=timeline_min, deadline=deadline)
        self._notebook.event("copies", msgspec.to_builtins(copies))

    def _notebook_about(self, store: str, name: str, data: dict[str, Any]) -> None:
        self._notebook.event(name, data | {"store": store})

    def _compare_replicas(self, platform: OwnedPlatform, attempted: "Attempted") -> None:
        compared = compare_replicas(
            platform,
            sessions=attempted.sessions,
            rooms=attempted.rooms_of(platform.stack),
            direct=attempted.direct,
            deadline=time.monotonic() + REPLICAS_TIMEOUT_S,
        )
        self._notebook.event("replicas", msgspec.to_builtins(compared))


def queues_on_record(converged: Converged, began_us: int) -> QueuesSeen | None:
    """What RabbitMQ's members said in the look that ended the waiting, which began at an instant; None without any."""
    if converged.queues is None:
        return None
    took_s = converged.queues_took_s
    whole_us = None if took_s is None else began_us + round(took_s * 1e6)
    return msgspec.structs.replace(converged.queues, whole_us=whole_us)


@contextmanager
def unanswered(note: Callable[[str, dict[str, Any]], None], event: str) -> Iterator[None]:
    """What the platform does not answer is an event and no error, which would take other findings with it."""
    try:
        yield
    except StackError as error:
        note(event, {"reason": str(error)})


def note_patroni(platform: Platform, note: Callable[[str, dict[str, Any]], None]) -> None:
    """By what PostgreSQL fails over, where Patroni does it: they have it all from etcd."""
    told = patroni.config(platform) if platform.stack.patroni is not None else {}
    if told:
        config = next(iter(told.values()))
        same = [name for name, one in told.items() if one == config]
        note("patroni", {"config": msgspec.to_builtins(config), "members": same})


def note_takeovers(platform: Platform, note: Callable[[str, dict[str, Any]], None]) -> None:
    """Whom Patroni made primary, by its own word; that nobody tells it is no error, and left to the check."""
    if platform.stack.patroni is not None:
        with suppress(StackError):
            note("takeovers", {"takeovers": msgspec.to_builtins(patroni.takeovers(platform))})


class Attempted(NamedTuple):
    """The keys of all writes that were recorded, acknowledged or not."""

    sessions: list[str]
    rooms: list[str]
    direct: list[tuple[str, int]]  # with their shards
    rows: list[str]  # of PostgreSQL

    @classmethod
    def of(cls, ops: Ops) -> Self:
        """Those of these ops."""
        sessions: set[str] = set()
        rooms: set[str] = set()
        direct: set[tuple[str, int]] = set()
        rows: set[str] = set()
        for kind, key, group in zip(ops.kind.tolist(), ops.key.tolist(), ops.group.tolist(), strict=True):
            family = ops.kinds[kind].partition(".")[0]
            if family == "direct":
                direct.add((ops.keys[key], group))
            elif family == "postgresql":
                rows.add(ops.keys[key])
            elif family in _OF_SHARDS:
                (sessions if family == "session" else rooms).add(ops.keys[key])
        return cls(sorted(sessions), sorted(rooms), sorted(direct), sorted(rows))

    def rooms_of(self, stack: Stack) -> list[str] | None:
        """Those whose logs are in Redis; None where logs are in PostgreSQL."""
        return None if stack.has_rooms_in_postgresql else self.rooms


def broken_now(ledger: Ledger) -> str:
    """What is in effect now, in words, "" while nothing is. The experiment runs elsewhere, so the ledger tells it."""
    try:
        injections = ledger.in_effect()
    except FaultError as error:
        return str(error)
    return "; ".join(
        f"{msgspec.to_builtins(injection.fault)['kind']} of {', '.join((*injection.nodes, *injection.members))}"
        for injection in injections
    )


def hit_members(ledger: Ledger) -> frozenset[str]:
    """The members that anything was done to, as far as the ledger can be read."""
    try:
        return frozenset(name for injection in ledger.injections() for name in injection.members)
    except FaultError:  # what is wrong with it is on record already, and no reason to read nothing
        return frozenset()


def show_event(board: LiveBoard, name: str, data: dict[str, Any]) -> None:
    """Shows on the terminal what an event says, where a person would want to know it."""
    if name == "role":
        board.role(data["member"], data["role"])
    elif name == "queue-role":
        board.role(data["queue"], data["leader"] or "no known leader")
    elif name == "came-back":
        board.note(f"{data['member']} came back by {data['by']}")
    elif name == "failing" and data["flag"] == "fail":
        note = f"{data['member']} is marked as failed"
        if note not in board.read().notes:  # every other member says so
            board.note(note)
    elif name == "member" and data["what"] in {"exited", "restarted"}:
        board.note(f"{data['member']} {data['what']}")
    elif name == "node":
        board.note(f"{data['node']} is {data['what']}")
    elif name in {"stack-up", "converged"}:
        board.note(f"{name} after {data['took_s']:.1f} s {data.get('reason', '')}".rstrip())
    elif name in {"error", "interrupted"}:
        board.note(f"{name}: {data.get('message', data.get('signal', ''))}")
