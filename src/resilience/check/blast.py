"""Blast radius: a key group that the scenario does not name must not suffer from the fault.

A shard's keys are those of the direct client, and people's sessions and rooms. The direct client shows whether the
shard itself is well; people may suffer all the same, where a service lets the lost shard take its connections or its
time from the others. So each is judged for itself, by how long none of its ops was acknowledged.
"""

from collections.abc import Iterator

from resilience.check import needs
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding, Where
from resilience.check.outage import gaps, longest, outages
from resilience.check.text import count, seconds
from resilience.history.columns import OK, Flags
from resilience.history.read import History
from resilience.spec.blast import BlastRadius
from resilience.spec.scenario import Scenario


def blast_radius(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard that may not suffer; one that says so if the scenario names no bound."""
    radius = scenario.blast_radius
    if radius is None:
        title = "The scenario sets no bound on who may suffer"
        return (Finding(check="blast-radius", verdict="pass", title=title, measured="not judged", allowed="any"),)
    return tuple(_spared(scenario, history, radius)) or (
        Finding(check="blast-radius", verdict="pass", title="Every shard may suffer", measured="not judged"),
    )


def _spared(scenario: Scenario, history: History, radius: BlastRadius) -> Iterator[Finding]:
    for group in range(1, len(scenario.stack.shards) + 1):
        name = f"shard {group}"
        if name not in radius.may_suffer:
            yield _judged(scenario, history, group, radius.others_outage_s_max)
            yield _people(history, group, radius.others_outage_s_max)


def _judged(scenario: Scenario, history: History, group: int, most_s: float) -> Finding:
    ops = history.ops
    writes = int((ops.of_kind("direct.write") & (ops.group == group) & (ops.outcome == OK)).sum())
    worst = longest(outages(scenario, history, group))
    length_s = worst.length_s if worst else 0.0
    least_s = length_s - worst.error_s if worst else 0.0  # what it has lasted for certain
    return Finding(
        check="blast-radius",
        verdict="inconclusive" if not writes else "fail" if least_s > most_s else "pass",
        title=f"shard {group} is not felt to be part of the fault",
        measured=f"longest outage {seconds(length_s)}" if writes else "no acknowledged write",
        allowed=f"≤ {seconds(most_s)}",
        value=length_s if writes else None,
        unit="s",
        reason=_reason(writes, least_s, most_s),
        where=Where(group=f"shard {group}", start_us=worst.start if worst else -1, end_us=worst.end if worst else -1),
        rests_on=needs.WHOLE + needs.LOAD + needs.TIMING + needs.SHARDS + needs.FAULT,
    )


def _people(history: History, group: int, most_s: float) -> Finding:
    ops = history.ops
    kinds = {"sessions": ops.of_kind("session."), "rooms": ops.of_kind("collaboration.edit")}
    rows = {what: flags & (ops.group == group) for what, flags in kinds.items()}
    served = int((rows["sessions"] & (ops.outcome == OK)).sum())
    found = {what: _for_certain_s(history, flags, group, most_s * SECOND_US) for what, flags in rows.items()}
    long = {what: least_s for what, least_s in found.items() if least_s > most_s}
    worst_s = max(found.values())
    return Finding(
        check="blast-radius.people",
        verdict="fail" if long else "pass" if served else "inconclusive",
        title=f"people whose sessions and rooms are on shard {group} go on",
        measured=f"no longer than that without an answer, {count(served, 'session op')} served"
        if not long
        else f"{seconds(worst_s)} at least without an answer",
        allowed=f"≤ {seconds(most_s)}",
        value=worst_s if long else None,
        unit="s",
        reason=", ".join(f"{what}: {seconds(least_s)} at least" for what, least_s in long.items())
        or ("" if served else "no session op on it succeeded"),
        where=Where(group=f"shard {group}"),
        rests_on=needs.WHOLE + needs.LOAD + needs.TIMING + needs.SHARDS + needs.FAULT,
    )


def _for_certain_s(history: History, rows: Flags, group: int, most_us: float) -> float:
    """The longest time for which ops were sent and none was acknowledged, where it is longer than allowed; else 0."""
    found = gaps(history, rows, group, most_us)
    return max((gap.length_s - gap.error_s for gap in found), default=0.0)


def _reason(writes: int, least_s: float, most_s: float) -> str:
    if not writes:
        return "the direct client wrote nothing to it"
    return f"without an acknowledged write for {seconds(least_s)} at least" if least_s > most_s else ""
