"""What the history says of the faults that were injected: when they took effect, whom they hit, when they ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.fault import outlasts_primary
from resilience.spec.scenario import Scenario

SECOND_US = 1_000_000
POSTGRESQL = 0  # the group that PostgreSQL's roles and writes are booked under; Redis' shards count from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One injection as it was carried out; ``undoing`` and ``healed`` are None for one whose end is not on record."""

    id: str
    began: int
    applied: int  # the instant at which it took effect
    undoing: int | None  # the instant from which on it was not wholly in effect any more: the fault phase's end
    healed: int | None  # the instant at which all of it had been undone
    members: tuple[str, ...]
    before: tuple[str, ...] = ()  # those of them that nothing but its prelude was done to
    prelude_us: int = 0  # how long its prelude lasted at least before its own first step


@dataclass(frozen=True, slots=True, kw_only=True)
class HitShard:
    """A shard whose primary suffered from an injection, and who that primary was."""

    group: int
    primary: str
    injection: Applied

    @property
    def struck(self) -> int:
        """The earliest instant at which it can have been done to the primary: a prelude is done to others first."""
        injection = self.injection
        if self.primary in injection.before:
            return injection.began
        return min(injection.applied, injection.began + injection.prelude_us)


def injections(history: History) -> tuple[Applied, ...]:
    """All injections that were applied, in the order of time."""
    ends: dict[str, tuple[int, int]] = {}
    for event in history.events_of("healed"):
        if event.data.get("healed"):
            healed_us = int(event.data.get("healed_us", event.at))
            began_us = int(event.data.get("began_us", healed_us))
            ends.setdefault(str(event.data.get("injection")), (began_us, healed_us))
    planned = {event.data["injection"]["id"]: event.data["injection"] for event in history.events_of("injecting")}
    return tuple(
        Applied(
            id=str(event.data["injection"]),
            began=int(event.data["began_us"]),
            applied=int(event.data["applied_us"]),
            undoing=undoing,
            healed=healed,
            members=tuple(event.data.get("members", ())),
            before=_of_prelude_alone(plan),
            prelude_us=round(_prelude(plan).get("for_s", 0) * SECOND_US),
        )
        for event in history.events_of("injected")
        for undoing, healed in [ends.get(str(event.data["injection"]), (None, None))]
        for plan in [planned.get(event.data["injection"], {})]
    )


def _prelude(planned: dict[str, Any]) -> dict[str, Any]:
    """The prelude of an injection; nothing if it has none."""
    prelude: dict[str, Any] = planned.get("prelude") or {}
    return prelude


def _of_prelude_alone(planned: dict[str, Any]) -> tuple[str, ...]:
    """The members of an injection's prelude (they come last among all) that are not the fault's own as well."""
    members = tuple(_prelude(planned).get("members", ()))
    own = tuple(planned.get("members", ()))[: -len(members)] if members else ()
    return tuple(member for member in members if member not in own)


def begun(history: History) -> tuple[str, ...]:
    """The ids of all injections of which anything says that they began, whatever became of them."""
    told = [event.data["injection"]["id"] for event in history.events_of("injecting")]
    told += [event.data["injection"] for event in history.events_of("injected")]
    return tuple(dict.fromkeys(told + [line.injection for line in history.ledger]))


def shards_at_start(history: History) -> dict[int, dict[str, Any]]:
    """The shards of the ``shards`` event by their number; none if there is no such event."""
    events = history.events_of("shards")
    return {int(shard["group"]): shard for shard in events[0].data.get("shards", ())} if events else {}


def members_of_shard(history: History, group: int) -> frozenset[str]:
    """The members that were last seen in a shard, as its primary or a replica."""
    last = {str(event.data.get("member")): event.data.get("group") for event in history.events_of("role")}
    return frozenset(member for member, seen_in in last.items() if seen_in == group)


def primary_at(history: History, group: int, instant_us: int) -> str:
    """The member that was a shard's primary at an instant, as far as it was seen; "" if it was not."""
    primary = ""
    for event in history.events_of("role"):
        if event.at <= instant_us and event.data.get("group") == group and event.data.get("role") == "primary":
            primary = str(event.data.get("member", ""))
    return primary


