"""A judged run made by hand, for tests of what is rendered: a node is lost, one shard is away for six seconds."""

import math
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from resilience.check.finding import Finding, Judgement, Where
from resilience.check.timeline import RoleChange, Span, Timeline
from resilience.history.record import Event
from resilience.history.writer import Writer
from resilience.report.document import About
from resilience.report.run import Run
from resilience.report.store import RunStore
from resilience.spec.fault import PowerOff, Target
from resilience.spec.load import Load
from resilience.spec.scenario import Experiment, Scenario
from resilience.spec.scenario import Timeline as Phases
from resilience.spec.slo import FindingSource, RatioSource, Slo
from resilience.spec.stack import Async, Member, Redis, Shard, Stack

SECONDS = 92
FAULT_S, HEALED_S = 31.25, 61.25
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e<b>"
STARTED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
RECOVERY = {
    "recovery.detected_s": 5.02,
    "recovery.elected_s": 5.65,
    "recovery.first_good_write_s": 6.152,
    "recovery.steady_again_s": 8.4,
    "recovery.outage_s": 6.152,
    "recovery.outage_error_s": 0.02,
}
ABOUT = About(
    revision="24cfa9d",
    versions={"python": "3.12.11", "redis": "8.0.2", "prometheus": "2.53.3"},
    host={"hostname": "laptop", "kernel": "6.12.0", "cpus": 2, "memory_mb": 7_900, "boot_id": "f2c1"},
    rerun="resilience run redis-failover --seed 42",
)


def stack() -> Stack:
    redis = tuple(
        Member(name=f"redis-cluster-{n}", component="redis", node=f"node-{1 + (n + n // 3) % 3}") for n in range(6)
    )
    services = (
        Member(name="session-0", component="session", node="node-1"),
        Member(name="session-1", component="session", node="node-2"),
        Member(name="edge-0", component="edge", node="outside"),
        Member(name="prometheus-0", component="prometheus", node="observer"),
    )
    return Stack(
        name="platform",
        durability=Async(),
        nodes=("node-1", "node-2", "node-3"),
        restart_delay_s=1.0,
        session_ttl_s=604_800,
        scrape_interval_s=1.0,
        redis=Redis(),
        shards=tuple(Shard(primary=f"redis-cluster-{n}", replicas=(f"redis-cluster-{n + 3}",)) for n in range(3)),
        members=redis + services,
    )


def scenario() -> Scenario:
    ratio = RatioSource(good='ops{outcome="ok"}', total="ops", latency_threshold_s=0.25)
    time = FindingSource(measure="recovery.first_good_write_s", unit="s")
    return Scenario(
        name="redis-failover",
        title="The node that holds a shard's primary is lost",
        description="Its links go silent, then its processes end. Redis must elect the replica.",
        stack=stack(),
        load=Load(),
        timeline=Phases(warmup_s=5, steady_s=26, fault_s=30, recovery_s=30),
        experiment=Experiment(
            file="experiments/redis/redis-failover.yaml",
            title="Power off the node of shard 1's primary",
            fault=PowerOff(),
            target=Target(component="redis", role="primary", shard=1, scope="node"),
            document={},
        ),
        slos=(
            Slo(
                name="session-latency",
                title="Fast",
                phases=("steady",),
                source=ratio,
                op="gte",
                target=0.99,
                service="session",
            ),
            Slo(
                name="recovery", title="Back", phases=("fault",), source=time, op="lte", target=12.0, service="session"
            ),
        ),
        checks=("durability",),
        seed=42,
        file="scenarios/redis/redis-failover.yaml",
    )


