"""Each assumption: what breaks it, what just does not, and that exactly what rests on it becomes inconclusive."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.check.assumption.fault import BEFORE
from resilience.check.assumption.record import not_interrupted
from resilience.check.compose import ASSUMPTIONS, judge
from resilience.check.finding import Judgement
from resilience.check.selection import recorded_total
from resilience.history.ledger import Booked
from resilience.history.people import OF_PEOPLE
from resilience.history.read import read_history
from resilience.history.record import (
    DELIVERED_IN_TIME_US,
    ClockPair,
    Dropped,
    Event,
    ListRead,
    PhaseWindow,
    QueryFailed,
    QueueRead,
)
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.scenario import Scenario
from tests.histories import (
    ALL_OPS,
    APPLIED,
    AVAILABLE,
    DELIVERED,
    END,
    FAULT,
    FINGERPRINT,
    IDENTITY,
    INJECTION,
    POSTGRESQL,
    RECOVERY,
    SLOS,
    STEADY,
    TIERS,
    WALL0,
    WITH_CONTENT,
    Recorded,
    S,
    baseline,
    by_two,
    delivery_slo,
    moved_to_postgresql,
    personalized,
    recorded,
    recorded_by_two,
    samples,
    scenario,
    with_lists,
    with_people,
    with_rooms_in_postgresql,
)

Change = Callable[[Recorded], object]
BROKEN_LINE = b'["phase","steady",\n'


def linger(run: Recorded, by_us: int) -> None:
    """The fault phase lasts longer by that, and two of its scrapes are missing."""
    no_more_up(run, "loadgen", FAULT, FAULT + 2 * S)
    run.windows = [PhaseWindow(x.phase, x.start, x.end + by_us * (x.phase == "fault")) for x in run.windows]


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Change
    breaks: str = ""  # the assumption; "" if it just holds
    reason: str = ""
    about: Scenario = field(default_factory=scenario)


def with_operator(**does: bool) -> Scenario:
    about = scenario()
    assert about.experiment is not None
    experiment = msgspec.structs.replace(about.experiment, **does)
    return msgspec.structs.replace(about, experiment=experiment)


def promoted(run: Recorded, *, proved: bool = True) -> None:
    told = {"member": POSTGRESQL[1], "former": POSTGRESQL[0], "timeline": 2, "operator_delay_s": 5.0, "proved": proved}
    run.events.append(
        Event("promotion", APPLIED + 7 * S, told | {"began_us": APPLIED + 5 * S, "led_us": APPLIED + 6 * S})
    )


def cancelled(run: Recorded, *, backends: int = 120) -> None:
    told = {"member": POSTGRESQL[0], "backends": backends, "began_us": APPLIED, "ended_us": APPLIED + 3 * S}
    run.events.append(Event("cancelled", APPLIED + 4 * S, told | {"proved": True}))


def rejoined(run: Recorded, *, proved: bool = True) -> None:
    told = {"members": [POSTGRESQL[0]], "primary": POSTGRESQL[1], "began_us": RECOVERY + S, "proved": proved}
    run.events.append(Event("rejoined", RECOVERY + 2 * S, told))


def see_primary_at(run: Recorded, at: int) -> None:
    """The first that is heard of the primary of shard 2."""
    run.events = [Event(x.name, at, x.data) if x.data.get("member") == "redis-cluster-1" and x.name == "role" else x
                  for x in run.events]  # fmt: skip


def drop_rate(run: Recorded, keep: int, kind: str = "session.heartbeat", phase: str = "steady") -> None:
    """Takes every ``keep``-th op of a kind in a phase out of the record, as if it had not been sent."""
    gone = {id(op): op for op in run.of(kind, phase=phase)[::keep]}
    run.ops = [op for op in run.ops if id(op) not in gone]
    for op in gone.values():
        run.direct.pop(op.key, None)
    if kind.startswith("direct"):
        return
    known = {op.value for op in run.ops}
    for session in tuple(run.sessions):
        run.rewrite(session, lambda ops: [op for op in ops if op in known])
        writes = [op for op in run.ops if op.key == session and op.outcome == "ok"]
        due = {op.value: op.due for op in writes if op.value}
        versions = {op: version for version, op, _ in run.sessions[session].log}
        for op in writes:
            op.version = versions.get(op.value, max(v for o, v in versions.items() if due[o] <= op.due))


def change_control(run: Recorded, /, **fields: object) -> None:
    assert run.control
    run.control = msgspec.structs.replace(run.control, **fields)


def change_identity(run: Recorded, own: dict[str, tuple[str, ...]] = IDENTITY.versions, **fields: object) -> None:
    """Changes what the control was made with; ``own``: which servers answered in the run itself."""
    assert run.control
    run.identity = msgspec.structs.replace(IDENTITY, versions=own)
    change_control(run, identity=msgspec.structs.replace(run.control.identity, **fields))


def lag(run: Recorded, by_us: int, every: int) -> None:
    """Edits, since what a session does late it does after what came next."""
    for op in run.of("collaboration.edit", phase="steady")[::every]:
        op.called = op.due + by_us
        assert op.returned is not None
        op.returned = max(op.returned, op.called + 1_000)


def lag_and_steal(run: Recorded, ratio: float) -> None:
    """The generator is late, and the machine's host gave so much of it to others, all the time."""
    lag(run, 26_000, 10)
    run.events = [Event(x.name, x.at, x.data | {"steal_ratio": ratio}) if x.name == "pressure" else x
                  for x in run.events]  # fmt: skip


def early(run: Recorded) -> None:
    op = run.of("collaboration.edit", phase="fault")[3]
    op.called = op.due - 1


def no_more_up(run: Recorded, job: str, start: int, end: int) -> None:
    """The scrapes of a job failed in an interval of the run."""

    def without(history_of: Recorded, directory: Path) -> None:
        history_of.series = [
            msgspec.structs.replace(
                line,
                values=tuple(
                    0.0 if line.labels.get("job") == job and start <= round((at - 1_760_000_000) * S) < end else value
                    for at, value in zip(line.times_s, line.values, strict=True)
                ),
            )
            for line in samples(history_of.history(directory, scenario()), scenario())
        ]

    run.later = without


def twice(run: Recorded, job: str, start: int, end: int) -> None:
    """The scrapes of a job failed in an interval, and its series is there twice."""
    no_more_up(run, job, start, end)
    missed = run.later
    assert missed

    def doubled(history_of: Recorded, directory: Path) -> None:
        missed(history_of, directory)
        assert history_of.series
        history_of.series += [line for line in history_of.series if line.labels.get("job") == job]

    run.later = doubled


def used(run: Recorded, cpu_ratio: float, phase: str, busy_ratio: float = 0.97) -> None:
    """What Locust used of a core in a phase, and how busy the machine was."""
    (window,) = [window for window in run.windows if window.phase == phase]
    for index, event in enumerate(run.events):
        if window.start <= event.at < window.end and event.data.get("client") == "locust":
            run.events[index] = Event(event.name, event.at, event.data | {"cpu_ratio": cpu_ratio})
        elif window.start <= event.at < window.end and event.name == "pressure":
            run.events[index] = Event(event.name, event.at, event.data | {"busy_ratio": busy_ratio})


