"""Assumptions about the record: it is whole, the phases, the shards and PostgreSQL's primary are known."""

from collections.abc import Iterable, Iterator
from itertools import islice

from resilience.check.assumption.finding import held_unless
from resilience.check.fault import POSTGRESQL, SECOND_US, primary_at, shards_at_start
from resilience.check.finding import Finding
from resilience.check.window import judged_windows
from resilience.history.columns import OUTCOMES, UNFINISHED
from resilience.history.phase import STOP
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource

RATIO_PHASE_S_MIN = 20.0  # a ratio that is judged over less time says little
BORDER_S = 0.5  # phases are cut where they were announced and injected, a little off the plan
SLOTS = 16_384
SESSION_WRITES = ("session.create", "session.heartbeat", "session.update", "session.end")


def history_whole(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Every line of the record could be read; one torn last line is what a dead writer leaves, and accepted."""
    del scenario
    reasons = [*history.problems, *_missing_ops(history)]
    if history.torn > 1:
        reasons.append(f"{history.torn} files end in a torn line")
    measured = f"{history.torn} torn, {len(history.problems)} broken"
    return (held_unless("history-whole", "The record is whole", reasons, measured, "at most 1 torn, 0 broken"),)


def _missing_ops(history: History) -> Iterator[str]:
    """A client that lived to tell its totals has all its ops on record, and they ended as it says."""
    for client, summary in history.summaries.items():
        for what, recorded in _totals(history, client).items():
            if (told := summary.get(what)) != recorded:
                yield f"{client} counted {told} ops {what}, {recorded} are on record"


def _totals(history: History, client: str) -> dict[str, int]:
    """What a client's record adds up to, by the names in its summary."""
    ops = history.ops
    sent = ops.of_client(client)
    ended = sent & (ops.returned >= 0)
    totals = {outcome: int((ended & (ops.outcome == code)).sum()) for code, outcome in enumerate(OUTCOMES)}
    return {
        "sent": int(sent.sum()),
        **totals,
        "unfinished": int((ended & ops.with_error(UNFINISHED)).sum()),
        "dropped": sum(name == client for name, _ in history.dropped),
    }


def not_interrupted(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """The run came to its end, nobody asked for it early, and nothing of the harness itself went wrong."""
    del scenario
    reasons = [f"ended by {event.data.get('signal')}" for event in history.events_of("interrupted")]
    reasons += [f"{event.data.get('where')}: {event.data.get('message')}" for event in history.events_of("error")]
    if not history.events_of("ended"):
        reasons.append(f"cut short: {_last_of(history)}")
    return (held_unless("not-interrupted", "The run was not interrupted", reasons),)


def _last_of(history: History) -> str:
    """Where a record breaks off."""
    last_us = max([event.at for event in history.events] + [pair.at for pair in history.clock], default=None)
    if last_us is None:
        return "nothing is on record"
    announced = [str(event.data.get("phase")) for event in history.events_of("phase-announced")]
    phase = announced[-1] if announced else ""
    where = {"": "before any load", STOP: "after the load"}.get(phase, f"in phase {phase}")
    return f"the record breaks off at {last_us / SECOND_US:.1f} s, {where}"


def phases_complete(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Each declared phase took place once, where its ops are booked, and lasted as long as what is judged needs."""
    declared = {
        "steady": scenario.timeline.steady_s, "fault": scenario.timeline.fault_s,
        "recovery": scenario.timeline.recovery_s,
    }  # fmt: skip
    reasons, lengths = [], []
    for phase in (name for name, length_s in declared.items() if length_s > 0):
        window = history.window(phase)
        if window is None:
            reasons.append(f"the end of phase {phase} is not on record")
            continue
        if sum(other.phase == phase for other in history.windows) > 1:
            reasons.append(f"phase {phase} is on record more than once")
        length_s = (window.end - window.start) / SECOND_US
        lengths.append(f"{phase} {length_s:.1f} s")
        if length_s + BORDER_S < (least_s := _least_s(scenario, phase)):
            reasons.append(f"phase {phase} lasted {length_s:.1f} s, at least {least_s:g} s needed")
    reasons += _booked_elsewhere(history)
    return (held_unless("phases-complete", "Each phase lasted long enough", reasons, ", ".join(lengths)),)


def _booked_elsewhere(history: History) -> Iterator[str]:
    """Phases in which ops were due that their generator booked in another one: borders and ops do not fit together."""
    ops, border_us = history.ops, int(BORDER_S * SECOND_US)
    for window in history.windows:
        inside = (ops.due >= window.start + border_us) & (ops.due < window.end - border_us)
        if number := int((inside & ~ops.in_phase(window.phase)).sum()):
            yield f"{number} ops that were due in phase {window.phase} are booked in another one"


def _least_s(scenario: Scenario, phase: str) -> float:
    judged = any(isinstance(slo.source, RatioSource) and phase in slo.phases for slo in scenario.slos)
    least_s = RATIO_PHASE_S_MIN if judged else 0.0
    if phase == "fault" and scenario.experiment and scenario.experiment.target.component == "redis":
        least_s = max(least_s, 2 * scenario.stack.redis.cluster_node_timeout_ms / 1000 + 5)
    return least_s


def _without_member(history: History, groups: Iterable[int]) -> Iterator[int]:
    """Those groups whose primary nobody had seen when the first phase that is judged began.

    Each member is asked for its role by a thread of its own: an answer may come after the load has begun.
    """
    for window in islice(judged_windows(history), 1):
        yield from (group for group in groups if not primary_at(history, group, window.start))


def shards_known(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """The shards were recorded at the start: all of them, each with a member as its primary, and all slots."""
    shards = shards_at_start(history)
    reasons = []
    if sorted(shards) != list(range(1, len(scenario.stack.shards) + 1)):
        reasons.append(f"shards {sorted(shards)} are on record, {len(scenario.stack.shards)} in the stack")
    reasons += [
        f"which member is the primary of shard {group} was not seen" for group in _without_member(history, shards)
    ]
    slots = sum(last - first + 1 for shard in shards.values() for first, last in shard.get("slots", ()))
    if slots != SLOTS:
        reasons.append(f"{slots} of {SLOTS} slots are on record")
    return (held_unless("shards-known", "The shards are known", reasons, f"{len(shards)} shards, {slots} slots"),)


def postgresql_known(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Somebody was seen as PostgreSQL's primary before anything was judged."""
    del scenario
    reasons = ["which member is the primary was not seen" for _ in _without_member(history, (POSTGRESQL,))]
    return (held_unless("postgresql-known", "PostgreSQL's primary is known", reasons),)
