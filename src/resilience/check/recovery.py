"""Recovery: how long a shard whose primary was hit took no writes, and what that time was made of.

::

    took effect    suspected        another primary      first good write    steady again
    |──────────────|────────────────|────────────────────|───────────────────|
     detected_s ───▶
     elected_s ─────────────────────▶
     first_good_write_s ────────────────────────────────▶
     steady_again_s ────────────────────────────────────────────────────────▶

Of a failover the time to the first good write follows from ``cluster-node-timeout`` (NT): suspicion comes after NT at
the earliest, then 0.5 s and more until the election; [NT + 0.5 s, 2 NT + 2.5 s] is expected. Less: the fault had no
effect, or somebody failed over by hand. More: a first election failed. Where another promise holds writes back until
a replica is there again (``WAIT``, ``min-replicas-to-write``), they wait for the healing, and only the lower end holds.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from resilience.check import needs
from resilience.check.fault import SECOND_US, HitShard, failover_expected, hit_shards, injections, promoted_at
from resilience.check.finding import Finding, Verdict, Where
from resilience.check.outage import Outage, longest, outages, where
from resilience.check.steady import WINDOW_US, WINDOW_US_MIN, Steady, steady_again
from resilience.check.text import seconds
from resilience.history.read import History
from resilience.spec.fault import takes_away
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Wait

UNEXPECTED_OUTAGE_S = 1.0  # of a shard whose primary nothing was done to: less is a busy machine
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.FAULT + needs.SHARDS
_UNNOTICED = "no outage where the primary was taken from its clients: the fault had no effect"


def recovery(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each shard whose primary was hit, one for all others, one for the experiment's own hypothesis."""
    hit = hit_shards(history)
    found = [finding for shard in hit for finding in _of_hit(scenario, history, shard)]
    return (*found, *_of_spared(scenario, history, hit), *_hypothesis(scenario, history))


def _of_hit(scenario: Scenario, history: History, shard: HitShard) -> Iterator[Finding]:
    since = shard.injection.began
    found = tuple(o for o in outages(scenario, history, shard.group) if o.end > since)
    outage, unended = longest(found), longest(tuple(o for o in found if not o.ended))
    restored = outage.end if outage and outage.ended else None
    steady = steady_again(scenario, history, restored) if restored is not None and unended is None else None
    strange = _UNNOTICED if outage is None and _is_missed(scenario, shard) else ""
    yield _restored(history, shard, unended or outage, steady, strange)
    if failover_expected(scenario):
        yield _expected_range(scenario, shard, outage, restored)


def _is_missed(scenario: Scenario, shard: HitShard) -> bool:
    """Whether nobody can be served by a primary that stays it all the same; of a failover `_expected_range` tells."""
    fault = scenario.experiment.fault if scenario.experiment else None
    taken = fault is not None and takes_away(fault) and not failover_expected(scenario)
    return taken and shard.primary not in shard.injection.before


def _restored(history: History, shard: HitShard, outage: Outage | None, steady: Steady | None, strange: str) -> Finding:
    measures = _measures(history, shard, outage, steady)
    reason, late = _not_restored(outage, steady), strange or _too_late_to_see(steady)
    return Finding(
        check="recovery",
        verdict="fail" if reason else "inconclusive" if late else "pass",
        title=f"shard {shard.group} was restored after its primary {shard.primary} was hit",
        measured=_measured(measures),
        allowed="writes and people's service come back before the load ends",
        value=measures.get("recovery.first_good_write_s"),
        unit="s",
        reason=reason or late or _seen_briefly(steady),
        where=where(f"shard {shard.group}", outage),
        rests_on=_RESTS_ON,
        evidence=tuple({"what": name, "value": value} for name, value in measures.items()),
        evidence_total=len(measures),
        measures=measures,
    )


def _not_restored(outage: Outage | None, steady: Steady | None) -> str:
    if outage is not None and not outage.ended:
        return f"no write succeeded in the last {seconds(outage.length_s)} of the load"
    if steady is not None and steady.since is None and steady.window_us >= WINDOW_US_MIN:
        return "errors or latency did not come back inside their bounds before the load ended"
    return ""


