"""Puts a judgement together: assumptions first, then the checks, then the objectives on what those measured.

::

    ASSUMPTIONS ──┐ those that do not hold
    CHECKS ───────┴▶ findings that rest on them become inconclusive ──▶ worst wins ──▶ Judgement

An assumption that no finding rests on is not part of the judgement, but for those that are `ALWAYS`: no run that was
broken off is a pass, nor one whose fault nobody saw, whichever checks its scenario names. A loss, a duplicate or a
resurrection rests on nothing but a complete audit, so it stays a fail whatever else went wrong. A fail that the
scenario names as a known weakness is shown, and does not count (`weakness`).
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from resilience.check.assumption import audit, control, fault, load, metrics, processors, record
from resilience.check.assumption.clocks import clocks, with_clocks
from resilience.check.availability import availability
from resilience.check.blast import blast_radius
from resilience.check.collaboration.delivery import delivery
from resilience.check.collaboration.order import order
from resilience.check.convergence import convergence
from resilience.check.durability.collaboration import collaboration
from resilience.check.durability.content import content
from resilience.check.durability.direct import direct
from resilience.check.durability.events import events
from resilience.check.durability.postgresql import postgresql
from resilience.check.durability.rabbitmq import rabbitmq
from resilience.check.durability.session import session
from resilience.check.expiry import expiry
from resilience.check.finding import Finding, Judgement, Verdict, worst
from resilience.check.guarantees import guarantees
from resilience.check.headline import headline
from resilience.check.latency import latency
from resilience.check.lists import lists
from resilience.check.logs import logs
from resilience.check.measure import combined
from resilience.check.members import members
from resilience.check.placement import placement
from resilience.check.postgresql.convergence import convergence_of_postgresql
from resilience.check.postgresql.recovery import recovery_of_rows
from resilience.check.rabbitmq.agreement import agreement
from resilience.check.rabbitmq.order import order_of_messages
from resilience.check.rabbitmq.recovery import recovery_of_consumers
from resilience.check.reconciliation import reconciliation
from resilience.check.recovery import recovery
from resilience.check.registers import registers
from resilience.check.slo import measured_slos, slo
from resilience.check.staleness import suggestions
from resilience.check.takeover import takeover
from resilience.check.weakness import with_weaknesses
from resilience.history.read import History
from resilience.spec.scenario import Scenario

Check = Callable[[Scenario, History], tuple[Finding, ...]]

ASSUMPTIONS: dict[str, Check] = {
    "assumption.not-interrupted": record.not_interrupted,
    "assumption.history-whole": record.history_whole,
    "assumption.fault-proved": fault.fault_proved,
    "assumption.fault-healed": fault.fault_healed,
    "assumption.experiment-completed": fault.experiment_completed,
    "assumption.control": control.control,
    "assumption.generator-alive": load.generator_alive,
    "assumption.generator-cpu": processors.generator_cpu,
    "assumption.load-rate": load.load_rate,
    "assumption.schedule-lag": load.schedule_lag,
    "assumption.phases-complete": record.phases_complete,
    "assumption.shards-known": record.shards_known,
    "assumption.clocks": clocks,
    "assumption.clock-step": metrics.clock_step,
    "assumption.coverage": metrics.coverage,
    "assumption.totals-reconciled": metrics.totals_reconciled,
    "assumption.audit-complete": audit.audit_complete,
    "assumption.postgresql-known": record.postgresql_known,
    "assumption.postgresql-audited": audit.rows_audited,
    "assumption.rabbitmq-drained": audit.queues_drained,
    "assumption.lists-audited": audit.lists_audited,
    "assumption.outbox-audited": audit.outbox_audited,
    "assumption.profiles-audited": audit.profiles_audited,
    "assumption.rooms-audited": audit.rooms_audited,
    "assumption.content-audited": audit.content_audited,
}

# are shown, and count, whether a finding rests on them or not
ALWAYS = ("assumption.not-interrupted",)
ALWAYS_OF_FAULT = ("assumption.experiment-completed", "assumption.fault-proved", "assumption.fault-healed")

CHECKS: dict[str, Check] = {
    "durability.direct": direct,
    "durability.session": session,
    "durability.collaboration": collaboration,
    "durability.postgresql": postgresql,
    "durability.rabbitmq": rabbitmq,
    "durability.events": events,
    "durability.content": content,
    "order.rabbitmq": order_of_messages,
    "staleness.suggestions": suggestions,
    "linearizability.postgresql": registers,
    "isolation.postgresql": lists,
    "recovery": recovery,
    "recovery.postgresql": recovery_of_rows,
    "recovery.rabbitmq": recovery_of_consumers,
    "takeover": takeover,
    "slo": slo,
    "availability": availability,
    "latency": latency,
    "collaboration.order": order,
    "collaboration.delivery": delivery,
    "session.guarantees": guarantees,
    "session.expiry": expiry,
    "convergence": convergence,
    "convergence.postgresql": convergence_of_postgresql,
    "convergence.queues": agreement,
    "blast-radius": blast_radius,
    "reconciliation": reconciliation,
    "members": members,
    "logs": logs,
    "placement": placement,
}

# what a stack need not have: the component that each of these checks looks at
TIERS: dict[str, str] = {
    "durability.postgresql": "postgresql",
    "recovery.postgresql": "postgresql",
    "convergence.postgresql": "postgresql",
    "durability.rabbitmq": "rabbitmq",
    "order.rabbitmq": "rabbitmq",
    "recovery.rabbitmq": "rabbitmq",
    "convergence.queues": "rabbitmq",
    "linearizability.postgresql": "postgresql",
    "isolation.postgresql": "postgresql",
    "durability.content": "content",
    "takeover": "etcd",  # Patroni's
}

# what only a stack with several of them has, and what a load need not do: each of these checks looks at nothing else
PARTS: dict[str, Callable[[Scenario], bool]] = {
    "durability.events": lambda scenario: scenario.stack.has_outbox,
    "staleness.suggestions": lambda scenario: scenario.stack.personalization is not None,
    "linearizability.postgresql": lambda scenario: scenario.load.postgresql_register_rate_ops_per_s is not None,
    "isolation.postgresql": lambda scenario: scenario.load.postgresql_list_rate_ops_per_s is not None,
}


def checks_of(scenario: Scenario, checks: Iterable[str] = CHECKS) -> tuple[str, ...]:
    """Those checks that have something to look at in a scenario's stack, under its load."""
    there = (name for name in checks if name not in TIERS or scenario.stack.of(TIERS[name]))
    return tuple(name for name in there if name not in PARTS or PARTS[name](scenario))


