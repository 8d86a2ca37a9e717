"""Blast radius: a key group, a queue or a service that the scenario does not name must not suffer from the fault.

A shard's keys are those of the direct client, and people's sessions and rooms. The direct client shows whether the
shard itself is well; people may suffer all the same, where a service lets the lost shard take its connections or its
time from the others. What people do with articles and suggestions is on no shard, and that service's own. A queue's
publishers and consumers are those of the load: one that a service consumes has none, and what suffers with it is the
service. So each is judged for itself, in one of two ways or in both:

- *How long nobody was served*: the longest time for which none of its ops was acknowledged, or for which a queue's
  consumers were handed nothing (`check.rabbitmq.deliveries`).
- *Who was not served*: of each kind of op that follows a schedule, those that failed or were answered late. All shards
  may refuse while one has no primary (``others_outage_s_max``), so the one stretch of that length with the most of them
  does not count. Beside it `SHARE_MAX` at most are: 9 of 10 writes that fail make no silence, nor do reads that all
  fail while writes succeed.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from resilience.check import needs
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding, Where
from resilience.check.off_shards import services_of
from resilience.check.outage import gaps, longest, outages, where
from resilience.check.rabbitmq.deliveries import deliveries_of
from resilience.check.text import count, percent, seconds
from resilience.history.columns import OK, Flags, Ints
from resilience.history.read import History
from resilience.spec.blast import COLLABORATION, SESSION, BlastRadius
from resilience.spec.scenario import Scenario

# Sound runs had none, but for 0.5 % of the reads just after a node with a session service was lost.
SHARE_MAX = 0.02
FEW = 1  # a single op is no share of anything
LATE_S = 0.5  # what the objectives of latency in scenarios/slo hold requests to
PUBLISH = "rabbitmq.publish"
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.SHARDS + needs.FAULT


def blast_radius(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Findings on all that may not suffer; one that says so if the scenario names no bound."""
    radius = scenario.blast_radius
    if radius is None:
        title = "The scenario sets no bound on who may suffer"
        return (Finding(check="blast-radius", verdict="pass", title=title, measured="not judged", allowed="any"),)
    return tuple(_spared(scenario, history, radius)) or (
        Finding(check="blast-radius", verdict="pass", title="Everybody may suffer", measured="not judged"),
    )


def _spared(scenario: Scenario, history: History, radius: BlastRadius) -> Iterator[Finding]:
    most_s = radius.others_outage_s_max
    for group in range(1, len(scenario.stack.shards) + 1):
        if f"shard {group}" not in radius.may_suffer:
            yield _judged(scenario, history, group, most_s)
            yield from _people(history, group, radius)
            yield _served(scenario, history, group, radius)
    for queue in scenario.stack.load_queues:
        if f"queue {queue}" not in radius.may_suffer:
            published = {PUBLISH: history.ops.of_kind(PUBLISH) & history.ops.with_key(queue)}
            yield _kinds_served(scenario, history, f"queue {queue}", published, most_s)
            yield _consumers(scenario, history, queue, most_s)
    for service in services_of(scenario.stack):
        if service.name not in radius.may_suffer:
            kinds = {kind: history.ops.of_kind(kind) for kind in service.kinds}
            yield _kinds_served(scenario, history, service.name, kinds, most_s)


def _judged(scenario: Scenario, history: History, group: int, most_s: float) -> Finding:
    ops = history.ops
    writes = int((ops.of_kind("direct.write") & (ops.group == group) & (ops.outcome == OK)).sum())
    worst = longest(outages(scenario, history, group, most_s * SECOND_US))
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


class _Service(NamedTuple):
    """A service whose ops are on the shards, by what people have of it, and one of its ops in words."""

    name: str
    kind: str
    what: str
    op: str


_ON_SHARDS = (
    _Service(SESSION, "session.", "sessions", "session op"),
    _Service(COLLABORATION, "collaboration.edit", "rooms", "edit"),
)


def _people(history: History, group: int, radius: BlastRadius) -> Iterator[Finding]:
    """Of the services that may not suffer; a room need not be on each shard."""
    ops, most_s = history.ops, radius.others_outage_s_max
    services = [one for one in _ON_SHARDS if one.name not in radius.may_suffer]
    rows = {one: ops.of_kind(one.kind) & (ops.group == group) for one in services}
    first = next((one for one in services if one.name == SESSION or rows[one].any()), None)
    if first is None:
        return
    served = int((rows[first] & (ops.outcome == OK)).sum())
    found = {one.what: _for_certain_s(history, flags, group, most_s * SECOND_US) for one, flags in rows.items()}
    long = {what: least_s for what, least_s in found.items() if least_s > most_s}
    worst_s = max(found.values())
    yield Finding(
        check="blast-radius.people",
        verdict="fail" if long else "pass" if served else "inconclusive",
        title=f"people whose {' and '.join(found)} are on shard {group} go on",
        measured=f"no longer than that without an answer, {count(served, first.op)} served"
        if not long
        else f"{seconds(worst_s)} at least without an answer",
        allowed=f"≤ {seconds(most_s)}",
        value=worst_s if long else None,
        unit="s",
        reason=", ".join(f"{what}: {seconds(least_s)} at least" for what, least_s in long.items())
        or ("" if served else f"no {first.op} on it succeeded"),
        where=Where(group=f"shard {group}"),
        rests_on=_RESTS_ON,
    )


def _for_certain_s(history: History, rows: Flags, group: int, most_us: float) -> float:
    """The longest time for which ops were sent and none was acknowledged, where it is longer than allowed; else 0."""
    found = gaps(history, rows, group, most_us)
    return max((gap.length_s - gap.error_s for gap in found), default=0.0)


def _served(scenario: Scenario, history: History, group: int, radius: BlastRadius) -> Finding:
    """Of each kind of op on a shard, whether it is served."""
    ops = history.ops
    on_it = ops.group == group
    kinds = [kind for kind in ops.kinds if kind.startswith("session.")] if SESSION not in radius.may_suffer else []
    rows = {kind: on_it & ops.of_kind(kind) for kind in kinds}
    rows["direct.write"] = on_it & ops.of_kind("direct.write")
    edits = on_it & ops.of_kind("collaboration.edit")
    if edits.any() and COLLABORATION not in radius.may_suffer:  # a room need not be on each shard
        rows["collaboration.edit"] = edits
    return _kinds_served(scenario, history, f"shard {group}", rows, radius.others_outage_s_max)


def _consumers(scenario: Scenario, history: History, queue: str, most_s: float) -> Finding:
    """Whether a queue's consumers are handed messages: they stay behind, so there always is one for them."""
    found = deliveries_of(scenario, history, queue)
    worst = longest(found.outages if found else ())
    length_s = worst.length_s if worst else 0.0
    reason = f"no message was handed to anybody for {seconds(length_s)}" if length_s > most_s else ""
    unseen = "no consumer dealt with a message before the load ended" if found is None else ""
    if found is not None and found.limit_us > most_s * SECOND_US:
        usual = f"{seconds(found.limit_us / SECOND_US)} without one"
        unseen = f"they came so far apart before the fault that less than {usual} cannot be told from that"
    return Finding(
        check="blast-radius.consumers",
        verdict="fail" if reason else "inconclusive" if unseen else "pass",
        title=f"consumers of queue {queue} are handed messages",
        measured="nothing" if found is None else f"longest time without one {seconds(length_s)}",
        allowed=f"≤ {seconds(most_s)}",
        value=None if found is None else length_s,
        unit="s",
        reason=reason or unseen,
        where=where(f"queue {queue}", worst),
        rests_on=_RESTS_ON,
    )


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