def unwatched(run: Recorded, client: str, start: int, end: int) -> None:
    """What a generator used is not on record in an interval."""
    run.events = [e for e in run.events if e.data.get("client") != client or not start <= e.at < end]


def fails_unknown(run: Recorded) -> None:
    """What the client told of its ops no longer fits to how they ended on record."""
    failed = [op for op in run.ops if op.outcome == "fail"]
    counts = Counter(op.outcome for op in run.ops if op.client == "locust")
    run.summaries["locust"] |= {"fail": counts["fail"], "unknown": counts["unknown"]}
    for op in failed:
        op.outcome = "unknown"


def shorten(run: Recorded, phase: str, by_us: int) -> None:
    run.windows = [PhaseWindow(w.phase, w.start + by_us, w.end) if w.phase == phase else w for w in run.windows]


def step_clock(run: Recorded, at: int, by_us: int) -> None:
    run.clock = [ClockPair(pair.at, pair.wall + (by_us if pair.at >= at else 0)) for pair in run.clock]


def forget(run: Recorded, session: int) -> None:
    del run.sessions[list(run.sessions)[session]]


def reprobe(run: Recorded, index: int, at: int) -> None:
    """The probe of that index was made at another instant."""
    probe = [event for event in run.events if event.name == "effect-probed"][index]
    run.drop("effect-probed", index)
    run.events.append(Event(probe.name, at, probe.data))


def heal_for_a_while(run: Recorded) -> None:
    """As a kind node is: undoing begins as the fault phase ends, and takes 18 s."""
    run.change("healed", began_us=RECOVERY, healed_us=RECOVERY + 18 * S)


def probe_while_it_is_healed(run: Recorded) -> None:
    heal_for_a_while(run)
    reprobe(run, 1, RECOVERY + 1)


def rotate(reads: dict[str, Any]) -> None:
    """Each key was read on the next shard."""
    for key, read in reads.items():
        reads[key] = msgspec.structs.replace(read, group=1 + read.group % 3)


def add(name: str, **data: object) -> Change:
    return lambda run: run.events.append(Event(name, END, data))


ANOTHER = tuple(Booked(at_us=FAULT, injection="kill-2", state=state, by="request") for state in ("planned", "healed"))


def rebook(run: Recorded, state: str, **fields: Any) -> None:
    """Changes what the ledger says of one state."""
    run.ledger = [msgspec.structs.replace(line, **fields) if line.state == state else line for line in run.booked()]


def begin_another(run: Recorded) -> None:
    """A second injection, of which nothing is known but that it began, and that its end is booked."""
    run.events.append(Event("injecting", FAULT, {"injection": {"id": "kill-2"}}))
    run.ledger = [*run.booked(), ANOTHER[1]]


def see_postgresql_at(run: Recorded, at: int) -> None:
    """The first that is heard of PostgreSQL's primary."""
    run.events = [
        msgspec.structs.replace(event, at=at) if event.name == "role" and not event.data["group"] else event
        for event in run.events
    ]


def reread(run: Recorded, member: str, timeline: int) -> None:
    """The last rows were read somewhere else."""
    run.rows[-5:] = [msgspec.structs.replace(row, member=member, timeline=timeline) for row in run.rows[-5:]]


def read_less(run: Recorded) -> None:
    """Readers stay away after the fault."""
    run.ops = [op for op in run.ops if (op.kind, op.phase) != ("content.read", "recovery")]


def reread_content(run: Recorded) -> None:
    """The last job as another member has it."""
    run.jobs[-1] = msgspec.structs.replace(run.jobs[-1], member="postgresql-replica-0")


def reread_outbox(run: Recorded, member: str) -> None:
    """The last row was read somewhere else."""
    run.outbox[-1] = msgspec.structs.replace(run.outbox[-1], member=member)


def cut_short(run: Recorded, at: int) -> None:
    """The first consumer is lost at an instant."""
    run.detached[0] = msgspec.structs.replace(run.detached[0], at=at, why="lost")


def rooms_unread(run: Recorded) -> None:
    """The logs of rooms are in PostgreSQL, and were not read to their end."""
    moved_to_postgresql(run)
    run.audited.remove("room")


BOTH, ROWS = scenario(tiers=TIERS), scenario(tiers=("postgresql",))


def asking_for_lists(rate_ops_per_s: float) -> Scenario:
    return msgspec.structs.replace(
        ROWS, load=msgspec.structs.replace(ROWS.load, postgresql_list_rate_ops_per_s=rate_ops_per_s)
    )