def _too_late_to_see(steady: Steady | None) -> str:
    if steady is None or steady.window_us >= WINDOW_US_MIN:
        return ""
    return "the load ended too soon after the first good write to see whether people were served as before"


def _seen_briefly(steady: Steady | None) -> str:
    if steady is None or steady.window_us >= WINDOW_US:
        return ""
    return f"steady again, seen over {seconds(steady.window_us / SECOND_US)} only"


def _measures(history: History, shard: HitShard, outage: Outage | None, steady: Steady | None) -> dict[str, float]:
    """What is known of the recovery, in seconds from the instant at which the fault took effect."""
    instants = {
        "recovery.detected_s": _detected_at(history, shard),
        "recovery.elected_s": promoted_at(history, shard),
        "recovery.first_good_write_s": outage.end if outage and outage.ended else None,
        "recovery.steady_again_s": steady.since if steady else None,
    }
    lengths = {"recovery.outage_s": outage.length_s, "recovery.outage_error_s": outage.error_s} if outage else {}
    after = {name: (at - shard.injection.applied) / SECOND_US for name, at in instants.items() if at is not None}
    if outage is None:  # every write was served: there was nothing to wait for
        lengths = {"recovery.outage_s": 0.0, "recovery.outage_error_s": 0.0}
        after |= {"recovery.first_good_write_s": 0.0}
    return after | lengths


def _detected_at(history: History, shard: HitShard) -> int | None:
    """When a member first said that the primary seems to fail."""
    for event in history.events_of("failing"):
        named = event.data.get("member") == shard.primary and event.data.get("flag") in {"fail?", "fail"}
        if named and event.at >= shard.injection.began:
            return event.at
    return None


def _measured(measures: dict[str, float]) -> str:
    words = {
        "recovery.detected_s": "suspected", "recovery.elected_s": "elected",
        "recovery.first_good_write_s": "first good write", "recovery.steady_again_s": "steady again",
    }  # fmt: skip
    parts = [f"{word} {seconds(measures[name])}" for name, word in words.items() if name in measures]
    least_s = measures["recovery.outage_s"] - measures["recovery.outage_error_s"]
    return ", ".join([*parts, f"outage {seconds(least_s)} to {seconds(measures['recovery.outage_s'])}"])


def _expected_range(scenario: Scenario, shard: HitShard, outage: Outage | None, restored: int | None) -> Finding:
    timeout_s = scenario.stack.redis.cluster_node_timeout_ms / 1000
    low_s, high_s = timeout_s + 0.5, 2 * timeout_s + 2.5
    held_back = isinstance(scenario.stack.durability, Wait) or scenario.stack.redis.min_replicas_to_write > 0
    took = _took(shard, restored)
    verdict, reason = _range_verdict(took, low_s, high_s, held_back=held_back, any_outage=outage is not None)
    return Finding(
        check="recovery.range",
        verdict=verdict,
        title=f"shard {shard.group}: the failover took as long as the node time-out of {timeout_s:g} s makes it",
        measured="not restored" if took is None else _took_text(took, low_s),
        allowed=f"at least {low_s:g} s" if held_back else f"{low_s:g} s to {high_s:g} s",
        value=None if took is None else took.least_s,
        unit="s",
        reason=reason,
        where=where(f"shard {shard.group}", outage),
        rests_on=_RESTS_ON,
    )


class _Took(NamedTuple):
    """How long a failover took: the instant at which a fault takes effect is known no better than when whoever makes it
    began and was done (the power of a node takes a second and more). What is done to others before it takes nobody
    away, so it begins when that has lasted.
    """

    least_s: float
    most_s: float


def _took(shard: HitShard, restored: int | None) -> _Took | None:
    if restored is None:
        return None
    since = shard.injection.applied, shard.struck
    return _Took(*((restored - instant) / SECOND_US for instant in since))


