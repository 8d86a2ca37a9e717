"""Each check alone: a recorded run that it finds fault with and no other does, beside one that all of them pass."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.compose import CHECKS, Check, judge
from resilience.check.finding import Finding, Judgement
from resilience.history.read import History
from resilience.history.record import DirectRead, Event, SessionRead
from resilience.history.transaction import KIND, told_of, told_text
from resilience.spec.blast import BlastRadius
from resilience.spec.scenario import Scenario
from tests.histories import (
    APPLIED,
    FAULT,
    RECOVERY,
    STEADY,
    WITH_CONTENT,
    Op,
    Recorded,
    S,
    availability_slo,
    by_patroni,
    latency_slo,
    patroni_events,
    personalized,
    recorded,
    samples,
    scenario,
    stamped,
    with_lists,
    with_people,
)

PLATFORM = by_patroni(scenario(slos=(availability_slo("fault", 0.82), latency_slo("steady", 0.99)), tiers=WITH_CONTENT))
CRASH = "# Redis 8.0.2 crashed by signal: 11, si_code: 0"
ABOUT = replace(
    PLATFORM,
    blast_radius=BlastRadius(may_suffer=("shard 1",), others_outage_s_max=2.5),
    load=replace(PLATFORM.load, postgresql_list_rate_ops_per_s=10),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    check: str
    change: Callable[[Recorded], object]
    says: str
    verdict: str = "fail"
    people: bool = False  # in a stack with the personalization service


def lose(kind: str) -> Callable[[Recorded], None]:
    """An acknowledged write of shard 2, long before the fault, is not in the store."""
    return lambda run: run.lose(run.good(kind, group=2, phase="steady")[7])


def refuse_writes(run: Recorded, ops: list[Op]) -> None:
    for op in ops:
        op.end("fail", 1_500, "clusterdown")
        run.direct[op.key] = DirectRead(op.key, None, op.group)


def lose_the_shard_again(run: Recorded) -> None:
    """Shard 1 takes no direct write in the last half of the recovery; people on it are served."""
    refuse_writes(run, [op for op in run.of("direct.write", 1) if op.due >= RECOVERY + 10 * S])


def refuse_reads(run: Recorded) -> None:
    """People on the shard that may suffer read nothing through the whole fault phase, after its failover too."""
    for op in run.of("session.read", 1, phase="fault"):
        op.end("fail", 6_000, "http-503")
        op.version = -1


def answer_late(run: Recorded) -> None:
    """Three answers came late; the histogram of Prometheus counts them among the fast ones."""

    def late(run: Recorded, folder: Path) -> None:
        run.series = samples(run.history(folder, ABOUT), ABOUT)
        for op in run.of("session.read", phase="steady")[:3]:
            op.end("ok", 251_000)

    run.later = late


def swap(run: Recorded) -> None:
    """Two edits reach one receiver in the order in which they were not made."""
    one, other = [n for n, line in enumerate(run.deliveries) if line.receiver == "m-room-1-0"][10:12]
    run.deliveries[one], run.deliveries[other] = run.deliveries[other], run.deliveries[one]


def overtake(run: Recorded) -> None:
    """Of two messages of a queue without priorities the later one is handed out first."""
    one, other = [n for n, line in enumerate(run.consumed) if line.queue == "collaboration-sync"][10:12]
    run.consumed[one], run.consumed[other] = run.consumed[other], run.consumed[one]


def suggest_from_long_ago(run: Recorded) -> None:
    """A suggestion is made of a profile as it was before anything was known of its person."""
    run.good("suggestion.read", phase="recovery")[20].version = 0


def read_again(run: Recorded) -> None:
    """A register is told once more what stood there two values before."""
    reads = run.good("register.read", phase="steady")
    reads[20].stood = reads[12].stood


def see_too_little(run: Recorded) -> None:
    """Of two transactions at the same time neither sees what the other appended."""
    second = run.good(KIND, phase="steady")[11]
    told = told_of(second.stood or "")
    second.stood = told_text(told._replace(contents=(told.contents[0].rpartition(",")[0],)))


def forget_registers(run: Recorded) -> None:
    """One standby has the rows, and hardly any of the registers."""
    members = run.event("copies").data["members"]
    copy = members["postgresql-replica-0"]
    tables = copy["tables"] | {"registers": {"rows": 3, "digest": "9"}}
    run.change("copies", members=members | {"postgresql-replica-0": copy | {"tables": tables}})


def orphan(run: Recorded) -> None:
    """The server takes messages for being with a consumer that there is not."""
    counts = run.event("queues").data["unacknowledged"]
    run.change("queues", unacknowledged=counts | {"session-events": 40})


def never_expires(run: Recorded) -> None:
    read = next(read for read in run.sessions.values() if read.state == "live")
    run.sessions[read.key] = SessionRead(read.key, read.group, True, "live", read.version, -1, read.log)


def leave_rooms_alone(run: Recorded) -> None:
    """Nobody hears of an edit in a room of shard 2 for 9 s, though each is stored and handed on."""
    for op in run.of("collaboration.edit", 2):
        if APPLIED <= op.due < APPLIED + 9 * S:
            op.end("unknown", 2 * S, "timeout")


def write_no_rows_for_a_while(run: Recorded) -> None:
    """PostgreSQL, which was left alone, takes no row for a second and a half."""
    for op in run.of("postgresql.write", phase="recovery"):
        if RECOVERY + 5 * S <= op.due < RECOVERY + 6 * S + S // 2:
            op.end("fail", 1_500, "57P03")
            run.lose(op)


def hand_out_nothing_for_a_while(run: Recorded) -> None:
    """Consumers of queues that were left alone are handed nothing for a second and a half, and then all of it."""
    begin, end = RECOVERY + 5 * S, RECOVERY + 6 * S + S // 2
    run.consumed = [
        replace(line, came=end, at=max(end, line.at)) if begin <= line.came < end else line for line in run.consumed
    ]


def hit_a_member_of_queues(run: Recorded) -> None:
    """A member of RabbitMQ was hit, too, and consumers of a queue got nothing for 3 s: its recovery is in time."""
    run.change("injected", members=[*run.event("injected").data["members"], "rabbitmq-0"])
    begin, end = RECOVERY + 5 * S, RECOVERY + 8 * S
    run.consumed = [
        replace(line, came=end, at=max(end, line.at))
        if line.queue == "collaboration-sync" and begin <= line.came < end else line
        for line in run.consumed
    ]  # fmt: skip


def confirm_late(run: Recorded) -> None:
    """Every tenth message since the fault was confirmed after 0.6 s."""
    for op in [op for op in run.of("rabbitmq.publish") if op.due >= FAULT][::10]:
        op.end("ok", 600_000)


def lose_answers_to_people(run: Recorded) -> None:
    """Ten suggestions since the fault were asked for in vain, 4 s apart."""
    for op in [op for op in run.of("suggestion.read") if op.due >= FAULT][::12]:
        op.end("fail", 6_000, "http-503")
        op.version = -1


def count_less(run: Recorded, member: str, route: str, about: Scenario) -> None:
    """A member counts three of the requests that its edge saw answered in the steady phase not at all."""

    def less(run: Recorded, folder: Path) -> None:
        run.series = [
            replace(line, values=tuple(max(line.values[10], value - 3) if n > 10 else value
                                       for n, value in enumerate(line.values)))
            if line.labels.get("member") == member and line.labels.get("route") == route else line
            for line in samples(run.history(folder, about), about)
        ]  # fmt: skip

    run.later = less


def refuse_a_suggestion(run: Recorded) -> None:
    """One of 80 suggestions and interests, before anything was broken."""
    op = run.good("suggestion.read", phase="steady")[20]
    op.end("fail", 6_000, "http-503")
    op.version = -1


def lead_together(run: Recorded) -> None:
    """Shard 2 is led from the node that shard 3 is led from."""
    run.change("role", 1, role="replica")
    run.change("role", 4, role="primary")


CASES = (
    Case(check="durability.direct", change=lose("direct.write"), says="1 acknowledged direct write lost"),
    Case(check="durability.session", change=lose("session.heartbeat"), says="1 acknowledged session write lost"),
    Case(check="durability.collaboration", change=lose("collaboration.edit"), says="1 acknowledged edit lost"),
    Case(check="durability.postgresql", says="1 acknowledged row lost",
         change=lambda run: run.lose(run.good("postgresql.write", phase="steady")[7])),
    Case(check="durability.rabbitmq", says="1 acknowledged message lost",
         change=lambda run: run.lose(run.good("rabbitmq.publish", phase="steady")[7])),
    Case(check="durability.content", change=lambda run: run.jobs.pop(3), says="1 acknowledged article change lost"),
    Case(check="durability.events", change=lambda run: run.outbox.pop(3), says="1 acknowledged session end lost"),
    Case(check="order.rabbitmq", change=overtake, says="1 message came after later ones"),
    Case(check="staleness.suggestions", change=suggest_from_long_ago, says="1 read staler than the bound", people=True),
    Case(check="linearizability.postgresql", change=read_again, says="1 register answered what no order explains"),
    Case(check="isolation.postgresql", change=see_too_little, says="1 anomaly that serializable does not allow"),
    Case(check="recovery", change=lose_the_shard_again, says="no write succeeded in the last"),
    Case(check="recovery.postgresql", change=write_no_rows_for_a_while, says="which nothing excuses"),
    Case(check="recovery.rabbitmq", change=hand_out_nothing_for_a_while, says="which nothing excuses"),
    Case(check="takeover", says="ttl is 60 instead of 20",
         change=lambda run: run.change("patroni", config=run.event("patroni").data["config"] | {"ttl": 60})),
    Case(check="slo", change=refuse_reads, says="Session requests answered in phase fault"),
    Case(check="availability", says="sick before any fault",
         change=lambda run: refuse_writes(run, run.of("direct.write", 2, "steady")[::50])),
    Case(check="availability", change=refuse_a_suggestion, people=True,
         says="suggestions and interests in phase steady"),
    Case(check="latency", change=answer_late, says="3 ops slower than 250 ms"),
    Case(check="collaboration.order", change=swap, says="1 reordered"),
    Case(check="collaboration.delivery", says="1 gap",
         change=lambda run: run.deliveries.remove([x for x in run.deliveries if x.receiver == "m-room-1-0"][10])),
    Case(check="session.guarantees", says="1 stale read",
         change=lambda run: setattr(run.good("session.read", phase="steady")[3], "version", 1)),
    Case(check="session.expiry", change=never_expires, says="Live sessions have the time to live"),
    Case(check="convergence", says="s-0001 on redis-cluster-4",
         change=lambda run: run.change(
             "replicas", differing=1, examples=[{"member": "redis-cluster-4", "key": "s-0001"}])),
    Case(check="convergence.postgresql", change=forget_registers,
         says="postgresql-replica-0 holds 3 rows of registers, postgresql-primary-0 18"),
    Case(check="convergence.queues", change=orphan, says="session-events has 40 messages unacknowledged"),
    Case(check="blast-radius", change=leave_rooms_alone, says="rooms: "),
    Case(check="blast-radius", change=hit_a_member_of_queues, says="no message was handed to anybody for 3."),
    Case(check="blast-radius", change=confirm_late, says="rabbitmq.publish: "),
    Case(check="blast-radius", change=lose_answers_to_people, says="suggestion.read: 9 of 120", people=True),
    Case(check="reconciliation", says="create: clients were told of",
         change=lambda run: count_less(run, "session-0", "create", ABOUT)),
    Case(check="reconciliation", says="suggest: clients were told of", people=True,
         change=lambda run: count_less(run, "personalization-0", "suggest", personalized(ABOUT))),
    Case(check="members", says="prometheus-0 was killed by SIGKILL at 2.0 s", verdict="inconclusive",
         change=lambda run: run.events.append(
             Event("member", STEADY, {"member": "prometheus-0", "what": "exited", "pid": 7, "code": -9}))),
    Case(check="logs", says="redis-cluster-1 crashed at 30.0 s by its own log (crashed by a signal)",
         change=lambda run: run.say("redis-cluster-1", stamped("redis", FAULT + 8 * S, CRASH))),
    Case(check="placement", change=lead_together, says="node-3 holds 2 of 3 primaries at the start"),
)  # fmt: skip


def signed(name: str, check: Check) -> Check:
    """The check, with its findings under its own name."""

    def findings(scenario: Scenario, history: History) -> tuple[Finding, ...]:
        return tuple(replace(finding, check=name) for finding in check(scenario, history))

    return findings


def sound(*, people: bool) -> Recorded:
    """A run of `ABOUT` as it should be; with ``people``, where it has the personalization service."""
    run = with_lists(recorded(tiers=WITH_CONTENT))
    run.events.extend(patroni_events())
    return with_people(run) if people else run


def judged(run: Recorded, folder: Path, *, people: bool) -> Judgement:
    if run.later:
        run.later(run, folder)
    checks = {name: signed(name, check) for name, check in CHECKS.items()}
    about = personalized(ABOUT) if people else ABOUT
    return judge(about, run.history(folder, about), checks=checks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.check)
def test_only_this_check_finds_it(case: Case, tmp_path: Path) -> None:
    run = sound(people=case.people)
    case.change(run)
    judgement = judged(run, tmp_path, people=case.people)
    found = [finding for finding in judgement.findings if finding.verdict != "pass"]
    assert {(finding.check, finding.verdict) for finding in found} == {(case.check, case.verdict)}
    assert any(case.says in f"{finding.title} {finding.reason}" for finding in found), found
    assert judgement.verdict == case.verdict


def test_all_of_them_pass_a_run_as_it_should_be(tmp_path: Path) -> None:
    findings = [
        finding
        for people in (False, True)
        for finding in judged(sound(people=people), tmp_path / str(people), people=people).findings
    ]
    assert {finding.check for finding in findings} >= set(CHECKS)
    assert {finding.verdict for finding in findings} == {"pass"}


def test_every_check_has_a_run_that_it_alone_finds_fault_with() -> None:
    assert {case.check for case in CASES} == set(CHECKS)