def judge(
    scenario: Scenario,
    history: History,
    *,
    checks: Mapping[str, Check] = CHECKS,
    assumptions: Mapping[str, Check] = ASSUMPTIONS,
) -> Judgement:
    """The judgement of a run by the checks that its scenario names (all that its stack has, if none); never raises.

    Objectives are judged whether the scenario names the check ``slo`` or not.
    """
    supposed = {name: _carried_out(name, check, scenario, history) for name, check in assumptions.items()}
    found = tuple(finding for name in _named(scenario, checks) for finding in _checked(name, checks, scenario, history))
    found += measured_slos(scenario, found)
    found = tuple(with_clocks(history, finding) for finding in found)
    needed = {name for finding in found for name in finding.rests_on}
    broken = _broken(supposed, needed)
    counted = {*needed, *ALWAYS, *(ALWAYS_OF_FAULT if scenario.experiment else ())}
    shown = tuple(finding for name, findings in supposed.items() if name in counted for finding in findings)
    findings = shown + with_weaknesses(scenario, (_resting(finding, broken) for finding in found))
    verdict = worst(finding.counts_as for finding in findings) if found else "inconclusive"
    return Judgement(
        scenario=scenario.name,
        verdict=verdict,
        headline=headline(verdict, findings),
        findings=findings,
        measures=combined(findings),
    )


def _named(scenario: Scenario, checks: Mapping[str, Check]) -> tuple[str, ...]:
    named = scenario.checks or checks_of(scenario, checks)
    return (*named, "slo") if scenario.slos and "slo" not in named and "slo" in checks else named


def _checked(name: str, checks: Mapping[str, Check], scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A check's findings; what cannot be judged is inconclusive, never silence."""
    if name not in checks:
        reason = f"there is no check {name!r}; there are {', '.join(checks)}"
        return (_unjudged(name, reason),)
    found = _carried_out(name, checks[name], scenario, history)
    if found or name == "slo":  # a scenario may have no objective on Prometheus' numbers
        return found
    return (_unjudged(name, "there was nothing to judge"),)


def _carried_out(name: str, check: Check, scenario: Scenario, history: History) -> tuple[Finding, ...]:
    try:
        return check(scenario, history)
    except Exception as error:  # noqa: BLE001  the boundary: whatever a check trips over, its run is not a pass
        return (_unjudged(name, f"the check broke off with {type(error).__name__}: {error}"),)


def _unjudged(name: str, reason: str) -> Finding:
    return Finding(check=name, verdict="inconclusive", title=f"{name} could not be judged", reason=reason)


def _broken(supposed: Mapping[str, Iterable[Finding]], needed: Iterable[str]) -> dict[str, str]:
    """Why those assumptions do not hold that something rests on; one that nobody examined does not hold."""
    reasons = {name: "it was not examined" for name in needed if name not in supposed}
    for name, findings in supposed.items():
        against = [finding.reason for finding in findings if finding.verdict != "pass"]
        if against or not findings:
            reasons[name] = "; ".join(against) or "it was not examined"
    return reasons


def _resting(finding: Finding, broken: Mapping[str, str]) -> Finding:
    """The finding as it is, or inconclusive because of what it rests on; it says what it would have been."""
    fallen = [name for name in finding.rests_on if name in broken]
    if not fallen:
        return finding
    first = f"{_short(fallen[0])}: {broken[fallen[0]]}"
    others = f"; also {', '.join(map(_short, fallen[1:]))}" if fallen[1:] else ""
    verdict: Verdict = "inconclusive"
    return replace(
        finding, verdict=verdict, reason=f"rests on what does not hold: {first}{others}{_otherwise(finding)}"
    )


def _short(assumption: str) -> str:
    return assumption.removeprefix("assumption.")


def _otherwise(finding: Finding) -> str:
    """What the finding would have been, if that is worth knowing."""
    return "" if finding.verdict == "pass" else f" (otherwise {finding.verdict}: {finding.reason})"
