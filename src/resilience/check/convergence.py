"""Convergence: after healing everybody agrees on one whole stack again.

What is waited for stands in `resilience.stack.converge`: every member runs and answers, every view of the Redis Cluster
names the same one owner for each of the 16,384 slots and takes nobody for failing, every replica has acknowledged what
its primary has written, and the services are well. Then, with nobody writing, all keys of the load are read from
primaries and replicas and compared (`resilience.stack.replicas`), those with an acknowledged write at least. Every
client of a room has to end with what is stored: with all of it (``collaboration.delivery``), and with nothing else
(`check.collaboration.view`).

A server counts evictions from its start. What one that the fault ended had counted is in Prometheus' samples; of what
it threw away after its last scrape nobody knows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from resilience.check import needs
from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.collaboration.view import views
from resilience.check.fault import SECOND_US, injections, members_of_shard, too_early
from resilience.check.finding import Finding
from resilience.check.text import count, seconds
from resilience.history.columns import OK
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.scenario import Scenario

_WRITES = (*SESSION_WRITES, "direct.write")
EVICTED = "redis_evicted_keys_total"


def convergence(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding each for the whole stack's agreement, what the replicas hold, evictions, and what clients hold."""
    return (_agreed(history), _replicas(scenario, history), _evictions(scenario, history), views(scenario, history))


def _replicas(scenario: Scenario, history: History) -> Finding:
    data, early = _compared(history), too_early(history, "replicas")
    compared = dict(data.get("compared", {}))
    shards = tuple(_shards(scenario, history))
    keys, needed = sum(compared.values()), sum(shard.keys * shard.replicas for shard in shards)
    lacking = ", ".join(f"{shard.group}" for shard in shards if not shard.is_covered_by(compared))
    few = f"{keys:,} keys were compared on {len(compared)} replicas, {needed:,} were written"
    few += f"; not all of those of shard {lacking}" if lacking else ""
    unknown = _missing(data, few) if lacking or not keys else f"the replicas were compared {early}" if early else ""
    differing = int(data.get("differing", 0))
    return Finding(
        check="convergence.replicas",
        verdict="fail" if differing else "inconclusive" if unknown else "pass",
        title="Every replica holds what its primary holds",
        measured=f"{differing:,} of {keys:,} keys differ on {len(compared)} replicas",
        allowed=f"none, on {sum(shard.replicas for shard in shards)} replicas",
        value=float(differing),
        unit="keys",
        reason=f"the first: {_first(data)}" if differing else unknown,
        rests_on=needs.WHOLE + needs.FAULT,
        evidence=tuple(dict(example) for example in data.get("examples", ())),
        evidence_total=differing,
    )


def _evictions(scenario: Scenario, history: History) -> Finding:
    data = _compared(history)
    evicted = dict(data.get("evicted", {}))
    members = [member.name for member in scenario.stack.of("redis")]
    counted = {
        member: int(evicted.get(member, 0)) + _before_restarts(history, member)
        for member in dict.fromkeys((*members, *evicted))
    }
    thrown = {member: number for member, number in counted.items() if number}
    told = [member for member in members if member in evicted]
    all_asked = len(told) == len(members)
    few = f"{len(told)} of {count(len(members), 'member')} told how many keys they threw away"
    return Finding(
        check="convergence.evictions",
        verdict="fail" if thrown else "pass" if all_asked else "inconclusive",
        title="No member has thrown keys away for want of memory",
        measured=", ".join(f"{member} {number:,}" for member, number in thrown.items())
        or f"0 keys on {count(len(evicted), 'member')}",
        allowed="0 keys",
        value=float(sum(thrown.values())),
        unit="keys",
        reason="an eviction is a loss that nobody is told of" if thrown else "" if all_asked else _missing(data, few),
        rests_on=needs.WHOLE + (() if thrown else needs.FAULT),
    )


def _compared(history: History) -> Mapping[str, Any]:
    """What was read from the replicas after the load; nothing if that is not on record."""
    events = history.events_of("replicas")
    return events[-1].data if events else {}


def _missing(data: Mapping[str, Any], few: str) -> str:
    return "; ".join(map(str, data.get("reasons", ()))) or (few if data else "the replicas were not compared")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """Of a shard: who its members are, how many of them are replicas, and how many keys were written to it."""

    group: int
    members: frozenset[str]
    replicas: int
    keys: int

    def is_covered_by(self, compared: Mapping[str, int]) -> bool:
        """Whether as many of its members as it has replicas were compared by all of its keys."""
        return sum(compared.get(member, 0) >= self.keys for member in self.members) >= self.replicas


def _shards(scenario: Scenario, history: History) -> Iterator[_Shard]:
    """All shards of the stack; one that nobody was seen in has no member that could be compared."""
    ops = history.ops
    edits = () if scenario.stack.has_rooms_in_postgresql else ("collaboration.edit",)
    acked = ops.of_kind(*_WRITES, *edits) & (ops.outcome == OK)
    for group, shard in enumerate(scenario.stack.shards, 1):
        yield _Shard(
            group=group,
            members=members_of_shard(history, group),
            replicas=len(shard.replicas),
            keys=max(1, int(ops.keys_of(acked & (ops.group == group)).sum())),
        )


def _before_restarts(history: History, member: str) -> int:
    """Keys that a member's former servers had thrown away by their last scrapes; each successor counts from 0."""
    wanted = {"__name__": EVICTED, "member": member}.items()
    values = (series.values for series in history.series if wanted <= series.labels.items())
    return sum(int(before) for samples in values for before, value in pairwise(samples) if value < before)


def _first(data: Mapping[str, Any]) -> str:
    example: Mapping[str, Any] = next(iter(data.get("examples", ())), {})
    return f"{example.get('key', 'unnamed')} on {example.get('member', 'a replica')}"


def _agreed(history: History) -> Finding:
    events = history.events_of("converged")
    if not events:
        return _finding(reason="whether the stack converged is not on record")
    end = events[-1]
    ok, reason = bool(end.data.get("ok")), str(end.data.get("reason", ""))
    if ok and (early := too_early(history, "converged")):
        return _finding(reason=f"the stack was found whole {early}")
    after_s = _after_s(history, end)
    began = "healing" if injections(history) else "the look"
    measured = f"whole at the latest {seconds(after_s)} after {began}, looked at once the load had ended"
    return _finding(measured if ok else "not whole", "" if ok else reason or "it says no reason", after_s, ok=ok)


def _after_s(history: History, end: Event) -> float:
    """Seconds from the last healing (without a fault from the beginning of the look) to the end of the waiting.

    Nobody looks while the load goes on, so it may have been whole before.
    """
    healed = [injection.healed for injection in injections(history) if injection.healed is not None]
    since = max(healed) if healed else end.at - int(float(end.data.get("took_s", 0.0)) * SECOND_US)
    return (end.at - since) / SECOND_US


def _finding(measured: str = "", reason: str = "", after_s: float | None = None, *, ok: bool | None = None) -> Finding:
    return Finding(
        check="convergence",
        verdict="inconclusive" if ok is None else "pass" if ok else "fail",
        title="Everybody agrees on one whole stack again",
        measured=measured,
        allowed="one owner for each slot in every view, replicas caught up, all members well",
        value=after_s,
        unit="s",
        reason=reason,
        rests_on=needs.WHOLE + needs.FAULT,
        measures={"convergence.after_s": after_s} if ok and after_s is not None else {},
    )
