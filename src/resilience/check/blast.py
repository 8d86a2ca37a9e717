"""Blast radius: a key group that the scenario does not name must not suffer from the fault.

A shard's keys are those of the direct client, and people's sessions and rooms. The direct client shows whether the
shard itself is well; people may suffer all the same, where a service lets the lost shard take its connections or its
time from the others. So each is judged for itself, in two ways, and articles, which are on no shard, in the second:

- *How long nobody was served*: the longest time for which none of its ops was acknowledged.
- *Who was not served*: of each kind of op that follows a schedule, those that failed or were answered late. All shards
  may refuse while one has no primary (``others_outage_s_max``), so the one stretch of that length with the most of them
  does not count. Beside it `SHARE_MAX` at most are: 9 of 10 writes that fail make no silence, nor do reads that all
  fail while writes succeed.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from resilience.check import needs
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding, Where
from resilience.check.outage import gaps, longest, outages, where
from resilience.check.text import count, percent, seconds
from resilience.history.columns import OK, Flags, Ints
from resilience.history.read import History
from resilience.spec.blast import CONTENT, BlastRadius
from resilience.spec.scenario import Scenario

# Sound runs had none, but for 0.5 % of the reads just after a node with a session service was lost.
SHARE_MAX = 0.02
FEW = 1  # a single op is no share of anything
LATE_S = 0.5  # what the objectives of latency in scenarios/slo hold requests to
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.SHARDS + needs.FAULT


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
            yield _served(scenario, history, group, radius.others_outage_s_max)
    if scenario.stack.content is not None and CONTENT not in radius.may_suffer:
        kinds = {kind: history.ops.of_kind(kind) for kind in history.ops.kinds if kind.startswith("content.")}
        yield _kinds_served(scenario, history, CONTENT, kinds, radius.others_outage_s_max)


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
        where=where(f"shard {group}", worst),
        rests_on=_RESTS_ON,
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
        rests_on=_RESTS_ON,
    )


def _for_certain_s(history: History, rows: Flags, group: int, most_us: float) -> float:
    """The longest time for which ops were sent and none was acknowledged, where it is longer than allowed; else 0."""
    found = gaps(history, rows, group, most_us)
    return max((gap.length_s - gap.error_s for gap in found), default=0.0)


def _served(scenario: Scenario, history: History, group: int, most_s: float) -> Finding:
    """Of each kind of op on a shard, whether it is served."""
    ops = history.ops
    on_it = ops.group == group
    rows = {kind: on_it & ops.of_kind(kind) for kind in ops.kinds if kind.startswith("session.")}
    rows["direct.write"] = on_it & ops.of_kind("direct.write")
    edits = on_it & ops.of_kind("collaboration.edit")
    if edits.any():  # a room need not be on each shard
        rows["collaboration.edit"] = edits
    return _kinds_served(scenario, history, f"shard {group}", rows, most_s)


def _kinds_served(
    scenario: Scenario, history: History, place: str, rows: Mapping[str, Flags], most_s: float
) -> Finding:
    shares = _shares(scenario, history, rows, most_s)
    many = [f"{kind}: {bad:,} of {sent:,}" for kind, (bad, sent) in shares.items() if bad > max(FEW, SHARE_MAX * sent)]
    none = [kind for kind, (_, sent) in shares.items() if not sent] if shares else ["its ops"]
    worst = max((bad / sent for bad, sent in shares.values() if sent), default=0.0)
    return Finding(
        check="blast-radius.served",
        verdict="fail" if many else "inconclusive" if none else "pass",
        title=f"each kind of op on {place} is served",
        measured=f"of the worst kind {percent(worst)} failed or took over {seconds(LATE_S)}",
        allowed=f"≤ {percent(SHARE_MAX)} of each kind, beside {seconds(most_s)} at a stretch",
        value=worst,
        unit="ratio",
        reason=", ".join(many) or (f"none was sent of {', '.join(none)}" if none else ""),
        where=Where(group=place),
        rests_on=_RESTS_ON,
    )


def _shares(
    scenario: Scenario, history: History, rows: Mapping[str, Flags], most_s: float
) -> Mapping[str, tuple[int, int]]:
    """Of each kind of op since the fault how many were not served, beside the stretch, and how many were sent."""
    ops = history.ops
    since = ops.in_phase("fault", "recovery") if scenario.experiment else ops.in_phase("steady")
    bad = (ops.outcome != OK) | (ops.returned - ops.due > LATE_S * SECOND_US)
    sent = {kind: since & of_kind for kind, of_kind in rows.items()}
    return {kind: (_beside(ops.due[own & bad], most_s * SECOND_US), int(own.sum())) for kind, own in sent.items()}


def _beside(instants: Ints, stretch_us: float) -> int:
    """How many of these lie outside of the one stretch that holds the most of them."""
    instants = np.sort(instants)
    held = np.searchsorted(instants, instants + stretch_us, side="right") - np.arange(len(instants))
    return len(instants) - int(held.max(initial=0))


def _reason(writes: int, least_s: float, most_s: float) -> str:
    if not writes:
        return "the direct client wrote nothing to it"
    return f"without an acknowledged write for {seconds(least_s)} at least" if least_s > most_s else ""