LISTS = asking_for_lists(10)
CONTENT = scenario(tiers=WITH_CONTENT)
AUTOMATIC = msgspec.structs.replace(
    BOTH, stack=msgspec.structs.replace(BOTH.stack, rabbitmq=Rabbitmq(acknowledgement="automatic"))
)
PEOPLE = personalized(BOTH)
ONE_MORE = b'["row","pg:1","postgresql-42-1","postgresql-primary-0",1]\n'
NOT_SEEN = {"in_effect": False, "evidence": [{"what": "ping", "expected": "none", "observed": "pong", "ok": False}]}
CASES = (
    Case(name="interrupted", change=add("interrupted", signal="SIGINT"), breaks="not-interrupted", reason="SIGINT"),
    Case(name="harness error", change=add("error", where="watch", message="gone"), breaks="not-interrupted",
         reason="watch: gone"),
    Case(name="cut short before any load", change=lambda run: run.drop("ended"), breaks="not-interrupted",
         reason="cut short: the record breaks off at 67.5 s, before any load"),
    Case(name="broken line", change=lambda run: run.rough.update({"history.jsonl": BROKEN_LINE}),
         breaks="history-whole", reason="history.jsonl:"),
    Case(name="one torn line", change=lambda run: run.rough.update({"history.jsonl": b'["phase","st'})),
    Case(name="two torn lines", breaks="history-whole", reason="2 files end in a torn line",
         change=lambda run: run.rough.update({"history.jsonl": b'["pha', "audit.jsonl": b'["roo'})),
    Case(name="a torn line of a writer that came to its end", breaks="history-whole",
         change=lambda run: run.rough.update({"load/direct.ops.jsonl": b'["i",4'}),
         reason="load/direct.ops.jsonl: torn, though its writer came to its end"),
    Case(name="no effect at first", change=lambda run: run.change("effect-probed", 0, **NOT_SEEN),
         breaks="fault-proved", reason="observed pong"),
    Case(name="no effect before healing", change=lambda run: run.change("effect-probed", 1, **NOT_SEEN),
         breaks="fault-proved", reason="before it was healed"),
    Case(name="effect without evidence", change=lambda run: run.change("effect-probed", 0, evidence=[]),
         breaks="fault-proved", reason="no evidence"),
    Case(name="effect that its own evidence denies", breaks="fault-proved", reason="expected none, observed pong",
         change=lambda run: run.change("effect-probed", 1, evidence=NOT_SEEN["evidence"])),
    Case(name="not probed before healing", change=lambda run: run.drop("effect-probed", 1), breaks="fault-proved",
         reason="not probed before it was healed"),
    Case(name="probed before it was there", change=lambda run: reprobe(run, 0, APPLIED - 1), breaks="fault-proved",
         reason="power-off-1 was not probed after it was injected"),
    Case(name="probed as it was there", change=lambda run: reprobe(run, 0, APPLIED)),
    Case(name="probed as it was healed", change=lambda run: reprobe(run, 1, RECOVERY)),
    Case(name="probed after it was healed", change=lambda run: reprobe(run, 1, RECOVERY + 1), breaks="fault-proved",
         reason="power-off-1 was not probed before it was healed"),
    Case(name="no target", change=add("no-target", target="redis"), breaks="fault-proved", reason="nothing matched"),
    Case(name="ended by time to live", change=lambda run: run.change("healed", by="ttl"), breaks="fault-healed",
         reason="time to live"),
    Case(name="ended by a new agent", change=lambda run: run.change("healed", by="restart"), breaks="fault-healed",
         reason="an agent that was started again"),
    Case(name="ended as its agent left", change=lambda run: run.change("healed", by="leave"), breaks="fault-healed",
         reason="an agent that left"),
    Case(name="healing not proved", change=lambda run: run.change("healed", healed=False), breaks="fault-healed",
         reason="not proved healed"),
    Case(name="healing without evidence", change=lambda run: run.change("healed", evidence=[]), breaks="fault-healed",
         reason="not proved healed"),
    Case(name="healing that its own evidence denies", breaks="fault-healed", reason="expected none, observed pong",
         change=lambda run: run.change("healed", evidence=NOT_SEEN["evidence"])),
    Case(name="healed before the fault phase was over", breaks="fault-healed",
         reason="power-off-1 was healed 0.6 s before the end of phase fault",
         change=lambda run: run.change("healed", healed_us=RECOVERY - 600_000)),
    Case(name="healed at the end, as far as one can tell",
         change=lambda run: run.change("healed", healed_us=RECOVERY - 500_000)),
    Case(name="healed for a while, from the end of the fault phase on", change=heal_for_a_while),
    Case(name="began to be healed before the fault phase was over", breaks="fault-healed",
         reason="power-off-1 began to be healed 0.6 s before the end of phase fault",
         change=lambda run: run.change("healed", began_us=RECOVERY - 600_000)),
    Case(name="healed long after the fault phase was over, who knows since when", breaks="fault-healed",
         reason="power-off-1 was healed 18.0 s after the end of phase fault",
         change=lambda run: run.change("healed", healed_us=RECOVERY + 18 * S)),
    Case(name="probed while it was being healed", breaks="fault-proved",
         reason="power-off-1 was not probed before it was healed", change=probe_while_it_is_healed),
    Case(name="began to be healed at another instant, says the ledger", breaks="fault-healed",
         reason="the ledger does not say that undoing power-off-1 began at 42.0 s",
         change=lambda run: rebook(run, "healed", began_us=RECOVERY - S)),
    Case(name="began to be healed once it was", breaks="fault-healed",
         reason="undoing power-off-1 is said to have begun after it was healed",
         change=lambda run: run.change("healed", began_us=RECOVERY + 1)),
    Case(name="begun in another phase", breaks="fault-healed",
         reason="power-off-1 began 2.0 s before the beginning of phase fault",
         change=lambda run: run.change("injected", began_us=FAULT - 2 * S)),
    Case(name="healing not on record", change=lambda run: run.drop("healed"), breaks="fault-healed",
         reason="not on record"),
    Case(name="healed twice", change=add("healed", injection=INJECTION, healed=True, by="rollback", healed_us=RECOVERY,
         evidence=[{"ok": True}])),
    Case(name="open in the ledger", change=lambda run: setattr(run, "ledger", run.booked()[:-1]), breaks="fault-healed",
         reason="power-off-1 is still open in the ledger"),
    Case(name="ended by time to live, says the ledger", change=lambda run: rebook(run, "healed", by="ttl"),
         breaks="fault-healed", reason="time to live"),
    Case(name="healed at another instant, says the ledger", breaks="fault-healed",
         reason="the ledger does not say that power-off-1 was healed at 42.0 s",
         change=lambda run: rebook(run, "healed", at_us=RECOVERY - S)),
    Case(name="applied at another instant, says the ledger", change=lambda run: rebook(run, "applied", at_us=FAULT),
         breaks="fault-proved", reason="the ledger does not say that power-off-1 was applied at 22.0 s"),
    Case(name="known to nobody but the ledger", change=lambda run: setattr(run, "ledger", [*run.booked(), *ANOTHER]),
         breaks="fault-proved", reason="that kill-2 was begun is all that is on record of it"),
    Case(name="begun, and never applied", change=begin_another, breaks="fault-proved",
         reason="that kill-2 was begun is all that is on record of it"),
    Case(name="experiment failed", change=lambda run: run.change("experiment", status="failed"),
         breaks="experiment-completed", reason="failed"),
    Case(name="an activity failed", change=lambda run: run.change("experiment", failed=["inject"]),
         breaks="experiment-completed", reason="inject"),
    Case(name="an operator gave a step up", breaks="experiment-completed", reason="promote: fencing a took long",
         change=add("step-failed", step="promote", reason="fencing a took long")),
    Case(name="experiment without end", change=lambda run: run.drop("experiment"), breaks="experiment-completed",
         reason="not on record"),
    Case(name="toolkit ended badly, its journal does not know why", breaks="experiment-completed",
         reason="Chaos Toolkit was killed by SIGKILL, though its journal", change=lambda run: run.change(
             "experiment", exit=-9)),
    Case(name="toolkit killed", breaks="experiment-completed", reason="Chaos Toolkit was killed by SIGKILL and left no",
         change=lambda run: run.change("experiment", status="no-journal", exit=-9)),
    Case(name="promoted as it was to be", about=with_operator(promotes=True), change=promoted),
    Case(name="nobody promoted", about=with_operator(promotes=True), breaks="experiment-completed",
         reason="that a standby was promoted is not on record", change=lambda run: run),
    Case(name="promoted, and not seen to be", about=with_operator(promotes=True), breaks="experiment-completed",
         reason="that a standby was promoted is not on record", change=lambda run: promoted(run, proved=False)),
    Case(name="cancelled as it was to be", about=with_operator(cancels=True), change=cancelled),
    Case(name="nobody cancelled", about=with_operator(cancels=True), breaks="experiment-completed",
         reason="that anybody who waited was cancelled is not on record", change=lambda run: run),
    Case(name="cancelled, and nobody waited", about=with_operator(cancels=True), breaks="experiment-completed",
         change=lambda run: cancelled(run, backends=0), reason="who waited was cancelled is not on record"),
    Case(name="rejoined as it was to be", about=with_operator(rejoins=True), change=rejoined),
    Case(name="nobody rejoined", about=with_operator(rejoins=True), breaks="experiment-completed",
         reason="that nobody takes writes beside the primary any more is not on record", change=lambda run: run),
    Case(name="rejoined, and not seen to be", about=with_operator(rejoins=True), breaks="experiment-completed",
         reason="that nobody takes writes beside the primary any more is not on record",
         change=lambda run: rejoined(run, proved=False)),
    Case(name="generator killed", breaks="generator-alive", reason="locust was killed by SIGKILL",
         change=lambda run: run.change("load-stopped", clients={"locust": {"exit": -9}, "direct": {"exit": 0}})),
    Case(name="generator exits 1", breaks="generator-alive", reason="exit code 1",
         change=lambda run: run.change("load-stopped", clients={"locust": {"exit": 1}, "direct": {"exit": 0}})),
    Case(name="generator about to exit 1", change=lambda run: run.summaries["locust"].update(exit=1),
         breaks="generator-alive", reason="locust ended with exit code 1"),
    Case(name="generator's end unknown", breaks="generator-alive", reason="direct: its end is not on record",
         change=lambda run: run.change("load-stopped", clients={"locust": {"exit": 0}})),
    Case(name="generator's start unknown", breaks="generator-alive", reason="direct: its start is not on record",
         change=lambda run: run.change("load-started", clients=["locust"])),
    Case(name="generator torn", breaks="generator-alive", reason="torn", change=lambda run: run.change(
         "load-stopped", clients={"locust": {"exit": 0, "torn": True}, "direct": {"exit": 0}})),
    Case(name="no summary", change=lambda run: run.summaries.pop("locust"), breaks="generator-alive",
         reason="no summary"),
    Case(name="dropped", change=lambda run: run.dropped.append(Dropped("session.read", "steady", STEADY)),
         breaks="generator-alive", reason="locust dropped 1 due ops"),
    Case(name="session rate low", change=lambda run: drop_rate(run, 1), breaks="load-rate",
         reason="session ops in steady: 8.0 ops/s"),
    Case(name="session rate just enough", change=lambda run: drop_rate(run, 2)),
    Case(name="direct rate low", change=lambda run: drop_rate(run, 25, "direct.write", "recovery")),
    Case(name="registers rate low", breaks="load-rate", about=BOTH,
         reason="ops on registers in PostgreSQL in steady: 0.0 ops/s, at least 7.2 needed",
         change=lambda run: setattr(run, "ops", [op for op in run.ops if not op.kind.startswith("register.")
                                                 or op.phase != "steady"])),
    Case(name="direct rate low on one shard", breaks="load-rate", reason="direct writes to shard 1 in recovery",
         change=lambda run: drop_rate(run, 9, "direct.write", "recovery")),
    Case(name="late", change=lambda run: lag(run, 26_000, 10), breaks="schedule-lag", reason="26.0 ms behind"),
    Case(name="late in one phase of three", change=lambda run: lag(run, 26_000, 20), breaks="schedule-lag",
         reason="locust in steady: 26.0 ms behind its schedule (and used 25 % of the one core that it can use)"),
    Case(name="late as the machine was away", change=lambda run: lag_and_steal(run, 0.31),
         breaks="schedule-lag",
         reason="(and used 25 % of the one core that it can use; this machine's host gave 31 % of it to others)"),
    Case(name="late as hardly any of it was", change=lambda run: lag_and_steal(run, 0.049),
         breaks="schedule-lag", reason="(and used 25 % of the one core that it can use)"),
    Case(name="early", change=early, breaks="schedule-lag", reason="locust sent 1 ops before they were due"),
    Case(name="just not late", change=lambda run: lag(run, 25_000, 10)),
    Case(name="late once in a thousand", change=lambda run: lag(run, 900_000, 290)),
    Case(name="generators that leave nothing", breaks="generator-cpu", change=lambda run: used(run, 0.95, "steady"),
         reason="the load generators used 1.1 of 2 cores in phase steady, and left too little for the platform"),
    Case(name="generators that just leave enough", change=lambda run: used(run, 0.85, "steady")),
    Case(name="generators on a machine with room", change=lambda run: used(run, 0.9, "steady", busy_ratio=0.94)),
    Case(name="generators not watched", change=lambda run: run.drop("generator"), breaks="generator-cpu",
         reason="what direct, locust used was not recorded in phase steady"),
    Case(name="one of the generators not watched", change=lambda run: unwatched(run, "direct", FAULT, RECOVERY),
         breaks="generator-cpu", reason="what direct used was not recorded in phase fault"),
    Case(name="a generator watched for half of a phase", change=lambda run: unwatched(run, "direct", FAULT, 32 * S)),
    Case(name="a generator watched for less", change=lambda run: unwatched(run, "direct", FAULT, 33 * S),
         breaks="generator-cpu", reason="what direct used was not recorded in phase fault"),
    Case(name="machine not watched", change=lambda run: run.drop("pressure"), breaks="generator-cpu",
         reason="what the machine used was not recorded in phase fault"),
    Case(name="record cut off at a line's end", change=lambda run: run.summaries["direct"].update(sent=3721),
         breaks="history-whole", reason="direct counted 3721 ops sent, 3720 are on record"),
    Case(name="an answer cut off", change=lambda run: run.summaries["direct"].update(ok=9999),
         breaks="history-whole", reason="direct counted 9999 ops ok, "),
    Case(name="fails that became unknown", change=fails_unknown, breaks="history-whole",
         reason="locust counted 30 ops fail, 0 are on record"),
    Case(name="arrivals dropped that are not on record", change=lambda run: run.summaries["locust"].update(dropped=2),
         breaks="history-whole", reason="locust counted 2 ops dropped, 0 are on record"),
    Case(name="ops cut off that are not on record", change=lambda run: run.summaries["direct"].update(unfinished=1),
         breaks="history-whole", reason="direct counted 1 ops unfinished, 0 are on record"),
    Case(name="steady too short", change=lambda run: shorten(run, "steady", 600_000), breaks="phases-complete",
         reason="steady lasted 19.4 s, at least 20 s needed"),
    Case(name="steady just long enough", change=lambda run: shorten(run, "steady", 400_000)),
    Case(name="a phase that is not where its ops are", breaks="phases-complete",
         reason="ops that were due in phase recovery are booked in another one",
         change=lambda run: shorten(run, "recovery", -700_000)),
    Case(name="a phase twice", breaks="phases-complete", reason="phase steady is on record more than once",
         change=lambda run: run.windows.append(PhaseWindow("steady", STEADY, FAULT))),
    Case(name="fault never ended", breaks="phases-complete", reason="phase fault", about=scenario(slos=()),
         change=lambda run: run.windows.pop(2)),
    Case(name="a shard unknown", breaks="shards-known", reason="[1, 2] are on record, 3 in the stack",
         change=lambda run: run.change("shards", shards=run.event("shards").data["shards"][:2])),
    Case(name="slots unknown", breaks="shards-known", reason="of 16384 slots",
         change=lambda run: run.change("shards", shards=[
             shard | {"slots": shard["slots"][:0]} for shard in run.event("shards").data["shards"]])),
    Case(name="a primary seen as the load ran", change=lambda run: see_primary_at(run, STEADY - S)),
    Case(name="a primary seen too late", change=lambda run: see_primary_at(run, STEADY + 1), breaks="shards-known",
         reason="which member is the primary of shard 2 was not seen", about=scenario(slos=(), checks=("recovery",))),
    Case(name="clock stepped", change=lambda run: step_clock(run, FAULT + 5 * S, 51_000), breaks="clock-step",
         reason="51 ms in phase fault"),
    Case(name="clock slewed", change=lambda run: step_clock(run, FAULT + 5 * S, 50_000)),
    Case(name="clock stepped after the load", change=lambda run: step_clock(run, END + 3 * S, 3 * S)),
    Case(name="audit not finished", change=lambda run: run.audited.remove("session"), breaks="audit-complete",
         reason="the session audit did not come to its end"),
    Case(name="session not read", change=lambda run: forget(run, 3), breaks="audit-complete",
         reason="1 sessions with acknowledged writes were not read"),
    Case(name="audit before the end", change=lambda run: run.audited_at.update(direct=END - S), breaks="audit-complete",
         reason="the direct audit ended 1.0 s before the load had"),
    Case(name="direct keys read on another shard", change=lambda run: rotate(run.direct), breaks="audit-complete",
         reason="3720 keys were read on another shard than they were written to"),
    Case(name="sessions read on another shard", change=lambda run: rotate(run.sessions), breaks="audit-complete",
         reason="keys were read on another shard than they were written to, e.g. s-0000"),
    Case(name="primary of PostgreSQL not seen", breaks="postgresql-known", about=BOTH,
         reason="which member is the primary was not seen", change=lambda run: see_postgresql_at(run, STEADY + 1)),
    Case(name="primary of PostgreSQL seen as the load ran", about=BOTH,
         change=lambda run: see_postgresql_at(run, STEADY - S)),
    Case(name="rows not all read", change=lambda run: run.audited.remove("postgresql"), breaks="postgresql-audited",
         reason="the postgresql audit did not come to its end", about=BOTH),
    Case(name="rows could not be read", change=add("audit-incomplete", store="postgresql", reason="nobody answers"),
         breaks="postgresql-audited", reason="nobody answers", about=BOTH),
    Case(name="rows read too early", change=lambda run: run.audited_at.update(postgresql=END - S), about=BOTH,
         breaks="postgresql-audited", reason="the postgresql audit ended 1.0 s before the load had"),
    Case(name="a row that is not on record", breaks="postgresql-audited", about=BOTH,
         reason="the postgresql audit says 1240 rows, 1241 are on record",
         change=lambda run: run.rough.update({"audit.jsonl": ONE_MORE})),
    Case(name="a row not looked for", change=lambda run: run.rows.pop(), breaks="postgresql-audited", about=BOTH,
         reason="1 rows that were acknowledged were not looked for, e.g. pg:1240"),
    Case(name="rows of two members", breaks="postgresql-audited", about=BOTH, reason="read in more than one place: "
         "postgresql-primary-0 on timeline 1, postgresql-replica-0 on timeline 1",
         change=lambda run: reread(run, "postgresql-replica-0", 1)),
    Case(name="rows of two timelines", change=lambda run: reread(run, "postgresql-primary-0", 2), about=BOTH,
         breaks="postgresql-audited", reason="on timeline 1, postgresql-primary-0 on timeline 2"),
    Case(name="rows of a timeline that had been left", breaks="postgresql-audited", about=ROWS,
         reason="rows were read from postgresql-primary-0 on timeline 1, and timeline 2 had been seen",
         change=add("role", member="postgresql-replica-1", group=0, role="replica", epoch=2)),
    Case(name="rows of a timeline below a promotion's", breaks="postgresql-audited", about=ROWS,
         reason="rows were read from postgresql-primary-0 on timeline 1, and timeline 2 had been seen",
         change=add("promotion", member="postgresql-replica-1", former="postgresql-primary-0", timeline=2,
                    operator_delay_s=10.0, began_us=FAULT, led_us=FAULT)),
    Case(name="a later timeline after the audit", about=BOTH,
         change=lambda run: run.events.append(Event("role", END + 6 * S, {
             "member": "postgresql-replica-1", "group": 0, "role": "replica", "epoch": 2}))),
    Case(name="a shard's epoch is no timeline", about=BOTH,
         change=add("role", member="redis-cluster-5", group=3, role="replica", epoch=99)),
    Case(name="rows of somebody who is not the primary", breaks="postgresql-audited", about=ROWS,
         reason="rows were read from postgresql-primary-0, and postgresql-replica-1 was the primary",
         change=add("role", member="postgresql-replica-1", group=0, role="primary")),
    Case(name="queues not all drained", change=lambda run: run.audited.remove("rabbitmq"), breaks="rabbitmq-drained",
         reason="the rabbitmq audit did not come to its end", about=BOTH),
    Case(name="queues could not be drained", change=add("audit-incomplete", store="rabbitmq", reason="no leader"),
         breaks="rabbitmq-drained", reason="no leader", about=BOTH),
    Case(name="a queue that nobody drained", change=lambda run: run.queues.pop(0), breaks="rabbitmq-drained",
         reason="session-events was not drained", about=BOTH),
    Case(name="a message that is not on record", breaks="rabbitmq-drained", about=BOTH,
         reason="the rabbitmq audit says 60 messages, 61 are on record",
         change=lambda run: run.rough.update({"audit.jsonl": b'["queue","other",[["x",true]]]\n'})),
    Case(name="queues drained too early", change=lambda run: run.audited_at.update(rabbitmq=END - S), about=BOTH,
         breaks="rabbitmq-drained", reason="the rabbitmq audit ended 1.0 s before the load had"),
    Case(name="lists read back", change=with_lists, about=LISTS),
    Case(name="lists not read", change=lambda run: with_lists(run).audited.remove("lists"), breaks="lists-audited",
         reason="the lists audit did not come to its end", about=LISTS),
    Case(name="lists could not be read", breaks="lists-audited", reason="no primary", about=LISTS,
         change=lambda run: add("audit-incomplete", store="lists", reason="no primary")(with_lists(run))),
    Case(name="lists read too early", change=lambda run: with_lists(run).audited_at.update(lists=END - S), about=LISTS,
         breaks="lists-audited", reason="the lists audit ended 1.0 s before the load had"),
    Case(name="lists of two members", breaks="lists-audited", about=LISTS,
         reason="rows were read in more than one place",
         change=lambda run: with_lists(run).lists.append(ListRead("pg-list-x", "", "postgresql-replica-0", 1))),
    Case(name="a list that is not on record", breaks="lists-audited", about=LISTS,
         reason="the lists audit says 18 lists, 19 are on record",
         change=lambda run: with_lists(run).rough.update(
             {"audit.jsonl": b'["list","pg-list-x","","postgresql-primary-0",1]\n'})),
    Case(name="fewer transactions on lists", change=with_lists, breaks="load-rate", about=asking_for_lists(12),
         reason="transactions on lists in PostgreSQL in steady: 10.0 ops/s, at least 10.8 needed"),
    Case(name="outbox not read", change=lambda run: run.audited.remove("outbox"), breaks="outbox-audited",
         reason="the outbox audit did not come to its end", about=BOTH),
    Case(name="outbox could not be read", change=add("audit-incomplete", store="outbox", reason="no primary"),
         breaks="outbox-audited", reason="no primary", about=BOTH),
    Case(name="outbox read too early", change=lambda run: run.audited_at.update(outbox=END - S), about=BOTH,
         breaks="outbox-audited", reason="the outbox audit ended 1.0 s before the load had"),
    Case(name="content not read", change=lambda run: run.audited.remove("content"), breaks="content-audited",
         reason="the content audit did not come to its end", about=CONTENT),
    Case(name="content of two members", change=reread_content, breaks="content-audited",
         reason="rows were read in more than one place", about=CONTENT),
    Case(name="too few ops on articles", change=read_less,
         breaks="load-rate", reason="ops on articles in recovery", about=CONTENT),
    Case(name="outbox of two members", change=lambda run: reread_outbox(run, "postgresql-replica-0"), about=BOTH,
         breaks="outbox-audited", reason="rows were read in more than one place"),
    Case(name="profiles not read", change=lambda run: run.audited.remove("profiles"), breaks="profiles-audited",
         reason="the profiles audit did not come to its end", about=PEOPLE),
    Case(name="profiles could not be read", change=add("audit-incomplete", store="profiles", reason="no primary"),
         breaks="profiles-audited", reason="no primary", about=PEOPLE),
    Case(name="profiles read too early", change=lambda run: run.audited_at.update(profiles=END - S), about=PEOPLE,
         breaks="profiles-audited", reason="the profiles audit ended 1.0 s before the load had"),
    Case(name="suggestions too few", breaks="load-rate", about=PEOPLE, reason="suggestions and interests in steady",
         change=lambda run: setattr(run, "ops", [op for op in run.ops if op.kind != "suggestion.read" or op.id % 2])),
    Case(name="rooms in PostgreSQL", change=moved_to_postgresql, about=with_rooms_in_postgresql(BOTH)),
    Case(name="rooms in PostgreSQL not read", change=rooms_unread, breaks="rooms-audited",
         reason="the room audit did not come to its end", about=with_rooms_in_postgresql(BOTH)),
    Case(name="a consumer that was not read to its end", change=lambda run: cut_short(run, END + S), about=AUTOMATIC,
         breaks="rabbitmq-drained",
         reason="what was on its way to consumer consumer-session-events as the load ended was not read"),
    Case(name="a consumer that was lost before", change=lambda run: cut_short(run, END - S), about=AUTOMATIC),
    Case(name="a consumer that acknowledges, not read to its end", change=lambda run: cut_short(run, END + S),
         about=BOTH),
    Case(name="no control", change=lambda run: setattr(run, "control", None), breaks="control",
         reason="there is no control"),
    Case(name="control failed", change=lambda run: change_control(run, verdict="fail", headline="fail: too slow"),
         breaks="control", reason="did not pass: fail: too slow"),
    Case(name="control inconclusive", change=lambda run: change_control(run, verdict="inconclusive"),
         breaks="control", reason="did not pass"),
    Case(name="control 24 h old", change=lambda run: change_identity(run, started_utc="2025-10-08T08:53:20+00:00")),
    Case(name="control too old", change=lambda run: change_identity(run, started_utc="2025-10-08T08:52:19+00:00"),
         breaks="control", reason="began 24 h 01 min before this run"),
    Case(name="control in another zone",
         change=lambda run: change_identity(run, started_utc="2025-10-08T06:53:20-02:00")),
    Case(name="control begun with the run", change=lambda run: change_identity(run, started_utc=IDENTITY.started_utc),
         breaks="control", reason="began 0 s after this run"),
    Case(name="control begun a second before the run",
         change=lambda run: change_identity(run, started_utc="2025-10-09T08:53:19+00:00")),
    Case(name="control that is no control", change=lambda run: change_control(run, run="redis-failover/1-1"),
         breaks="control", reason="redis-failover/1-1 is no run of baseline"),
    Case(name="control that passed above what failed", breaks="control", reason="it passed, its findings are fail",
         change=lambda run: change_control(run, findings=({"check": "slo", "verdict": "fail", "title": ""},))),
    Case(name="control that found nothing", change=lambda run: change_control(run, findings=()), breaks="control",
         reason="it passed, its findings are inconclusive"),
    Case(name="control whose findings are none", change=lambda run: change_control(run, findings=({"check": 1},)),
         breaks="control", reason="its findings are unreadable"),
    Case(name="control begun later", change=lambda run: change_identity(run, started_utc="2025-10-09T08:53:21+00:00"),
         breaks="control", reason="began 1 s after this run"),
    Case(name="control of no known age", change=lambda run: change_identity(run, started_utc="yesterday"),
         breaks="control", reason="how old the control is"),
    Case(name="control without a time zone",
         change=lambda run: change_identity(run, started_utc="2025-10-09T07:50:20"),
         breaks="control", reason="how old the control is"),
    Case(name="control of another revision", breaks="control", reason="was of another state of the harness",
         change=lambda run: change_identity(run, fingerprint=msgspec.structs.replace(FINGERPRINT, harness="d5"))),
    Case(name="control of other servers", breaks="control", reason="redis 8.0.2, this run's are redis 8.0.3",
         change=lambda run: change_identity(run, versions={"redis": ("8.0.2",)}, own={"redis": ("8.0.3",)})),
    Case(name="servers that never answered", breaks="control", reason="this run's are not on record",
         change=lambda run: setattr(run, "identity", msgspec.structs.replace(IDENTITY, versions={}))),
    Case(name="run of unknown make", breaks="control", reason="what this run was made with is not on record",
         change=lambda run: setattr(run, "identity", None)),
    Case(name="up failed", change=lambda run: run.queries_failed.append(QueryFailed("up", "timeout")),
         breaks="coverage", reason="up: timeout"),
    Case(name="explaining query failed",
         change=lambda run: run.queries_failed.append(QueryFailed("redis_up", "timeout"))),
    Case(name="generator unseen", change=lambda run: no_more_up(run, "loadgen", FAULT, FAULT + 2 * S),
         breaks="coverage", reason="loadgen was scraped 90 % of the time in phase fault"),
    Case(name="19 scrapes in 20.05 s", change=lambda run: linger(run, 50_000),
         breaks="coverage", reason="loadgen was scraped 94 % of the time in phase fault"),
    Case(name="the other half seen twice", breaks="coverage", reason="loadgen was scraped 50 % of the time in phase",
         change=lambda run: twice(run, "loadgen", FAULT + 10 * S, RECOVERY)),
    Case(name="a kernel that nobody names", change=lambda run: run.change("load-started", boot_id="7f3a"),
         breaks="clocks", reason="which kernel direct was under is not on record"),
    Case(name="one scrape missed", change=lambda run: no_more_up(run, "loadgen", FAULT, FAULT + S)),
    Case(name="prometheus blind at the end", breaks="coverage", reason="prometheus-0 was scraped",
         change=lambda run: no_more_up(run, "prometheus", END - 2 * S, END + 10 * S)),
)  # fmt: skip


