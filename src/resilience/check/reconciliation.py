"""Reconciliation: what the servers counted in each phase, against what the generators sent and got acknowledged.

::

    generators ──▶ edge ──▶ session, collaboration ──▶ Redis
               │        ╰─▶ content, personalization
               ╰─────────────────────────────────────▶ (direct writes)

The generators' record gives two bounds for the successes that servers may have counted of a kind of op between the
scrapes around a phase (`check.cut`). *At least*: the acknowledged ops that began and ended between them, but for those
under way while a server was blind. *At most*: the ops that were under way at any time between them, acknowledged or of
unknown outcome; the latter may be done late, so those from before count too. A read is never unknown to its client: one
that failed may have been answered, and the edge may have asked two instances, so its retries are added. A Redis member
counts a write as primary and as replica: of members that took turns each may have counted all.

What a count outside of its bounds means depends on who contradicts whom:

- The edge confirms what the generators were told, and the services behind it counted fewer: the platform contradicts
  itself, and told people of successes that its own services know nothing of: **fail**.
- A tier counted fewer than the generators were told, and there is no such third witness: either the platform's account
  is false or the harness's, so no verdict on this record can be trusted: **inconclusive**. A write that nobody did is
  found lost by the audit, and that is a fail whatever this says.
- More than anybody is on record to have asked for: somebody else uses this stack, or the record lacks ops:
  **inconclusive**.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from resilience.check import needs
from resilience.check.cut import CannotCutError, Cut, Interval, cut, ends_of
from resilience.check.fault import SECOND_US, primary_at, shards_at_start
from resilience.check.finding import Finding, Verdict, Where
from resilience.check.window import judged_windows
from resilience.history import people
from resilience.history.columns import FAIL, OK, UNKNOWN, Flags
from resilience.history.read import History
from resilience.history.record import PhaseWindow
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

ROLE_SEEN_US = SECOND_US  # how long after a promotion the watch may still be without it
READS = ("session.read", "content.read", "content.list", people.READ)
# of a component: which kinds of op its routes are asked for
_ROUTES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "edge": {
        "sessions": ("session.create",),
        "session": ("session.read", "session.heartbeat", "session.update", "session.end"),
    },
    "session": {step: (f"session.{step}",) for step in ("create", "read", "heartbeat", "update", "end")},
    "collaboration": {"edit": ("collaboration.edit",)},
    "content": {step: (f"content.{step}",) for step in ("create", "read", "update")} | {"catalogue": ("content.list",)},
    "personalization": {"suggest": (people.READ,), "change": (people.WRITE,)},
}
# of an edge, where it leads to a service that a stack need not have
_LEADS_TO: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "content": {"articles": ("content.create", "content.list"), "article": ("content.read", "content.update")},
    "personalization": {"suggestions": (people.READ,), "profiles": (people.WRITE,)},
}
_BEHIND_EDGE = ("session", *_LEADS_TO)  # whose requests the edge counts, too
_SETS = {"__name__": "redis_commands_total", "cmd": "set"}  # what direct writes are; no service sends any
_RETRIES = {"__name__": "edge_retries_total"}


def routes_of(stack: Stack) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The routes of each component of a stack that counts requests, and the kinds of op that they are asked for."""
    found = {component: routes for component, routes in _ROUTES.items() if stack.of(component)}
    beside = {name: kinds for service in _LEADS_TO if service in found for name, kinds in _LEADS_TO[service].items()}
    return found | ({"edge": {**_ROUTES["edge"], **beside}} if "edge" in found else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What servers counted of a kind of op in a phase, and what the record says that they must and can have."""

    what: str
    counted: float
    least: int
    most: float

    @property
    def off(self) -> float:
        """How far it is outside of its bounds: negative if too few were counted, 0 if it is inside."""
        return min(0.0, self.counted - self.least) or max(0.0, self.counted - self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """All tallies of one component in a phase; ``missing`` says why there are none."""

    component: str
    tallies: tuple[Tally, ...] = ()
    missing: str = ""

    @property
    def short(self) -> bool:
        """Whether too few of something were counted."""
        return any(tally.off < 0 for tally in self.tallies)


def reconciliation(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each component that counts what it is asked for, in each phase."""
    servers = [member.name for member in scenario.stack.members] if history.clock else []
    ends = {member: ends_of(history, member) for member in servers}
    return tuple(
        finding for window in judged_windows(history) for finding in _in_phase(_Phase(scenario, history, window, ends))
    )


@dataclass(frozen=True, slots=True)
class _Phase:
    """A phase of a run, with what tallies are made from."""

    scenario: Scenario
    history: History
    window: PhaseWindow
    ends: Mapping[str, Collection[Interval]]  # of each member

    @property
    def scrape_us(self) -> int:
        return round(self.scenario.stack.scrape_interval_s * SECOND_US)

    def cut(self, member: str, labels: Mapping[str, str]) -> Cut:
        ends = self.ends.get(member, ())
        return cut(self.history, self.window, member, labels, scrape_us=self.scrape_us, ends=ends)

    def of(self, component: str, labels: Mapping[str, str]) -> list[Cut]:
        return [self.cut(member.name, labels) for member in self.scenario.stack.of(component)]

    def least(self, rows: Flags, cuts: list[Cut]) -> int:
        """Not counted is what lies further from the phase than a scrape: others may have served it by then."""
        ops, window = self.history.ops, self.window
        begun = max(window.start - self.scrape_us, *(part.begun[1] for part in cuts))
        ended = min(window.end + self.scrape_us, *(part.ended[0] for part in cuts))
        rows = rows & (ops.outcome == OK) & (ops.called >= begun) & (ops.returned <= ended)
        for since, end in {interval for part in cuts for interval in part.blind}:
            rows &= (ops.called > end) | (ops.returned < since)
        return int(rows.sum())

    def most(self, rows: Flags, cuts: list[Cut]) -> int:
        ops = self.history.ops
        begun, ended = min(part.begun[0] for part in cuts), max(part.ended[1] for part in cuts)
        done = (ops.outcome == OK) & (ops.returned >= begun)
        maybe = (ops.outcome == UNKNOWN) | (ops.of_kind(*READS) & (ops.outcome == FAIL))
        return int((rows & (done | maybe) & (ops.called <= ended)).sum())


def _in_phase(phase: _Phase) -> Iterator[Finding]:
    tiers = {name: _tier(name, _of_component, phase) for name in routes_of(phase.scenario.stack)}
    edge = tiers.get("edge")
    confirmed = edge is not None and not edge.missing and not edge.short
    for tier in (*tiers.values(), _tier("redis", _of_redis, phase)):
        yield _finding(tier, phase.window, contradicted=confirmed and tier.component in _BEHIND_EDGE)


def _tier(component: str, tallies: Callable[[str, _Phase], Iterator[Tally]], phase: _Phase) -> Tier:
    if not phase.history.clock:
        return Tier(component=component, missing="the clocks were never compared")
    try:
        return Tier(component=component, tallies=tuple(tallies(component, phase)))
    except CannotCutError as error:
        return Tier(component=component, missing=str(error))


def _of_component(component: str, phase: _Phase) -> Iterator[Tally]:
    ops = phase.history.ops
    for route, kinds in routes_of(phase.scenario.stack)[component].items():
        labels = {"__name__": "service_requests_total", "route": route, "outcome": "ok"}
        cuts, rows = phase.of(component, labels), ops.of_kind(*kinds)
        again = _retries(phase) if set(kinds) <= set(READS) else 0.0
        yield Tally(
            what=route,
            counted=sum(part.events for part in cuts),
            least=phase.least(rows, cuts),
            most=phase.most(rows, cuts) + again,
        )


def _retries(phase: _Phase) -> float:
    """How many requests the edges have sent twice at most."""
    cuts = phase.of("edge", _RETRIES)
    return math.inf if any(part.blind for part in cuts) else sum(part.events for part in cuts)


def _of_redis(_component: str, phase: _Phase) -> Iterator[Tally]:
    ops = phase.history.ops
    for group in shards_at_start(phase.history):
        primaries = sorted(_primaries(phase, group))
        if "" in primaries:
            raise CannotCutError(f"which member was the primary of shard {group} was not seen")
        cuts = [phase.cut(member, _SETS) for member in primaries]
        rows = ops.of_kind("direct.write") & (ops.group == group)
        yield Tally(
            what=f"direct writes to shard {group}",
            counted=sum(part.events for part in cuts),
            least=phase.least(rows, cuts),
            most=phase.most(rows, cuts) * len(cuts),
        )


def _primaries(phase: _Phase, group: int) -> set[str]:
    """The members that may have been a shard's primary at any time of the phase, or a scrape before or after it.

    "" among them: at its beginning somebody was whom nobody saw.
    """
    begun = phase.window.start - phase.scrape_us
    ended = phase.window.end + phase.scrape_us + ROLE_SEEN_US
    later = {
        str(event.data.get("member"))
        for event in phase.history.events_of("role")
        if begun <= event.at <= ended and event.data.get("group") == group and event.data.get("role") == "primary"
    }
    return later | {primary_at(phase.history, group, begun)}


def _finding(tier: Tier, window: PhaseWindow, *, contradicted: bool) -> Finding:
    wrong = tuple(tally for tally in tier.tallies if tally.off)
    verdict: Verdict = "inconclusive" if wrong or tier.missing else "pass"
    return Finding(
        check="reconciliation",
        verdict="fail" if tier.short and contradicted else verdict,
        title=f"{tier.component} counted in phase {window.phase} what the generators have on record",
        measured=", ".join(f"{tally.what} {tally.counted:,g}" for tally in tier.tallies) or "nothing",
        allowed=", ".join(f"{tally.least:,} to {tally.most:,g}" for tally in tier.tallies),
        value=sum(abs(tally.off) for tally in wrong) if tier.tallies else None,
        unit="ops",
        reason=tier.missing or "; ".join(_reason(tally, contradicted=contradicted) for tally in wrong),
        where=Where(phase=window.phase, start_us=window.start, end_us=window.end),
        rests_on=(*needs.WHOLE, "assumption.clock-step"),
        evidence=tuple(
            {"what": tally.what, "counted": tally.counted, "at least": tally.least, "at most": tally.most}
            for tally in tier.tallies
        ),
        evidence_total=len(tier.tallies),
    )


def _reason(tally: Tally, *, contradicted: bool) -> str:
    if tally.off > 0:
        return f"{tally.what}: {tally.off:,g} more than anybody is on record to have asked for"
    told = "the edge confirms what clients were told" if contradicted else "no third witness says who is right"
    return f"{tally.what}: clients were told of {-tally.off:,g} successes that were not counted here; {told}"