def _took_text(took: _Took, low_s: float) -> str:
    return f"{seconds(took.least_s)} to {seconds(took.most_s)}" if took.least_s < low_s else seconds(took.least_s)


def _range_verdict(
    took: _Took | None, low_s: float, high_s: float, *, held_back: bool, any_outage: bool
) -> tuple[Verdict, str]:
    if not any_outage:
        return "inconclusive", "no outage where a failover was expected: the fault had no effect"
    if took is None:
        return "fail", "no write succeeded any more"
    if took.most_s < low_s:
        return "inconclusive", "sooner than a failover can be: the fault was not effective, or it was a manual failover"
    if took.least_s > high_s and not held_back:
        return "fail", "later than one election explains: a first one failed, or clients found the new primary late"
    return "pass", "writes wait for a replica, so for the healing" if held_back else ""


def _of_spared(scenario: Scenario, history: History, hit: tuple[HitShard, ...]) -> Iterator[Finding]:
    """The shards whose primary nothing was done to. While a hit shard has no primary they may refuse writes as well,
    as ``cluster-require-full-coverage`` asks: that is measured and no fault of theirs. Beyond that it is.
    """
    spared = set(range(1, len(scenario.stack.shards) + 1)) - {shard.group for shard in hit}
    if not spared:
        return
    excused = _without_primary(scenario, history, hit) if scenario.stack.redis.cluster_require_full_coverage else ()
    found = tuple(outage for group in sorted(spared) for outage in outages(scenario, history, group))
    long = {o.group: seconds(rest) for o in found if (rest := _unexcused_s(o, excused)) > UNEXPECTED_OUTAGE_S}
    worst = longest(found)
    yield Finding(
        check="recovery",
        verdict="fail" if long else "pass",
        title="no outage of shards whose primary was left alone" if not long else "shards that were left alone failed",
        measured=f"longest {seconds(worst.length_s)}" if worst else "none",
        allowed=f"≤ {seconds(UNEXPECTED_OUTAGE_S)}{', and while a hit shard has no primary' if excused else ''}",
        value=worst.length_s if worst else 0.0,
        unit="s",
        reason=", ".join(f"shard {group}: {length} that nothing excuses" for group, length in long.items()),
        where=where(f"shard {worst.group}", worst) if worst else Where(),
        rests_on=needs.WHOLE + needs.LOAD + needs.TIMING + needs.SHARDS + (needs.FAULT if injections(history) else ()),
        measures={"recovery.spared_outage_s": worst.length_s if worst else 0.0},
    )


def _without_primary(scenario: Scenario, history: History, hit: Iterable[HitShard]) -> tuple[tuple[int, int], ...]:
    """When hit shards had no primary: until another was seen as one, else until they took writes again."""
    spans = []
    for shard in hit:
        outage = longest(tuple(o for o in outages(scenario, history, shard.group) if o.end > shard.injection.began))
        until = promoted_at(history, shard) or (outage.end if outage else shard.struck)
        spans.append((shard.struck, until))
    return tuple(spans)


def _unexcused_s(outage: Outage, excused: Iterable[tuple[int, int]]) -> float:
    """How much of an outage lies outside the one of these spans that covers most of it."""
    covered = max((min(end, outage.end) - max(start, outage.start) for start, end in excused), default=0)
    return (outage.end - outage.start - max(covered, 0)) / SECOND_US


def _hypothesis(scenario: Scenario, history: History) -> Iterator[Finding]:
    """Whether the experiment's own steady state held again after its method."""
    events = history.events_of("experiment")
    if scenario.experiment is None or not events:
        return
    deviated = bool(events[-1].data.get("deviated"))
    yield Finding(
        check="recovery.hypothesis",
        verdict="fail" if deviated else "pass",
        title="The experiment's steady state was met after healing",
        measured="deviated" if deviated else "met",
        allowed="met",
        reason="the steady state that held before the fault did not hold after healing" if deviated else "",
        rests_on=needs.WHOLE + needs.FAULT,
    )