def promotions(history: History) -> tuple[Event, ...]:
    """Each promotion by hand, also one whose runbook did not come to its end; older records tell only of whole ones."""
    return history.events_of("promoted") or history.events_of("promotion")


def latest_timeline(history: History, until_us: int | None = None) -> int:
    """The highest timeline that any PostgreSQL member was seen on, or promoted to, up to an instant (None: ever)."""
    seen = [
        int(event.data.get(name, 0))
        for event_name, name in (("role", "epoch"), ("promotion", "timeline"))
        for event in history.events_of(event_name)
        if event.data.get("group", POSTGRESQL) == POSTGRESQL and (until_us is None or event.at <= until_us)
    ]
    return max(seen, default=0)


def hits(history: History) -> tuple[HitShard, ...]:
    """Each shard with each injection among whose members its primary was as that began, in the order of time."""
    return _hits(history, shards_at_start(history))


def hit_postgresql(history: History) -> tuple[HitShard, ...]:
    """PostgreSQL with the first injection that its primary suffered from, if there was one."""
    return _hits(history, (POSTGRESQL,))[:1]


def _hits(history: History, groups: Iterable[int]) -> tuple[HitShard, ...]:
    among = tuple(groups)
    return tuple(
        HitShard(group=group, primary=primary, injection=injection)
        for injection in injections(history)
        for group in among
        if (primary := primary_at(history, group, injection.began)) in injection.members
    )


def hit_shards(history: History) -> tuple[HitShard, ...]:
    """The shards whose primary was among an injection's members as that began, each with the first of those."""
    hit: dict[int, HitShard] = {}
    for shard in hits(history):
        hit.setdefault(shard.group, shard)
    return tuple(hit[group] for group in sorted(hit))


def promoted_at(history: History, shard: HitShard) -> int | None:
    """When another member was first seen as the shard's primary, None if it never was."""
    seen = successor(history, shard)
    return None if seen is None else seen.at


def successor(history: History, shard: HitShard) -> Event | None:
    """The ``role`` by which another member was first seen as the shard's primary, None if it never was."""
    for event in history.events_of("role"):
        named = event.data.get("group") == shard.group and event.data.get("role") == "primary"
        if named and event.data.get("member") != shard.primary and event.at >= shard.injection.began:
            return event
    return None


class After(NamedTuple):
    """After what may have changed what PostgreSQL keeps: the ``fault`` that was injected, or its ``failover`` over it.

    Registers and lists are read from it by the load itself, articles and profiles by a service.
    """

    name: str
    applied: int  # when the first fault took effect
    since: int  # when the last one had, and whoever took over had done so


def after_fault(history: History) -> After | None:
    """When what a fault has done to what PostgreSQL keeps is to be seen, None where nothing was injected."""
    applied = [injection.applied for injection in injections(history)]
    if not applied:
        return None
    led = [int(event.data["led_us"]) for event in history.events_of("promotion")]
    led += [at for hit in hit_postgresql(history) if (at := promoted_at(history, hit)) is not None]
    return After("failover" if led else "fault", min(applied), max([*applied, *led]))


def failover_expected(scenario: Scenario) -> bool:
    """Whether the cluster must replace a primary that suffers the scenario's fault."""
    return scenario.experiment is not None and outlasts_primary(scenario.experiment.fault)


def load_end_us(history: History) -> int:
    """The end of the last phase that ended: from then on no op was due."""
    return max((window.end for window in history.windows), default=-1)


def too_early(history: History, event: str) -> str:
    """Why the last event of a name says nothing of what was left in the end, "" if it does, or if there is none."""
    events = history.events_of(event)
    if not events:
        return ""
    instant_us = events[-1].at
    healed = [injection.healed for injection in injections(history)]
    if any(instant is None or instant > instant_us for instant in healed):
        return "before all was healed"
    return "before the load had ended" if instant_us < load_end_us(history) else ""