def timeline() -> Timeline:
    """92 seconds with an outage of shard 1 from 31.25 s to 37.4 s; two seconds in which nothing was measured."""
    out = [31 <= second < 37 for second in range(SECONDS)]
    ok = [round(190 + 8 * math.sin(second) - (60 if away else 0)) for second, away in enumerate(out)]
    bad = [60 if away else 0 for away in out]
    silent = {70, 71}
    slow = [4 + math.sin(second / 3) + (180 if away else 0) for second, away in enumerate(out)]
    latency = {"p50": 1.0, "p95": 2.6, "p99": 6.0}
    return Timeline(
        seconds=tuple(range(SECONDS)),
        ops_per_s={"ok": tuple(ok), "fail": tuple(n // 3 for n in bad), "unknown": tuple(n - n // 3 for n in bad)},
        error_ratio=tuple(None if s in silent else bad[s] / (ok[s] + bad[s]) for s in range(SECONDS)),
        latency_ms={
            name: tuple(None if s in silent else round(slow[s] * factor, 3) for s in range(SECONDS))
            for name, factor in latency.items()
        },
        direct_ok_per_s={
            str(group): tuple(0 if group == 1 and out[s] else 100 - (s + group) % 3 for s in range(SECONDS))
            for group in (1, 2, 3)
        },
        deliveries_per_s=tuple(240 - 80 * away for away in out),
        roles=(
            *(
                RoleChange(
                    at_s=0.4, member=f"redis-cluster-{n}", group=1 + n % 3, role="replica" if n > 2 else "primary"
                )
                for n in range(6)
            ),
            RoleChange(at_s=31.9, member="redis-cluster-0", group=1, role="unreachable"),
            RoleChange(at_s=36.9, member="redis-cluster-3", group=1, role="primary"),
            RoleChange(at_s=63.0, member="redis-cluster-0", group=1, role="replica"),
        ),
        phases=(
            Span(label="warmup", start_s=0.2, end_s=5.2),
            Span(label="steady", start_s=5.2, end_s=31.25),
            Span(label="fault", start_s=31.25, end_s=61.25),
            Span(label="recovery", start_s=61.25, end_s=91.6),
        ),
        injections=(Span(label="power-off-1", start_s=FAULT_S, end_s=HEALED_S),),
        outages=(
            Span(label="outage", start_s=31.25, end_s=37.402, group=1),
            Span(label="outage", start_s=35.9, end_s=37.31, group=2),
        ),
    )


def passed() -> Judgement:
    """All is well: two objectives, three checks and two assumptions."""
    return Judgement(
        scenario="redis-failover",
        verdict="pass",
        headline="pass: no acknowledged write lost; 6 findings of checks and objectives, all within bounds",
        findings=(
            Finding(
                check="slo.session-latency",
                verdict="pass",
                title="Session ops answered within 250 ms in phase steady",
                measured="99.97 % of 3,912 events",
                allowed="≥ 99 %",
                value=0.9997,
                unit="ratio",
                where=Where(phase="steady", start_us=5_200_000, end_us=31_250_000),
            ),
            Finding(
                check="slo.recovery",
                verdict="pass",
                title="First acknowledged write after the fault",
                measured="6.152 s ± 0.020 s",
                allowed="≤ 12 s",
                value=6.152,
                unit="s",
                where=Where(phase="fault"),
            ),
            *(
                Finding(
                    check="availability",
                    verdict="pass",
                    title=f"session ops on shard {group} in phase steady",
                    measured="100 % of 1,304 ops ok",
                    allowed="≥ 99.9 %",
                    value=1.0 - group / 10_000,
                    unit="ratio",
                    where=Where(phase="steady", group=f"shard {group}", start_us=5_200_000, end_us=31_250_000),
                )
                for group in (1, 2, 3)
            ),
            Finding(
                check="recovery",
                verdict="pass",
                title="shard 1 was restored after its primary redis-cluster-0 was hit",
                measured="suspected 5.020 s, elected 5.650 s, first good write 6.152 s, outage 6.132 s to 6.152 s",
                allowed="writes and people's service come back before the load ends",
                value=6.152,
                unit="s",
                where=Where(group="shard 1", start_us=31_250_000, end_us=37_402_000),
                evidence=tuple({"what": name, "value": value} for name, value in RECOVERY.items()),
                evidence_total=len(RECOVERY),
                measures=RECOVERY,
            ),
            Finding(
                check="assumption.load-rate",
                verdict="pass",
                title="The load kept its minimum rate in each phase",
                measured="at least 108 % of the minimum everywhere",
                allowed="100 %",
            ),
            Finding(
                check="assumption.fault-proved",
                verdict="pass",
                title="The fault was in effect",
                measured="1 injected",
                allowed="proved after injecting and before healing",
            ),
        ),
        measures={**RECOVERY, "durability.acked_ops": 31_204.0, "durability.lost_ops": 0.0},
    )


def lost_writes(count: int = 12, key: str = "direct:{a}:17") -> Finding:
    """Acknowledged writes that were not there any more, the first 200 as evidence."""
    return Finding(
        check="durability.direct",
        verdict="fail",
        title=f"{count} acknowledged writes lost, acknowledged 0.012 s to 1.310 s before the fault took effect",
        measured=f"{count} of 9,102 acknowledged writes lost, 4 recovered",
        allowed="only acknowledged within 1 s before the fault",
        value=float(count),
        unit="ops",
        reason="3 of 12 lost writes were acknowledged outside what may be lost",
        where=Where(group="shard 1", start_us=29_940_000, end_us=31_238_000),
        rests_on=("assumption.audit-complete",),
        evidence=tuple(
            {
                "what": "lost",
                "op": f"direct/{3_000 + n}",
                "kind": "direct.write",
                "key": key,
                "value": f"direct-42-{3_000 + n}",
                "called_us": 29_939_000 + n * 100_000,
                "acked_us": 29_940_000 + n * 100_000,
                "allowed": n > 2,
                "age_s": round(1.31 - n / 10, 3),
            }
            for n in range(min(count, 200))
        ),
        evidence_total=count,
    )


def failed(loss: Finding | None = None) -> Judgement:
    """As `passed`, with writes lost."""
    loss = loss or lost_writes()
    return msgspec.structs.replace(
        passed(),
        verdict="fail",
        headline=f"fail: {loss.title} on shard 1: {loss.measured}, allowed: {loss.allowed}",
        findings=(*passed().findings, loss),
        measures={**passed().measures, "durability.lost_ops": loss.value or 0.0},
    )


def known() -> Judgement:
    """As `failed`, where that loss is a known weakness within its bound: a pass that says so."""
    loss = msgspec.structs.replace(lost_writes(), known="WAIT would keep those writes <b>")
    return msgspec.structs.replace(
        failed(loss), verdict="pass", headline=f"pass: known weakness, seen again: {loss.title}: {loss.measured}"
    )


def inconclusive() -> Judgement:
    """The fault was not proved, so that what rests on it means nothing."""
    unproved = Finding(
        check="assumption.fault-proved",
        verdict="inconclusive",
        title="The fault was in effect",
        measured="1 injected",
        allowed="proved after injecting and before healing",
        reason="power-off-1 was not in effect after it was injected: redis-cluster-0 answered",
    )
    findings = (*passed().findings[:-1], unproved)
    return msgspec.structs.replace(
        passed(),
        verdict="inconclusive",
        headline="inconclusive: power-off-1 was not in effect after it was injected",
        findings=findings,
    )


def beside(judgement: Judgement, control: str) -> Judgement:
    """The same with a control of which that is said."""
    finding = Finding(check="assumption.control", verdict="pass", title="The platform was well", measured=control)
    return msgspec.structs.replace(judgement, findings=(*judgement.findings, finding))


def hostile() -> Judgement:
    """Every text that the platform can choose is an attack."""
    loss = msgspec.structs.replace(
        lost_writes(3, key=f"direct:{HOSTILE}:1"), title=f"Gone {HOSTILE}", reason=HOSTILE, measured=HOSTILE
    )
    return msgspec.structs.replace(failed(loss), headline=f"fail: lost {HOSTILE}")


def events() -> list[Event]:
    """What the runner, the chaos process and the generators wrote."""
    each_second = [
        Event("generator", second * 1_000_000, {"client": client, "cpu_ratio": 0.3, "lag_ms_p99": 2.0 + second % 5 / 4})
        for second in range(1, SECONDS)
        for client in ("direct", "locust")
    ]
    pressure = [
        Event("pressure", second * 1_000_000, {"busy_ratio": 0.55, "cpu_some_ratio": 0.08, "steal_ratio": 0.0})
        for second in range(1, SECONDS)
    ]
    return [
        Event("stack-up", 100_000, {"took_s": 7.8}),
        Event(
            "injected",
            31_251_000,
            {
                "injection": "power-off-1",
                "began_us": 31_240_000,
                "applied_us": 31_250_000,
                "members": ["redis-cluster-0", "session-0"],
                "nodes": ["node-1"],
            },
        ),
        Event("member", 62_000_000, {"member": "redis-cluster-0", "what": HOSTILE, "pid": 7}),
        *each_second,
        *pressure,
    ]


def opened(reports_dir: Path) -> Run:
    """A new run's directory with its history and servers, not judged yet."""
    run = RunStore(reports_dir, None, now=lambda: STARTED).open(scenario(), ABOUT)
    with Writer(run.history) as writer:
        for event in events():
            writer.append(event)
    run.save_servers({f"redis-cluster-{n}": {"appendonly": "yes", "appendfsync": "everysec"} for n in range(6)})
    return run


def saved(reports_dir: Path, judgement: Judgement) -> Run:
    """A run's directory with that judgement."""
    run = opened(reports_dir)
    run.save_judgement(judgement, timeline())
    return run