def test_through_whom_queues_were_drained_is_told(tmp_path: Path) -> None:
    run = recorded(tiers=TIERS)
    (finding,) = ASSUMPTIONS["assumption.rabbitmq-drained"](BOTH, run.history(tmp_path / "new", BOTH))
    assert finding.measured == "6 queues, 60 messages through rabbitmq-1"
    run.queues = [QueueRead(line.queue, line.messages) for line in run.queues]
    (finding,) = ASSUMPTIONS["assumption.rabbitmq-drained"](BOTH, run.history(tmp_path / "old", BOTH))
    assert finding.measured == "6 queues, 60 messages"


def judged(run: Recorded, directory: Path, about: Scenario) -> Judgement:
    if run.later:
        run.later(run, directory)
    return judge(about, run.history(directory, about))


def broken(judgement: Judgement) -> dict[str, str]:
    """The assumptions that do not hold, with their reasons."""
    found = (f for f in judgement.findings if f.check.startswith("assumption.") and f.verdict != "pass")
    return {finding.check.removeprefix("assumption."): finding.reason for finding in found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_what_rests_on_it_falls(case: Case, tmp_path: Path) -> None:
    run = recorded(tiers=tuple(tier for tier in WITH_CONTENT if case.about.stack.of(tier)))
    if case.about.stack.personalization is not None:
        with_people(run)
    case.change(run)
    judgement = judged(run, tmp_path, case.about)
    reasons = broken(judgement)
    assert set(reasons) == ({case.breaks} if case.breaks else set())
    assert case.reason in reasons.get(case.breaks, "")
    names = {f"assumption.{name}" for name in reasons}
    for finding in judgement.findings:
        if not finding.check.startswith("assumption."):
            assert (finding.verdict == "inconclusive") == bool(names & set(finding.rests_on)), finding
    assert judgement.verdict == ("inconclusive" if case.breaks else "pass")
    if case.breaks:
        assert judgement.headline.startswith("inconclusive: ")


def test_every_assumption_has_a_case_that_breaks_it() -> None:
    untested = {name.removeprefix("assumption.") for name in ASSUMPTIONS} - {case.breaks for case in CASES}
    assert untested == {"totals-reconciled"}  # below: it needs samples that say something else


@pytest.mark.parametrize(("missed", "holds"), [(21, False), (20, True)])
def test_totals_that_differ(tmp_path: Path, missed: int, holds: bool) -> None:
    run, about = recorded(), scenario()
    run.series = [
        msgspec.structs.replace(line, values=tuple(max(0.0, value - missed) for value in line.values))
        if line.selector == ALL_OPS and line.labels["phase"] == "fault"
        else line
        for line in samples(run.history(tmp_path, about), about)
    ]
    finding = next(
        f for f in judge(about, run.history(tmp_path, about)).findings if f.check == "assumption.totals-reconciled"
    )
    assert (finding.verdict == "pass") == holds
    assert holds or "phase fault: Prometheus counted 179" in finding.reason


def test_a_counter_that_calls_everything_good(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    honest = samples(run.history(tmp_path, about), about)
    totals = {line.labels["phase"]: line.values for line in honest if line.selector == ALL_OPS}
    run.series = [
        msgspec.structs.replace(line, values=totals[line.labels["phase"]]) if line.selector == AVAILABLE else line
        for line in honest
    ]
    finding = next(
        f for f in judge(about, run.history(tmp_path, about)).findings if f.check == "assumption.totals-reconciled"
    )
    assert finding.verdict == "inconclusive"
    assert "phase fault: Prometheus counted 200" in finding.reason


@pytest.mark.parametrize(("late_us", "on_record"), [(DELIVERED_IN_TIME_US, 200), (DELIVERED_IN_TIME_US + 1, 0)])
def test_deliveries_that_were_counted_and_came_too_late(tmp_path: Path, late_us: int, on_record: int) -> None:
    run, about = recorded(), scenario(slos=(*SLOS, delivery_slo("fault", 0.8)))
    acked = {op.value: op.returned or 0 for op in run.good("collaboration.edit", phase="fault")}
    run.deliveries = [
        msgspec.structs.replace(line, at=acked[line.edit] + late_us) if line.edit in acked else line
        for line in run.deliveries
    ]
    judgement = judge(about, run.history(tmp_path, about))
    finding = next(f for f in judgement.findings if f.check == "assumption.totals-reconciled")
    assert (finding.verdict == "pass") == bool(on_record), finding.reason
    assert bool(on_record) or f"counted 200 of {DELIVERED}, 0 on record" in finding.reason


@pytest.mark.parametrize(
    ("selector", "total"),
    [
        (DELIVERED, 200),
        ('load_deliveries_total{ outcome = "delivered" }', 200),
        ('load_deliveries_total{outcome=~"deliv.*|expected"}', 400),
        ('load_deliveries_total{outcome!="expected"}', 200),
        ('load_deliveries_total{outcome="late"}', 0),
        ('load_deliveries_total{outcome="delivered",client="locust"}', None),
        ("service_requests_total", None),
        ("rate(load_deliveries_total[1m])", None),
    ],
)
def test_deliveries_however_an_objective_asks_for_them(selector: str, total: int | None, tmp_path: Path) -> None:
    assert recorded_total(recorded().history(tmp_path, scenario()), selector, "fault", room_members=2) == total


def test_a_delivery_that_came_twice_is_counted_once(tmp_path: Path) -> None:
    run, about = recorded(), scenario(slos=(*SLOS, delivery_slo("fault", 0.8)))
    run.deliveries += [msgspec.structs.replace(line, how="replay") for line in run.deliveries]
    judgement = judge(about, run.history(tmp_path, about))
    assert next(f.verdict for f in judgement.findings if f.check == "assumption.totals-reconciled") == "pass"


def test_no_fault_no_proof_needed(tmp_path: Path) -> None:
    judgement = judge(baseline(), recorded(fault=False).history(tmp_path, baseline()))
    assert judgement.verdict == "pass", judgement.headline


def test_a_fault_that_no_ledger_knows_is_none(tmp_path: Path) -> None:
    run = recorded()
    run.ledger = []
    assert set(broken(judged(run, tmp_path, scenario()))) == {"fault-proved", "fault-healed"}


def test_nothing_may_be_broken_where_no_fault_is_asked_for(tmp_path: Path) -> None:
    run = recorded(fault=False)
    run.ledger = [*ANOTHER[:1]]
    judgement = judged(run, tmp_path, baseline())
    assert broken(judgement) == {
        "fault-proved": "kill-2 was begun, and the scenario asks for no fault",
        "fault-healed": "kill-2 is still open in the ledger",
    }
    assert judgement.verdict == "inconclusive"


def test_a_steady_state_that_was_not_met_is_why_nothing_was_injected(tmp_path: Path) -> None:
    run = recorded(fault=False)
    data = {"status": "completed", "deviated": False, "exit": 0, "failed": [f"every member runs{BEFORE}"]}
    run.events.append(Event("experiment", END, data))
    judgement = judged(run, tmp_path, scenario())
    assert judgement.headline == (
        "inconclusive: no injection is on record: the experiment found no steady state to begin with:"
        " every member runs (before)"
    )


def test_an_inject_that_does_nothing_is_no_pass(tmp_path: Path) -> None:
    run, about = recorded(outage_us=0), scenario()
    for index in range(2):
        run.change("effect-probed", index, **NOT_SEEN)
    judgement = judge(about, run.history(tmp_path, about))
    assert judgement.verdict == "inconclusive"
    assert "was not in effect" in judgement.headline


@pytest.mark.parametrize(
    ("phases", "where"), [(["warmup", "steady"], "in phase steady"), (["warmup", "stop"], "after the load")]
)
def test_a_record_that_breaks_off_says_where(tmp_path: Path, phases: list[str], where: str) -> None:
    run, about = recorded(), scenario()
    run.drop("ended")
    run.events += [Event("phase-announced", at, {"phase": phase, "starts_at": at}) for at, phase in enumerate(phases)]
    (finding,) = not_interrupted(about, run.history(tmp_path, about))
    assert finding.reason == f"cut short: the record breaks off at 67.5 s, {where}"


def test_nothing_recorded_at_all(tmp_path: Path) -> None:
    about = scenario()
    judgement = judge(about, recorded().history(tmp_path / "run", about))
    assert judgement.verdict == "pass"
    (tmp_path / "empty").mkdir()
    judgement = judge(about, read_history(tmp_path / "empty"))
    assert judgement.verdict == "inconclusive"
    assert all(finding.verdict != "fail" for finding in judgement.findings)


def stand_still(run: Recorded, client: str, since_us: int) -> None:
    """A process sends nothing more in the phase of an instant from there on, and what it sent is all that is stored."""
    end = next(window.end for window in run.windows if window.start <= since_us < window.end)
    gone = {id(op) for op in run.ops if op.client == client and since_us <= op.due < end}
    run.ops = [op for op in run.ops if id(op) not in gone]


def late_edits(run: Recorded, client: str) -> None:
    for op in (op for op in run.of("collaboration.edit", phase="fault") if op.client == client):
        op.called = op.due + 30_000
        assert op.returned is not None
        op.returned = max(op.returned, op.called + 1_000)


def no_more_scraped(run: Recorded, member: str) -> None:
    """Scrapes of one of several members of a component failed in the fault."""

    def without(run: Recorded, directory: Path) -> None:
        run.series = [
            msgspec.structs.replace(
                line,
                values=tuple(
                    0.0 if line.labels.get("member") == member and line.selector == "up" and at >= WALL0 + FAULT / S
                    else value
                    for at, value in zip(line.times_s, line.values, strict=True)
                ),
            )
            for line in samples(run.history(directory, by_two(scenario())), by_two(scenario()))
        ]  # fmt: skip

    run.later = without


def kill_second(run: Recorded) -> None:
    del run.summaries["locust-1"]
    run.change("load-stopped", clients={"locust": {"exit": 0}, "locust-1": {"exit": -9}, "direct": {"exit": 0}})


def say_nothing(run: Recorded, client: str) -> None:
    """A process sends nothing at all."""
    for since_us in (0, STEADY, FAULT, RECOVERY):
        stand_still(run, client, since_us)


WORKERS = (
    Case(name="two processes that both did their part", change=lambda run: run),
    Case(name="one was killed", change=kill_second, breaks="generator-alive",
         reason="locust-1 was killed by SIGKILL; locust-1 left no summary"),
    Case(name="one never sent anything", change=lambda run: say_nothing(run, "locust-1"), breaks="generator-alive",
         reason="locust-1 left no ops"),
    Case(name="one stood still at the end of a phase", change=lambda run: stand_still(run, "locust-1", END - 4 * S),
         breaks="load-rate", reason="session ops of locust-1 in recovery: 4.0 ops/s, at least 4.5 needed"),
    Case(name="one sent no edit at all", change=lambda run: setattr(run, "ops", [
             op for op in run.ops if (op.client, op.kind) != ("locust-1", "collaboration.edit")]),
         breaks="load-rate", reason="edits of locust-1 in steady: 0.0 ops/s"),
    Case(name="one fell behind", change=lambda run: late_edits(run, "locust-1"), breaks="schedule-lag",
         reason="locust-1 in fault: 30.0 ms behind its schedule"),
    Case(name="one was not scraped, its neighbour was", change=lambda run: no_more_scraped(run, "loadgen-1"),
         breaks="coverage", reason="loadgen-1 was scraped 0 % of the time in phase fault"),
)  # fmt: skip


@pytest.mark.parametrize("case", WORKERS, ids=lambda case: case.name)
def test_each_process_of_a_load_is_looked_at_for_itself(case: Case, tmp_path: Path) -> None:
    run, about = recorded_by_two(), by_two(scenario())
    case.change(run)
    found = broken(judged(run, tmp_path, about))
    assert case.reason in found.get(case.breaks, "")
    if not case.breaks:
        assert found == {}


@dataclass(frozen=True, kw_only=True)
class Share:
    what: str
    kinds: tuple[str, ...]
    about: Scenario


SHARES = (
    Share(what="suggestions and interests", kinds=OF_PEOPLE, about=PEOPLE),
    Share(what="ops on articles", kinds=("content.create", "content.read", "content.update", "content.list"),
          about=CONTENT),
)  # fmt: skip


@pytest.mark.parametrize("share", SHARES, ids=lambda share: share.what)
@pytest.mark.parametrize("by_both", [True, False])
def test_each_process_has_its_share_in_a_service_that_a_stack_need_not_have(
    share: Share, by_both: bool, tmp_path: Path
) -> None:
    """The sum is the same: one process asks for all of it, and the other one for nothing."""
    run, about = recorded(tiers=tuple(tier for tier in WITH_CONTENT if share.about.stack.of(tier))), by_two(share.about)
    run = recorded_by_two(with_people(run) if share.about.stack.personalization else run)
    for number, op in enumerate([op for op in run.ops if op.kind in share.kinds]):
        op.client = "locust-1" if by_both and number % 2 else "locust"
    found = broken(judged(run, tmp_path, about))
    assert set(found) == (set() if by_both else {"load-rate"})
    assert by_both or f"{share.what} of locust-1 in steady: 0.0 ops/s" in found["load-rate"]
    assert f"{share.what} in steady" not in found.get("load-rate", "")


def test_the_minimum_rate_is_that_of_all_processes_together(tmp_path: Path) -> None:
    run, about = recorded_by_two(), by_two(scenario())
    for client in ("locust", "locust-1"):
        stand_still(run, client, END - 4 * S)
    reason = broken(judged(run, tmp_path, about))["load-rate"]
    assert "session ops in recovery: 8.0 ops/s, at least 9 needed" in reason


def people_by_two(*, second: bool) -> Recorded:
    """A run with the personalization service, whose ops came from two processes, or all from the first."""
    run = recorded_by_two(with_people(recorded(tiers=TIERS)))
    for op in run.of("suggestion.read") + run.of("profile.write"):
        op.client = "locust-1" if second and op.id % 2 else "locust"
    return run


@pytest.mark.parametrize("second", [True, False])
def test_each_process_has_its_share_of_what_people_ask_for(tmp_path: Path, second: bool) -> None:
    about = by_two(PEOPLE)
    (finding,) = ASSUMPTIONS["assumption.load-rate"](about, people_by_two(second=second).history(tmp_path, about))
    assert finding.verdict == ("pass" if second else "inconclusive"), finding.reason
    assert ("suggestions and interests of locust-1 in steady: 0.0 ops/s, at least 1.8" in finding.reason) != second


def test_a_process_that_sends_suggestions_alone_is_missed_in_all_else(tmp_path: Path) -> None:
    run, about = people_by_two(second=True), by_two(PEOPLE)
    of_people = {"suggestion.read", "profile.write"}
    run.ops = [op for op in run.ops if op.client != "locust-1" or op.kind in of_people]
    (finding,) = ASSUMPTIONS["assumption.load-rate"](about, run.history(tmp_path, about))
    assert "edits of locust-1 in steady: 0.0 ops/s, at least 2.25 needed" in finding.reason
